package vault

import (
	"fmt"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
)

// A simLink is a connection with a session at each end: the device's engine and
// the secondary's session. This file is all that the simulation knows of the
// engine: it does what the driver does, step by step. Frames wait in queues
// until the plan says that they move.
type simLink struct {
	d       *simDevice
	session *secondary.Session
	engine  *engine
	live    bool
	owner   bool
	over    bool      // the secondary has said its last
	twice   bool      // a frame was delivered twice: the session may end with an error
	moved   time.Time // when a frame came through last
	mark    uint64    // token of a MARK under way …
	marked  uint64    // … and how many commits there were when it was sent
	up      [][]byte  // to the secondary
	down    [][]byte  // to the device
	stage   []wire.Message
}

const simURL = "ws://127.0.0.1:1/"

// simIdle is after how long a line that nothing comes through is dead. Devices
// and secondary ping often enough for that.
const simIdle = 90 * time.Second

// A simWish says what a session is to be like.
type simWish struct {
	mode  Mode
	live  bool // it goes on when everything is in step
	full  bool // the log comes from its beginning
	quick bool // it uploads before it has downloaded
}

// connect opens a session and sends BIND. An older connection is left behind.
func (d *simDevice) connect(wish simWish) {
	w := d.w
	if d.v == nil || d.away {
		return
	}
	d.leave()
	if d.trans != nil {
		d.trans.t.setHold(false) // as its goroutine does without a session
	}
	enrolled, err := d.v.Enrolled()
	w.must(err)
	l := &simLink{d: d, session: w.server.NewSession(nil, func() {}), moved: w.time, live: wish.live && enrolled}
	if enrolled {
		l.engine = &engine{v: d.v, mode: wish.mode, full: wish.full, quick: wish.quick}
	} else {
		l.owner = true
		l.engine = &engine{v: d.v, owner: &ownerMode{authority: w.root.Authority(), now: d.now(), create: true}}
	}
	l.signIn()
	w.tracef("%s signs in", d.name())
	d.link = l
	if d.step(func() (err error) {
		l.engine.now = w.time
		l.stage, err = l.engine.bind()
		return err
	}) {
		l.pump(nil)
	}
}

// signIn does what package client does, without a line between.
func (l *simLink) signIn() {
	w, d := l.d.w, l.d
	hello := &wire.Hello{Proto: wire.Proto, Audience: simURL}
	w.random.Read(hello.Nonce[:])
	reply, ok := l.ask(hello).(*wire.SHello)
	if !ok {
		w.fail("sign-in", "no answer to HELLO")
	}
	t := &wire.Transcript{
		Audience: simURL, Proto: wire.Proto, ClientNonce: hello.Nonce, ServerNonce: reply.Nonce,
		Server: reply.Server, Binding: reply.Binding, Time: reply.Time,
	}
	var m wire.Message
	vault := w.root.VaultID()
	switch authority := w.root.Authority(); {
	case !l.owner:
		m = &wire.Auth{
			Vault: vault, Role: wire.RoleDevice, Device: d.v.Device(),
			Signature: d.v.keys.own.Auth.Sign(keys.PurposeClientAuth, vault, t.ClientBytes(wire.RoleDevice, d.v.Device())),
		}
	default:
		m = &wire.Create{
			Token: w.token, Sign: authority.Public().Sign, Auth: authority.Public().Auth,
			Signature: authority.Auth.Sign(keys.PurposeClientAuth, vault, t.ClientBytes(wire.RoleCreate, w.token)),
		}
	}
	if _, ok := l.ask(m).(*wire.OK); !ok {
		w.fail("sign-in", "%s is refused", d.name())
	}
}

func (l *simLink) ask(m wire.Message) wire.Message {
	replies := l.session.Handle(l.d.w.ctx, l.frame(m))
	if len(replies) != 1 {
		l.d.w.fail("sign-in", "%d answers", len(replies))
	}
	return replies[0]
}

func (l *simLink) frame(m wire.Message) []byte {
	b, err := wire.Append(nil, m)
	l.d.w.must(err)
	return b
}

// send puts what the engine has said on the line.
func (l *simLink) send() {
	for _, m := range l.stage {
		f := l.frame(m)
		l.d.w.tracef("%s sends %v, %d bytes", l.d.name(), m.Type(), len(f))
		l.up = append(l.up, f)
	}
	l.stage = nil
}

// pump lets the device take a message, or nothing but a look at its outbox, and
// go on as far as it can. It ends a session that has done what it was for.
func (l *simLink) pump(m wire.Message) {
	d, done := l.d, false
	var failed error
	if !d.step(func() (err error) {
		l.engine.now = d.w.time
		if m == nil {
			l.engine.drained = false
		} else if failed = l.engine.receive(m); failed != nil {
			return nil
		}
		for more := []wire.Message{nil}; len(more) > 0; l.stage = append(l.stage, more...) {
			if more, failed = l.engine.pump(); failed != nil {
				return nil
			}
		}
		done, err = l.engine.inStep()
		return err
	}) {
		return
	}
	if failed == nil {
		if done && !l.owner {
			d.sweeping, d.widening = false, false
		}
		l.truthful(done)
	}
	switch {
	case failed != nil:
		d.sessionFailed(l, failed)
	case done && !l.live:
		d.finished(l)
	case l.mark != 0 && l.engine.lost(l.mark):
		l.mark = 0
	case l.engine.arrived(l.mark):
		if d.size < l.marked {
			d.w.fail("mark", "%s is told that everything has come, and has %d commits of %d", d.name(), d.size, l.marked)
		}
		l.mark = 0
	}
	if d.trans != nil && d.link == l {
		d.trans.serve(l)
	}
	if l.engine.indexes() && d.link == l {
		l.pump(nil) // as its deadline says
	}
}

// truthful looks at what a listener is told.
func (l *simLink) truthful(done bool) {
	e := l.engine
	p := e.progress(e.state(done))
	if p.State == StateLive && (p.Down.BytesLeft > 0 || p.Commits < p.Announced || p.Commits != l.d.size || e.mode != PullOnly && !l.owner && p.Up.ChangesLeft > 0 && !l.d.identity.refused) {
		l.d.w.fail("progress", "%s is said to be live, and to have %+v", l.d.name(), p)
	}
}

// wish asks for something in the middle of a session that goes on: to be told
// when all has come, or for the whole log, or whether anybody is there.
func (l *simLink) wish(what int) {
	d := l.d
	if !l.live {
		return
	}
	if d.step(func() error {
		e := l.engine
		e.now = d.w.time
		switch what {
		case 0:
			if token, out := e.sendMark(); token != 0 {
				l.mark, l.marked, l.stage = token, uint64(len(d.w.model.commits)), out
			}
		case 1:
			e.full = true
		default:
			l.stage = e.probe()
		}
		return nil
	}) {
		l.pump(nil)
	}
}

// pass lets time pass on the line: its end may notice that nothing comes.
func (l *simLink) pass() {
	w := l.d.w
	dead := l.moved.Add(simIdle)
	if at := l.engine.deadline(); !at.IsZero() && !at.After(w.time) && at.Before(dead) {
		defer func(now time.Time) { w.time = now }(w.time)
		w.time = at // and not at the next event, which may be hours later
		l.pump(nil)
	} else if !dead.After(w.time) {
		w.tracef("%s's line is dead", l.d.name())
		l.d.leave()
	}
}

// receive lets the device take a frame.
func (l *simLink) receive(frame []byte) {
	m, err := wire.Parse(frame)
	l.d.w.must(err)
	l.moved = l.d.w.time
	l.d.w.tracef("%s gets %v, %d bytes", l.d.name(), m.Type(), len(frame))
	l.pump(m)
}

// deliverUp gives the secondary the next frame, if there is one.
func (l *simLink) deliverUp() bool {
	if len(l.up) == 0 {
		return false
	}
	frame := l.up[0]
	l.up = l.up[1:]
	l.moved = l.d.w.time
	l.d.w.handle(l, frame)
	return true
}

// serve has the secondary send something, if it has anything to say.
func (l *simLink) serve() bool {
	if l.over {
		return false
	}
	m := l.session.Next(l.d.w.ctx)
	if m == nil {
		return false
	}
	l.reply(m)
	return true
}

// reply puts what the secondary says on the line.
func (l *simLink) reply(m wire.Message) {
	if l.over {
		return
	}
	l.down = append(l.down, l.frame(m))
	l.over = secondary.Final(m)
}

// deliverDown gives the device the next frame that the secondary has sent or
// would send, if there is one.
func (l *simLink) deliverDown() bool {
	if len(l.down) == 0 && !l.serve() {
		return false
	}
	frame := l.down[0]
	l.down = l.down[1:]
	l.receive(frame)
	return true
}

// rest delivers frames until there are none. If the session is still there, it is
// in step then.
func (l *simLink) rest() {
	d := l.d
	for frames := 0; d.link == l && (l.deliverUp() || d.link == l && l.deliverDown()); frames++ {
		if frames > 10_000 {
			d.w.fail("hang", "%s does not come to an end: %v", d.name(), l)
		}
	}
	if d.link == l && !l.inStep() {
		d.w.fail("hang", "%s rests, and is not in step: %v", d.name(), l)
	}
}

// inStep reports whether the device believes that nothing is left to be done.
func (l *simLink) inStep() bool {
	ok, err := l.engine.inStep()
	l.d.w.must(err)
	return ok
}

// report returns what a sync would.
func (l *simLink) report() *Report {
	r, err := l.d.v.summary(l.engine.report, nil)
	l.d.w.must(err)
	return r
}

func (l *simLink) String() string {
	e := l.engine
	return fmt.Sprintf("phase %d, %d of %d commits, %d frames unanswered, wanting %d, drained %v, %d frames up, %d down",
		e.phase, e.size, e.need, e.frames, e.wanting, e.drained, len(l.up), len(l.down))
}
