package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/vault"
)

func newUndelete(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "undelete NAMESPACE/NAME",
		Short: "bring back a record that was removed",
		Long: `Bring back a record that was removed, on whatever device, as it was before; or one
that has expired, for good. What was removed before it was sent comes back on the
device where it was written, for 30 days or until the record is written again; no other
has it. Other versions are in "kist history"; "kist revert" brings back any.`,
		Example:           `  kist undelete notes/todo`,
		Args:              exactly(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, name, err := address(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				ns := v.Namespace(namespace)
				was, err := ns.Removed(cmd.Context(), name)
				var rev vault.Revision
				if err == nil {
					rev, err = ns.Undelete(cmd.Context(), name)
				}
				switch {
				case errors.Is(err, vault.ErrCondition):
					return &failure{code: exitConflict, text: fmt.Sprintf("%q cannot be brought back: %s", args[0], reason(err)), err: err,
						hint: "kist history " + quote(args[0]) + ", then kist revert for an earlier version"}
				case errors.Is(err, vault.ErrCompacted):
					return &failure{code: exitNotFound, text: fmt.Sprintf("%q cannot be brought back: what it held is no longer kept here", args[0]), err: err,
						hint: "kist history " + quote(args[0]) + ", on another device too, and kist revert there"}
				case errors.Is(err, vault.ErrNotFound):
					return &failure{code: exitNotFound, text: fmt.Sprintf("%q cannot be brought back: this device knows no version of it", args[0]), err: err,
						hint: "kist sync, if it was removed on another device"}
				case err == nil && a.json:
					return a.printJSON(jsonChange{jsonVersion, "put", jsonName(namespace, name), uint64(rev)})
				case err == nil:
					unsent := ""
					if was.Pending {
						unsent = ", which was never sent"
					}
					a.say("%s is back, as %s wrote it %s%s", a.clean(args[0]), a.clean(was.Device), a.timeText(was.Time), unsent)
				}
				return err
			})
		},
	}
}

// reason returns the text of an error without the operation and the record that
// it names, and without the class where that is no news.
func reason(err error) string {
	var e *vault.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return strings.TrimPrefix(err.Error(), vault.ErrCondition.Error()+": ")
}
