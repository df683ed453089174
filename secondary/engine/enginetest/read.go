package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

func testProof(t *testing.T, e engine.Engine) {
	v, d := withDevice(t, e)
	for range 9 {
		mustAppend(t, e, v, nil, d.Commit(keys.Tag{1}, 1))
	}
	for to := uint64(1); to <= v.Size(); to++ {
		for from := uint64(1); from <= to; from++ {
			proof, err := e.Proof(t.Context(), v.ID(), from, to)
			if err == nil {
				err = commitlog.CheckTree(proof, from, v.Root(from), to, v.Root(to))
			}
			if err != nil {
				t.Errorf("from %d to %d: %v", from, to, err)
			}
		}
	}
	if _, err := e.Proof(t.Context(), v.ID(), 1, v.Size()+1); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("beyond the log: %v, want ErrNotFound", err)
	}
	if _, err := e.Proof(t.Context(), keys.VaultID{1}, 1, 1); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("of an unknown vault: %v, want ErrNotFound", err)
	}
}

func testRead(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v := create(t, e)
	d, o := v.NewDevice(), v.NewDevice()
	genesis, c := v.ControlCommit(d.Registration(false), o.Registration(false))
	mustAppend(t, e, v, c, genesis)
	all := []*commitlog.Bundle{genesis}
	for i := range 6 {
		author := d
		if i%2 == 1 {
			author = o
		}
		b := author.Commit(keys.Tag{byte(1 + i%3)}, 1+i)
		mustAppend(t, e, v, nil, b)
		all = append(all, b)
	}
	sizeOf := func(from, to int) (n uint64) {
		for _, b := range all[from:to] {
			n += uint64(b.EncodedSize())
		}
		return n
	}

	read := func(r engine.ReadRequest, max int) (entries []string, p engine.Progress) {
		t.Helper()
		r.Vault = v.ID()
		p, err := e.Read(ctx, r, func(en *engine.Entry) (bool, error) {
			if len(entries) == max {
				return false, nil
			}
			want := all[en.ID-1]
			if en.Seq != want.Commit.Header.Seq {
				t.Errorf("commit %d: sequence number %d, want %d", en.ID, en.Seq, want.Commit.Header.Seq)
			}
			switch {
			case en.Bundle == nil:
				entries = append(entries, fmt.Sprint(en.ID, " stub"))
				return true, nil
			case en.Bundle.ID != en.ID || !bytes.Equal(en.Bundle.Commit.Raw, want.Commit.Raw) || !bytes.Equal(en.Bundle.Commit.List, want.Commit.List):
				t.Errorf("commit %d is another", en.ID)
			}
			blobs := 0
			for i, blob := range en.Bundle.Blobs {
				if blob != nil {
					blobs++
					if !bytes.Equal(blob, want.Blobs[i]) {
						t.Errorf("commit %d: blob %d is another", en.ID, i)
					}
				}
			}
			entries = append(entries, fmt.Sprint(en.ID, " ", blobs))
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return entries, p
	}
	check := func(what string, r engine.ReadRequest, max int, want []string, wantP engine.Progress) {
		t.Helper()
		got, p := read(r, max)
		if fmt.Sprint(got) != fmt.Sprint(want) || p != wantP {
			t.Errorf("%s: %v, %+v; want %v, %+v", what, got, p, want, wantP)
		}
	}
	check("all", engine.ReadRequest{}, 99, []string{"1 1", "2 1", "3 2", "4 3", "5 4", "6 5", "7 6"}, engine.Progress{Next: 7, Size: 7})
	check("some", engine.ReadRequest{After: 2}, 3, []string{"3 2", "4 3", "5 4"}, engine.Progress{Next: 5, Size: 7, Left: sizeOf(5, 7)})
	check("none", engine.ReadRequest{After: 2}, 0, nil, engine.Progress{Next: 2, Size: 7, Left: sizeOf(2, 7)})
	check("the end", engine.ReadRequest{After: 7}, 9, nil, engine.Progress{Next: 7, Size: 7})
	check("one namespace", engine.ReadRequest{Tags: map[keys.Tag]bool{{2}: true}}, 99, []string{"1 1", "2 0", "3 2", "4 0", "5 0", "6 5", "7 0"}, engine.Progress{Next: 7, Size: 7})
	check("stubs", engine.ReadRequest{Stubs: &o.ID}, 4, []string{"1 1", "2 1", "3 stub", "4 3"}, engine.Progress{Next: 4, Size: 7, Left: sizeOf(4, 7)})
	check("the authority's stubs", engine.ReadRequest{Stubs: new(keys.DeviceID)}, 2, []string{"1 stub", "2 1"}, engine.Progress{Next: 2, Size: 7, Left: sizeOf(2, 7)})

	enough := errors.New("enough")
	if _, err := e.Read(ctx, engine.ReadRequest{Vault: v.ID()}, func(*engine.Entry) (bool, error) { return false, enough }); !errors.Is(err, enough) {
		t.Errorf("error of the function: %v", err)
	}
}

func testChange(t *testing.T, e engine.Engine) {
	ctx := t.Context()
	v, d := withDevice(t, e)
	b := d.Commit(keys.Tag{1}, 2)
	mustAppend(t, e, v, nil, b)
	ch, blob, err := e.Change(ctx, v.ID(), commitlog.ChangeID{Commit: 2, Index: 1})
	if err != nil || !bytes.Equal(ch.Entry, b.Commit.Changes[1].Entry) || !bytes.Equal(blob, b.Blobs[1]) {
		t.Errorf("change 2.1: %+v with %d bytes, %v", ch, len(blob), err)
	}
	for _, id := range []commitlog.ChangeID{{Commit: 2, Index: 2}, {Commit: 3}, {}} {
		if _, _, err := e.Change(ctx, v.ID(), id); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("change %v: %v, want ErrNotFound", id, err)
		}
	}
}
