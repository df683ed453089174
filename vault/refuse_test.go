package vault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A between sits between a device and its secondary and changes what passes.
type between struct {
	client.Messenger
	send    func(m wire.Message) []wire.Message // what goes on; nil: m
	receive func(m wire.Message) []wire.Message
	inject  chan wire.Message // to the device, before anything else
	queue   []wire.Message
}

func (b *between) Send(ctx context.Context, m wire.Message) error {
	out := []wire.Message{m}
	if b.send != nil {
		out = b.send(m)
	}
	for _, m := range out {
		if err := b.Messenger.Send(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (b *between) Receive(ctx context.Context) (wire.Message, error) {
	for {
		select {
		case m := <-b.inject:
			return m, nil
		default:
		}
		if len(b.queue) > 0 {
			m := b.queue[0]
			b.queue = b.queue[1:]
			return m, nil
		}
		inner, cancel := context.WithCancel(ctx)
		type got struct {
			m   wire.Message
			err error
		}
		c := make(chan got, 1)
		go func() {
			m, err := b.Messenger.Receive(inner)
			c <- got{m, err}
		}()
		var g got
		select {
		case m := <-b.inject:
			cancel()
			if g = <-c; g.err == nil {
				b.queue = append(b.queue, b.pass(g.m)...)
			}
			return m, nil
		case g = <-c:
			cancel()
		}
		if g.err != nil {
			return nil, g.err
		}
		b.queue = append(b.queue, b.pass(g.m)...)
	}
}

func (b *between) pass(m wire.Message) []wire.Message {
	if b.receive == nil {
		return []wire.Message{m}
	}
	return b.receive(m)
}

// through returns sync options whose sessions go through what wrap makes.
func through(wrap func(m client.Messenger) client.Messenger) vault.SyncOptions {
	return vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := client.Dial(ctx, s, id)
		if err != nil {
			return nil, err
		}
		return wrap(c), nil
	}}
}

// refusing returns a session in which the commit with a sequence number is
// refused, and those after it as its consequences, as a secondary would.
func refusing(seq uint64, code wire.Code) func(m client.Messenger) client.Messenger {
	return func(m client.Messenger) client.Messenger {
		b := &between{Messenger: m, inject: make(chan wire.Message, 16)}
		var upTo uint64 // what is refused as a consequence
		b.send = func(m wire.Message) []wire.Message {
			u, ok := m.(*wire.Upload)
			if !ok {
				return []wire.Message{m}
			}
			var pass []wire.Item
			var refused []wire.Result
			for _, item := range u.Items {
				bundle, err := commitlog.ParseBundle(item.Data)
				if err != nil {
					panic(err)
				}
				h := bundle.Commit.Header
				switch {
				case h.Seq == seq:
					refused = append(refused, wire.Result{Seq: h.Seq, Code: code, Text: "over quota"})
					upTo = ^uint64(0)
				case upTo > 0 && h.PrevLeaf != (commitlog.Hash{}) && follows(bundle, seq):
					refused = append(refused, wire.Result{Seq: h.Seq, Code: wire.CodeAfterRefused})
				default:
					pass = append(pass, item)
				}
			}
			if len(refused) > 0 {
				b.inject <- &wire.Uploaded{Results: refused}
			}
			if len(pass) == 0 {
				return nil
			}
			if len(refused) > 0 {
				panic("a frame that is refused in part")
			}
			return []wire.Message{&wire.Upload{Items: pass}}
		}
		return b
	}
}

// follows reports whether a commit of the first session comes after the refused
// one in its author's chain.
func follows(b *commitlog.Bundle, seq uint64) bool {
	return b.Commit.Header.Seq > seq && b.Commit.Header.Seq <= seq+2
}

// B14: one refused commit does not stop the others. It is kept and reported, and
// goes up when the cause is gone.
func TestRefusedCommit(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{}), p.device(vault.Config{})
	// Three namespaces make three commits; the first is refused.
	for _, ns := range []string{"one", "two", "three"} {
		_, err := a.Namespace(ns).Put(t.Context(), "x", []byte(ns))
		fatal(t, err)
	}
	r, err := a.Sync(t.Context(), through(refusing(1, wire.CodeTooLarge)))
	fatal(t, err)
	if r.Aside == 0 || r.Pending != r.Aside || r.Pushed != 2 {
		t.Fatalf("report %+v, want one commit set aside and two pushed", r)
	}
	sync(t, b)
	var got []string
	for _, ns := range []string{"one", "two", "three"} {
		if rec, err := b.Namespace(ns).Get(t.Context(), "x"); err == nil {
			got = append(got, string(rec.Value))
		} else if !errors.Is(err, vault.ErrNotFound) {
			t.Error(err)
		}
	}
	if len(got) != 2 {
		t.Errorf("the others: %q", got)
	}
	sync(t, a, b) // the cause is gone
	for _, ns := range []string{"one", "two", "three"} {
		rec, err := b.Namespace(ns).Get(t.Context(), "x")
		fatal(t, err)
		if string(rec.Value) != ns {
			t.Errorf("%s: %q", ns, rec.Value)
		}
	}
	sameDigest(t, a, b)
}

// What is written over a change that was set aside takes its place.
func TestWriteOverAside(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(v *vault.Vault)
		want string
	}{
		{"put", func(v *vault.Vault) { put(t, v, "x", "2") }, "2"},
		{"delete", func(v *vault.Vault) { fatal(t, v.Namespace("notes").Delete(t.Context(), "x")) }, "-"},
		{"delete and put", func(v *vault.Vault) {
			fatal(t, v.Namespace("notes").Delete(t.Context(), "x"))
			put(t, v, "x", "3")
		}, "3"},
		{"in a transaction", func(v *vault.Vault) {
			fatal(t, v.Update(t.Context(), "notes", func(tx *vault.Tx) error {
				if err := tx.Delete("x"); err != nil {
					return err
				}
				_, err := tx.Put("y", nil)
				return err
			}))
		}, "-"},
	} {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, keep each %v", tt.name, keep), func(t *testing.T) {
				p := newPerson(t)
				a, b := p.device(vault.Config{KeepEach: keep}), p.device(vault.Config{})
				put(t, a, "x", "1")
				r, err := a.Sync(t.Context(), through(refusing(1, wire.CodeTooLarge)))
				fatal(t, err)
				if r.Aside == 0 {
					t.Fatalf("report %+v", r)
				}
				tt.do(a)
				if got := get(t, a, "x"); got != tt.want {
					t.Errorf("here: %q, want %q", got, tt.want)
				}
				sync(t, a, b)
				for _, v := range []*vault.Vault{a, b} {
					if got := get(t, v, "x"); got != tt.want {
						t.Errorf("after the sync: %q, want %q", got, tt.want)
					}
				}
				if rec, err := b.Namespace("notes").Get(t.Context(), "x"); err == nil && rec.Siblings != 0 {
					t.Errorf("%d siblings", rec.Siblings)
				}
				sameDigest(t, a, b)
			})
		}
	}
}
