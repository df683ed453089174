package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/vault"
)

func newWatch(a *app) *cobra.Command {
	var since int64
	cmd := &cobra.Command{
		Use:   "watch [NAMESPACE/][PREFIX]",
		Short: "stay in sync and print each change",
		Long: `Stay in sync with the secondary and print each change to a record, once and in
order, until interrupted (Ctrl-C). A change that comes while an earlier one of the
same record waits to be printed replaces it. Without a secondary there is nothing
to come but what --since asks for.

Beside kist run, which other commands need to use the vault meanwhile, it shows what
comes there.`,
		Example: `  kist watch
  kist watch notes/journal/ --json
  kist watch --since 0     # begin with every record there is`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			var sel []vault.Select
			namespace := ""
			if len(args) == 1 {
				var prefix string
				namespace, prefix, _ = strings.Cut(args[0], "/")
				if err := keys.ValidNamespace(namespace); err != nil {
					return usageError{fmt.Errorf("namespace %q: %w", namespace, err)}
				}
				sel = append(sel, vault.Prefix(prefix))
			}
			if cmd.Flags().Changed("since") {
				if since < 0 {
					return usageError{errors.New("--since wants a revision, or 0 for all")}
				}
				sel = append(sel, vault.Since(vault.Revision(since)))
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error { return a.watch(cmd.Context(), v, namespace, sel) })
		},
	}
	cmd.Flags().Int64Var(&since, "since", 0, "begin after this `REVISION`; 0: with every record there is")
	return cmd
}

func (a *app) watch(ctx context.Context, v *vault.Vault, namespace string, sel []vault.Select) error {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watcher{app: a, ctx: outer}
	sub := v.Watch(ctx, namespace, sel...)

	st, own := &states{}, false
	if a.held != nil {
		st = a.held.states // the agent's sync
	}
	ran := make(chan error, 1)
	switch {
	case len(v.Servers()) == 0:
		a.say("this vault has no secondary: no changes will come from elsewhere")
		ran <- nil
	case a.held != nil:
		ran <- nil
	default:
		own = true
		go func() {
			err := v.Run(ctx, vault.SyncOptions{Progress: st.tell})
			cancel() // it does not end by itself unless going on is no use
			ran <- err
		}()
	}
	heard := st.listen()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for range heard.wake {
			for _, p := range heard.take() {
				w.progress(p)
			}
		}
	}()

	var err error
	for rec := range sub.C {
		if err = w.event(rec); err != nil {
			cancel()
			break
		}
	}
	cancel()
	werr, rerr := sub.Err(), <-ran
	if own {
		st.end() // the last state is shown
	}
	heard.close()
	<-shown
	switch cause := context.Cause(outer); {
	case err != nil:
		return err
	case errors.Is(cause, errTerminated):
		return nil // the way in which a service is stopped
	case cause != nil:
		return cause
	case rerr != nil && !errors.Is(rerr, context.Canceled):
		return rerr
	}
	return werr
}

// A watcher prints events and states. Both come from goroutines of their own.
type watcher struct {
	*app
	ctx  context.Context // of the command
	mu   sync.Mutex
	last vault.State
	why  string
	live bool // and has said so
}

func (w *watcher) event(rec *vault.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	kind := "put"
	if rec.Deleted {
		kind = "delete"
	}
	if w.json {
		return w.printJSON(recordJSON(kind, rec))
	}
	name := rec.Namespace + "/" + w.show(rec.Name)
	if rec.Deleted {
		_, err := fmt.Fprintf(w.stdout, "%s  %-6s  %s\n", w.timeText(rec.Time), kind, name)
		return err
	}
	_, err := fmt.Fprintf(w.stdout, "%s  %-6s  %s  (%s, by %s)\n", w.timeText(rec.Time), kind, name, bytesText(rec.Size), w.show(rec.Device))
	return err
}

// progress tells when the state changes, in words only what a person waits for.
func (w *watcher) progress(p vault.Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	why := ""
	if p.Err != nil && w.ctx.Err() == nil {
		why = p.Err.Error()
	}
	if p.State == w.last && why == w.why {
		return
	}
	w.last = p.State
	switch {
	case w.json:
		if w.ctx.Err() != nil {
			p.Err = nil // the person wanted it so
		}
		w.printJSON(progressJSON(p))
	case p.State == vault.StateLive && !w.live: // not again after each change
		w.live = true
		w.say("%s at commit %d", w.note.Green("live"), p.Commits)
	case p.State == vault.StateOffline && why != "" && why != w.why:
		w.live = false
		w.say("%s, trying again: %s", w.note.Yellow("offline"), w.clean(why))
	}
	if p.State == vault.StateLive || why != "" {
		w.why = why
	}
}
