package vault_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kistvault/kist/vault"
)

// runLive keeps a vault in step for the rest of the test and returns when it is
// live; states is told each state that it comes to.
func runLive(t *testing.T, v *vault.Vault, o vault.SyncOptions, states func(vault.State)) (live chan struct{}) {
	t.Helper()
	live = make(chan struct{}, 100)
	last := vault.State("")
	o.Progress = func(p vault.Progress) {
		if p.State == last {
			return
		}
		last = p.State
		if states != nil {
			states(p.State)
		}
		if p.State == vault.StateLive {
			live <- struct{}{}
		}
	}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- v.Run(ctx, o) }()
	t.Cleanup(func() { <-done })
	<-live
	return live
}

// C23: a watch gives each change once and in order, also across reconnects.
func TestWatchAcrossReconnects(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	sub := b.Watch(t.Context(), "notes")
	var states []vault.State
	live := runLive(t, b, vault.SyncOptions{}, func(s vault.State) { states = append(states, s) })

	var want, got []string
	write := func(from, to int) {
		for i := from; i < to; i++ {
			name := fmt.Sprintf("%03d", i)
			put(t, a, name, "v")
			sync(t, a)
			want = append(want, name)
		}
	}
	read := func(n int) {
		for range n {
			got = append(got, (<-sub.C).Name)
		}
	}
	write(0, 10)
	read(10)
	for round := range 2 {
		p.server.Stop()
		put(t, a, fmt.Sprintf("offline %d", round), "v")
		p.server.Start()
		want = append(want, fmt.Sprintf("offline %d", round))
		sync(t, a)
		<-live
		write(10*(round+1), 10*(round+2))
		read(11)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for i := 1; i < len(states); i++ { // C25: never live without having connected
		if states[i] == vault.StateLive && states[i-1] == vault.StateOffline {
			t.Errorf("live right after offline: %q", states)
		}
	}
}

// B21: a second session of a device ends the first, and the first says so.
func TestSecondSession(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	ended := make(chan error, 1)
	live := make(chan struct{}, 1)
	ctx := t.Context()
	go func() {
		ended <- a.Run(ctx, vault.SyncOptions{Progress: func(p vault.Progress) {
			if p.State == vault.StateLive {
				select {
				case live <- struct{}{}:
				default:
				}
			}
		}})
	}()
	<-live
	sync(t, a) // another session of the same device
	if err := <-ended; err == nil || errors.Is(err, vault.ErrClosed) {
		t.Errorf("the first session ended with %v", err)
	}
}
