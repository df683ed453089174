package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/kistvault/kist/vault"
)

// B20: 700 changes of one record that a device made without a secondary, each
// kept, are 700 commits, ten times as many as it may have under way. They go up
// in order, and another device has every version of the record.
func TestManyCommitsGoUp(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{KeepEach: true, NoSync: true}), p.device(vault.Config{NoSync: true})
	p.server.Stop()
	const n = 700
	for i := range n {
		put(t, a, "x", fmt.Sprint(i))
	}
	p.server.Start()
	before, err := b.Status(t.Context())
	fatal(t, err)
	r := sync(t, a)
	if r.Pushed != n {
		t.Errorf("pushed %d changes, want %d", r.Pushed, n)
	}
	sync(t, b)
	after, err := b.Status(t.Context())
	fatal(t, err)
	if got := after.Commits - before.Commits; got != n {
		t.Errorf("%d commits, want %d", got, n)
	}
	next := n - 1
	for rec, err := range b.Namespace("notes").History(t.Context(), "x") {
		fatal(t, err)
		if string(rec.Value) != fmt.Sprint(next) {
			t.Fatalf("version %d is %q", next, rec.Value)
		}
		next--
	}
	if next != -1 {
		t.Errorf("%d versions are missing", next+1)
	}
	sameDigest(t, a, b)
}

// B20: the largest transaction that a vault takes, one of just under 16 MiB, is
// one commit, and goes up and comes down.
func TestLargestTransaction(t *testing.T) {
	p := newPerson(t)
	a, b := p.device(vault.Config{NoSync: true}), p.device(vault.Config{NoSync: true})
	long, short := bytes.Repeat([]byte("0123456789abcdef"), 4<<10), []byte("short")
	// write puts so many long values and then so many short ones, and returns
	// how many it could.
	write := func(longs, shorts int) (n int, err error) {
		err = a.Update(t.Context(), "large", func(tx *vault.Tx) error {
			n = 0
			for n < longs+shorts {
				value := long
				if n >= longs {
					value = short
				}
				if _, err := tx.Put(fmt.Sprint(n), value); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		return n, err
	}
	const many = 10_000
	longs, err := write(many, 0)
	if !errors.Is(err, vault.ErrTooLarge) {
		t.Fatalf("%d long values: %v, want ErrTooLarge", many, err)
	}
	all, err := write(longs, many)
	if !errors.Is(err, vault.ErrTooLarge) {
		t.Fatalf("%d short values more: %v, want ErrTooLarge", many, err)
	}
	if n, err := write(longs, all-longs); n != all || err != nil {
		t.Fatalf("%d of %d values: %v", n, all, err)
	}
	if size := longs*len(long) + (all-longs)*len(short); size < 15<<20 {
		t.Fatalf("%d values of %d bytes in all: a transaction takes less than it should", all, size)
	}
	before, err := b.Status(t.Context())
	fatal(t, err)
	sync(t, a, b)
	after, err := b.Status(t.Context())
	fatal(t, err)
	if after.Commits != before.Commits+1 || after.Records != before.Records+all {
		t.Errorf("%d commits and %d records, want 1 and %d", after.Commits-before.Commits, after.Records-before.Records, all)
	}
	rec, err := b.Namespace("large").Get(t.Context(), "0")
	fatal(t, err)
	if !bytes.Equal(rec.Value, long) {
		t.Errorf("a long value arrives with %d bytes", len(rec.Value))
	}
	sameDigest(t, a, b)
}
