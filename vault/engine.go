package vault

import (
	"errors"
	"fmt"
	"slices"

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
type engine struct {
	v     *Vault
	mode  Mode
	owner *ownerMode // nil: the session is the device's own
	full  bool       // own commits come in full, not as stubs

	bound     bool
	size      uint64 // commits verified
	first     uint64 // size that the secondary named at BIND
	need      uint64 // size at which the device is in step: first, or acknowledged later
	announced uint64 // size that the secondary spoke of last
	left      uint64 // bytes still to come
	parts     wire.Assembler

	sent     uint64 // highest own sequence number sent in this session
	frames   int    // UPLOAD frames not answered
	drained  bool   // nothing is left to build
	refusals int    // refusals that led to building anew
	wanting  int    // what is in missing, as far as known
	fetching map[uint32]fetchRequest
	request  uint32
	uploaded map[commitlog.Hash]bool // objects that the secondary has
	object   *objectUpload           // under way

	report Report
}

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
	Missing    int    // changes whose content has not come, in all
	Commits    uint64 // size of the verified log
	BytesIn    int64  // frames received
	BytesOut   int64  // frames sent
}

const (
	uploadFrames  = 4       // UPLOAD frames under way
	uploadBytes   = 1 << 20 // bytes that fill a frame
	objectWindow  = 4       // OBJECT messages under way
	fetchWindow   = 16      // FETCH requests under way
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
	b := &wire.Bind{Flags: wire.BindLive | wire.BindStubs}
	if e.owner != nil || e.full {
		b.Flags = wire.BindLive
	}
	err = e.v.view(func(s *state) (err error) {
		b.Size = s.log.Size()
		e.size = b.Size
		if !s.missing.Empty() {
			e.wanting = 1
		}
		b.Root, err = s.log.RootAt(b.Size)
		return err
	})
	if err == nil && e.owner == nil && e.mode != PullOnly {
		err = e.v.retryAside()
	}
	return []wire.Message{b}, err
}

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
	switch m := m.(type) {
	case *wire.Bound:
		return e.onBound(m)
	case *wire.Download:
		return e.onDownload(m)
	case *wire.Uploaded:
		return e.onUploaded(m)
	case *wire.Have:
		return e.onHave(m)
	case *wire.Blobs:
		return e.onBlobs(m)
	case *wire.Error:
		return m
	}
	return fmt.Errorf("%w: unexpected %v", wire.ErrProtocol, m.Type())
}

func (e *engine) onBound(b *wire.Bound) error {
	if e.bound {
		return fmt.Errorf("%w: BOUND twice", wire.ErrProtocol)
	}
	e.bound = true
	e.first, e.need, e.announced = b.Size, b.Size, b.Size
	return e.v.view(func(s *state) error {
		ours := s.log.Size()
		root, err := s.log.RootAt(min(ours, b.Size))
		if err != nil {
			return err
		}
		if root != b.Root {
			return &commitlog.CommitError{ID: commitlog.CommitID(min(ours, b.Size)), Err: commitlog.ErrFork, Reason: "the secondary holds another history"}
		}
		if b.Size < ours {
			return &commitlog.CommitError{ID: commitlog.CommitID(b.Size), Err: commitlog.ErrRollback, Reason: fmt.Sprintf("the secondary has %d commits, this device has verified %d", b.Size, ours)}
		}
		if e.owner == nil && len(b.Last) > 0 {
			return s.checkLast(b.Last)
		}
		return nil
	})
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
	if !e.bound {
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
			if e.owner != nil || e.full {
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
	var wanting int
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
			if err := s.apply(x, &done); err != nil {
				return err
			}
		}
		size = s.log.Size()
		wanting = 0
		if !s.missing.Empty() {
			wanting = 1
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.size, e.wanting = size, wanting
	e.report.Pulled += done.changes
	e.report.Pushed += done.own
	e.report.Conflicts += done.conflicts
	e.drained = false
	return nil
}

// pump returns what is to be sent now. It is called after every event, until it
// returns nothing.
func (e *engine) pump() (out []wire.Message, err error) {
	if !e.bound || e.size < e.first || e.parts.Partial() {
		return nil, nil
	}
	if e.wanting > 0 {
		if out, err = e.fetch(); err != nil || len(out) > 0 || e.wanting > 0 {
			return out, err
		}
	}
	if e.owner != nil {
		return e.owner.pump(e)
	}
	if e.mode == PullOnly {
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

// inStep reports whether everything that the session is for is done: the log is
// here as far as the secondary named it, nothing is wanting, and, unless only
// pulling was asked for, every local change that could go up has come back.
func (e *engine) inStep() (bool, error) {
	if !e.bound || e.size < e.need || e.wanting > 0 || e.frames > 0 || e.object != nil {
		return false, nil
	}
	var done bool
	err := e.v.view(func(s *state) error {
		if e.owner != nil {
			ok, err := s.enrolled()
			done = ok
			return err
		}
		done = e.mode == PullOnly || s.unsent.Empty() && s.sent.Empty()
		return nil
	})
	return done, err
}

// finish completes the report.
func (e *engine) finish() (*Report, error) {
	r := e.report
	count := func(n *int) func(k, v []byte) (bool, error) {
		return func(_, _ []byte) (bool, error) { *n++; return true, nil }
	}
	err := e.v.view(func(s *state) error {
		r.Commits = s.log.Size()
		return errors.Join(
			s.outbox.Scan(nil, count(&r.Pending)),
			s.aside.Scan(nil, count(&r.Aside)),
			s.quarantine.Scan(nil, count(&r.Quarantine)),
			s.missing.Scan(nil, count(&r.Missing)),
		)
	})
	return &r, err
}
