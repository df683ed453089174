package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/vault"
)

// fill has the disk take nothing of a vault's store, in this process, until the function
// that it returns is called: the store's descriptor becomes one of /dev/full, and what
// tries the disk finds a directory in its place.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	store := filepath.Join(dir, "vault.db")
	links, err := filepath.Glob("/proc/self/fd/*")
	fatal(t, err)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	fatal(t, err)
	defer full.Close()
	found := 0
	for _, l := range links {
		var fd int
		if to, err := os.Readlink(l); err != nil || to != store {
			continue
		}
		_, err := fmt.Sscan(filepath.Base(l), &fd)
		fatal(t, err)
		fatal(t, unix.Dup3(int(full.Fd()), fd, unix.O_CLOEXEC))
		found++
	}
	if found != 1 {
		t.Fatalf("the store is open %d times", found)
	}
	try := store + ".try"
	fatal(t, os.Mkdir(try, 0o700))
	return func() { t.Helper(); fatal(t, os.Remove(try)) }
}

// A vault whose disk was full goes on when there is room, without being opened anew:
// what was written before is there and can be read all the time, what was refused is not,
// and nobody misses anything.
func TestDiskWasFull(t *testing.T) {
	dir := t.TempDir() + "/vault"
	fatal(t, vault.Create(dir, newDevice(t, keys.GenerateRoot()), "laptop"))
	v := openVault(t, dir, vault.Config{})
	sub := v.Watch(t.Context(), "notes")
	big := bytes.Repeat([]byte("x"), 100_000)
	for round := range 3 {
		put(t, v, fmt.Sprint("before", round), "v")
		empty := fill(t, dir)
		for range 2 {
			if _, err := v.Namespace("notes").Put(t.Context(), "refused", []byte("v")); !errors.Is(err, vault.ErrReadOnly) {
				t.Fatalf("a write to a full disk: %v, want ErrReadOnly", err)
			}
			if _, err := v.Namespace("notes").Put(t.Context(), "refused", big); !errors.Is(err, vault.ErrReadOnly) {
				t.Fatalf("a long value to a full disk: %v, want ErrReadOnly", err)
			}
		}
		if _, err := v.Namespace("notes").Get(t.Context(), fmt.Sprint("before", round)); err != nil {
			t.Errorf("reading from a full disk: %v", err)
		}
		empty()
		put(t, v, fmt.Sprint("after", round), "v")
		for _, want := range []string{"before", "after"} {
			if rec := <-sub.C; rec.Name != fmt.Sprint(want, round) {
				t.Errorf("the watch tells of %s, want %s of round %d", rec.Name, want, round)
			}
		}
	}
	st, err := v.Status(t.Context())
	fatal(t, err)
	if st.Records != 6 || st.Pending != 6 {
		t.Errorf("%d records, %d to send, want 6", st.Records, st.Pending)
	}
	_, err = v.Check(t.Context(), nil)
	fatal(t, err)
}

// The same while it is kept in step: what others write comes in when there is room
// again, and what was written here goes out.
func TestDiskWasFullLive(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	dir := t.TempDir() + "/vault"
	b, _ := p.deviceIn(dir, vault.Config{})
	offline := make(chan error, 1)
	live := make(chan struct{}, 100)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- b.Run(ctx, vault.SyncOptions{Progress: func(pr vault.Progress) {
			switch pr.State {
			case vault.StateLive:
				select {
				case live <- struct{}{}:
				default:
				}
			case vault.StateOffline:
				select {
				case offline <- pr.Err:
				default:
				}
			}
		}})
	}()
	<-live
	sub := b.Watch(t.Context(), "notes")
	put(t, a, "before", "v")
	sync(t, a)
	<-sub.C
	empty := fill(t, dir)
	put(t, a, "meanwhile", "v")
	sync(t, a)
	if err := <-offline; !errors.Is(err, vault.ErrReadOnly) {
		t.Errorf("on a full disk it is offline for %v, want ErrReadOnly", err)
	}
	empty()
	b.SyncNow()
	if rec := <-sub.C; rec.Name != "meanwhile" {
		t.Errorf("%s has come", rec.Name)
	}
	put(t, b, "after", "v")
	fatal(t, b.WaitForUpload(t.Context()))
	sync(t, a)
	if has := records(t, a); len(has) != 3 {
		t.Errorf("the other device has %v", has)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it has ended with %v", err)
	}
}
