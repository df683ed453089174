package vault

import (
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
)

// An engine is the device's side of one session with the secondary, as a step
// function: what comes in changes the store, and what is to be sent comes out.
// It has no goroutine, clock or socket of its own, so that a simulation can run
// it step by step; see session for the driver.
//
// The order of things: BIND; download up to the size that the secondary names;
// fetch what did not come along; then build commits, send their objects and
// them, and wait until they come back in the log. While the session is bound,
// both directions go on.
//
// A step is: set now; call receive with a message, or nothing; call pump, and
// send what it returns. When deadline comes and nothing else has, step again.
type engine struct {
	v     *Vault
	at    keyfile.Server // with whom; zero: until attempt has found out
	mode  Mode
	owner *ownerMode // nil: the session is the device's own
	own   bool       // own commits come in full, not as stubs
	full  bool       // the next BIND begins a full sync
	quick bool       // what is signed goes up before the download has ended

	now   time.Time // of this step
	heard time.Time // when the secondary last moved something on; zero: nothing is waited for

	sentAll, gotAll uint64 // bytes that the connection has carried
	carried         uint64 // of these, when moved last put heard off
	sentBy, gotBy   uint64 // at probed

	base     *baseSession // not nil: it begins with a checkpoint
	bottom   uint64       // the log began at a checkpoint of this size; 0: it is whole
	unproven []claim      // to be proven before the log goes on
	proofs   map[uint32]claim
	past     pastSession

	checkpoint checkpointSession
	reset      resetSession
	standing   error // the alarm that stands: the session only looks for a reset
	errand     bool  // it is for one caller: nothing is done beside
	stay       bool  // the session goes on after it has come in step
	leave      bool  // it has to be bound anew

	phase      phase
	rebuilding bool               // the store was made anew, and the log has not all come since
	whole      bool               // BIND began a full sync: the log comes from its beginning, and is compared
	selection  []byte             // in force when BIND was sent
	sweeping   bool               // a changed selection is to be carried out
	compacting bool               // versions that are not kept are to be dropped
	size       uint64             // commits verified, in a full sync again
	verifying  bool               // the full sync has to look at objects, …
	verified   commitlog.ChangeID // … from this change on
	first      uint64             // size up to which the log comes before all else: that which the secondary named at BIND
	need       uint64             // size at which the device is in step: first, or acknowledged later
	announced  uint64             // size that the secondary spoke of last
	left       uint64             // bytes still to come
	parts      wire.Assembler

	mark    uint64 // token of the newest MARK
	marking bool   // it is under way
	marked  uint64 // token of the newest MARKED

	acked    uint64    // highest commit ID at which an own commit was acknowledged
	waited   time.Time // up to when the vault's wait is counted
	sent     uint64    // highest own sequence number sent in this session
	frames   int       // UPLOAD frames not answered
	drained  bool      // nothing is left to build
	refusals int       // refusals that led to building anew
	wanting  int       // what is in missing, as far as known
	fetching map[uint32]fetchRequest
	late     []lateBlob // that have come and are not stored
	request  uint32
	uploaded map[commitlog.Hash]bool // objects that the secondary has
	object   *objectUpload           // under way

	probed time.Time // when it was asked for a sign of life; zero: it was not

	said Said // what the secondary has said so far

	report                   Report
	pulledBytes, pushedBytes uint64     // of commits and objects
	missingBytes             uint64     // of what has to be fetched
	planned                  bool       // missingBytes is up to date
	pending                  pendingSum // what the outbox holds
	up                       sending    // what is told of the upload
}

// phase is how a session stands with its secondary.
type phase uint8

const (
	phaseNew       phase = iota // BIND was not sent
	phaseBinding                // BOUND has to come
	phaseBound                  // the log is followed
	phaseUnbinding              // UNBOUND has to come, then BIND is sent anew
)

// Mode says which directions a sync has. The zero value is both.
type Mode uint8

const (
	TwoWay   Mode = 0
	PullOnly Mode = 1
	PushOnly Mode = 2 // local changes go up; to sign them, the log is pulled first all the same
)

// A Report says what a sync did. It is true also where the sync ended with an
// error. In what came and went it leaves out the own records of namespaces, which
// nobody wrote.
type Report struct {
	Pulled     int    // changes by others that came in
	Pushed     int    // own changes that are in the verified log now
	Conflicts  int    // records that came to have several versions
	Quarantine int    // changes whose content cannot be used, in all
	Aside      int    // own changes that the secondary refused, in all
	NoRoom     int    // of these, since the vault has no more room there
	Pending    int    // own changes that are not in the log yet, in all
	Missing    int    // changes whose content is to be here and has not come, in all
	Forgotten  int    // changes whose content is here no more, since it is not selected
	Compacted  int    // superseded versions whose content is here no more; see Retention
	Undecided  int    // transactions of Transact that may come into the log yet, in all
	Commits    uint64 // size of the verified log
	BytesIn    int64  // frames received
	BytesOut   int64  // frames sent
}

const (
	uploadFrames  = 4       // UPLOAD frames under way
	uploadBytes   = 1 << 20 // bytes that fill a frame
	objectWindow  = 4       // OBJECT messages under way
	fetchWindow   = 32      // FETCH requests under way
	fetchLook     = 256     // entries of what is missing looked at for them
	maxRefusals   = 8       // rebuilds in a session, before commits are set aside
	buildBytes    = 4 << 20 // blobs signed in one transaction
	applyChanges  = 1000    // changes that end a transaction of what came in; each may touch pages of its own
	fetchPageSize = wire.MaxRange
)

// errUnknownStub: the secondary names an own commit that this device does not
// know. A session with own commits in full shows whether there is one.
var errUnknownStub = errors.New("a commit of this device is in the log, which the device does not know")

// retryAside gives what was refused in an earlier session another chance.
func (v *Vault) retryAside() error {
	var any bool
	if err := v.view(func(s *state) error { any = !s.aside.Empty(); return nil }); err != nil || !any {
		return err
	}
	return v.update(func(s *state) error { return s.retryAside() })
}

// receive takes a message of the secondary. Errors of package commitlog are
// alarms: what the secondary sent cannot be true.
func (e *engine) receive(m wire.Message) error {
	var err error
	switch m := m.(type) {
	case *wire.Bound:
		if err = e.onBound(m); err == nil {
			err = e.whereabouts()
		}
	case *wire.Unbound:
		err = e.onUnbound()
	case *wire.Download:
		err = e.onDownload(m)
	case *wire.Uploaded:
		err = e.onUploaded(m)
	case *wire.Have:
		err = e.onHave(m)
	case *wire.Blobs:
		err = e.onBlobs(m)
	case *wire.Marked:
		err = e.onMarked(m)
	case *wire.Checkpoint:
		err = e.onCheckpoint(m)
	case *parsedState:
		err = e.onState(m)
	case *wire.State:
		return e.receive(e.v.parsing(m))
	case *wire.Proof:
		err = e.onProof(m)
	case *wire.Refilled:
		err = e.onRefilled(m)
	case *wire.Commits:
		err = e.onCommits(m)
	case *wire.Error:
		err = e.onError(m)
	default:
		return fmt.Errorf("%w: unexpected %v", wire.ErrProtocol, m.Type())
	}
	e.heard, e.probed = e.now, time.Time{}
	return err
}

// pump returns what is to be sent now. It is called after every event, until it
// returns nothing.
func (e *engine) pump() (out []wire.Message, err error) {
	if err := e.stalled(); err != nil {
		return nil, err
	}
	if e.leave {
		e.leave = false
		return e.again(), nil
	}
	if e.phase == phaseNew {
		return e.begin()
	}
	if e.reset.id != 0 {
		return nil, nil
	}
	if out, err = e.look(); err != nil || len(out) > 0 {
		return out, err
	}
	behind := e.size < e.first || e.parts.Partial()
	if e.phase != phaseBound || behind && !e.quick {
		return nil, nil
	}
	if e.owner != nil && e.owner.refill != nil {
		return e.owner.refill.pump(e)
	}
	if e.rebuilding && !behind {
		if err := e.v.update((*state).rebuilt); err != nil {
			return nil, err
		}
		e.rebuilding, e.drained = false, false
	}
	if !behind {
		if out, err = e.fill(); err != nil || len(out) > 0 || e.wanting > 0 {
			return out, err
		}
	}
	if e.owner != nil {
		return e.owner.pump(e)
	}
	if e.mode == PullOnly {
		if e.object != nil && e.object.wait == 0 {
			e.object = nil // whoever wanted it sent has left
		}
		return e.idle()
	}
	for e.frames < uploadFrames {
		m, err := e.upload()
		if err != nil {
			return out, err
		}
		if m == nil {
			if len(out) == 0 && e.frames == 0 && e.object == nil {
				return e.idle()
			}
			return out, nil
		}
		out = append(out, m...)
	}
	return out, nil
}

// idle returns what is asked for when there is nothing else to do.
func (e *engine) idle() (out []wire.Message, err error) {
	if e.size < e.need || !e.filled() {
		return nil, nil
	}
	if out, err := e.checkpoints(); err != nil || len(out) > 0 || e.checkpoint.request != 0 {
		return out, err // one thing after the other
	}
	if e.pastDue() {
		if out, err = e.askPast(); err != nil || e.bottom > 0 {
			return out, err
		}
		return e.pump() // that was the end of it, and what waited for that has its turn
	}
	return nil, nil
}

// onError takes the answer that a request cannot be met. Any other error ends
// the session.
func (e *engine) onError(m *wire.Error) error {
	if c := &e.checkpoint; m.Request != 0 && m.Request == c.request && c.posting != nil {
		e.v.conf.Logger.Warn("the secondary does not take a checkpoint", "err", m)
		c.request, c.posting, c.posted = 0, nil, true
		return nil
	}
	if m.Request == 0 || !errors.Is(m, wire.ErrNotFound) {
		return m
	}
	if m.Request == e.reset.request {
		return e.noReset(commitlog.ErrRollback, "the secondary has named a commit that it has not")
	}
	_, proof := e.proofs[m.Request]
	if proof || m.Request == e.past.request || e.base != nil && m.Request == e.base.request {
		return &commitlog.CommitError{Err: commitlog.ErrRollback, Reason: "the secondary has fewer commits than the checkpoint that it served"}
	}
	return m
}

// pulled reports whether the log is here as far as the secondary named it, with
// all that belongs to it.
func (e *engine) pulled() bool {
	return e.phase == phaseBound && e.reset.id == 0 && e.size >= e.need && !e.rebuilding && e.filled()
}

// inStep reports whether everything that the session is for is done: the log is
// here as far as the secondary named it, nothing is wanting, and, unless only
// pulling was asked for, every local change that could go up has come back.
func (e *engine) inStep() (done bool, err error) {
	if e.owner != nil && e.owner.refill != nil {
		return e.phase == phaseBound && e.owner.refill.done(e), nil
	}
	err = e.v.view(func(s *state) (err error) {
		if err = e.count(s); err != nil || !e.pulled() || e.frames > 0 || e.object != nil {
			return err
		}
		if e.owner != nil && e.owner.merge != nil {
			done = e.owner.merge.done
			return nil
		}
		if e.owner != nil && e.owner.move != nil {
			done, err = e.owner.move.done(s)
			return err
		}
		if e.owner != nil {
			done, err = s.enrolled()
			return err
		}
		done = (e.mode == PullOnly || s.unsent.Empty() && s.sent.Empty()) && (e.stay || !e.pastDue()) && !e.checkpointDue(s) && e.checkpoint.request == 0
		return nil
	})
	return done, err
}
