package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/vault"
)

func newHistory(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "history NAMESPACE/NAME",
		Short: "list the versions of a record",
		Long: `List the versions of a record, newest first: when and on which device each was
written, and where it stands in the log. A removed record has a history, too.

The first column is what "kist get --at" and "kist revert" take.`,
		Example: `  kist history notes/todo
  kist history notes/todo --json`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
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
				newest := true
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
					case rec.Live:
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
}
