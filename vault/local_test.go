package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/vault"
)

func pending(t *testing.T, v *vault.Vault) int {
	t.Helper()
	st, err := v.Status(t.Context())
	fatal(t, err)
	return st.Pending
}

func names(t *testing.T, n *vault.Namespace, sel ...vault.Select) []string {
	t.Helper()
	var out []string
	for rec, err := range n.List(t.Context(), sel...) {
		fatal(t, err)
		out = append(out, rec.Name)
	}
	return out
}

// A7: every name and value that the limits allow comes back as it was given.
func TestNamesAndValues(t *testing.T) {
	v := newVault(t, vault.Config{})
	n := v.Namespace("notes")
	ctx := t.Context()
	for _, name := range []string{
		"", strings.Repeat("n", 512), "a/b/c", "two words", "🗝️ kist", "مفتاح", "tab\tline\n", "e\u0301", "é", "\xff\xfe", "a\x00b",
	} {
		if _, err := n.Put(ctx, name, []byte(name)); err != nil {
			t.Errorf("put %q: %v", name, err)
			continue
		}
		rec, err := n.Get(ctx, name)
		if err != nil {
			t.Errorf("get %q: %v", name, err)
		} else if rec.Name != name || string(rec.Value) != name {
			t.Errorf("get %q: got name %q, value %q", name, rec.Name, rec.Value)
		}
	}
	if _, err := n.Put(ctx, strings.Repeat("n", 513), nil); !errors.Is(err, vault.ErrTooLarge) {
		t.Errorf("name of 513 bytes: got %v, want ErrTooLarge", err)
	}
	if _, err := n.Put(ctx, "\x00about", nil); !errors.Is(err, vault.ErrInvalid) {
		t.Errorf("reserved name: got %v, want ErrInvalid", err)
	}
	for _, ns := range []string{"", "_ctl", "Notes", "a/b", ".x", strings.Repeat("n", 65)} {
		if _, err := v.Namespace(ns).Put(ctx, "x", nil); !errors.Is(err, vault.ErrInvalid) {
			t.Errorf("namespace %q: got %v, want ErrInvalid", ns, err)
		}
	}
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 5 << 20} {
		value := bytes.Repeat([]byte{0, 1, 0xff}, size/3+1)[:size]
		name := fmt.Sprint(size)
		if _, err := n.Put(ctx, name, value, vault.ContentType("application/octet-stream")); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		rec, err := n.Get(ctx, name)
		fatal(t, err)
		if !bytes.Equal(rec.Value, value) || rec.Size != int64(size) || rec.ContentType != "application/octet-stream" {
			t.Errorf("%d bytes: got %d bytes, size %d, type %q", size, len(rec.Value), rec.Size, rec.ContentType)
		}
	}
	small := newVault(t, vault.Config{MaxObject: 100_000}).Namespace("notes")
	if _, err := small.Put(ctx, "big", make([]byte, 100_001)); !errors.Is(err, vault.ErrTooLarge) {
		t.Errorf("value over the limit: got %v, want ErrTooLarge", err)
	}
}

// A1: create, update, delete and re-create; deleting nothing does nothing.
func TestLifeOfARecord(t *testing.T) {
	v := newVault(t, vault.Config{})
	n := v.Namespace("notes")
	ctx := t.Context()
	fatal(t, n.Delete(ctx, "a"))
	if got := pending(t, v); got != 0 {
		t.Errorf("deleting what is not there left %d changes", got)
	}
	for _, value := range []string{"one", "two"} {
		_, err := n.Put(ctx, "a", []byte(value))
		fatal(t, err)
	}
	if got := pending(t, v); got != 1 {
		t.Errorf("two unsent updates are %d changes, want 1", got)
	}
	fatal(t, n.Delete(ctx, "a"))
	if _, err := n.Get(ctx, "a"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
	if got := pending(t, v); got != 0 {
		t.Errorf("created and deleted unsent: %d changes, want 0", got)
	}
	_, err := n.Put(ctx, "a", []byte("three"))
	fatal(t, err)
	rec, err := n.Get(ctx, "a")
	fatal(t, err)
	if string(rec.Value) != "three" || !rec.Pending || rec.Device != "laptop" {
		t.Errorf("got %+v", rec)
	}
	if got := names(t, n); !slices.Equal(got, []string{"a"}) {
		t.Errorf("list: %q", got)
	}
}

func TestConditions(t *testing.T) {
	n := newVault(t, vault.Config{}).Namespace("notes")
	ctx := t.Context()
	r1, err := n.Put(ctx, "a", []byte("1"), vault.IfAbsent())
	fatal(t, err)
	if _, err := n.Put(ctx, "a", nil, vault.IfAbsent()); !errors.Is(err, vault.ErrCondition) {
		t.Errorf("IfAbsent of a record: %v", err)
	}
	r2, err := n.Put(ctx, "a", []byte("2"), vault.IfRevision(r1))
	fatal(t, err)
	if _, err := n.Put(ctx, "a", nil, vault.IfRevision(r1)); !errors.Is(err, vault.ErrCondition) {
		t.Errorf("IfRevision of an old one: %v", err)
	}
	fatal(t, n.Delete(ctx, "a", vault.IfRevision(r2)))
	if _, err := n.Put(ctx, "a", nil, vault.IfRevision(r2)); !errors.Is(err, vault.ErrCondition) {
		t.Errorf("IfRevision of a record that is gone: %v", err)
	}
	_, err = n.Put(ctx, "a", nil, vault.IfAbsent())
	fatal(t, err)
}

// A6: a transaction is all or nothing, and too large a one writes nothing.
func TestUpdateIsAtomic(t *testing.T) {
	v := newVault(t, vault.Config{})
	n := v.Namespace("notes")
	ctx := t.Context()
	boom := errors.New("boom")
	err := v.Update(ctx, "notes", func(tx *vault.Tx) error {
		if _, err := tx.Put("a", []byte("1")); err != nil {
			return err
		}
		if rec, err := tx.Get("a"); err != nil || string(rec.Value) != "1" {
			t.Errorf("own write in the transaction: %v, %v", rec, err)
		}
		return boom
	})
	if !errors.Is(err, boom) || len(names(t, n)) != 0 || pending(t, v) != 0 {
		t.Errorf("failed transaction: %v, left %q", err, names(t, n))
	}
	fatal(t, v.Update(ctx, "notes", func(tx *vault.Tx) error {
		for i := range 10_000 {
			if _, err := tx.Put(fmt.Sprint(i), []byte("value")); err != nil {
				return err
			}
		}
		_, err := tx.Put("0", []byte("again"))
		return err
	}))
	if got := len(names(t, n)); got != 10_000 || pending(t, v) != 10_000 {
		t.Errorf("10,000 records in one transaction: %d, pending %d", got, pending(t, v))
	}
	err = v.Update(ctx, "big", func(tx *vault.Tx) error {
		for i := range 300 {
			if _, err := tx.Put(fmt.Sprint(i), make([]byte, 64<<10)); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, vault.ErrTooLarge) || len(names(t, v.Namespace("big"))) != 0 {
		t.Errorf("20 MiB in one transaction: %v", err)
	}
}

// A8: many goroutines use one vault: each sees whole transactions, and no write
// is lost.
func TestManyGoroutines(t *testing.T) {
	v := newVault(t, vault.Config{})
	ctx := t.Context()
	const writers, rounds = 8, 25
	count := func(name string) (int, error) {
		rec, err := v.Namespace("notes").Get(ctx, name)
		if errors.Is(err, vault.ErrNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		return len(rec.Value), nil
	}
	var all gosync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for range rounds {
				err := v.Update(ctx, "notes", func(tx *vault.Tx) error {
					for _, name := range []string{"left", fmt.Sprint("own ", w), "right"} {
						rec, err := tx.Get(name)
						if errors.Is(err, vault.ErrNotFound) {
							rec, err = &vault.Record{}, nil
						}
						if err == nil {
							_, err = tx.Put(name, append(bytes.Clone(rec.Value), 'x'))
						}
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range rounds {
				left, err := count("left")
				if err != nil {
					t.Error(err)
				}
				if right, err := count("right"); err != nil || right < left {
					t.Errorf("left was %d, and right is %d after it, %v", left, right, err)
				}
			}
		})
	}
	all.Wait()
	for name, want := range map[string]int{"left": writers * rounds, "right": writers * rounds, "own 0": rounds, "own 7": rounds} {
		if n, err := count(name); err != nil || n != want {
			t.Errorf("%s was counted %d times, %v, want %d", name, n, err, want)
		}
	}
}

// A panic in a transaction comes out, and nothing of it stays.
func TestUpdatePanics(t *testing.T) {
	v := newVault(t, vault.Config{})
	func() {
		defer func() {
			if p := recover(); p != "mine" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = v.Update(t.Context(), "notes", func(tx *vault.Tx) error {
			_, _ = tx.Put("a", nil)
			panic("mine")
		})
	}()
	if _, err := v.Namespace("notes").Put(t.Context(), "b", nil); err != nil {
		t.Fatal(err)
	}
	if got := names(t, v.Namespace("notes")); !slices.Equal(got, []string{"b"}) {
		t.Errorf("list: %q", got)
	}
}

// A9: expiry and not-before need no commit of their own.
func TestTimes(t *testing.T) {
	clock := &manual{time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	v := newVault(t, vault.Config{Now: clock.now})
	n := v.Namespace("notes")
	ctx := t.Context()
	start := clock.t
	_, err := n.Put(ctx, "short", nil, vault.Expires(start.Add(time.Hour)))
	fatal(t, err)
	_, err = n.Put(ctx, "late", nil, vault.Available(start.Add(time.Hour)))
	fatal(t, err)
	_, err = n.Put(ctx, "over", nil, vault.Expires(start.Add(-time.Hour)))
	fatal(t, err)
	if got := names(t, n); !slices.Equal(got, []string{"short"}) {
		t.Errorf("now: %q", got)
	}
	clock.t = start.Add(2 * time.Hour)
	if got := names(t, n); !slices.Equal(got, []string{"late"}) {
		t.Errorf("in two hours: %q", got)
	}
	if _, err := n.Get(ctx, "short"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("get of an expired record: %v", err)
	}
	_, err = n.Put(ctx, "short", []byte("again"))
	fatal(t, err)
	if rec, err := n.Get(ctx, "short"); err != nil || string(rec.Value) != "again" {
		t.Errorf("after the expiry was reset: %v, %v", rec, err)
	}
	if got := pending(t, v); got != 3 {
		t.Errorf("pending %d, want 3", got)
	}
}

// E33: a clock that goes back never makes an own later write lose.
func TestClockGoesBack(t *testing.T) {
	clock := &manual{time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)}
	n := newVault(t, vault.Config{Now: clock.now}).Namespace("notes")
	_, err := n.Put(t.Context(), "a", []byte("1"))
	fatal(t, err)
	clock.t = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err = n.Put(t.Context(), "a", []byte("2"))
	fatal(t, err)
	rec, err := n.Get(t.Context(), "a")
	fatal(t, err)
	if string(rec.Value) != "2" || rec.Siblings != 0 {
		t.Errorf("got %+v", rec)
	}
}

func TestListPrefixAndOrder(t *testing.T) {
	n := newVault(t, vault.Config{}).Namespace("notes")
	for _, name := range []string{"b", "a/2", "a/10", "a", "", "c"} {
		_, err := n.Put(t.Context(), name, nil)
		fatal(t, err)
	}
	if got, want := names(t, n), []string{"", "a", "a/10", "a/2", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := names(t, n, vault.Prefix("a/")), []string{"a/10", "a/2"}; !slices.Equal(got, want) {
		t.Errorf("prefix: got %q, want %q", got, want)
	}
}

func TestWatchCoalesces(t *testing.T) {
	v := newVault(t, vault.Config{})
	n := v.Namespace("notes")
	ctx, cancel := context.WithCancel(t.Context())
	sub := v.Watch(ctx, "notes", vault.Since(0))
	for i := range 10 {
		_, err := n.Put(ctx, "a", []byte(fmt.Sprint(i)))
		fatal(t, err)
	}
	_, err := n.Put(ctx, "b", nil)
	fatal(t, err)
	var last string
	for rec := range sub.C {
		if rec.Name == "a" {
			if last != "" && last >= string(rec.Value) {
				t.Errorf("out of order: %s after %s", rec.Value, last)
			}
			last = string(rec.Value)
			continue
		}
		break
	}
	if last != "9" {
		t.Errorf("last of a: %q", last)
	}
	fatal(t, n.Delete(ctx, "a"))
	if rec := <-sub.C; rec.Name != "a" || !rec.Deleted {
		t.Errorf("delete: %+v", rec)
	}
	cancel()
	for range sub.C {
	}
	if !errors.Is(sub.Err(), context.Canceled) {
		t.Errorf("ended with %v", sub.Err())
	}
}

// The directory of a device shows no name, namespace, value or device name.
// The mark is long enough not to come about in sealed bytes by chance.
func TestNothingReadableOnDisk(t *testing.T) {
	dir := t.TempDir() + "/vault"
	fatal(t, vault.Create(dir, newDevice(t, keys.GenerateRoot()), "PLANTED-device"))
	v, err := vault.Open(t.Context(), dir, vault.Config{})
	fatal(t, err)
	_, err = v.Namespace("planted-namespace").Put(t.Context(), "PLANTED-name", []byte("PLANTED-value"), vault.ContentType("PLANTED/type"))
	fatal(t, err)
	_, err = v.Namespace("planted-namespace").Put(t.Context(), "PLANTED-name2", bytes.Repeat([]byte("PLANTED-long"), 10_000))
	fatal(t, err)
	fatal(t, v.Close())
	fatal(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToUpper(b), []byte("PLANTED")) {
			t.Errorf("%s shows a mark", path)
		}
		if fi, _ := d.Info(); fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		return err
	}))
}

func TestOpenRefuses(t *testing.T) {
	if _, err := vault.Open(t.Context(), t.TempDir(), vault.Config{}); !errors.Is(err, vault.ErrNoVault) {
		t.Errorf("empty directory: %v", err)
	}
	dir := t.TempDir() + "/vault"
	fatal(t, vault.Create(dir, newDevice(t, keys.GenerateRoot()), "laptop"))
	if err := vault.Create(dir, newDevice(t, keys.GenerateRoot()), "laptop"); !errors.Is(err, vault.ErrExists) {
		t.Errorf("create over a vault: %v", err)
	}
	openVault(t, dir, vault.Config{})
	if _, err := vault.Open(t.Context(), dir, vault.Config{}); !errors.Is(err, vault.ErrInUse) {
		t.Errorf("open twice: %v", err)
	}
	damaged := t.TempDir() + "/vault"
	fatal(t, vault.Create(damaged, newDevice(t, keys.GenerateRoot()), "laptop"))
	fatal(t, os.WriteFile(damaged+"/vault.db", []byte("not a store"), 0o600))
	if _, err := vault.Open(t.Context(), damaged, vault.Config{}); !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("damaged store: %v", err)
	}
	lacking := t.TempDir() + "/vault"
	fatal(t, vault.Create(lacking, newDevice(t, keys.GenerateRoot()), "laptop"))
	fatal(t, vault.DropBuckets(lacking+"/vault.db", "outbox"))
	if _, err := vault.Open(t.Context(), lacking, vault.Config{}); !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("a store without its outbox: %v", err)
	}
}

// A directory whose device file is gone is no vault, and not a place for another:
// what was not sent is in it alone, and the file may be somewhere. What an
// interrupted Create leaves is such a place.
func TestDeviceFileGone(t *testing.T) {
	dir := t.TempDir() + "/vault"
	create := func() error { return vault.Create(dir, newDevice(t, keys.GenerateRoot()), "laptop") }
	fatal(t, create())
	fatal(t, os.Remove(dir+"/device.key"))
	if _, err := vault.Open(t.Context(), dir, vault.Config{}); !errors.Is(err, vault.ErrNoVault) {
		t.Errorf("open what was never used: %v", err)
	}
	fatal(t, create())
	v, err := vault.Open(t.Context(), dir, vault.Config{})
	fatal(t, err)
	put(t, v, "x", "1")
	fatal(t, v.Close())
	fatal(t, os.Rename(dir+"/device.key", dir+".key"))
	if err := create(); !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("create: %v", err)
	}
	if _, err := vault.Open(t.Context(), dir, vault.Config{}); !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("open: %v", err)
	}
	fatal(t, os.WriteFile(dir+"/vault.db.tmp", []byte("of another Create"), 0o600))
	fatal(t, os.Rename(dir+".key", dir+"/device.key"))
	v = openVault(t, dir, vault.Config{})
	if got := get(t, v, "x"); got != "1" {
		t.Errorf("with its device file again: %q", got)
	}

	dir = t.TempDir() + "/vault"
	fatal(t, create())
	fatal(t, os.Remove(dir+"/device.key"))
	fatal(t, os.WriteFile(dir+"/vault.db", []byte("not a store"), 0o600))
	if err := create(); !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("create over a damaged store: %v", err)
	}
}
