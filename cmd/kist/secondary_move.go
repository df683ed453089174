package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func newMove(a *app) *cobra.Command {
	s := &setup{app: a}
	cmd := &cobra.Command{
		Use:   "move INVITE --key FILE",
		Short: "move the vault to another secondary; all devices follow",
		Long: `Everything is sent to the secondary that INVITE is of. Then the last commit at the old
one says where the vault is now, signed with the key file. The old one takes nothing
more, and goes on to be read: leave it running until each device has synced once, and
then goes on at the new one by itself.

If it is interrupted, run the same again. Where the old secondary is gone, or not to be
trusted, it cannot tell the others: kist secondary reseed INVITE --key FILE on each
device.`,
		Example:     `  kist secondary move kistinvite1… --key ~/usb/me.kistkey`,
		Args:        exactly(1),
		Annotations: annotate(vaultAlone),
		RunE: func(cmd *cobra.Command, args []string) error {
			i, err := wire.ParseInvite(args[0])
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			c, err := s.config(ctx)
			if err != nil {
				return err
			}
			if s.making {
				return s.onlyOwner("only who has it may move the vault")
			}
			c.Invite = &i
			// The clock does not run yet: a person may take their time to type.
			if _, err := c.Unlock.Passphrase(); err != nil {
				return err
			}
			ctx, m := s.meter(ctx, "", openTime) // there are two
			c.Sync = m.options(vault.TwoWay)
			r, err := onboarding.Move(ctx, c)
			if err = m.end(ctx, err); err != nil {
				return s.notMoved(cmd, err)
			}
			return s.moved(cmd.Context(), r)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&s.key, "key", "", "the key file (`FILE`)")
	return cmd
}

// onlyOwner says that there is no such key file, and why it is needed.
func (s *setup) onlyOwner(why string) error {
	f := &failure{code: exitNotFound, text: "there is no such key file", hint: "--key with the right file: " + why}
	f.detail("key file", s.key)
	return f
}

// notMoved explains why a vault was not moved.
func (s *setup) notMoved(cmd *cobra.Command, err error) error {
	reseed := "kist secondary reseed INVITE --key " + quote(s.key) + " on this device, and then on each other one: the old secondary cannot tell them"
	switch {
	case errors.Is(err, vault.ErrThere):
		return &failure{code: exitConflict, text: "the vault is at that secondary already", err: err, hint: "kist status"}
	case errors.Is(err, vault.ErrMovedMeanwhile):
		return &failure{code: exitConflict, text: err.Error(), err: err, hint: "kist sync, which goes on there"}
	case errors.Is(err, wire.ErrInvite), errors.Is(err, context.Canceled), errors.Is(err, vault.ErrNotAll):
		return err
	}
	s.cmd = cmd
	f := s.explain(err)
	if f.hint != "" {
		f.hint += "; or "
	}
	f.hint += "if the old secondary is gone or not to be trusted: " + reseed
	return f
}

func (s *setup) moved(ctx context.Context, r *onboarding.Moved) error {
	sum, err := s.summarize(ctx)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(result{Version: jsonVersion, Type: "result", Done: "moved", Sent: &r.Sent, Report: reportJSON(r.Report), Status: sum.json(s.vaultDir)})
	}
	s.tell("%s to %s, and sent %s there", s.out.Green("moved"), s.show(r.To), term.Plural(r.Sent, "commit", "commits"))
	s.tell("  %s", s.show(stateText(sum.st)))
	if r.From != r.To {
		s.say("Leave %s running until each other device has synced once: that is how they learn of it.", s.clean(r.From))
	}
	return s.listProblems(ctx, r.Report)
}

// jsonSecondary is what kist secondary prints with --json.
type jsonSecondary struct {
	Version int        `json:"version"`
	Type    string     `json:"type"` // "secondary"
	URL     string     `json:"url"`  // empty: there is none
	Key     string     `json:"key,omitempty"`
	Binding string     `json:"binding,omitempty"`
	Moved   *jsonMoved `json:"moved,omitempty"`
}

// jsonMoved is the newest move in the log.
type jsonMoved struct {
	To      string    `json:"to"`
	Commit  uint64    `json:"commit"`
	Time    time.Time `json:"time"`
	Arrived bool      `json:"arrived"` // the secondary has shown that commit
}

func movedJSON(m *vault.Moved) *jsonMoved {
	if m == nil {
		return nil
	}
	return &jsonMoved{To: m.To.URL, Commit: uint64(m.Commit), Time: m.Time.UTC(), Arrived: m.Arrived}
}

// secondary says where the vault is.
func (a *app) secondary(ctx context.Context, v *vault.Vault) error {
	m, err := v.Moved(ctx)
	if err != nil {
		return err
	}
	j := jsonSecondary{Version: jsonVersion, Type: "secondary", Moved: movedJSON(m)}
	if servers := v.Servers(); len(servers) > 0 {
		j.URL, j.Key, j.Binding = servers[0].URL, servers[0].Key.String(), string(servers[0].Binding)
	}
	if a.json {
		return a.printJSON(j)
	}
	if j.URL == "" {
		return vault.ErrNoSecondary
	}
	a.tell("%s", a.show(j.URL))
	a.tell("  known by its key %s", j.Key)
	if m != nil {
		a.tell("  %s", a.show(a.movedText(m, j.URL)))
	}
	return nil
}

// movedText says in a sentence that the vault was moved.
func (a *app) movedText(m *vault.Moved, at string) string {
	switch {
	case m.To.URL != at && !m.Arrived:
		return fmt.Sprintf("being moved to %s since %s (commit %d): kist sync goes there", m.To.URL, a.timeText(m.Time), m.Commit)
	case !m.Arrived:
		return fmt.Sprintf("being moved here since %s (commit %d), and not all is here yet", a.timeText(m.Time), m.Commit)
	}
	return fmt.Sprintf("moved here on %s (commit %d)", a.timeText(m.Time), m.Commit)
}
