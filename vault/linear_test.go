package vault_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	gosync "sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// unreliable returns options whose sessions break at random, every other one
// within its first messages, up or down.
func unreliable(seed uint64) vault.SyncOptions {
	var mu gosync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	return through(func(m client.Messenger) client.Messenger {
		mu.Lock()
		defer mu.Unlock()
		up, down := math.MaxInt, math.MaxInt
		switch rng.IntN(4) {
		case 0:
			up = rng.IntN(5)
		case 1:
			down = rng.IntN(6)
		}
		after := func(n int) func(wire.Message) bool {
			return func(wire.Message) bool { n--; return n < 0 }
		}
		return &cutter{Messenger: m, send: after(up), receive: after(down)}
	})
}

// clients notes what concurrent clients asked for and were told.
type clients struct {
	start time.Time
	mu    gosync.Mutex
	ops   []porcupine.Operation
}

// operation is one of a counter ("increment", "read") or of a register ("write",
// "read").
type operation struct {
	kind  string
	value uint64 // written
}

// do notes an operation and what it returned; an error leaves it out.
func (h *clients) do(client int, in operation, f func() (out uint64, err error)) {
	call := time.Since(h.start)
	out, err := f()
	if err == nil {
		h.add(client, in, call, time.Since(h.start), out)
	}
}

func (h *clients) add(client int, in operation, call, end time.Duration, out uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(end)})
}

func (h *clients) check(t *testing.T, what string, step func(state uint64, in operation, out uint64) (bool, uint64)) {
	t.Helper()
	model := porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, in, out any) (bool, any) {
			ok, next := step(state.(uint64), in.(operation), out.(uint64))
			return ok, next
		},
	}
	if !porcupine.CheckOperations(model, h.ops) {
		for _, op := range h.ops {
			t.Logf("client %d: %v → %v, %v to %v", op.ClientId, op.Input, op.Output, time.Duration(op.Call), time.Duration(op.Return))
		}
		t.Errorf("%s: the history is not linearizable", what)
	}
}

// anyOutcome is what is not known of an operation that nobody was told the
// result of.
const anyOutcome = math.MaxUint64

// E34: transactions of several clients on several devices, through one secondary
// and over connections that break, are linearizable: those that write, and those
// that only read. A call that failed has done nothing, and one that could not say
// has happened once at some time after it, or not at all.
func TestTransactLinearizable(t *testing.T) {
	p := newPerson(t)
	devices := make([]*vault.Vault, 4) // the last only reads
	for i := range devices {
		devices[i] = p.device(vault.Config{})
		devices[i].SetDial(unreliable(uint64(i)).Dial)
	}
	h := &clients{start: time.Now()}
	type unknown struct {
		client int
		mark   string
		call   time.Duration
	}
	var mu gosync.Mutex
	var unknowns []unknown
	var wg gosync.WaitGroup
	for c := range 2*len(devices) - 1 {
		v := devices[c/2]
		wg.Go(func() {
			for i := range 12 {
				if i%2 == 1 || c/2 == len(devices)-1 {
					h.do(c, operation{kind: "read"}, func() (n uint64, err error) {
						err = v.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
							n, err = counted(tx.Get("n"))
							return err
						})
						return n, err
					})
					continue
				}
				mark := fmt.Sprintf("%d/%d", c, i) // tells afterwards whether it happened
				call := time.Since(h.start)
				h.do(c, operation{kind: "increment"}, func() (n uint64, err error) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					err = v.Transact(ctx, "notes", func(tx *vault.Tx) error {
						if i%6 == 2 { // the caller goes when the attempt is made
							defer cancel()
						}
						if n, err = counted(tx.Get("n")); err != nil {
							return err
						}
						n++
						if _, err := tx.Put(mark, nil, vault.IfAbsent()); err != nil {
							return err
						}
						return increment(nil, "n")(tx)
					})
					switch {
					case errors.Is(err, vault.ErrOutcomeUnknown):
						mu.Lock()
						unknowns = append(unknowns, unknown{c, mark, call})
						mu.Unlock()
					case err != nil && !errors.Is(err, vault.ErrOffline) && !errors.Is(err, vault.ErrContention) && !errors.Is(err, context.Canceled):
						t.Errorf("client %d: %v", c, err)
					}
					return n, err
				})
			}
		})
	}
	wg.Wait()
	for _, v := range devices {
		v.SetDial(nil)
	}
	sync(t, devices...)
	sync(t, devices...)
	v := devices[0]
	happened := 0
	for rec, err := range v.Namespace("notes").List(t.Context(), vault.NamesOnly()) {
		fatal(t, err)
		if rec.Name != "n" {
			happened++
		}
	}
	if got := count(t, v, "n"); got != happened {
		t.Errorf("counted %d in %d transactions", got, happened)
	}
	for _, u := range unknowns {
		if get(t, v, u.mark) != "-" {
			h.add(u.client, operation{kind: "increment"}, u.call, math.MaxInt64, anyOutcome)
		}
	}
	t.Logf("%d operations, %d increments, %d of unknown outcome", len(h.ops), happened, len(unknowns))
	h.check(t, "counter", func(state uint64, in operation, out uint64) (bool, uint64) {
		if in.kind == "increment" {
			state++
		}
		return out == state || out == anyOutcome, state
	})
	for _, other := range devices[1:] {
		sameDigest(t, v, other)
	}
}

// A record is a linearizable register for clients on several devices, one on
// each, where every operation is a sync, the read or write, and a sync again.
// (Without them reads and writes are local, and only converge; and a read beside
// a writer on the same device sees what is not in the log yet.) So it is over
// connections that break, with clocks that differ, as long as each sync is
// repeated until it has gone well.
func TestRecordLinearizable(t *testing.T) {
	p := newPerson(t)
	devices := make([]*vault.Vault, 4)
	for i := range devices {
		off := time.Duration(i-1) * 24 * time.Hour
		devices[i] = p.device(vault.Config{Now: func() time.Time { return time.Now().Add(off) }})
	}
	h := &clients{start: time.Now()}
	var wg gosync.WaitGroup
	for c, v := range devices {
		o := unreliable(uint64(c))
		rng := rand.New(rand.NewPCG(uint64(c), 1))
		inStep := func() error {
			for {
				switch r, err := v.Sync(t.Context(), o); {
				case err == nil && r.Pending == 0:
					return nil
				case err == nil:
					return fmt.Errorf("left %+v", r)
				case !errors.Is(err, wire.ErrUnreachable):
					return err
				}
			}
		}
		run := func(in operation) error {
			var err error
			h.do(c, in, func() (out uint64, _ error) {
				if err = inStep(); err != nil {
					return 0, err
				}
				if in.kind == "write" {
					out = in.value
					_, err = v.Namespace("notes").Put(t.Context(), "x", fmt.Append(nil, in.value))
				} else if got := get(t, v, "x"); got != "-" {
					_, err = fmt.Sscan(got, &out)
				}
				if err == nil {
					err = inStep()
				}
				return out, err
			})
			return err
		}
		wg.Go(func() {
			for i := range 12 {
				in := operation{kind: "read"}
				if rng.IntN(2) == 0 {
					in = operation{"write", uint64(100*c + i + 1)}
				}
				if err := run(in); err != nil {
					t.Errorf("client %d: %v", c, err)
				}
			}
		})
	}
	wg.Wait()
	h.check(t, "register", func(state uint64, in operation, out uint64) (bool, uint64) {
		if in.kind == "write" {
			return true, in.value
		}
		return out == state, state
	})
	sync(t, devices...)
	sync(t, devices...)
	for _, v := range devices[1:] {
		sameDigest(t, devices[0], v)
	}
}
