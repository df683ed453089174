package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

func newSync(a *app) *cobra.Command {
	var pull, push, full bool
	cmd := &cobra.Command{
		Use:   "sync [--pull|--push] [--full]",
		Short: "send and receive, once",
		Long: `Bring the vault and its secondary in step: receive and verify what other devices
have written, and send what was written here. Without a connection it fails at
once (exit status 5), and nothing is lost. It takes as long as it takes; only where
nothing moves for --timeout it gives up, and goes on there the next time.

It says what came and went, and exits with 3 where something is left to do. Records
that were written on two devices at once are no failure: they are counted, and kept.
Nor is what --pull does not send, or --push does not receive.

With --quiet it says nothing but what failed.

Beside kist run it makes that sync at once, and waits for it.`,
		Example: `  kist sync
  kist sync --json | jq 'select(.type == "report")'`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			mode := vault.TwoWay
			switch {
			case pull && push:
				return usageError{errors.New("--pull and --push exclude each other")}
			case pull:
				mode = vault.PullOnly
			case push:
				mode = vault.PushOnly
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error { return a.sync(cmd.Context(), v, mode, full) })
		},
	}
	cmd.Flags().BoolVar(&pull, "pull", false, "receive only")
	cmd.Flags().BoolVar(&push, "push", false, "send only; the history comes all the same")
	cmd.Flags().BoolVar(&full, "full", false, "compare the whole history, and get again what is lost or damaged here")
	return cmd
}

func (a *app) sync(ctx context.Context, v *vault.Vault, mode vault.Mode, full bool) error {
	if len(v.Servers()) == 0 {
		return vault.ErrNoSecondary
	}
	stood, err := v.Alarm(ctx)
	if err != nil {
		return err
	}
	url := v.Servers()[0].URL
	sctx, m := a.meter(ctx, url, 0)
	o := m.options(mode)
	o.Full = full
	r, err := v.Sync(sctx, o)
	err = m.end(sctx, err)
	if passed, aerr := caughtUp(ctx, v, stood); aerr != nil {
		err = errors.Join(err, aerr)
	} else if passed != nil {
		a.sayCaughtUp(passed)
		if a.held != nil {
			a.held.goOn()
		}
	}
	if now := v.Servers()[0].URL; now != url {
		a.say("the vault was moved to %s", a.clean(now))
		m.host = hostOf(now)
	}
	if a.json {
		if jerr := a.printJSON(reportJSON(r)); jerr != nil {
			return jerr
		}
	} else if !a.quiet && (err == nil || r.Pulled+r.Pushed > 0) {
		listed, cerr := a.conflicts(ctx, v, r)
		if cerr != nil {
			return errors.Join(err, cerr)
		}
		a.printReport(r, listed, m.host, err == nil)
	}
	if err != nil {
		return err
	}
	if mode == vault.PullOnly {
		r.Pending = 0 // they stay on purpose
	}
	return a.problems(ctx, v, r)
}

// conflicts counts what kist conflicts lists, if the sync brought any.
func (a *app) conflicts(ctx context.Context, v *vault.Vault, r *vault.Report) (n int, err error) {
	if r.Conflicts == 0 {
		return 0, nil
	}
	for c, err := range v.Conflicts(ctx) {
		if c == nil && err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// printReport says what a sync did. listed is how many conflicts wait for an
// answer now.
func (a *app) printReport(r *vault.Report, listed int, host string, inStep bool) {
	w := a.stdout
	if inStep && r.Pending+r.Missing == 0 {
		fmt.Fprintf(w, "%s with %s at commit %d\n", a.out.Green("in step"), a.show(host), r.Commits)
	} else {
		fmt.Fprintf(w, "not in step with %s yet, at commit %d\n", a.show(host), r.Commits)
	}
	fmt.Fprintf(w, "  received   %s\n", term.Plural(r.Pulled, "change", "changes"))
	fmt.Fprintf(w, "  sent       %s\n", term.Plural(r.Pushed, "change", "changes"))
	if r.Forgotten > 0 {
		fmt.Fprintf(w, "  forgotten  %s here, as this device does not keep them\n", term.Plural(r.Forgotten, "change", "changes"))
	}
	if r.Compacted > 0 {
		fmt.Fprintf(w, "  dropped    %s here, as kist history says\n", term.Plural(r.Compacted, "earlier version", "earlier versions"))
	}
	if listed > 0 {
		fmt.Fprintf(w, "  conflicts  %s several versions: kist conflicts\n", term.Plural(listed, "record has", "records have"))
	}
	if n := r.Conflicts - listed; n > 0 {
		// An edit that beat a removal, or what the app's resolver has answered.
		fmt.Fprintf(w, "  settled    %s written on several devices at once: kist history NAME shows the versions\n", term.Plural(n, "record was", "records were"))
	}
	for _, l := range []struct {
		label string
		n     int
		more  string
	}{
		{"to send", r.Pending - r.Aside, ""},
		{"refused", r.Aside, ", by the secondary"},
		{"missing", r.Missing, " whose content has not come"},
		{"unusable", r.Quarantine, " in quarantine"},
	} {
		if l.n > 0 {
			fmt.Fprintf(w, "  %-9s  %s%s\n", l.label, term.Plural(l.n, "change", "changes"), l.more)
		}
	}
	if a.verbose {
		fmt.Fprintf(w, "  traffic    %s received, %s sent\n", bytesText(r.BytesIn), bytesText(r.BytesOut))
	}
}

// maxListed bounds how many items of a kind an error lists.
const maxListed = 20

// problems returns the error of a sync that did not settle everything.
func (a *app) problems(ctx context.Context, v *vault.Vault, r *vault.Report) error {
	if r.Aside+r.Quarantine+r.Missing+r.Pending == 0 {
		return nil
	}
	f := &failure{code: exitPartly, text: "done but for some changes, which are kept", hint: "kist sync again; if it stays so, a newer kist, or who runs the secondary, may help"}
	if r.NoRoom > 0 {
		f.code, f.text = exitSize, "the secondary has no more room for this vault; what it did not take stays on this device"
		f.hint = "ask who runs the secondary for more (kistd vaults quota), or remove what is not needed: its room comes back in some weeks; kist sync then sends the rest"
	}
	if r.Aside > 0 {
		f.detail("refused", term.Plural(r.Aside, "change of this device was", "changes of this device were")+" refused by the secondary")
	}
	if r.Quarantine > 0 {
		f.detail("quarantined", term.Plural(r.Quarantine, "change", "changes")+" cannot be read")
	}
	if r.Missing > 0 {
		f.detail("missing", "the content of "+term.Plural(r.Missing, "change", "changes")+" has not come")
	}
	if r.Pending > r.Aside {
		f.detail("to send", term.Plural(r.Pending-r.Aside, "change", "changes"))
	}
	list, err := v.Problems(ctx, maxListed)
	if err != nil {
		return err
	}
	for _, p := range list {
		f.detail("- "+string(p.Kind), problemText(p))
	}
	return f
}

func problemText(p vault.Problem) string {
	what := p.Record
	if what == "" {
		what = "change " + p.Change.String()
	}
	return fmt.Sprintf("%q: %s", what, p.Reason)
}

// listProblems is problems for a vault that is closed again.
func (s *setup) listProblems(ctx context.Context, r *vault.Report) error {
	if r == nil || r.Aside+r.Quarantine+r.Missing+r.Pending == 0 {
		return nil
	}
	return s.withAny(ctx, func(v *vault.Vault) error { return s.problems(ctx, v, r) })
}

type jsonReport struct {
	Version    int    `json:"version"`
	Type       string `json:"type"` // "report"
	Commits    uint64 `json:"commits"`
	Pulled     int    `json:"pulled"`
	Pushed     int    `json:"pushed"`
	Conflicts  int    `json:"conflicts"`
	Pending    int    `json:"pending"`
	Refused    int    `json:"refused"`
	Quarantine int    `json:"quarantine"`
	Missing    int    `json:"missing"`
	Forgotten  int    `json:"forgotten"`
	Compacted  int    `json:"compacted"`
	BytesIn    int64  `json:"bytes_in"`
	BytesOut   int64  `json:"bytes_out"`
	NoRoom     int    `json:"no_room"` // of those refused, for want of room at the secondary
}

func reportJSON(r *vault.Report) *jsonReport {
	if r == nil {
		return nil
	}
	return &jsonReport{
		Version: jsonVersion, Type: "report", Commits: r.Commits, Pulled: r.Pulled, Pushed: r.Pushed, Conflicts: r.Conflicts,
		Pending: r.Pending, Refused: r.Aside, NoRoom: r.NoRoom, Quarantine: r.Quarantine, Missing: r.Missing, Forgotten: r.Forgotten, Compacted: r.Compacted, BytesIn: r.BytesIn, BytesOut: r.BytesOut,
	}
}
