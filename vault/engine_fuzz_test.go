package vault_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A played session is a device as it was before, and what the secondary said to it.
type played struct {
	dir  string // of the device, from before the session
	full bool
	said [][]byte

	now    *vault.Vault // a copy that is in use; nil: none
	copies int          // so far
	head   []byte       // of its store, as it was at first
}

// play notes what the secondary says to a copy of a device that syncs.
func play(t testing.TB, at *vaulttest.Secondary, d *vaulttest.Device, lie lying.Mutation, full bool) *played {
	t.Helper()
	p := &played{dir: t.TempDir() + "/vault", full: full}
	fatal(t, vault.CopyDir(p.dir, d.Dir))
	liar := at.Copy(t)
	liar.Lie(lie)
	run := d.Copy(t, liar)
	record := func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := run.Network.Dial(ctx, s, id)
		if err != nil {
			return nil, err
		}
		return &between{Messenger: c, receive: func(m wire.Message) []wire.Message {
			frame, err := wire.Append(nil, m)
			if err != nil {
				t.Error(err)
			}
			p.said = append(p.said, frame)
			return []wire.Message{m}
		}}, nil
	}
	_, err := run.Sync(t.Context(), vault.SyncOptions{Full: full, Dial: record})
	fatal(t, err)
	return p
}

// begin opens the device as it was, or takes it as it is where nothing was written.
func (p *played) begin(t testing.TB) *vault.Vault {
	t.Helper()
	dir := func() string { return fmt.Sprint(p.dir, p.copies) }
	if p.now != nil && bytes.Equal(p.head, storeHead(t, dir())) {
		return p.now
	}
	p.end(t)
	if p.copies > 0 {
		fatal(t, os.RemoveAll(dir()))
	}
	p.copies++
	fatal(t, vault.CopyDir(dir(), p.dir))
	v, err := vault.Open(context.Background(), dir(), vault.Config{NoSync: true})
	fatal(t, err)
	p.now, p.head = v, storeHead(t, dir())
	return v
}

func (p *played) end(t testing.TB) {
	if p.now != nil {
		if err := p.now.Close(); err != nil {
			t.Error(err)
		}
		p.now = nil
	}
}

// storeHead returns the part of a store that changes with every transaction.
func storeHead(t testing.TB, dir string) []byte {
	t.Helper()
	f, err := os.Open(dir + "/vault.db")
	fatal(t, err)
	defer f.Close()
	b := make([]byte, 8<<10)
	_, err = f.ReadAt(b, 0)
	fatal(t, err)
	return b
}

// FuzzEngine gives an engine, at any point of a session, what no honest secondary
// says: it ends in an error that has a name, or holds a part of the truth.
//
// An input is which session, how much of it comes as it was, and messages: each is
// one of that session's with some bytes changed, or bytes alone.
func FuzzEngine(f *testing.F) {
	at := vaulttest.NewSecondary(f)
	v := at.NewVault(f)
	a, b := v.Device(f, "a", vault.Config{}), v.Device(f, "b", vault.Config{})
	put(f, a.Vault, "x", "1")
	put(f, a.Vault, "big", strings.Repeat("big ", 17<<10))
	vaulttest.Sync(f, a, b)
	put(f, b.Vault, "own", "1")
	vaulttest.Sync(f, b, a)
	put(f, a.Vault, "x", "2")
	put(f, a.Vault, "big", strings.Repeat("long", 17<<10))
	vaulttest.Sync(f, a)
	sends := b.Copy(f, at) // and has what b lacks, and something of its own
	put(f, sends.Vault, "mine", "1")
	put(f, sends.Vault, "long", strings.Repeat("mine", 17<<10))
	_, err := sends.Namespace("other").Put(f.Context(), "x", []byte("2"))
	fatal(f, err)
	withoutBlobs := lying.Commits("", func(items []wire.Item) []wire.Item {
		for i, item := range items {
			if p, err := commitlog.ParseBundle(item.Data); err == nil && p.Commit.Header.Kind == commitlog.KindData {
				clear(p.Blobs)
				items[i].Data, _ = p.AppendBinary(nil)
			}
		}
		return items
	})
	sessions := []*played{
		play(f, at, b, lying.Mutation{}, false), play(f, at, sends, lying.Mutation{}, false),
		play(f, at, b, withoutBlobs, false), play(f, at, b, lying.Mutation{}, true),
	}
	const adds = 1 // the session that adds to the log
	var roots []commitlog.Hash
	for size := uint64(0); ; size++ {
		h, err := at.Engine().Head(f.Context(), v.Root.VaultID(), size)
		fatal(f, err)
		if roots = append(roots, h.Root); size == h.Size {
			break
		}
	}
	end := uint64(len(roots) - 1)

	for s, p := range sessions {
		for n := range p.said {
			f.Add([]byte{byte(s), byte(n), byte(n), 0})
			for _, edit := range [][]byte{{0, 1, 1}, {0, 3, 0x80}, {0, 20, 4}, {1, 0, 0xff}} {
				f.Add(append([]byte{byte(s), byte(n), byte(n), 1}, edit...))
			}
			f.Add([]byte{byte(s), byte(n), byte(n), 0, byte(n), 0}) // repeated
			if n > 0 {
				f.Add([]byte{byte(s), byte(n), byte(n - 1), 0}) // again
			}
			if n+1 < len(p.said) {
				f.Add([]byte{byte(s), byte(n), byte(n + 1), 0}) // left out
			}
		}
		for _, m := range []wire.Message{
			&wire.Bound{}, &wire.Unbound{}, &wire.Marked{Token: 1, Size: 1}, &wire.Have{}, &wire.Have{Whole: true},
			&wire.Uploaded{Results: []wire.Result{{Seq: 2, ID: 5}, {Seq: 3, Code: wire.CodeOrder}}},
			&wire.Blobs{Request: 1, Absent: true}, &wire.Blobs{Request: 1, Size: 1, Data: []byte{1}},
			wire.NewError(wire.CodeNotFound, "no"), &wire.Proof{Request: 1, From: 1, To: 2}, &wire.Bind{}, &wire.OK{},
		} {
			raw, err := wire.Append(nil, m)
			fatal(f, err)
			f.Add(append([]byte{byte(s), 1, 255, byte(len(raw))}, raw...))
		}
	}

	f.Cleanup(func() {
		for _, p := range sessions {
			p.end(f)
		}
	})
	now := time.Now()
	var one gosync.Mutex
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 3 {
			return
		}
		one.Lock()
		defer one.Unlock()
		p := sessions[int(in[0])%len(sessions)]
		d := p.begin(t)
		s, err := vault.NewStepper(d, p.full, now)
		fatal(t, err)
		for _, frame := range p.said[:int(in[1])%len(p.said)] {
			m, err := wire.Parse(bytes.Clone(frame))
			fatal(t, err)
			if err := s.Receive(m); err != nil {
				t.Fatalf("an honest %v: %v", m.Type(), err)
			}
		}
		if in[1] >= 128 {
			s.Mark()
		}
		for rest := in[2:]; len(rest) > 0 && err == nil; {
			var frame []byte
			frame, rest = lieOf(p.said, rest)
			m, perr := wire.Parse(frame)
			if perr != nil {
				if !errors.Is(perr, wire.ErrProtocol) && !errors.Is(perr, wire.ErrTooLarge) {
					t.Fatal(perr)
				}
				break
			}
			err = s.Receive(m)
		}
		var said *wire.Error
		if err != nil && !vault.IsAlarm(err) && !errors.Is(err, vault.UnknownStub) && !errors.As(err, &said) && wire.CodeOf(err) == 0 {
			t.Errorf("an error without a name: %v", err)
		}
		if errors.Is(err, vault.ErrDamaged) {
			t.Error(err)
		}
		size, root, err := vault.Root(d, end)
		fatal(t, err)
		if roots[min(size, end)] != root || size > end && int(in[0])%len(sessions) != adds {
			t.Errorf("its log of %d commits is another", size)
		}
	})
}

// lieOf takes the next message from an input: which of the session's, and what of it
// is changed; for 255, bytes as they are.
func lieOf(said [][]byte, in []byte) (frame, rest []byte) {
	if len(in) < 2 {
		return nil, nil
	}
	which, n, in := in[0], int(in[1]), in[2:]
	if which == 255 {
		n = min(n, len(in))
		return bytes.Clone(in[:n]), in[n:]
	}
	frame = bytes.Clone(said[int(which)%len(said)])
	for ; n > 0 && len(in) >= 3; n-- {
		frame[int(binary.BigEndian.Uint16(in))%len(frame)] ^= in[2]
		in = in[3:]
	}
	return frame, in
}
