package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func newSecondary(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secondary",
		Short: "say where the vault is, move it, or fill its secondary again",
		Long: `Without more: say which secondary the vault is at, by what key it is known, and
whether it was moved there.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAny(cmd.Context(), func(v *vault.Vault) error { return a.secondary(cmd.Context(), v) })
		},
	}
	cmd.AddCommand(newMove(a), newReseed(a))
	return cmd
}

func newReseed(a *app) *cobra.Command {
	s := &setup{app: a}
	merge := false
	cmd := &cobra.Command{
		Use:   "reseed [INVITE] --key FILE",
		Short: "fill a secondary with what this device has",
		Long: `Where the secondary has lost the end of the vault's history, because it was restored
from a backup for example, or all of it, this device fills it again: with the very
commits that were there, from all devices. What the others had sent is there again,
and they go on by themselves, even one that has met the shorter history meanwhile, and
raised an alarm: it says so when it syncs next.

With INVITE another secondary is filled, and is this vault's from then on. On each
other device run the same command with the same invite. Where the old one can still
tell them, kist secondary move does that in one go.

Use the device that has the most commits (kist status shows how many), before
anything new is written to that secondary. It must hold the beginning of this device's
history and nothing else; otherwise nothing is changed.

Where somebody has written to it since it was restored, each side has what the other
lacks. With --merge this device brings them together: the secondary's history goes on,
what this device's says and it does not is written there again, and where both changed a
record, both versions are kept (kist conflicts). The other devices follow when they sync.
Before you do that, be sure that the secondary was restored from a backup, or
that you trust it: it could have hidden changes, and shown each device something else.`,
		Example: `  kist secondary reseed --key ~/usb/me.kistkey
  kist secondary reseed kistinvite1… --key ~/usb/me.kistkey
  kist secondary reseed --merge --key ~/usb/me.kistkey`,
		Args:        between(0, 1),
		Annotations: annotate(vaultAlone),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := s.config(ctx)
			if err != nil {
				return err
			}
			if s.making {
				return s.onlyOwner("only who has it may fill a secondary")
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
			r, err := onboarding.Reseed(ctx, c, merge)
			err = m.end(ctx, err)
			switch {
			case errors.Is(err, onboarding.ErrNotThere):
				return &failure{code: exitNotFound, text: "the secondary does not know this vault any more", err: err,
					hint: "ask who runs it for an invite (kistd invite), then kist secondary reseed INVITE --key " + quote(s.key)}
			case errors.Is(err, commitlog.ErrFork):
				return &failure{code: exitIntegrity, text: "the secondary holds another history than this device: somebody has written there since it was restored. Nothing was changed", err: err,
					hint: "kist doctor says more; kist secondary reseed --merge --key " + quote(s.key) + " brings both together"}
			case errors.Is(err, vault.ErrNotAll):
				return &failure{code: exitConflict, text: "this device cannot do that: it does not have everything. Nothing was changed", err: err,
					hint: "run it on the device that has the most commits (kist status shows how many)"}
			case errors.Is(err, vault.ErrMovedMeanwhile):
				return &failure{code: exitConflict, text: err.Error(), err: err, hint: "kist sync, which goes on there"}
			case err != nil:
				return err
			}
			return s.reseeded(cmd, r)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&s.key, "key", "", "the key file (`FILE`)")
	cmd.Flags().BoolVar(&merge, "merge", false, "where the secondary has another history, bring both together")
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
	if m := r.Merged; m != nil {
		s.tell("%s two histories: %s in common, %s of this device's written there again, %s there already", s.out.Green("merged"),
			term.Plural(m.Kept, "commit", "commits"), term.Plural(m.Lost, "commit", "commits"), term.Plural(m.Theirs, "commit", "commits"))
	} else if r.Lost == 0 {
		s.tell("%s has everything: nothing was missing there", s.show(sum.st.Secondary))
	} else {
		s.tell("%s %s to %s", s.out.Green("sent"), term.Plural(r.Lost, "commit", "commits"), s.show(sum.st.Secondary))
	}
	s.tell("  %s", s.show(stateText(sum.st)))
	return s.listProblems(cmd.Context(), r.Report)
}
