package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/vault"
)

func newInit(a *app) *cobra.Command {
	s := &setup{app: a}
	cmd := &cobra.Command{
		Use:   "init --key FILE [--vault DIR]",
		Short: "make a vault on this device alone",
		Long: `Make a vault on this device, without a secondary: nothing is sent anywhere.
"kist onboard" in the same vault connects it later.

If FILE is there, it is the key of the new vault; else it is made, with a
passphrase that you are asked for.`,
		Example: `  kist init --key ~/usb/me.kistkey
  kist init --key me.kistkey --passphrase-file secret.txt --vault ./vault`,
		Args:        exactly(0),
		Annotations: annotate(vaultAlone),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := s.config(ctx)
			if err != nil {
				return err
			}
			if s.making {
				if err := s.lock(&c); err != nil {
					return err
				}
			}
			r, err := onboarding.Init(ctx, c)
			if errors.Is(err, vault.ErrExists) && vault.Vacant(s.vaultDir) == nil {
				f := &failure{code: exitConflict, text: "this key file belongs to a vault already", err: err,
					hint: "kist onboard --key " + quote(s.key) + " to join it, kist restore --key " + quote(s.key) + " after a loss, or init with another --key FILE"}
				f.detail("key file", s.key)
				return f
			}
			if err != nil {
				return err
			}
			if s.json {
				sum, err := s.summarize(ctx)
				if err != nil {
					return err
				}
				return s.printJSON(result{Version: jsonVersion, Type: "result", Done: "created", KeyCreated: r.KeyCreated, Status: sum.json(s.vaultDir)})
			}
			s.tell("%s vault %s on this device, %q", s.out.Green("created"), s.out.Bold(r.Vault.Short()), s.name)
			s.tell("  vault     %s", s.show(s.vaultDir))
			s.tell("  key file  %s", s.show(s.key))
			if r.KeyCreated {
				s.keepSafe()
			}
			return nil
		},
	}
	s.flags(cmd)
	return cmd
}
