package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/vault"
)

func newHistory(a *app) *cobra.Command {
	var keep string
	var shrink bool
	cmd := &cobra.Command{
		Use:   "history [NAMESPACE/NAME] [--keep all|VERSIONS|DAYSd] [--shrink]",
		Short: "list the versions of a record, or say which are kept",
		Long: `List the versions of a record, newest first: when and on which device each was
written, and where it stands in the log. A removed record has a history, too.

The first column is what "kist get --at" and "kist revert" take.

Without a record: which versions this device keeps. At first it keeps all. With
--keep it keeps so many versions of each record, or those that were superseded so
many days ago, or with both what either keeps; what it does not keep it drops, now
and as more comes. What is present, waits to be sent or is part of a conflict stays,
and so do removals, and who wrote when. A removed record can be brought back as long
as its last version is kept: by number it always is. Other devices, and the
secondary, have rules of their own: a secondary keeps superseded values for 30 days,
unless its operator says otherwise.

The space is used again for what is written later. --shrink gives it back to the
system: it writes the store anew, and needs room for that beside the old one.`,
		Example: `  kist history notes/todo
  kist history notes/todo --json
  kist history
  kist history --keep 3,30d --yes   # three versions, and all of the last month
  kist history --shrink`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("keep") && keep == "":
				return usageError{errors.New("--keep: say what: all, a number of versions, or days such as 30d")}
			case len(args) == 0:
				return a.retention(cmd.Context(), keep, shrink)
			case keep != "" || shrink:
				return usageError{errors.New("--keep and --shrink are for all records: name none")}
			}
			namespace, name, err := address(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				// Of several that are live, the namespace's strategy says which shows;
				// it need not be the last in the log.
				shown, now := &vault.Record{}, time.Now()
				if rec, r, err := v.Namespace(namespace).Open(cmd.Context(), name); rec != nil {
					if err == nil {
						r.Close()
					}
					shown = rec
				}
				newest, replaced := true, false
				for rec, err := range v.Namespace(namespace).History(cmd.Context(), name) {
					if err != nil {
						return err
					}
					if rec.Name == "" {
						rec.Name = name // its content is gone
					}
					if a.json {
						if err := a.printJSON(recordJSON("version", rec)); err != nil {
							return err
						}
						continue
					}
					place, size := rec.Commit.String(), bytesText(rec.Size)
					if rec.Pending {
						place = "not sent"
					}
					// The newest that was not sent takes the place of all that are live.
					current := rec.Live || rec.Pending && newest
					newest = false
					// One that waits to be sent takes the place of what it was written on,
					// which is live at the secondary until then.
					replaced = replaced || rec.Pending && shown.Siblings == 0
					state := ""
					switch {
					case rec.Deleted:
						size, state = "—", "removed"
					case rec.Unread == rec.Commit && rec.Commit.Commit != 0:
						size, state = "—", "cannot be read by this program"
					case rec.Time.IsZero():
						size, state = "—", "content not here"
					case rec.Commit == shown.Commit && rec.Pending == shown.Pending && rec.Time.Equal(shown.Time):
						state = "present"
					case current && !rec.Expires.IsZero() && !rec.Expires.After(now):
						state = "expired"
					case current && rec.Available.After(now):
						state = "hidden until " + a.timeText(rec.Available)
					case rec.Live && !replaced:
						state = "at the same time"
					}
					if rec.Ahead {
						state = strings.TrimSpace(state + " (dated in the future)")
					}
					if rec.Away {
						state = strings.TrimSpace(state + " (value not here)")
					}
					if _, err := fmt.Fprintf(a.stdout, "%-10s  %-19s  %s  %9s  %s\n", place, a.timeText(rec.Time), pad(a.show(rec.Device), 16), size, state); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&keep, "keep", "", "which versions this device keeps: `all`, a number, days such as 30d, or both (3,30d)")
	cmd.Flags().BoolVar(&shrink, "shrink", false, "give the space of what was dropped back to the system")
	return cmd
}
