package vault_test

import (
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"testing"

	"github.com/kistvault/kist/internal/crash/crashtest"
	"github.com/kistvault/kist/secondary/wire"
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
	var err error
	done := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(done)
		err = v.Run(ctx, o)
	}()
	t.Cleanup(func() { <-done })
	select {
	case <-live:
	case <-done:
		t.Fatalf("it is not kept in step: %v", err)
	}
	return live
}

// C23: a watch gives each change once and in order, also across reconnects.
func TestWatchAcrossReconnects(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	sub := b.Watch(t.Context(), "notes")
	var mu gosync.Mutex
	var states []vault.State
	live := runLive(t, b, vault.SyncOptions{}, func(s vault.State) {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, s)
	})

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
	mu.Lock()
	defer mu.Unlock()
	for i := 1; i < len(states); i++ { // C25: never live without having connected
		if states[i] == vault.StateLive && states[i-1] == vault.StateOffline {
			t.Errorf("live right after offline: %q", states)
		}
	}
}

// B21: a second session of a device ends the first, and the first says so.
func TestSecondSession(t *testing.T) {
	p := newPerson(t)
	dir := t.TempDir() + "/vault"
	a, _ := p.deviceIn(dir, vault.Config{})
	clone := t.TempDir() + "/clone"
	crashtest.Copy(t, clone, dir)
	ended := make(chan error, 1)
	live := make(chan struct{}, 1)
	states := make(chan vault.Progress, 100)
	ctx := t.Context()
	go func() {
		ended <- a.Run(ctx, vault.SyncOptions{Progress: func(p vault.Progress) {
			states <- p
			if p.State == vault.StateLive {
				select {
				case live <- struct{}{}:
				default:
				}
			}
		}})
	}()
	<-live
	sync(t, openVault(t, clone, vault.Config{}))
	if err := <-ended; !errors.Is(err, wire.ErrReplaced) {
		t.Errorf("the first session ended with %v, want ErrReplaced", err)
	}
	var last vault.Progress
	for last = <-states; !last.End; last = <-states {
	}
	if last.State != vault.StateRefused || !errors.Is(last.Err, wire.ErrReplaced) || len(states) > 0 {
		t.Errorf("the last progress is %+v, with %d after it", last, len(states))
	}
}

// B21: what asks for a sync while the vault is kept in step shares its session.
func TestSyncBesideRun(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	runLive(t, b, vault.SyncOptions{}, nil)
	if err := b.Run(t.Context(), vault.SyncOptions{}); !errors.Is(err, vault.ErrRunning) {
		t.Errorf("a second Run: %v, want ErrRunning", err)
	}
	for i := range 5 {
		put(t, a, fmt.Sprint("a", i), "v")
		put(t, b, fmt.Sprint("b", i), "v")
		sync(t, a)
		var r *vault.Report
		r, err := b.Sync(t.Context(), vault.SyncOptions{Full: i == 2})
		fatal(t, err)
		if r.Pending != 0 || get(t, b, fmt.Sprint("a", i)) != "v" {
			t.Errorf("sync %d beside Run left %+v", i, r)
		}
		put(t, b, "x", fmt.Sprint(i))
		fatal(t, b.WaitForUpload(t.Context()))
		fatal(t, b.WaitForUpload(t.Context())) // nothing to wait for
		sync(t, a)
		if got := get(t, a, "x"); got != fmt.Sprint(i) {
			t.Errorf("after WaitForUpload the other has %q", got)
		}
		put(t, a, "y", fmt.Sprint(i))
		sync(t, a)
		fatal(t, b.WaitForDownload(t.Context()))
		if got := get(t, b, "y"); got != fmt.Sprint(i) {
			t.Errorf("after WaitForDownload: %q", got)
		}
	}
	p.server.Stop()
	if _, err := b.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, wire.ErrUnreachable) && !errors.Is(err, wire.ErrShutdown) {
		t.Errorf("without a secondary: %v", err)
	}
	p.server.Start()
	sync(t, b)
	sameDigest(t, a, b)
}

// B18: a sync from the beginning with unsent changes loses and doubles nothing.
func TestFullSync(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	for i := range 20 {
		put(t, a, fmt.Sprint(i), "v")
		put(t, b, fmt.Sprint(i), "w")
		sync(t, a, b)
	}
	sync(t, a)
	put(t, a, "3", "unsent")
	fatal(t, a.Namespace("notes").Delete(t.Context(), "4"))
	r, err := a.Sync(t.Context(), vault.SyncOptions{Full: true})
	fatal(t, err)
	if r.Pulled != 0 || r.Pushed != 2 || r.Pending != 0 {
		t.Errorf("full sync: %+v", r)
	}
	sync(t, b)
	sameDigest(t, a, b)
	if get(t, b, "3") != "unsent" || get(t, b, "4") != "-" || get(t, a, "5") != get(t, b, "5") {
		t.Errorf("3: %q, 4: %q, 5: %q, %q", get(t, b, "3"), get(t, b, "4"), get(t, a, "5"), get(t, b, "5"))
	}
	before := r.Commits
	r, err = b.Sync(t.Context(), vault.SyncOptions{Full: true, Mode: vault.PullOnly})
	fatal(t, err)
	if r.Commits != before || r.Pulled != 0 {
		t.Errorf("a full sync with nothing new: %+v", r)
	}
}
