//go:build linux

package stress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/vault"
)

// age makes a server's data directory what the first version of its layout was, in which
// a log was a bucket with buckets in it.
func age(t *testing.T, data string) {
	t.Helper()
	db, err := store.Open(filepath.Join(data, "kist.db"), store.Options{})
	fatal(t, err)
	fatal(t, db.Update(func(tx *store.Tx) error {
		vaults := tx.Bucket("vaults")
		var ids [][]byte
		err := vaults.Scan(nil, func(k, _ []byte) (bool, error) {
			ids = append(ids, bytes.Clone(k))
			return true, nil
		})
		for _, id := range ids {
			err = errors.Join(err, vaults.Put(id, binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))))
		}
		return err
	}))
	fatal(t, db.Close())
	ageLogs(t, filepath.Join(data, "kist.db"))
	fatal(t, os.WriteFile(filepath.Join(data, "version"), []byte("1\n"), 0o600))
}

// ageLogs makes the logs of a store what they were in the first layout.
func ageLogs(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	fatal(t, err)
	fatal(t, db.Update(func(tx *bbolt.Tx) error {
		var logs []string
		err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			if strings.HasPrefix(string(name), "log/") {
				logs = append(logs, string(name))
			}
			return nil
		})
		for _, name := range logs {
			err = errors.Join(err, ageLog(tx, name))
		}
		return err
	}))
	fatal(t, db.Close())
}

func ageLog(tx *bbolt.Tx, name string) error {
	type element struct{ bucket, key, value []byte }
	var all []element
	sizes, err := tx.CreateBucketIfNotExists([]byte("sizes"))
	if err == nil {
		sizes, err = sizes.CreateBucket([]byte(strings.TrimPrefix(name, "log/")))
	}
	if err != nil {
		return err
	}
	err = tx.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
		k, v = bytes.Clone(k), bytes.Clone(v)
		put := func(bucket string, key []byte) { all = append(all, element{[]byte(bucket), key, v}) }
		switch {
		case k[0] == 'a' && len(k) == 25:
			put("sequences", k[1:])
		case k[0] == 'a':
			put("authors", k[1:17])
		case k[0] == 'c' && k[9] == 0:
			put("commits", k[1:9])
		case k[0] == 'c' && k[9] == 1:
			put("changes", append(k[1:9:9], k[10:]...))
		case k[0] == 'c' && k[9] == 2:
			id := binary.BigEndian.Uint64(k[1:])
			put("tree", binary.BigEndian.AppendUint64(nil, uint64(commitlog.TreeIndex(id-1))+uint64(k[10])))
		case k[0] == 'c':
			return sizes.Put(k[1:9], v)
		case k[0] == 'h' && len(k) == 1:
			put("head", []byte("log"))
		default:
			put(map[byte]string{'h': "head", 'l': "live", 'n': "restates", 'r': "retired"}[k[0]], k[1:])
		}
		return nil
	})
	if err == nil {
		err = tx.DeleteBucket([]byte(name))
	}
	if err != nil {
		return err
	}
	log, err := tx.CreateBucket([]byte(name))
	for _, e := range all {
		var b *bbolt.Bucket
		if err == nil {
			b, err = log.CreateBucketIfNotExists(e.bucket)
		}
		if err == nil {
			err = b.Put(e.key, e.value)
		}
	}
	return err
}

// become makes a directory what another is, whatever it was before.
func become(t *testing.T, dir, other string) {
	t.Helper()
	fatal(t, os.RemoveAll(dir))
	fatal(t, filepath.WalkDir(other, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(other, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(filepath.Join(dir, rest), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rest), b, 0o600)
	}))
}

// sameFiles checks that a copy has all files of a data directory, as they were.
func sameFiles(t *testing.T, copied, dir string) {
	t.Helper()
	fatal(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "lock" {
			return err
		}
		rest, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(copied, rest))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the copy's %s is not what was there before: %v", rest, err)
		}
		return nil
	}))
}

// H53, H50: killed at any call that changes its data directory while it brings that to
// a newer layout, kistd goes on when it is started again, and loses nothing. What it has
// put aside first is whole, and good to go back to.
func TestKillUpgrade(t *testing.T) {
	needStrace(t)
	t.Parallel()
	s := newServer(t, filepath.Join(t.TempDir(), "data"), "--plain")
	s.start()
	p := meet(t, s)
	a, b := p.device(), p.device()
	for range 5 {
		p.write(a, 500)
	}
	p.write(a, 100_000) // an object
	p.sync(a, b)
	s.stop()
	old := filepath.Join(t.TempDir(), "old")
	become(t, old, s.data)
	age(t, old)

	step := 4
	if *long {
		step = 1
	}
	kills := 0
	for _, call := range []string{"mkdirat", "linkat", "copy_file_range", "fsync", "renameat", "openat", "ftruncate", "pwrite64", "fdatasync", "unlinkat"} {
		for n := 1; ; n += step {
			become(t, s.data, old)
			s.wrap = []string{"strace", "-D", "-f", "-o", os.DevNull, "-e", "trace=" + call, "-e", "inject=" + call + ":signal=KILL:when=" + strconv.Itoa(n)}
			err := s.tryStart()
			s.wrap = nil
			if err == nil { // it came through
				s.kill()
				break
			}
			kills++
			upgraded(t, s, old)
			if t.Failed() {
				t.Fatalf("killed at %s %d", call, n)
			}
			for _, v := range []*vault.Vault{a, b} {
				fatal(t, pull(v))
			}
			p.right(a, b)
			s.kill()
		}
	}
	t.Logf("%d kills", kills)
	if kills < 10 {
		t.Errorf("only %d kills", kills)
	}

	// The way back.
	aside := upgraded(t, s, old)
	s.stop()
	before := filepath.Join(t.TempDir(), "before")
	become(t, before, aside)
	become(t, s.data, before)
	upgraded(t, s, old)
	p.write(a, 500)
	p.sync(a, b)
	p.fresh(a, b)
	s.stop()
}

// upgraded starts a server that is to upgrade its data, or has, checks that it is done,
// and returns what was put aside.
func upgraded(t *testing.T, s *server, old string) (aside string) {
	t.Helper()
	s.start()
	if v, err := os.ReadFile(filepath.Join(s.data, "version")); err != nil || string(v) != "3\n" {
		t.Errorf("version %q, %v", v, err)
	}
	if _, err := os.Stat(filepath.Join(s.data, "upgrading")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an upgrade seems to be under way: %v", err)
	}
	all, err := filepath.Glob(filepath.Join(s.data, "before-*"))
	if err != nil || len(all) == 0 || len(all) > 2 {
		t.Fatalf("%d copies were put aside: %v", len(all), err)
	}
	for _, aside = range all {
		if strings.HasSuffix(aside, "half") {
			t.Error("half a copy is left")
		}
		sameFiles(t, aside, old)
	}
	return aside
}
