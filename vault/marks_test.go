package vault_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/secondarytest"
	"github.com/kistvault/kist/vault"
)

// locked is a buffer that several goroutines write to.
type locked struct {
	mu gosync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// H56, P1: marks planted in names, namespaces, values, types and device names
// are found nowhere: not in what the secondary receives, stores and logs, not in
// the devices' own directories. Neither are the keys that open them.
func TestMarksAreFoundNowhere(t *testing.T) {
	var frames, log locked
	s := secondarytest.NewWith(t, secondarytest.Options{
		Tap: func(frame []byte) { frames.Write(frame) },
		Log: &log,
	})
	p := &person{t: t, root: keys.GenerateRoot(), server: s, invite: s.Invite()}
	dirs := []string{t.TempDir() + "/a", t.TempDir() + "/b"}
	a, _ := p.deviceIn(dirs[0], vault.Config{})
	b, _ := p.deviceIn(dirs[1], vault.Config{}) // their names are "device 1" and "device 2"
	n := a.Namespace("planted-namespace")
	_, err := n.Put(t.Context(), "PlantedName", []byte("PlantedValue"), vault.ContentType("planted/type"))
	fatal(t, err)
	_, err = n.Put(t.Context(), "PlantedLong", bytes.Repeat([]byte("PlantedValue"), 20_000))
	fatal(t, err)
	sync(t, a, b)
	fatal(t, b.Namespace("planted-namespace").Delete(t.Context(), "PlantedName"))
	sync(t, b, a)
	if rec, err := b.Namespace("planted-namespace").Get(t.Context(), "PlantedLong"); err != nil || !bytes.HasPrefix(rec.Value, []byte("PlantedValue")) {
		t.Fatalf("it did not arrive: %v", err)
	}
	s.Stop()

	tag, epoch := p.root.TagSecret().Bytes(), p.root.Epoch(1).Bytes()
	secrets := map[string][]byte{"tag secret": tag[:], "epoch secret": epoch[:], "root": []byte(p.root.Text())}
	words := []string{"planted", "device 1", "device 2"}
	look := func(where string, data []byte, secret bool) {
		t.Helper()
		lower := bytes.ToLower(data)
		for _, w := range words {
			if bytes.Contains(lower, []byte(w)) {
				t.Errorf("%s shows %q", where, w)
			}
		}
		for name, b := range secrets {
			if !secret {
				continue
			}
			for _, form := range []string{string(b), hex.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b)} {
				if strings.Contains(string(data), form) {
					t.Errorf("%s shows the %s", where, name)
				}
			}
		}
	}
	if len(frames.bytes()) < 100_000 || len(log.bytes()) == 0 {
		t.Fatalf("%d bytes of frames, %d of log: nothing was looked at", len(frames.bytes()), len(log.bytes()))
	}
	look("a frame", frames.bytes(), true)
	look("the log", log.bytes(), true)
	walk := func(dir string, secret bool) {
		fatal(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			look(path, data, secret && d.Name() != "device.key")
			return err
		}))
	}
	walk(s.Dir, true)
	walk(dirs[0], true)
	walk(dirs[1], true)
}
