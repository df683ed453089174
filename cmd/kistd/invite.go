package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary"
)

func inviteCommand() *cobra.Command {
	conf := newConfig()
	c := &cobra.Command{
		Use:   "invite --data DIR",
		Short: "print an invite that lets one person create a vault",
		Long: `Prints an invite, one line, that lets whoever has it create one vault here,
within a week. It works while the server runs.

It holds a secret: send it in a way that only the person it is for can read.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := conf.load(c); err != nil {
				return err
			}
			if err := conf.needData(); err != nil {
				return err
			}
			invite, err := askForInvite(c, conf.data)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), invite)
			return err
		},
	}
	conf.flags(c, "data")
	return c
}

// askForInvite asks the server that runs, or makes the invite itself where none
// does.
func askForInvite(c *cobra.Command, data string) (string, error) {
	d, err := secondary.OpenDataDir(data)
	if errors.Is(err, store.ErrInUse) {
		return adminCall(c.Context(), secondary.AdminSocket(data), "invite")
	}
	if err != nil {
		return "", err
	}
	defer d.Close()
	address, err := d.Address()
	if errors.Is(err, fs.ErrNotExist) {
		return "", hinted{errors.New("the server has never run, so its address is not known"), "kistd serve --data " + data}
	}
	if err != nil {
		return "", err
	}
	e, err := d.OpenEngine()
	if err != nil {
		return "", err
	}
	defer e.Close()
	invite, err := secondary.NewInvite(c.Context(), e, d.Key().Public(), address, time.Now())
	return invite.String(), err
}
