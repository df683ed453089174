package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func newOnboard(a *app) *cobra.Command {
	s := &setup{app: a}
	cmd := &cobra.Command{
		Use:   "onboard [INVITE] --key FILE [--vault DIR]",
		Short: "create a vault with an invite, or join yours from another device",
		Long: `Connect this device with a secondary.

If FILE is not there, a new vault is made at the secondary that INVITE comes from,
and FILE is made as its only key. The invite is used up.

If FILE is there, this device joins the vault that it opens. The invite then says
only where the secondary is, and may be left out if the key file knows.

A vault that "kist init" made here is connected, with all that is in it.
If it is interrupted, run the same again.`,
		Example: `  kist onboard kistinvite1… --key ~/usb/me.kistkey      # the first device
  kist onboard --key ~/usb/me.kistkey --name phone      # each further one`,
		Args:        between(0, 1),
		Annotations: annotate(vaultAlone),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var invite *wire.Invite
			if len(args) == 1 {
				i, err := wire.ParseInvite(args[0])
				if err != nil {
					return err
				}
				invite = &i
			}
			c, err := s.config(ctx)
			if err != nil {
				return err
			}
			c.Invite = invite
			if s.making {
				// Nobody chooses a passphrase for what will be refused.
				switch {
				case invite == nil:
					return s.noKey(onboarding.ErrNeedInvite)
				case !time.Now().Before(invite.Expires):
					return fmt.Errorf("%w, on %s", onboarding.ErrInviteExpired, s.timeText(invite.Expires))
				}
				if err := s.lock(&c); err != nil {
					return err
				}
			}
			// The clock does not run yet: a person may take their time to type.
			if _, err := c.Unlock.Passphrase(); err != nil {
				return err
			}
			url := ""
			if invite != nil {
				url = invite.URL
			}
			ctx, m := s.meter(ctx, url, openTime)
			c.Sync = m.options(vault.TwoWay)
			r, err := onboarding.Onboard(ctx, c)
			if err = m.end(ctx, err); err != nil {
				return err
			}
			return s.onboarded(cmd, r)
		},
	}
	s.flags(cmd)
	return cmd
}

// noKey is the error of an onboarding that has neither a key file nor an invite.
func (s *setup) noKey(err error) error {
	f := &failure{code: exitUsage, text: "there is no such key file, and without an invite no new vault can be made", err: err,
		hint: "kist onboard INVITE --key " + quote(s.key) + " for a new vault, or --key with the right file to join yours"}
	f.detail("key file", s.key)
	return f
}

func (s *setup) onboarded(cmd *cobra.Command, r *onboarding.Result) error {
	sum, err := s.summarize(cmd.Context())
	if err != nil {
		return err
	}
	done := "joined"
	switch {
	case r.Created, r.KeyCreated:
		done = "created"
	case r.Already:
		done = "already"
	}
	if s.json {
		return s.printJSON(result{
			Version: jsonVersion, Type: "result", Done: done, KeyCreated: r.KeyCreated,
			Report: reportJSON(r.Report), Status: sum.json(s.vaultDir),
		})
	}
	st := sum.st
	switch done {
	case "created":
		s.tell("%s vault %s at %s", s.out.Green("created"), s.out.Bold(st.Vault.Short()), s.show(st.Secondary))
	case "already":
		s.tell("this device is in vault %s already, and in step with %s", s.out.Bold(st.Vault.Short()), s.show(st.Secondary))
	default:
		s.tell("%s vault %s at %s", s.out.Green("joined"), s.out.Bold(st.Vault.Short()), s.show(st.Secondary))
	}
	s.tell("  device    %s", s.show(st.DeviceName))
	s.tell("  vault     %s", s.show(s.vaultDir))
	s.tell("  key file  %s", s.show(s.key))
	s.tell("  records   %d, at commit %d", st.Records, st.Commits)
	if r.KeyCreated {
		s.keepSafe()
	}
	return s.listProblems(cmd.Context(), r.Report)
}
