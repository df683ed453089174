package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

func newRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAMESPACE/NAME…",
		Short: "remove records",
		Long: `Remove records, here and with the next sync on the other devices. Nothing is asked:
what a record held stays in its history, if it was ever sent to the secondary. What was
not sent yet is never sent then; it stays on this device for 30 days, for "kist undelete".`,
		Example: `  kist rm notes/todo
  kist rm contacts/ada contacts/grace`,
		Args:              between(1, -1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if _, _, err := address(arg); err != nil {
					return err
				}
			}
			ctx := cmd.Context()
			return a.with(ctx, func(v *vault.Vault) error {
				var absent, failed []string
				var first error
				for _, arg := range args {
					namespace, name, _ := address(arg)
					ns := v.Namespace(namespace)
					_, r, err := ns.Open(ctx, name)
					if err == nil {
						r.Close()
					}
					gone := errors.Is(err, vault.ErrNotFound)
					if !gone {
						// A record that cannot be read can be removed all the same.
						err = ns.Delete(ctx, name)
					}
					switch {
					case gone:
						absent = append(absent, arg)
					case err != nil:
						if first == nil {
							first = err
						}
						failed = append(failed, arg)
					case a.json:
						if err := a.printJSON(jsonChange{Version: jsonVersion, Type: "delete", jsonAddress: jsonName(namespace, name)}); err != nil {
							return err
						}
					case term.IsTerminal(a.stderr):
						a.say("removed %s", a.clean(arg))
					}
					if ctx.Err() != nil {
						return ctx.Err()
					}
				}
				return removed(args, absent, failed, first)
			})
		},
	}
}

// removed returns the error of a removal of which some failed.
func removed(args, absent, failed []string, first error) error {
	bad := len(absent) + len(failed)
	switch {
	case bad == 0:
		return nil
	case len(args) == 1 && first != nil:
		return first
	case len(args) == 1:
		return &failure{code: exitNotFound, text: fmt.Sprintf("there is no record %q", absent[0]), hint: "kist ls"}
	}
	f := &failure{code: exitPartly, text: fmt.Sprintf("%d of %d records were not removed", bad, len(args)), hint: "kist ls"}
	if len(absent) == len(args) {
		f.code, f.text = exitNotFound, "there are no such records"
	}
	for _, arg := range absent {
		f.detail("not found", fmt.Sprintf("%q", arg))
	}
	for _, arg := range failed {
		f.detail("failed", fmt.Sprintf("%q", arg))
	}
	if first != nil {
		f.detail("reason", first.Error())
	}
	return f
}
