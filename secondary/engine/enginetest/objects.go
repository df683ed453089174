package enginetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

func randomObject(n int) ([]byte, commitlog.Hash) {
	_, data := rawvault.Put(n)
	return data, sha256.Sum256(data)
}

func testObjects(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, w := create(t, e), create(t, e)
	data, hash := randomObject(300_000)
	size := uint64(len(data))
	write := func(offset, n, want uint64) {
		t.Helper()
		have, err := e.WriteObject(ctx, v.ID(), hash, size, offset, data[offset:offset+n])
		if have != want || err != nil {
			t.Errorf("writing %d at %d: %d, %v; want %d", n, offset, have, err, want)
		}
	}
	has := func(vault *rawvault.Vault, want uint64, wantWhole bool) {
		t.Helper()
		have, whole, err := e.HaveObject(ctx, vault.ID(), hash)
		if have != want || whole != wantWhole || err != nil {
			t.Errorf("have: %d, %v, %v; want %d, %v", have, whole, err, want, wantWhole)
		}
	}
	has(v, 0, false)
	write(0, 100_000, 100_000)
	write(200_000, 50_000, 100_000) // a gap: dropped
	write(50_000, 100_000, 100_000) // an overlap: dropped
	has(v, 100_000, false)
	if _, err := e.OpenObject(ctx, v.ID(), hash); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("opening a part: %v, want ErrNotFound", err)
	}
	write(100_000, 200_000, 300_000)
	has(v, 300_000, true)
	write(0, 10, 300_000)
	has(w, 0, false) // another vault knows nothing of it

	o, err := e.OpenObject(ctx, v.ID(), hash)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(o, 0, int64(o.Size())))
	if err != nil || !bytes.Equal(got, data) || o.Size() != size {
		t.Errorf("object of %d bytes reads as %d bytes, %v", o.Size(), len(got), err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}

	// Other bytes than the hash says are forgotten, and the right ones go in.
	if have, err := e.WriteObject(ctx, w.ID(), hash, size, 0, make([]byte, size)); !errors.Is(err, commitlog.ErrBlob) || have != 0 {
		t.Errorf("wrong bytes: %d, %v; want ErrBlob", have, err)
	}
	has(w, 0, false)
	if have, err := e.WriteObject(ctx, w.ID(), hash, size, 0, data); err != nil || have != size {
		t.Errorf("right bytes after wrong ones: %d, %v", have, err)
	}
}

func testObjectMissing(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	data, hash := randomObject(100_000)
	change, blob := rawvault.Put(commitlog.MinBlob)
	change.ObjectHash, change.ObjectSize = hash, uint64(len(data))
	saved := *d
	b := d.CommitOf(keys.Tag{1}, []commitlog.Change{change}, [][]byte{blob})
	refused(t, e, v, request(v, nil, b), wire.ErrObjectMissing)
	if _, err := e.WriteObject(ctx, v.ID(), hash, uint64(len(data)), 0, data[:50_000]); err != nil {
		t.Fatal(err)
	}
	refused(t, e, v, request(v, nil, b), wire.ErrObjectMissing)
	if _, err := e.WriteObject(ctx, v.ID(), hash, uint64(len(data)), 50_000, data[50_000:]); err != nil {
		t.Fatal(err)
	}
	other := saved
	change.ObjectSize++
	refused(t, e, v, request(v, nil, other.CommitOf(keys.Tag{1}, []commitlog.Change{change}, [][]byte{blob})), commitlog.ErrBlob)
	mustAppend(t, e, v, nil, b) // the same commit, once its object is there
}
