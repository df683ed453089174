package vault_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kistvault/kist/vault"
)

// objectFiles returns the paths of a vault's objects, sorted.
func objectFiles(t testing.TB, v *vault.Vault) (paths []string) {
	t.Helper()
	for path := range filesIn(t, filepath.Join(vault.Dir(v), "objects")) {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// flip changes a byte in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	fatal(t, err)
	b[len(b)/2] ^= 1
	fatal(t, os.WriteFile(path, b, 0o600))
}

func fullSync(t testing.TB, v *vault.Vault) *vault.Report {
	t.Helper()
	r, err := v.Sync(t.Context(), vault.SyncOptions{Full: true})
	fatal(t, err)
	if r.Missing+r.Pending+r.Aside+r.Quarantine != 0 {
		t.Errorf("full sync left %+v", r)
	}
	return r
}

// spoilt is how an object's file may be lost or spoilt.
var spoilt = map[string]func(t testing.TB, path string){
	"changed":   flip,
	"truncated": func(t testing.TB, path string) { fatal(t, os.Truncate(path, 70_000)) },
	"emptied":   func(t testing.TB, path string) { fatal(t, os.Truncate(path, 0)) },
	"longer": func(t testing.TB, path string) {
		b, err := os.ReadFile(path)
		fatal(t, err)
		fatal(t, os.WriteFile(path, append(b, 0), 0o600))
	},
	"deleted": func(t testing.TB, path string) { fatal(t, os.Remove(path)) },
}

// A full sync gets the objects again that the disk has lost or spoilt, on the
// device that wrote them and on another, and no others.
func TestFullSyncOfObjects(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	const n = 12
	for i := range n {
		put(t, a, fmt.Sprint(i), xs(100_000+i))
	}
	sync(t, a, b)
	for how, spoil := range spoilt {
		for _, v := range []*vault.Vault{a, b} {
			before := filesIn(t, filepath.Join(vault.Dir(v), "objects"))
			paths := objectFiles(t, v)
			if len(paths) != n {
				t.Fatalf("%d objects", len(paths))
			}
			var size int
			for _, path := range []string{paths[1], paths[2], paths[n-1]} {
				spoil(t, path)
				size += len(before[path])
			}
			l, o := over(nil, 0)
			o.Full = true
			r, err := v.Sync(t.Context(), o)
			fatal(t, err)
			if l.objects != size || r.Missing != 0 {
				t.Errorf("%s: %d bytes of objects came, want %d; %+v", how, l.objects, size, r)
			}
			for path, want := range before {
				if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
					t.Errorf("%s: an object was not mended: %v", how, err)
				}
			}
			for i := range n {
				if get(t, v, fmt.Sprint(i)) != xs(100_000+i) {
					t.Errorf("%s: value %d is another", how, i)
				}
			}
		}
	}
	sameDigest(t, a, b)
}

// A full sync that is cut while it mends goes on with the next one, full or not.
func TestFullSyncOfObjectsCut(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	for i := range 5 {
		put(t, a, fmt.Sprint(i), xs(400_000+i))
	}
	sync(t, a)
	for _, path := range objectFiles(t, a) {
		flip(t, path)
	}
	_, o := over(nil, 1)
	o.Full = true
	if _, err := a.Sync(t.Context(), o); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	fullSync(t, a)
	for i := range 5 {
		if get(t, a, fmt.Sprint(i)) != xs(400_000+i) {
			t.Errorf("value %d is another", i)
		}
	}
}

// What was left out by the selection stays so; what was fetched all the same is
// mended.
func TestFullSyncOfObjectsLeftOut(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	fatal(t, b.SetSelection(t.Context(), vault.Selection{Lazy: 70_000}))
	for i := range 4 {
		put(t, a, fmt.Sprint(i), xs(100_000+i))
	}
	sync(t, a, b)
	fatal(t, b.Namespace("notes").Fetch(t.Context(), "2", vault.SyncOptions{}))
	path := objectFiles(t, b)[0]
	flip(t, path)
	fullSync(t, b)
	if got := objectFiles(t, b); len(got) != 1 || get(t, b, "2") != xs(100_002) {
		t.Errorf("%d objects are here, want 1", len(got))
	}
	fatal(t, os.Remove(path)) // nobody knows any more that it was fetched
	l, o := over(nil, 0)
	o.Full = true
	if _, err := b.Sync(t.Context(), o); err != nil || l.objects != 0 {
		t.Errorf("%v, %d bytes of objects", err, l.objects)
	}
}

// A Run does a full sync of objects, too, when it is asked for one.
func TestFullSyncOfObjectsBesideRun(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	put(t, a, "long", xs(100_000))
	sync(t, a)
	runLive(t, a, vault.SyncOptions{}, nil)
	flip(t, objectFiles(t, a)[0])
	fullSync(t, a)
	if get(t, a, "long") != xs(100_000) {
		t.Error("the value is another")
	}
}

// A value whose file is spoilt says so, and that it is not the whole store.
func TestSpoiltObject(t *testing.T) {
	for how, spoil := range spoilt {
		p := newPerson(t)
		a := p.device(vault.Config{})
		put(t, a, "long", xs(300_000))
		sync(t, a)
		path := objectFiles(t, a)[0]
		if how == "truncated" {
			// At the end of a chunk, and anywhere else.
			fatal(t, os.Truncate(path, 200_001))
		}
		spoil(t, path)
		want := vault.ErrValueDamaged
		if how == "deleted" {
			want = vault.ErrNotHere
		}
		if _, err := a.Namespace("notes").Get(t.Context(), "long"); !errors.Is(err, want) || errors.Is(err, vault.ErrDamaged) {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// A sync that finds all of its list to be here goes on, and looks at nothing more.
func TestMissingThatIsHere(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	put(t, a, "long", xs(3_000_000))
	sync(t, a)
	_, o := over(nil, 1)
	if _, err := b.Sync(t.Context(), o); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	for path, data := range filesIn(t, filepath.Join(vault.Dir(a), "objects")) {
		rel, err := filepath.Rel(vault.Dir(a), path)
		fatal(t, err)
		fatal(t, os.WriteFile(filepath.Join(vault.Dir(b), rel), data, 0o600))
	}
	sync(t, b)
	if get(t, b, "long") != xs(3_000_000) {
		t.Error("the value is another")
	}
}
