//go:build linux

package stress

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kistvault/kist/vault"
)

// verify has kistd go through a data directory, beside a server or without one.
func verify(t *testing.T, data string) {
	t.Helper()
	out, err := exec.Command(program("kistd"), "verify", "--data", data).CombinedOutput()
	if err != nil || strings.Contains(string(out), "fault") {
		t.Errorf("kistd verify: %v: %s", err, out)
	}
}

// H50, H54: killed or stopped at any moment, again and again, while devices that stay
// connected write, the server loses nothing that it has acknowledged, its log verifies,
// and the devices go on by themselves. For long, with devices that are killed too, it is
// internal/crash that does this.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	s := run(t)
	p := meet(t, s)
	devices := []*vault.Vault{p.device(), p.device(), p.device()}
	ctx, stopDevices := context.WithCancel(t.Context())
	defer stopDevices()
	var running, writing sync.WaitGroup
	var mu sync.Mutex
	var taken uint64 // commits that the server has acknowledged
	states := make([]vault.Progress, len(devices))
	over := make(chan struct{})
	for i, v := range devices {
		running.Go(func() {
			err := v.Run(ctx, vault.SyncOptions{Progress: func(pr vault.Progress) {
				mu.Lock()
				defer mu.Unlock()
				states[i] = pr
			}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("device %d does not go on: %v", i, err)
			}
		})
		writing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				case <-ctx.Done():
					return
				case <-time.After(5 * time.Millisecond): // people are slower
				}
				name, value := fmt.Sprintf("record %d of %d", n%50, i), fmt.Sprint(n)
				if n%20 == 19 {
					value = strings.Repeat("x", 100_000) + value
				}
				if _, err := v.Namespace("notes").Put(ctx, name, []byte(value)); err != nil {
					t.Errorf("device %d: %v", i, err)
					return
				}
				mu.Lock()
				p.records[name] = value
				mu.Unlock()
				if n%10 == 9 {
					v.SyncNow() // as a person who looks
				}
			}
		})
	}
	size := func() uint64 {
		t.Helper()
		st, err := devices[0].Status(t.Context())
		fatal(t, err)
		return st.Commits
	}
	for round := range 8 {
		before := size()
		eventually(t, func() error {
			if size() == before {
				devices[0].SyncNow()
				return errors.New("nothing comes in")
			}
			return nil
		})
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond) // wherever it is then
		taken = max(taken, size())
		if round%2 == 0 {
			s.kill()
		} else {
			s.stop()
		}
		s.start()
	}
	close(over)
	writing.Wait()
	for i, v := range devices {
		eventually(t, func() error {
			st, err := v.Status(t.Context())
			fatal(t, err)
			if st.Pending > 0 {
				v.SyncNow()
				mu.Lock()
				defer mu.Unlock()
				return fmt.Errorf("device %d: %d changes are not sent, and its state is %+v", i, st.Pending, states[i])
			}
			return nil
		})
	}
	stopDevices()
	running.Wait()
	p.sync(devices...)
	p.right(devices...)
	if n := size(); n < taken {
		t.Errorf("the log has %d commits, and had %d", n, taken)
	}
	verify(t, s.data)
	p.fresh(devices...)
	s.stop()
	verify(t, s.data)
}

// H53: a backup that is made, and brought up to date, while devices write is whole: it
// verifies, and what is served from it elsewhere is what the server had at a moment.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	s := run(t)
	p := meet(t, s)
	a, b := p.device(), p.device()
	p.write(a, 200_000)
	p.sync(a, b)
	kept := len(p.records)
	copied := filepath.Join(t.TempDir(), "copy")
	p.honest(a, b, func() {
		for range 3 {
			if out, err := exec.Command(program("kistd"), "backup", copied, "--data", s.data).CombinedOutput(); err != nil {
				t.Errorf("kistd backup: %v: %s", err, out)
			}
		}
	})
	verify(t, copied)
	s.stop()

	other := newServer(t, copied)
	other.first = s.first
	other.start()
	q := *p
	q.invite.URL = "wss://" + other.addr + "/"
	v := q.device()
	if _, err := v.Sync(t.Context(), vault.SyncOptions{Full: true}); err != nil {
		t.Errorf("from the backup: %v", err)
	}
	n := 0
	for rec, err := range v.Namespace("notes").List(t.Context()) {
		fatal(t, err)
		if n++; rec.Value != nil && p.records[rec.Name] != string(rec.Value) {
			t.Errorf("%s is wrong", rec.Name)
		}
	}
	if n < kept {
		t.Errorf("the backup has %d records, and there were %d before it", n, kept)
	}
	verify(t, copied)
	other.stop()
}
