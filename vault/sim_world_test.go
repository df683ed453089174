package vault

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/kistvault/kist/internal/bech32"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
)

// A simWorld is one vault, its devices and its secondary. It has no goroutines,
// no sockets and no time of its own: everything happens in [simWorld.run], in
// the order of the plan.
type simWorld struct {
	ctx    context.Context
	plan   *simPlan
	dir    string
	random *rand.ChaCha8 // nonces; everything else is derived
	time   time.Time
	root   keys.Root
	key    keys.SigningKey
	token  wire.Token

	engine   *simEngine
	server   *secondary.Server
	refusing *simRefusal // how the secondary will refuse a commit …
	refuseIn int         // … after so many others
	crashing int         // the secondary crashes with the next frame: simBefore or simAfter
	devices  []*simDevice
	left     []*simLink // connections that their devices have left
	model    *simModel
	txns     int
	healing  bool
	trace    func(line string) // nil: nobody listens
}

const (
	simBefore = 1 + iota
	simAfter
)

// A simFailure is what a simulation found.
type simFailure struct {
	kind  string // of failure: shrinking keeps to it
	text  string
	event int // at which it was found; len(events): after all
}

func (f *simFailure) Error() string { return f.kind + ": " + f.text }

func (w *simWorld) fail(kind, format string, args ...any) {
	panic(&simFailure{kind: kind, text: fmt.Sprintf(format, args...)})
}

func (w *simWorld) must(err error) {
	if err != nil {
		w.fail("error", "%v", err)
	}
}

func (w *simWorld) tracef(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf(format, args...))
	}
}

// derive returns 32 bytes that depend on the seed and on what they are for.
func (w *simWorld) derive(what string) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "simulation %d, %s", w.plan.seed, what))
}

// simHang is how long no seed takes, which takes seconds: something loops.
const simHang = 15 * time.Minute

// simulate runs a plan in a directory that it makes and removes, and returns
// what is wrong.
func simulate(t *testing.T, plan *simPlan, dir string, trace func(string)) (failure *simFailure) {
	cryptotest.SetGlobalRandom(t, plan.seed)
	defer time.AfterFunc(simHang, func() { panic(fmt.Sprintf("seed %d does not come to an end", plan.seed)) }).Stop()
	w := &simWorld{ctx: t.Context(), plan: plan, trace: trace, time: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	at := -1
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *simFailure:
			p.event = at
			failure = p
		default:
			failure = &simFailure{kind: "panic", text: fmt.Sprintf("%v\n%s", p, debug.Stack()), event: at}
		}
		w.close()
	}()
	var err error
	w.dir, err = os.MkdirTemp(dir, "sim")
	w.must(err)
	w.begin()
	for i := range plan.events {
		at = i
		e := &plan.events[i]
		w.time = simStart.Add(time.Duration(e.at) * time.Millisecond)
		w.tracef("%v", e)
		w.apply(e)
	}
	at = len(plan.events)
	w.end()
	return nil
}

var simStart = time.Date(2026, 3, 1, 1, 0, 0, 0, time.UTC)

// begin makes the secondary, and the devices that are there from the beginning.
func (w *simWorld) begin() {
	w.random = rand.NewChaCha8(w.derive("random"))
	secret := w.derive("root")
	text, err := bech32.Encode("KIST-ROOT-", secret[:])
	w.must(err)
	w.root, err = keys.ParseRoot(text)
	w.must(err)
	w.key = keys.NewSigningKey(w.derive("server"))
	token := w.derive("token")
	w.token = wire.Token(token[:16])
	w.must(os.Mkdir(w.serverDir(), 0o700))
	w.start()
	w.must(w.engine.Invite(w.ctx, w.token, 1, w.time.Add(time.Hour), nil))
	ring, err := newKeyring(w.deviceFile("the model"))
	w.must(err)
	w.model = newSimModel(ring)
	for i, c := range w.plan.devices {
		d := &simDevice{w: w, slot: i, conf: c}
		w.devices = append(w.devices, d)
		if !c.late {
			d.join()
			d.connect(simWish{})
			w.settle()
		}
	}
}

func (w *simWorld) deviceFile(name string) *keyfile.Device {
	seed := keys.NewDeviceSeed(w.derive(name))
	own, err := seed.Keys()
	w.must(err)
	return &keyfile.Device{
		Vault: w.root.VaultID(), ID: own.ID(), Seed: seed, Authority: w.root.Authority().Public(),
		TagSecret: w.root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: w.root.Epoch(1)}},
	}
}

func (w *simWorld) close() {
	for _, d := range w.devices {
		if d.v != nil {
			d.v.Close()
		}
	}
	if w.engine != nil {
		w.engine.Close()
	}
	os.RemoveAll(w.dir)
}

// apply lets an event happen, and before that the time to it pass.
func (w *simWorld) apply(e *simEvent) {
	for _, d := range w.devices {
		if d.link != nil {
			d.link.pass()
		}
	}
	d := w.devices[e.dev]
	l := d.link
	switch e.kind {
	case simWriteOne, simUpdate, simStrategy:
		d.write(e)
	case simSelect:
		d.choose(newSimSelection(e))
	case simCompact:
		w.compact()
	case simRetain:
		d.retain(newSimRetention(e), e.ns > 1)
	case simTransaction:
		d.transact(e)
	case simConnect:
		if l == nil || e.n == 0 {
			d.connect(e.wish)
		}
	case simWishes:
		if l != nil {
			l.wish(e.n % 3)
		}
	case simUp:
		for range e.n {
			if l == nil || l != d.link || !l.deliverUp() {
				break
			}
		}
	case simServe:
		for range e.n {
			if l == nil || !l.serve() {
				break
			}
		}
	case simDown:
		for range e.n {
			if l == nil || l != d.link || !l.deliverDown() {
				break
			}
		}
	case simRest:
		if l != nil {
			l.rest()
		}
	case simTwice:
		if l != nil {
			l.repeat(e.n%2 == 0)
		}
	case simCut:
		d.cut(e.n)
	case simLate:
		w.late(d)
	case simCrash:
		if d.v != nil {
			d.armed = &simArm{steps: int(e.by), at: e.n}
		}
	case simRestart:
		w.restart(e.n%2 == 0)
	case simCrashLater:
		w.crashing = simBefore + e.n%2
	case simRefuse:
		w.refusing, w.refuseIn = &simRefusals[e.n], int(e.by)
	case simClock:
		d.jumped += time.Duration(e.by) * time.Millisecond
	case simPartition:
		if d.away = e.n == 0; d.away {
			d.leave()
		}
	case simLook:
		d.look()
	case simLose:
		d.lose()
	case simJoin:
		if d.v == nil {
			d.join()
			d.connect(simWish{})
		}
	}
}
