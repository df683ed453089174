package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/vault"
)

// screen is a terminal. A gate makes it one that takes nothing until it opens.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
	gate chan struct{}
}

func (*screen) IsTerminal() bool { return true }
func (*screen) Width() int       { return 80 }

func (s *screen) Write(p []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(s.text.String(), "\r\x1b[K")
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{}
		a := &app{caller: caller{stderr: s}, timeout: 30 * time.Second}
		ctx, m := a.meter(t.Context(), "wss://vault.example.org/", 0)
		m.progress(vault.Progress{State: vault.StateConnecting})
		time.Sleep(900 * time.Millisecond)
		if got := s.lines(); len(got) != 1 || got[0] != "" {
			t.Errorf("in the first second: %q", got)
		}
		time.Sleep(time.Second)
		for i := range 10 {
			m.progress(vault.Progress{
				State: vault.StateDownloading, Commits: uint64(i), Announced: 10,
				Down: vault.Transfer{Changes: i, Bytes: uint64(1000 * i), BytesLeft: uint64(10_000 - 1000*i)},
			})
			time.Sleep(100 * time.Millisecond)
		}
		m.progress(vault.Progress{State: vault.StateUploading, Up: vault.Transfer{Changes: 1, ChangesLeft: 3, Bytes: 1, BytesLeft: 3}})
		time.Sleep(200 * time.Millisecond)
		if err := m.end(ctx, nil); err != nil {
			t.Error(err)
		}
		got := s.lines()
		for _, want := range []string{
			"connecting to vault.example.org",
			"receiving [===========>            ]  50 %  5.0 kB of 10.0 kB, 5 changes",
			"sending [=====>                  ]  25 %  1 B of 4 B, 1 of 4 changes",
		} {
			found := false
			for _, l := range got {
				found = found || l == want
			}
			if !found {
				t.Errorf("never showed %q, but %q", want, got)
			}
		}
		if got[len(got)-1] != "" {
			t.Errorf("left %q", got[len(got)-1])
		}
	})
}

// It gives up when nothing moves, however long it takes while something does.
func TestMeterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &app{caller: caller{stderr: &screen{}}, timeout: 30 * time.Second}
		ctx, m := a.meter(t.Context(), "wss://vault.example.org/", 0)
		for range 100 {
			m.progress(vault.Progress{State: vault.StateDownloading})
			time.Sleep(29 * time.Second)
		}
		if ctx.Err() != nil {
			t.Fatal("it gave up")
		}
		time.Sleep(2 * time.Second)
		if !errors.Is(context.Cause(ctx), errSilent) {
			t.Errorf("it ended with %v", context.Cause(ctx))
		}
		var f *failure
		if err := m.end(ctx, ctx.Err()); !errors.As(err, &f) || f.code != exitTemporary {
			t.Errorf("the error is %v", err)
		}
	})
}

// A terminal that takes nothing does not hold up the sync.
func TestMeterSlowTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{gate: make(chan struct{})}
		a := &app{caller: caller{stderr: s}, timeout: time.Hour}
		ctx, m := a.meter(t.Context(), "wss://vault.example.org/", 0)
		time.Sleep(2 * time.Second)
		begin := time.Now()
		for i := range 1000 {
			m.progress(vault.Progress{State: vault.StateDownloading, Commits: uint64(i)})
			m.progress(vault.Progress{State: vault.StateUploading, Commits: uint64(i)})
			synctest.Wait()
		}
		if waited := time.Since(begin); waited > 0 {
			t.Errorf("the sync waited for %v", waited)
		}
		close(s.gate)
		m.end(ctx, nil)
	})
}

func TestStates(t *testing.T) {
	var s states
	state := func(st vault.State, commits uint64) vault.Progress {
		return vault.Progress{State: st, Commits: commits}
	}
	s.tell(state(vault.StateConnecting, 1))
	l := s.listen()
	s.tell(state(vault.StateDownloading, 2))
	s.tell(state(vault.StateDownloading, 3))
	s.tell(state(vault.StateLive, 4))
	want := []vault.Progress{state(vault.StateConnecting, 1), state(vault.StateDownloading, 3), state(vault.StateLive, 4)}
	if d := cmp.Diff(want, l.take()); d != "" {
		t.Error(d)
	}
	// Of what a slow one leaves, the newest stay.
	for i := range uint64(maxUnheard) {
		s.tell(state(vault.StateDownloading, 2*i))
		s.tell(state(vault.StateLive, 2*i+1))
	}
	got := l.take()
	if len(got) != maxUnheard || got[len(got)-1].Commits != 2*maxUnheard-1 || got[0].Commits != maxUnheard {
		t.Errorf("%d wait, from %+v", len(got), got[0])
	}
	s.tell(state(vault.StateOffline, 9))
	s.end()
	s.tell(state(vault.StateLive, 10))
	for range l.wake {
	}
	if got := l.take(); len(got) != 1 || got[0].State != vault.StateOffline {
		t.Errorf("at the end: %+v", got)
	}
	l.close()
	l = s.listen()
	if _, ok := <-l.wake; !ok {
		t.Error("who comes late hears nothing of the last state")
	}
	if got := l.take(); len(got) != 1 || got[0].State != vault.StateOffline {
		t.Errorf("who comes late: %+v", got)
	}
}
