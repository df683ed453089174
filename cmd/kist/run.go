package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/agent"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func newRun(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "stay in sync, and serve the other commands",
		Long: `Keep the vault in step with its secondary until interrupted: what is written here
goes out at once, and what other devices write comes in at once. Without a
connection it tries again, at longer and longer intervals up to five minutes.

The other commands find it and work through it, just as they do without it; kist
sync makes it try at once. Commands that make or replace a vault do not, and say so.

It prints when it is in step and when it is not; with -v also what goes back and
forth meanwhile, and with --json every change of its state. It ends by itself only
where trying again cannot help, as when this device was revoked.

When the secondary is caught at something, an alarm, it says so and stays: the other
commands are served, and nothing is sent or received until kist doctor --try-again. If it
had only gone back to an older history, kist run looks some times an hour whether it has
caught up, and then goes on and says so. kist status has exit status 9 as long as the
alarm stands.`,
		Example: `  kist run
  kist run -q &
  kist run --json | jq -r .state`,
		Args:        exactly(0),
		Annotations: annotate(vaultAlone),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(v *vault.Vault) error { return a.runAgent(cmd.Context(), v) })
		},
	}
}

// runAgent keeps v in step and serves clients until ctx ends, or syncing is no
// use any more.
func (a *app) runAgent(outer context.Context, v *vault.Vault) error {
	srv, err := agent.Listen(a.vaultDir, version())
	if err != nil {
		return err
	}
	h := &held{v: v, dir: a.vaultDir, states: &states{}, again: make(chan struct{}, 1)}
	host := func() string { // the secondary can become another one: the vault moves
		if servers := v.Servers(); len(servers) > 0 {
			return hostOf(servers[0].URL)
		}
		return ""
	}
	heard := h.states.listen()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		a.showStates(outer, heard, host)
	}()
	ctx, cancel := context.WithCancel(outer)
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(ctx, func(ctx context.Context, c *agent.Caller) int { return run(ctx, h.client(c)) })
	}()

	if host() != "" {
		err = h.keepInStep(ctx, a.sayCaughtUp)
	} else {
		a.say("this vault has no secondary: the other commands are served, and nothing is sent")
		<-ctx.Done()
	}
	cancel()
	serr := <-served
	h.states.end()
	<-shown
	switch cause := context.Cause(outer); {
	case errors.Is(cause, errTerminated):
		return serr // the way in which a service is stopped
	case cause != nil:
		return errors.Join(cause, serr)
	}
	return errors.Join(err, serr)
}

// showStates prints the changes of a sync's state until the listener ends. What
// goes back and forth once it is live, with each change, it tells no person who
// did not ask for it.
func (a *app) showStates(ctx context.Context, l *listener, host func() string) {
	var last vault.Progress
	live := false
	for range l.wake {
		for _, p := range l.take() {
			if ctx.Err() != nil {
				p.Err = nil // the person wanted it so
			}
			if sameState(p, last) {
				continue
			}
			last = p
			if a.json {
				a.printJSON(progressJSON(p))
				continue
			}
			switch p.State {
			case vault.StateLive, vault.StateDownloading, vault.StateUploading:
				if live && !a.verbose {
					continue
				}
				live = p.State == vault.StateLive || live
			default:
				live = false
			}
			text := a.stateLine(p, host())
			if term.IsTerminal(a.stderr) {
				text = a.note.Dim(time.Now().In(a.zone()).Format("15:04:05")) + "  " + text
			}
			a.say("%s", text)
		}
	}
}

// stateLine says in a line what a sync is doing.
func (a *app) stateLine(p vault.Progress, host string) string {
	word := string(p.State)
	switch p.State {
	case vault.StateLive:
		return fmt.Sprintf("%s with %s at commit %d", a.note.Green(word), a.clean(host), p.Commits)
	case vault.StateConnecting:
		return "connecting to " + a.clean(host)
	case vault.StateOffline:
		if p.Err != nil {
			return a.note.Yellow(word) + ", trying again: " + a.clean(p.Err.Error())
		}
		return word
	}
	if p.State == vault.StateAlarm && p.Err != nil {
		return a.note.Red(word) + ": " + a.clean(p.Err.Error()) + "; nothing is sent or received: kist doctor"
	}
	if p.Err != nil {
		return a.note.Red(word) + ": " + a.clean(p.Err.Error())
	}
	return word
}

// hostOf returns what people call a secondary: the host and port of its address.
func hostOf(url string) string {
	if secondary, err := wire.CanonicalURL(url); err == nil {
		host, _ := wire.SplitURL(secondary)
		return host
	}
	return url
}
