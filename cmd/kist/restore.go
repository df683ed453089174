package main

import (
	"encoding/hex"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func newRestore(a *app) *cobra.Command {
	s := &setup{app: a}
	var secondary string
	var full bool
	cmd := &cobra.Command{
		Use:   "restore --key FILE [--vault DIR] [--secondary URL|INVITE] [--full]",
		Short: "rebuild this device from the secondary with the key file",
		Long: `Get everything back with the key file alone: what is alive comes first, as one of
your devices has last signed it in a checkpoint, with everything since; then the
vault can be used. The history before that is pulled and verified from its first
commit on by the syncs that follow, or, with --full, before anything else. Nothing
is ever created at the secondary. If it is interrupted, run the same again: it goes
on where it ended.

The key file says where the secondary is. --secondary gives another address of
it, or an invite of another secondary that has the vault.`,
		Example: `  kist restore --key ~/usb/me.kistkey
  kist restore --key me.kistkey --secondary wss://new.example.org/ --name laptop-2`,
		Args:        exactly(0),
		Annotations: annotate(vaultAlone),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := s.config(ctx)
			if err != nil {
				return err
			}
			if s.making {
				f := &failure{code: exitNotFound, text: "there is no such key file", hint: "--key with the right file; nothing can be restored without it"}
				f.detail("key file", s.key)
				return f
			}
			url := ""
			if secondary != "" {
				if url, err = pointTo(&c, secondary); err != nil {
					return err
				}
			}
			// The clock does not run yet: a person may take their time to type.
			if _, err := c.Unlock.Passphrase(); err != nil {
				return err
			}
			ctx, m := s.meter(ctx, url, openTime)
			c.Sync = m.options(vault.TwoWay)
			c.Sync.Whole = full
			r, err := onboarding.Restore(ctx, c)
			if err = m.end(ctx, err); err != nil {
				return err
			}
			return s.restored(cmd, r)
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&full, "full", false, "verify the whole history before the vault is used")
	cmd.Flags().StringVar(&secondary, "secondary", "", "restore from this secondary (`URL` or INVITE)")
	return cmd
}

// pointTo sets the secondary that a person named.
func pointTo(c *onboarding.Config, text string) (url string, err error) {
	if strings.HasPrefix(strings.ToLower(text), "kistinvite1") {
		i, err := wire.ParseInvite(text)
		if err != nil {
			return "", err
		}
		c.Invite = &i
		return i.URL, nil
	}
	if !strings.Contains(text, "://") {
		text = "wss://" + text
	}
	url, err = wire.CanonicalURL(text)
	if err != nil {
		return "", usageError{errors.New("--secondary: want wss://HOST/, ws://127.0.0.1:PORT/ or an invite")}
	}
	c.Server = &keyfile.Server{URL: url}
	return url, nil
}

func (s *setup) restored(cmd *cobra.Command, r *onboarding.Result) error {
	sum, err := s.summarize(cmd.Context())
	if err != nil {
		return err
	}
	if s.json {
		j := result{Version: jsonVersion, Type: "result", Done: "restored", Report: reportJSON(r.Report), Status: sum.json(s.vaultDir)}
		if r.Already {
			j.Done = "already"
		}
		if f := r.Floor; f != nil {
			j.Floor = &jsonFloor{f.Size, hex.EncodeToString(f.Root[:])}
		}
		return s.printJSON(j)
	}
	st := sum.st
	if r.Already {
		s.tell("this device has vault %s already; it is in step with %s", s.out.Bold(st.Vault.Short()), s.show(st.Secondary))
	} else {
		s.tell("%s vault %s from %s", s.out.Green("restored"), s.out.Bold(st.Vault.Short()), s.show(st.Secondary))
	}
	s.tell("  device       %s", s.show(st.DeviceName))
	s.tell("  vault        %s", s.show(s.vaultDir))
	s.tell("  records      %s", s.show(recordsText(st)))
	s.tell("  devices      %s", s.show(devicesText(st)))
	s.tell("  history      %s", historyText(st))
	if st.Base > 0 {
		s.tell("               %s", laterText)
	}
	if c := sum.last; c != nil {
		s.tell("  last change  %s, by %s (commit %d)", s.timeText(c.Time), s.show(c.Device), c.ID)
	}
	if f := r.Floor; f != nil {
		s.tell("  floor        commit %d, from the key file: the history is at least as new", f.Size)
	} else {
		s.tell("  floor        none: there was nothing to compare with. An honest secondary has sent all;")
		s.tell("               check that the last change is the one that you remember")
	}
	s.tell("  digest       %s", sum.digest)
	return s.listProblems(cmd.Context(), r.Report)
}
