package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func newSecondary(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secondary",
		Short: "fill the secondary again, or go to another one",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("say what to do: kist secondary reseed --key FILE")}
		},
	}
	cmd.AddCommand(newReseed(a))
	return cmd
}

func newReseed(a *app) *cobra.Command {
	s := &setup{app: a}
	cmd := &cobra.Command{
		Use:   "reseed [INVITE] --key FILE",
		Short: "fill a secondary with what this device has",
		Long: `Where the secondary has lost the end of the vault's history, because it was restored
from a backup for example, or all of it, this device fills it again: with the very
commits that were there, from all devices. What the others had sent is there again,
and they go on by themselves.

With INVITE another secondary is filled, and is this vault's from then on. On each
other device run the same command with the same invite.

Use the device that has the most commits (kist status shows how many), before
anything new is written to that secondary. It must hold the beginning of this device's
history and nothing else; otherwise nothing is changed.`,
		Example: `  kist secondary reseed --key ~/usb/me.kistkey
  kist secondary reseed kistinvite1… --key ~/usb/me.kistkey`,
		Args:        between(0, 1),
		Annotations: annotate(vaultAlone),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := s.config(ctx)
			if err != nil {
				return err
			}
			if s.making {
				f := &failure{code: exitNotFound, text: "there is no such key file", hint: "--key with the right file: only who has it may fill a secondary"}
				f.detail("key file", s.key)
				return f
			}
			url := ""
			if len(args) == 1 {
				i, err := wire.ParseInvite(args[0])
				if err != nil {
					return err
				}
				c.Invite, url = &i, i.URL
			}
			// The clock does not run yet: a person may take their time to type.
			if _, err := c.Unlock.Passphrase(); err != nil {
				return err
			}
			ctx, m := s.meter(ctx, url, openTime)
			c.Sync = m.options(vault.TwoWay)
			r, err := onboarding.Reseed(ctx, c)
			err = m.end(ctx, err)
			switch {
			case errors.Is(err, onboarding.ErrNotThere):
				return &failure{code: exitNotFound, text: "the secondary does not know this vault any more", err: err,
					hint: "ask who runs it for an invite (kistd invite), then kist secondary reseed INVITE --key " + quote(s.key)}
			case errors.Is(err, commitlog.ErrFork):
				return &failure{code: exitIntegrity, text: "the secondary holds another history than this device: somebody has written there since it was restored. Nothing was changed", err: err,
					hint: "kist export DIR keeps what is here; kist restore --vault OTHER --key FILE gets what is there, and kist import brings the two together"}
			case err != nil:
				return err
			}
			return s.reseeded(cmd, r)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&s.key, "key", "", "the key file (`FILE`)")
	return cmd
}

func (s *setup) reseeded(cmd *cobra.Command, r *onboarding.Reseeded) error {
	sum, err := s.summarize(cmd.Context())
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(result{Version: jsonVersion, Type: "result", Done: "reseeded", Lost: &r.Lost, Report: reportJSON(r.Report), Status: sum.json(s.vaultDir)})
	}
	if r.Lost == 0 {
		s.tell("%s has everything: nothing was missing there", s.show(sum.st.Secondary))
	} else {
		s.tell("%s %s to %s", s.out.Green("sent"), plural(r.Lost, "commit", "commits"), s.show(sum.st.Secondary))
	}
	s.tell("  %s", s.show(stateText(sum.st)))
	return s.listProblems(cmd.Context(), r.Report)
}
