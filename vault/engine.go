package vault

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
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
	mode  Mode
	owner *ownerMode // nil: the session is the device's own
	own   bool       // own commits come in full, not as stubs
	full  bool       // the next BIND begins a full sync
	quick bool       // what is signed goes up before the download has ended

	now   time.Time // of this step
	heard time.Time // when the secondary last moved something on; zero: nothing is waited for

	sentAll, gotAll uint64 // bytes that the connection has carried
	carried, came   uint64 // of these, at heard; of those received, at logged
	sentBy, gotBy   uint64 // at probed

	phase     phase
	whole     bool   // BIND began a full sync: the log comes from its beginning, and is compared
	selection []byte // in force when BIND was sent
	sweeping  bool   // a changed selection is to be carried out
	size      uint64 // commits verified, in a full sync again
	first     uint64 // size up to which the log comes before all else: that which the secondary named at BIND
	need      uint64 // size at which the device is in step: first, or acknowledged later
	announced uint64 // size that the secondary spoke of last
	left      uint64 // bytes still to come
	parts     wire.Assembler

	mark    uint64 // token of the newest MARK
	marking bool   // it is under way
	marked  uint64 // token of the newest MARKED

	acked    uint64    // highest commit ID at which an own commit was acknowledged
	logged   time.Time // when the log last grew, or acked went beyond it
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

	report                   Report
	pulledBytes, pushedBytes uint64     // of commits and objects
	missingBytes             uint64     // of what has to be fetched
	planned                  bool       // missingBytes is up to date
	pending                  pendingSum // what the outbox holds
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
// error.
type Report struct {
	Pulled     int    // changes by others that came in
	Pushed     int    // own changes that are in the verified log now
	Conflicts  int    // records that came to have several versions
	Quarantine int    // changes whose content cannot be used, in all
	Aside      int    // own changes that the secondary refused, in all
	Pending    int    // own changes that are not in the log yet, in all
	Missing    int    // changes whose content is to be here and has not come, in all
	Forgotten  int    // changes whose content is here no more, since it is not selected
	Undecided  int    // transactions of Transact that may come into the log yet, in all
	Commits    uint64 // size of the verified log
	BytesIn    int64  // frames received
	BytesOut   int64  // frames sent
}

const (
	// stallTime is how long a secondary may leave a session without anything
	// that was asked for, whatever else it says. That it says nothing at all
	// the connection finds out sooner.
	stallTime = 2 * time.Minute
	// stallBytes is what a line carries in that time that is slow, and not idle.
	stallBytes = 4 << 10
	// probeTime is how long it may take to answer when it was asked whether it
	// is still there.
	probeTime = 5 * time.Second
	// An acknowledged commit that does not come back keeps the device from
	// signing more, and then is an alarm (SPEC.md, "Signing").
	unseenTime  = 30 * time.Second
	missingTime = 5 * time.Minute

	uploadFrames  = 4       // UPLOAD frames under way
	uploadBytes   = 1 << 20 // bytes that fill a frame
	objectWindow  = 4       // OBJECT messages under way
	fetchWindow   = 32      // FETCH requests under way
	fetchLook     = 256     // entries of what is missing looked at for them
	maxRefusals   = 8       // rebuilds in a session, before commits are set aside
	buildBytes    = 4 << 20 // blobs signed in one transaction
	fetchPageSize = wire.MaxRange
)

// errUnknownStub: the secondary names an own commit that this device does not
// know. A session with own commits in full shows whether there is one.
var errUnknownStub = errors.New("a commit of this device is in the log, which the device does not know")

// bind begins the session.
func (e *engine) bind() (out []wire.Message, err error) {
	e.fetching = make(map[uint32]fetchRequest)
	e.uploaded = make(map[commitlog.Hash]bool)
	if e.owner == nil && e.mode != PullOnly {
		if err := e.v.retryAside(); err != nil {
			return nil, err
		}
	}
	return e.follow()
}

// follow sends BIND with the device's position.
func (e *engine) follow() (out []wire.Message, err error) {
	e.whole = e.full || e.whole && e.size < e.first // one that was interrupted begins anew
	e.full = false
	b := &wire.Bind{Flags: wire.BindLive}
	if e.stubs() {
		b.Flags |= wire.BindStubs
	}
	e.phase, e.heard = phaseBinding, e.now
	e.parts = wire.Assembler{}
	e.marking = false // what was under way will not be answered
	err = e.v.view(func(s *state) error {
		k, err := s.keeping()
		if err != nil {
			return err
		}
		e.selection, b.Tags = k.raw, k.bindTags()
		if !e.whole {
			b.Size = s.log.Size()
		}
		e.size = b.Size
		e.wants(s)
		b.Root, err = s.log.RootAt(b.Size)
		return err
	})
	return []wire.Message{b}, err
}

// comparing reports whether a full sync was asked for and has not come to its end.
func (e *engine) comparing() bool {
	return e.full || e.whole && (e.phase != phaseBound || e.size < e.first)
}

// stubs reports whether own commits may come as stubs.
func (e *engine) stubs() bool { return e.owner == nil && !e.own && !e.whole }

// again leaves off following the log, to bind anew: with another position, or
// other wishes.
func (e *engine) again() []wire.Message {
	if e.phase != phaseBound {
		return nil
	}
	e.phase, e.heard = phaseUnbinding, e.now
	return []wire.Message{&wire.Unbind{}}
}

// probe finds out whether the secondary is still there.
func (e *engine) probe() []wire.Message {
	if e.phase != phaseBound {
		return nil
	}
	e.probed, e.sentBy, e.gotBy = e.now, e.sentAll, e.gotAll
	_, out := e.sendMark()
	return out
}

// sendMark asks the secondary to say when everything has come that is in the log
// now, and returns the token by which arrived knows the answer. One MARK is under
// way at a time: until it is answered, sendMark sends nothing and returns 0.
func (e *engine) sendMark() (token uint64, out []wire.Message) {
	if e.phase != phaseBound || e.marking || e.full {
		return 0, nil
	}
	if !e.expects() {
		e.heard = e.now
	}
	e.mark++
	e.marking = true
	return e.mark, []wire.Message{&wire.Mark{Token: e.mark}}
}

// arrived reports whether everything is here that was in the log when MARK was
// sent.
func (e *engine) arrived(token uint64) bool { return token != 0 && e.marked >= token && e.filled() }

// lost reports whether a MARK will not be answered any more.
func (e *engine) lost(token uint64) bool { return e.marked < token && !e.marking }

// retryAside gives what was refused in an earlier session another chance.
func (v *Vault) retryAside() error {
	var any bool
	if err := v.view(func(s *state) error { any = !s.aside.Empty(); return nil }); err != nil || !any {
		return err
	}
	return v.update(func(s *state) error { _, err := s.retryAside(); return err })
}

// receive takes a message of the secondary. Errors of package commitlog are
// alarms: what the secondary sent cannot be true.
func (e *engine) receive(m wire.Message) error {
	var err error
	switch m := m.(type) {
	case *wire.Bound:
		err = e.onBound(m)
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
	case *wire.Error:
		return m
	default:
		return fmt.Errorf("%w: unexpected %v", wire.ErrProtocol, m.Type())
	}
	e.heard, e.probed = e.now, time.Time{}
	return err
}

// expects reports whether the secondary owes the device something.
func (e *engine) expects() bool {
	return e.phase != phaseBound || e.size < e.need || e.parts.Partial() || e.frames > 0 || e.object != nil ||
		len(e.fetching) > 0 || e.marking
}

// deadline returns when the engine wants to be stepped though nothing has come;
// zero: not at all.
func (e *engine) deadline() time.Time {
	switch { // in the order of stalled, which would not be due otherwise
	case !e.expects():
		return time.Time{}
	case !e.probed.IsZero():
		return e.probed.Add(probeTime)
	case e.unseen():
		return e.logged.Add(missingTime)
	}
	return e.heard.Add(stallTime)
}

// unseen reports whether an own commit was acknowledged and has not come back.
func (e *engine) unseen() bool { return e.phase == phaseBound && e.size < e.acked }

// stalled returns an error if the secondary has been owing for too long. What
// it sends beside the matter, pings for example, does not count.
func (e *engine) stalled() error {
	switch {
	case !e.expects():
		e.heard = time.Time{}
	case e.heard.IsZero():
		e.heard = e.now
	case !e.probed.IsZero():
		if e.now.Sub(e.probed) >= probeTime {
			return fmt.Errorf("%w: the secondary is not there any more", wire.ErrTimeout)
		}
	case e.unseen():
		if e.now.Sub(e.logged) >= missingTime {
			return &commitlog.CommitError{ID: commitlog.CommitID(e.acked), Err: commitlog.ErrOwnCommitMissing,
				Reason: fmt.Sprintf("a commit of this device was acknowledged, and has not come for %v", missingTime)}
		}
	case e.now.Sub(e.heard) >= stallTime:
		return fmt.Errorf("%w: the secondary has left a request without an answer for %v", wire.ErrTimeout, stallTime)
	}
	return nil
}

// moved tells how many bytes the connection has sent and received so far. A
// frame may take longer on its way than a secondary may take to answer.
func (e *engine) moved(sent, received uint64) {
	e.sentAll, e.gotAll = sent, received
	switch {
	case e.probed.IsZero():
	case received > e.gotBy:
		e.probed = time.Time{} // that is a sign of life
	case sent-e.sentBy >= stallBytes:
		e.probed, e.sentBy = e.now, sent // the question is on its way yet
	}
	if sent+received-e.carried >= stallBytes && !e.heard.IsZero() {
		e.carried, e.heard = sent+received, e.now
	}
	if received-e.came >= stallBytes {
		e.came, e.logged = received, e.now
	}
}

// maySign reports whether more may be signed: not while the secondary holds back
// what it has acknowledged.
func (e *engine) maySign() bool { return !e.unseen() || e.now.Sub(e.logged) < unseenTime }

func (e *engine) onUnbound() error {
	if e.phase != phaseUnbinding {
		return fmt.Errorf("%w: UNBOUND without UNBIND", wire.ErrProtocol)
	}
	e.phase = phaseNew
	return nil
}

func (e *engine) onMarked(m *wire.Marked) error {
	if !e.marking || m.Token != e.mark {
		return fmt.Errorf("%w: MARKED without MARK", wire.ErrProtocol)
	}
	e.marking = false
	if e.phase != phaseBound {
		return nil // the commits that it speaks of were dropped: it is asked for again
	}
	if m.Size > e.size {
		return fmt.Errorf("%w: MARKED before the commits that it speaks of", wire.ErrProtocol)
	}
	e.marked = m.Token
	return nil
}

func (e *engine) onBound(b *wire.Bound) error {
	if e.phase != phaseBinding {
		return fmt.Errorf("%w: BOUND without BIND", wire.ErrProtocol)
	}
	e.phase, e.logged = phaseBound, e.now
	e.first, e.need, e.announced = b.Size, b.Size, b.Size
	return e.v.view(func(s *state) error {
		refuse := func(err error, reason string, args ...any) error {
			return &commitlog.CommitError{ID: commitlog.CommitID(b.Size), Err: err, Reason: fmt.Sprintf(reason, args...)}
		}
		ours := s.log.Size()
		root, err := s.log.RootAt(min(e.size, b.Size))
		if err != nil {
			return err
		}
		if root != b.Root {
			return refuse(commitlog.ErrFork, "the secondary holds another history")
		}
		if b.Size < ours {
			return refuse(commitlog.ErrRollback, "the secondary has %d commits, this device has verified %d", b.Size, ours)
		}
		if e.acked, err = s.lastAcked(); err != nil {
			return err
		}
		if b.Size < e.acked {
			return refuse(commitlog.ErrOwnCommitMissing, "the secondary has %d commits, and has acknowledged one of this device as commit %d", b.Size, e.acked)
		}
		if e.owner == nil && len(b.Last) > 0 {
			return s.checkLast(b.Last)
		}
		return nil
	})
}

// lastAcked returns the highest commit ID at which a commit of this device was
// acknowledged that is not verified there yet; 0: none.
func (s *state) lastAcked() (id uint64, err error) {
	err = s.acked.Scan(nil, func(k, _ []byte) (bool, error) {
		id = be.Uint64(k)
		return true, nil
	})
	return id, err
}

// checkLast looks whether this device knows the commit that the secondary says
// is its last. It is believed if its signature is good: no one else can have
// made it.
func (s *state) checkLast(header []byte) error {
	h, err := commitlog.ParseHeader(header)
	if err != nil || h.Device != s.v.keys.device ||
		!s.v.keys.own.Sign.Public().Verify(keys.PurposeCommit, s.v.keys.vault, header[:commitlog.SignedSize], h.Signature[:]) {
		return fmt.Errorf("%w: BOUND names a commit of this device that is not one", wire.ErrProtocol)
	}
	id, err := s.log.OwnCommit(s.v.keys.device, h.Seq)
	if err != nil {
		return err
	}
	known := id != 0 || s.sent.Get(localKey(h.Seq)) != nil || s.refused.Get(localKey(h.Seq)) != nil
	if !known {
		return &commitlog.CommitError{Err: commitlog.ErrDeviceStateRollback,
			Reason: fmt.Sprintf("the secondary has a commit of this device with sequence number %d, which this copy never made", h.Seq)}
	}
	return nil
}

func (e *engine) onDownload(d *wire.Download) error {
	switch e.phase {
	case phaseBound:
	case phaseUnbinding:
		return nil // sent before the secondary read UNBIND; it comes again
	default:
		return fmt.Errorf("%w: DOWNLOAD before BOUND", wire.ErrProtocol)
	}
	e.announced, e.left = max(e.announced, d.Size), d.Left
	var in []*incoming
	type stub struct {
		id  commitlog.CommitID
		seq uint64
	}
	stubs := make(map[int]stub)
	for _, item := range d.Items {
		data, err := e.parts.Add(item)
		if err != nil {
			return err
		}
		if item.Kind == wire.ItemStub {
			if !e.stubs() {
				return fmt.Errorf("%w: a stub that was not asked for", wire.ErrProtocol)
			}
			id, seq := item.Stub()
			stubs[len(in)] = stub{id, seq}
			in = append(in, nil)
			continue
		}
		if data == nil {
			continue
		}
		b, err := commitlog.ParseBundle(data)
		if err != nil {
			return &commitlog.CommitError{ID: commitlog.CommitID(e.size) + commitlog.CommitID(len(in)) + 1, Err: err}
		}
		in = append(in, &incoming{bundle: b})
	}
	e.v.openAll(slices.DeleteFunc(slices.Clone(in), func(i *incoming) bool { return i == nil }))
	var done applied
	var size uint64
	err := e.v.update(func(s *state) error {
		done = applied{}
		for i, x := range in {
			if x == nil {
				var err error
				if x, _, err = s.own(stubs[i].id, stubs[i].seq); errors.Is(err, commitlog.ErrDeviceStateRollback) {
					return errUnknownStub // a stub proves nothing: the commit itself has to be seen
				} else if err != nil {
					return err
				}
			}
			if err := s.take(x, commitlog.CommitID(e.size)+commitlog.CommitID(i)+1, &done); err != nil {
				return err
			}
		}
		size = e.size + uint64(len(in))
		e.wants(s)
		return nil
	})
	if err != nil {
		return err
	}
	if len(in) > 0 {
		e.logged = e.now
	}
	e.size = size
	e.report.Pulled += done.changes
	e.report.Pushed += done.own
	e.report.Conflicts += done.conflicts
	e.pulledBytes += done.bytes
	e.pushedBytes += done.ownBytes
	e.planned = false
	e.drained = false
	return nil
}

// pump returns what is to be sent now. It is called after every event, until it
// returns nothing.
func (e *engine) pump() (out []wire.Message, err error) {
	if err := e.stalled(); err != nil {
		return nil, err
	}
	if e.phase == phaseNew {
		return e.follow()
	}
	if out, err = e.look(); err != nil || len(out) > 0 {
		return out, err
	}
	behind := e.size < e.first || e.parts.Partial()
	if e.phase != phaseBound || behind && !e.quick {
		return nil, nil
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
		return nil, nil
	}
	for e.frames < uploadFrames {
		m, err := e.upload()
		if err != nil {
			return out, err
		}
		if m == nil {
			return out, nil
		}
		out = append(out, m...)
	}
	return out, nil
}

// pulled reports whether the log is here as far as the secondary named it, with
// all that belongs to it.
func (e *engine) pulled() bool {
	return e.phase == phaseBound && e.size >= e.need && e.filled()
}

// inStep reports whether everything that the session is for is done: the log is
// here as far as the secondary named it, nothing is wanting, and, unless only
// pulling was asked for, every local change that could go up has come back.
func (e *engine) inStep() (done bool, err error) {
	err = e.v.view(func(s *state) (err error) {
		if e.pending, err = s.pendingSum(); err != nil || !e.pulled() || e.frames > 0 || e.object != nil {
			return err
		}
		if e.owner != nil {
			done, err = s.enrolled()
			return err
		}
		done = e.mode == PullOnly || s.unsent.Empty() && s.sent.Empty()
		return nil
	})
	return done, err
}
