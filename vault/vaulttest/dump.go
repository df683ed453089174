package vaulttest

import (
	"maps"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
)

// A Dump is all that a device has stored: the entries of its store by bucket and
// key, and its objects by name.
type Dump map[string]string

// Dump returns what the device has stored. No write may be going on.
func (d *Device) Dump() Dump {
	d.t.Helper()
	out := make(Dump)
	copied := filepath.Join(d.t.TempDir(), "copy.db")
	b, err := os.ReadFile(filepath.Join(d.Dir, "vault.db"))
	if err == nil {
		err = os.WriteFile(copied, b, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	db, err := bbolt.Open(copied, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		d.t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return out.add(string(name), b) })
	})
	if err != nil {
		d.t.Fatal(err)
	}
	objects, err := filepath.Glob(filepath.Join(d.Dir, "objects", "*", "*"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, path := range objects {
		if strings.HasSuffix(path, ".part") {
			continue // what has come of one that is not whole
		}
		b, err := os.ReadFile(path)
		if err != nil {
			d.t.Fatal(err)
		}
		out["objects/"+filepath.Base(path)] = string(b)
	}
	return out
}

func (d Dump) add(path string, b *bbolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return d.add(path+"/"+string(k), b.Bucket(k))
		}
		d[path+"/"+string(k)] = string(v)
		return nil
	})
}

// Without returns the dump without what is kept under a path: a bucket, or a key in
// it.
func (d Dump) Without(paths ...string) Dump {
	out := maps.Clone(d)
	maps.DeleteFunc(out, func(k, _ string) bool {
		for _, p := range paths {
			if k == p || strings.HasPrefix(k, p+"/") {
				return true
			}
		}
		return false
	})
	return out
}

// Changed returns the paths at which two dumps differ; of keys that are not text,
// the bucket alone.
func (d Dump) Changed(other Dump) (paths []string) {
	seen := make(map[string]bool)
	note := func(path string) {
		if i := strings.IndexFunc(path, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			path = path[:strings.LastIndex(path[:i], "/")+1] + "…"
		}
		if !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	for k, v := range d {
		if w, ok := other[k]; !ok || w != v {
			note(k)
		}
	}
	for k := range other {
		if _, ok := d[k]; !ok {
			note(k)
		}
	}
	return paths
}
