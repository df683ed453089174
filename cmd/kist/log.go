package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

func newLog(a *app) *cobra.Command {
	var last uint64
	var verify bool
	cmd := &cobra.Command{
		Use:   "log [-n N | --verify]",
		Short: "list the commits of the vault's log, or verify them anew",
		Long: `List the commits of the verified log, oldest first: number, time, device, namespace
and how many changes each has.

--verify believes nothing of what was found before: it checks every commit from the
first on, with its signature, and compares the tree, the devices, the live changes and
their content with what is kept on this device. Nobody is asked. Exit status 9: this
device's copy is damaged.`,
		Example: `  kist log
  kist log -n 10
  kist log --verify
  kist log --json`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				if verify {
					return a.verifyLog(cmd.Context(), v)
				}
				return a.log(cmd.Context(), v, last)
			})
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "check everything from the first commit on")
	cmd.Flags().Uint64VarP(&last, "last", "n", 0, "the last `N` commits only")
	return cmd
}

// logPage bounds how many commits are held at a time.
const logPage = 1000

func (a *app) log(ctx context.Context, v *vault.Vault, last uint64) error {
	var after commitlog.CommitID
	if last > 0 {
		st, err := v.Status(ctx)
		if err != nil {
			return err
		}
		if st.Commits > last {
			after = commitlog.CommitID(st.Commits - last)
		}
	}
	for {
		page, err := v.Log(ctx, after, logPage)
		if err != nil {
			return err
		}
		for _, c := range page {
			if err := a.printCommit(c); err != nil {
				return err
			}
			after = c.ID
		}
		if len(page) < logPage {
			return nil
		}
	}
}

func (a *app) printCommit(c *vault.CommitInfo) error {
	if a.json {
		return a.printJSON(commitJSON(c))
	}
	namespace, text := c.Namespace, term.Plural(c.Changes, "change", "changes")
	switch {
	case c.Kind == commitlog.KindControl:
		namespace, text = "(devices and keys)", a.show(controlText(c))
	case namespace == "":
		namespace = "(unnamed)"
	}
	_, err := fmt.Fprintf(a.stdout, "%7d  %-19s  %s  %-16s  %s\n", c.ID, a.timeText(c.Time), pad(a.show(c.Device), 16), namespace, text)
	return err
}
