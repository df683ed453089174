package vault_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kistvault/kist/internal/testonly"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// F44: whatever happens to the files of a device, no process crashes or hangs, and
// what is read is what was written, or an error that says that it is damaged.

var damageEvery = flag.Int("damage.every", 0, "spoil every Nth byte of a store; 0: some hundred of all kinds")

// A patient is a device whose files are damaged again and again.
type patient struct {
	*vaulttest.Device
	phone    *vaulttest.Device
	store    []byte // as it was
	shown    map[string]string
	versions map[string][]string
}

var patientNamespaces = []string{"notes", "contacts", "plans", "many"}

func newPatient(t *testing.T) *patient {
	t.Helper()
	vaults := vaulttest.NewSecondary(t).NewVault(t)
	p := &patient{Device: vaults.Device(t, "laptop", vault.Config{}), phone: vaults.Device(t, "phone", vault.Config{})}
	for round := range 3 {
		for i := range 40 {
			if i%(round+1) == 0 {
				_, err := p.phone.Namespace("many").Put(t.Context(), fmt.Sprint("record ", i), fmt.Append(nil, "round ", round, " ", i))
				fatal(t, err)
			}
		}
		vaulttest.Sync(t, p.phone)
	}
	fatal(t, p.phone.Namespace("many").Delete(t.Context(), "record 7"))
	vaulttest.Sync(t, p.phone, p.Device)
	p.shown = unsent(t, p.Device, p.phone)
	var failed []error
	p.shown, failed = content(t, p.Vault, patientNamespaces...)
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	p.versions = make(map[string][]string)
	for name := range p.shown {
		if p.versions[name], failed = pastOf(t, p.Vault, name); len(failed) > 0 {
			t.Fatal(failed)
		}
	}
	fatal(t, p.Close())
	var err error
	p.store, err = os.ReadFile(p.path())
	fatal(t, err)
	return p
}

func (p *patient) path() string { return filepath.Join(p.Dir, "vault.db") }

// pastOf returns what a record's versions hold, newest first.
func pastOf(t testing.TB, v *vault.Vault, name string) (out []string, failed []error) {
	t.Helper()
	ns, name, _ := cut(name)
	for rec, err := range v.Namespace(ns).History(t.Context(), name) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		out = append(out, fmt.Sprint(string(rec.Value), rec.Deleted, rec.Pending, rec.Time.UnixNano()))
	}
	return out, failed
}

func cut(name string) (ns, rest string, ok bool) {
	b, a, ok := bytes.Cut([]byte(name), []byte("/"))
	return string(b), string(a), ok
}

// look opens the damaged vault and reads all of it. It reports whether anything
// was noticed. What is wrong and not noticed fails the test.
func (p *patient) look(t *testing.T, what string, check bool) (noticed bool) {
	t.Helper()
	offline := func(context.Context, client.Server, client.Identity) (client.Messenger, error) {
		return nil, wire.ErrUnreachable
	}
	v, err := vault.Open(t.Context(), p.Dir, vault.Config{NoSync: true, Dial: offline})
	if err != nil {
		if !errors.Is(err, vault.ErrDamaged) && !strings.Contains(err.Error(), "layout") {
			t.Errorf("%s: opening: %v", what, err)
		}
		return true
	}
	note := func(where string, err error) {
		noticed = true
		if !errors.Is(err, vault.ErrDamaged) {
			t.Errorf("%s: %s: %v", what, where, err)
		}
	}
	var vanished []string // without an error
	defer func() {
		if len(vanished) > 0 && !(testonly.ShallowOpen && noticed) {
			t.Errorf("%s: %q is gone, and nothing was noticed", what, vanished)
		}
	}()
	got, failed := content(t, v, patientNamespaces...)
	for _, err := range failed {
		note("list", err)
	}
	for name, value := range got {
		if want, ok := p.shown[name]; !ok || want != value {
			t.Errorf("%s: list: %q is %.20q, not %.20q", what, name, value, want)
		}
	}
	if len(failed) == 0 && len(got) != len(p.shown) {
		vanished = append(vanished, "list")
	}
	for name, want := range p.shown {
		ns, record, _ := cut(name)
		rec, err := v.Namespace(ns).Get(t.Context(), record)
		switch {
		case errors.Is(err, vault.ErrNotFound):
			vanished = append(vanished, name)
			continue
		case err != nil:
			note("get "+name, err)
		case len(want) <= 64<<10 && string(rec.Value) != want:
			t.Errorf("%s: get: %q is %.20q, not %.20q", what, name, rec.Value, want)
		}
		old, failed := pastOf(t, v, name)
		for _, err := range failed {
			note("history of "+name, err)
		}
		if len(failed) == 0 && !slices.Equal(old, p.versions[name]) {
			t.Errorf("%s: history: %q has had %q, not %q", what, name, old, p.versions[name])
		}
	}
	if _, err := v.Namespace("many").Get(t.Context(), "record 7"); err != nil && !errors.Is(err, vault.ErrNotFound) {
		note("get", err)
	} else if err == nil {
		t.Errorf("%s: a removed record is back", what)
	}
	if _, err := v.Status(t.Context()); err != nil {
		note("status", err)
	}
	if _, err := v.Sync(t.Context(), vault.SyncOptions{}); err != nil && !errors.Is(err, wire.ErrUnreachable) && !errors.Is(err, vault.ErrNotEnrolled) && !errors.Is(err, vault.ErrRevoked) {
		note("sync", err)
	}
	if check || len(vanished) > 0 {
		if _, err := v.Check(t.Context(), nil); err != nil {
			note("check", err)
		}
	}
	if err := v.Close(); err != nil {
		t.Errorf("%s: closing: %v", what, err)
	}
	return noticed
}

// spoil calls fn with another content of the store, which is treated like a large
// one if shallow is set.
func (p *patient) spoil(t *testing.T, b []byte, shallow bool, fn func()) {
	t.Helper()
	fatal(t, os.WriteFile(p.path(), b, 0o600))
	testonly.ShallowOpen = shallow
	defer func() { testonly.ShallowOpen = false }()
	fn()
}

// flips returns the offsets of the bytes to spoil: of each page the head, some
// elements' heads, and bytes of keys and values.
func (p *patient) flips() (at []int) {
	if *damageEvery > 0 {
		for i := 0; i < len(p.store); i += *damageEvery {
			at = append(at, i)
		}
		return at
	}
	size := os.Getpagesize()
	for page := 0; page+size <= len(p.store); page += size {
		if bytes.Equal(p.store[page:page+size], make([]byte, size)) {
			continue
		}
		count := int(binary.NativeEndian.Uint16(p.store[page+10:]))
		for _, i := range []int{0, 8, 10, 12} {
			at = append(at, page+i)
		}
		for _, i := range []int{0, count / 2}[:1+page/size%2] {
			for _, field := range []int{0, 4, 8, 12, 13} {
				at = append(at, page+16+16*i+field)
			}
		}
		for i := 64; i < size; i += 1999 {
			at = append(at, page+i+page/size%97)
		}
	}
	every := 2 * sample // of another field each page
	for i := range len(at) / every {
		at[i] = at[i*every+i%every]
	}
	at = at[:len(at)/every]
	return at
}

func TestF44FlippedBits(t *testing.T) {
	p := newPatient(t)
	for _, shallow := range []bool{false, true} {
		noticed, flips := 0, p.flips()
		for n, at := range flips {
			b := bytes.Clone(p.store)
			b[at] ^= 1 << (n % 8)
			p.spoil(t, b, shallow, func() {
				if p.look(t, fmt.Sprintf("bit %d of byte %d of page %d", n%8, at%os.Getpagesize(), at/os.Getpagesize()), n%5 == 0) {
					noticed++
				}
			})
		}
		t.Logf("%d bytes of %d spoilt, %d noticed (shallow: %v)", len(flips), len(p.store), noticed, shallow)
	}
}

// broken returns the store with pages cut off, and with pages of zeros.
func (p *patient) broken() map[string][]byte {
	size := os.Getpagesize()
	out := map[string][]byte{"empty": {}}
	for page := 0; page*size < len(p.store); page++ {
		if page > 0 {
			out[fmt.Sprint("cut before page ", page)] = p.store[:page*size]
		}
		out[fmt.Sprint("cut in page ", page)] = p.store[:page*size+size/3]
		b := bytes.Clone(p.store)
		clear(b[page*size : (page+1)*size])
		out[fmt.Sprint("zeros in page ", page)] = b
	}
	return out
}

func TestF44CutAndZeroed(t *testing.T) {
	p := newPatient(t)
	broken := p.broken()
	for i, what := range slices.Sorted(maps.Keys(broken)) {
		if i%sample != 0 {
			continue
		}
		for _, shallow := range []bool{false, true} {
			p.spoil(t, broken[what], shallow, func() { p.look(t, what, true) })
		}
	}
}

// Rebuilt again and again from the same store, damaged in other places, a device
// comes to the same records and the same history, and so do the others.
func TestF44RebuildFromAnyDamage(t *testing.T) {
	p := newPatient(t)
	fatal(t, os.WriteFile(p.path(), p.store, 0o600))
	fatal(t, reopen(t, p.Device))
	vaulttest.Sync(t, p.Device, p.phone)
	fatal(t, p.Close())
	var want [2]map[string][]string
	versions := func(d *vaulttest.Device) map[string][]string {
		out := make(map[string][]string)
		for name := range p.shown {
			past, failed := pastOf(t, d.Vault, name)
			if len(failed) > 0 {
				t.Fatal(failed)
			}
			out[name] = past
		}
		return out
	}
	want[1] = versions(p.phone)
	broken := p.broken()
	broken["whole"] = p.store
	n := 0
	for _, what := range slices.Sorted(maps.Keys(broken)) {
		if n++; n%7 != 0 && *damageEvery == 0 && what != "empty" && what != "whole" {
			continue
		}
		fatal(t, os.WriteFile(p.path(), broken[what], 0o600))
		d, err := vault.Rebuild(t.Context(), p.Dir, vault.Config{NoSync: true})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		fatal(t, os.Remove(d.Kept))
		fatal(t, reopen(t, p.Device))
		vaulttest.Sync(t, p.Device, p.phone)
		vaulttest.InStep(t, p.Device, p.phone)
		for _, x := range []*vaulttest.Device{p.Device, p.phone} {
			got, failed := content(t, x.Vault, patientNamespaces...)
			if len(failed) > 0 {
				t.Errorf("%s: %v", what, failed)
			}
			equal(t, what, got, p.shown)
			if !maps.EqualFunc(versions(x), want[1], slices.Equal) {
				t.Errorf("%s: another history than before", what)
			}
		}
		if _, err := p.Check(t.Context(), nil); err != nil {
			t.Errorf("%s: checked: %v", what, err)
		}
		fatal(t, p.Close())
	}
}
