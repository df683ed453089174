package vault

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// An incoming commit is one that the secondary served, with what its blobs say,
// opened before the transaction that applies it.
type incoming struct {
	bundle *commitlog.Bundle
	opened []opened // one a change; empty for control commits
	locals []uint64 // for own commits: the outbox entries of the changes
	own    bool     // an own commit of which the outbox has nothing: an attempt
}

// opened is what is indexed of a change.
type opened struct {
	known              bool // the blob is here and opened: key and name are set
	understood         bool
	key                recordKey
	name               string
	clock              clock
	expires, available uint64
	about              []byte // value of a namespace's own record
	reason             string // why the change goes into quarantine
}

// openAll opens the blobs of commits. Most of a restore's time is spent here, so
// it uses all cores.
func (v *Vault) openAll(in []*incoming) {
	type job struct {
		in *incoming
		i  int
	}
	const chunk = 128
	var jobs []job
	for _, x := range in {
		if x.bundle.Commit.Header.Kind == commitlog.KindControl || x.opened != nil {
			continue
		}
		x.opened = make([]opened, len(x.bundle.Blobs))
		for i := 0; i < len(x.bundle.Blobs); i += chunk {
			jobs = append(jobs, job{x, i})
		}
	}
	run := func(j job) {
		var p seal.Payload
		var buf []byte
		h := &j.in.bundle.Commit.Header
		sealer, err := v.keys.sealer(h.Tag, h.Epoch)
		for i := j.i; i < min(j.i+chunk, len(j.in.opened)); i++ {
			if blob := j.in.bundle.Blobs[i]; blob != nil {
				if err != nil {
					j.in.opened[i].reason = err.Error()
					continue
				}
				buf = v.openOne(&j.in.opened[i], sealer, h.Tag, &j.in.bundle.Commit.Changes[i], blob, &p, buf)
			}
		}
	}
	if len(jobs) == 1 {
		run(jobs[0])
		return
	}
	var wg sync.WaitGroup
	queue := make(chan job)
	for range min(runtime.GOMAXPROCS(0), len(jobs)) {
		wg.Go(func() {
			for j := range queue {
				run(j)
			}
		})
	}
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	wg.Wait()
}

// openOne opens one blob into o. p and buf are scratch.
func (v *Vault) openOne(o *opened, sealer *seal.Key, tag keys.Tag, ch *commitlog.Change, blob []byte, p *seal.Payload, buf []byte) []byte {
	buf, err := sealer.OpenInto(p, buf, blob)
	if err != nil {
		o.reason = err.Error()
		return buf
	}
	o.known = true
	o.understood = p.Understood()
	o.name = p.Name
	o.key = v.keys.recordKey(tag, p.Name)
	o.expires, o.available = p.Expires, p.Available
	if p.HLC <= maxClock {
		o.clock = p.HLC
	}
	if !o.understood {
		o.reason = "written by a newer version"
	}
	switch {
	case (ch.Op == commitlog.OpDelete) != (p.Form == seal.FormDelete):
		o.known, o.reason = false, "content and change do not agree"
	case (p.Object != nil) != ch.HasObject(), p.Object != nil && commitlog.Hash(p.Object.Hash) != ch.ObjectHash:
		o.known, o.reason = false, "content and object do not agree"
	}
	if p.Name == aboutName {
		o.about = bytes.Clone(p.Value)
	}
	return buf
}

// applied counts what a transaction took in.
type applied struct {
	changes   int // changes by others
	own       int // own changes, verified in the log
	conflicts int // records that came to have several versions, or an edit beside a removal

	bytes, ownBytes uint64 // of these
}

// apply checks a commit against the log and, if it holds, appends it and brings
// the indexes up to it. A refusal is an error of package commitlog, and then
// nothing of the transaction may be kept.
func (s *state) apply(in *incoming, done *applied) error {
	c := in.bundle.Commit
	if at := commitlog.CommitID(s.log.Size() + 1); in.bundle.ID != at {
		return &commitlog.CommitError{ID: at, Err: commitlog.ErrOmission, Reason: fmt.Sprintf("commit %d came instead", in.bundle.ID)}
	}
	eff, err := commitlog.Check(s.log, c)
	if err != nil {
		return err
	}
	if c.Header.Device == s.v.keys.device {
		if in, err = s.confirm(in, eff); err != nil {
			return err
		}
	} else if s.acked.Get(localKey(uint64(eff.ID))) != nil {
		return &commitlog.CommitError{ID: eff.ID, Err: commitlog.ErrOwnCommitMissing, Reason: "a commit of this device was acknowledged at this place"}
	}
	keeping, err := s.keeping()
	if err != nil {
		return err
	}
	left := c.Header.Kind != commitlog.KindControl && !keeping.has(c.Header.Tag)
	if left {
		in.leaveOut()
	}
	if err := s.log.Append(c, in.bundle.Blobs, eff, millis(s.v.conf.Now())); err != nil {
		return err
	}
	if err := s.decide(); err != nil {
		return err
	}
	switch size := uint64(in.bundle.EncodedSize()); {
	case in.own:
		done.ownBytes += size
	case in.locals == nil:
		done.bytes += size
	}
	if c.Header.Kind == commitlog.KindControl {
		return s.control(in.bundle)
	}
	superseded := make(map[commitlog.ChangeID]bool, len(eff.Superseded))
	for _, id := range eff.Superseded {
		superseded[id] = true
		if err := s.settle(id); err != nil {
			return err
		}
	}
	ended := maps.Clone(superseded)
	ix := &indexer{s: s, superseded: superseded, done: done, own: in.own}
	for i := range c.Changes {
		id := commitlog.ChangeID{Commit: eff.ID, Index: uint16(i)}
		var local uint64
		if in.locals != nil {
			local = in.locals[i]
		}
		if err := ix.add(id, &c.Changes[i], &in.opened[i], in.bundle.Blobs[i] != nil, local, eff.IsVoid(i)); err != nil {
			return err
		}
		if local == 0 {
			ix.meet(&in.opened[i], &c.Changes[i], eff.Named[i], ended)
		}
	}
	if err := ix.unlist(); err != nil {
		return err
	}
	if err := ix.flush(); err != nil || !left {
		return err
	}
	return s.forgetDead(in, eff)
}

// confirm matches a commit of this device in the log with the one it signed, and
// returns it as the device kept it: with its own blobs, whatever came along.
func (s *state) confirm(in *incoming, eff *commitlog.Effects) (*incoming, error) {
	seq := in.bundle.Commit.Header.Seq
	refuse := func(err error, reason string) (*incoming, error) {
		return nil, &commitlog.CommitError{ID: eff.ID, Err: err, Reason: reason}
	}
	own, sc, err := s.own(eff.ID, seq)
	if err != nil {
		return nil, err
	}
	if sc.commit.Leaf() != eff.Leaf {
		return refuse(commitlog.ErrEquivocation, "this device signed another commit with the same sequence number")
	}
	if sc.acked != 0 && sc.acked != eff.ID {
		return refuse(commitlog.ErrOwnCommitMissing, fmt.Sprintf("it was acknowledged as commit %d", sc.acked))
	}
	if err := s.acked.Delete(localKey(uint64(sc.acked))); err != nil {
		return nil, err
	}
	if s.sent.Get(localKey(seq)) != nil {
		if err := s.sent.Delete(localKey(seq)); err != nil {
			return nil, err
		}
	} else if _, err := s.giveUp(0); err != nil {
		// It was refused, and is there all the same: what was signed instead of
		// it does not follow on from it and is built anew.
		return nil, err
	}
	// Sequence numbers rise in the log: what was refused before this cannot
	// turn up any more.
	var old [][]byte
	err = s.refused.Scan(nil, func(k, _ []byte) (bool, error) {
		if be.Uint64(k) > seq {
			return false, nil
		}
		old = append(old, slices.Clone(k))
		return true, nil
	})
	for _, k := range old {
		if err := s.refused.Delete(k); err != nil {
			return nil, err
		}
	}
	return own, err
}

// settle takes a superseded change off the lists of what is wanting.
func (s *state) settle(id commitlog.ChangeID) error {
	k := changeKey(id)
	if s.missing.Get(k) != nil {
		if err := s.missing.Delete(k); err != nil {
			return err
		}
	}
	if s.quarantine.Get(k) != nil {
		return s.quarantine.Delete(k)
	}
	return nil
}

// An indexer brings the records of one commit's changes up to date. It keeps the
// entries that it changes until all changes are in, so that a record that many
// of them are about is joined and stored once.
type indexer struct {
	s          *state
	superseded map[commitlog.ChangeID]bool // not found in their record yet
	done       *applied
	own        bool // the commit is this device's, whatever the outbox has of it
	entries    map[recordKey]*indexed
	order      []recordKey // of entries
}

// indexed is an entry that is being changed.
type indexed struct {
	*entry
	join    bool // what it shows has to be worked out
	foreign bool // others have changed it
	added   bool // … by a version that is live
	met     bool // … perhaps not knowing of what is here; see meet
}

func (ix *indexer) entry(key recordKey, name string) (*indexed, error) {
	if e := ix.entries[key]; e != nil {
		return e, nil
	}
	e, err := ix.s.record(key)
	if err != nil {
		return nil, err
	}
	if e == nil {
		e = &entry{key: key, name: name}
	}
	if ix.entries == nil {
		ix.entries = make(map[recordKey]*indexed)
	}
	x := &indexed{entry: e}
	ix.entries[key] = x
	ix.order = append(ix.order, key)
	return x, nil
}

// add takes one change. here says that its blob is stored; local is its id in
// the outbox, 0 for another device's.
func (ix *indexer) add(id commitlog.ChangeID, ch *commitlog.Change, o *opened, here bool, local uint64, void bool) error {
	s := ix.s
	gone := ch.Op == commitlog.OpDelete || void
	if !gone {
		if err := s.want(id, ch, here, 0); err != nil {
			return err
		}
		if o.reason != "" {
			if err := s.quarantine.Put(changeKey(id), []byte(o.reason)); err != nil {
				return err
			}
		}
	}
	if !o.known {
		return nil
	}
	e, err := ix.entry(o.key, o.name)
	if err != nil {
		return err
	}
	if local != 0 {
		// It may end what it does not name: an answer to what it names.
		more, err := ix.endsMore(local, e.live)
		if err != nil {
			return err
		}
		e.join, e.foreign = e.join || more, e.foreign || more
	}
	if err := s.supersededIn(o.key, e.entry, ix.superseded); err != nil {
		return err
	}
	if gone {
		err = s.version(o.key, id)
	} else if !slices.Contains(e.live, id) {
		e.live = append(e.live, id)
	}
	if err != nil {
		return err
	}
	if local != 0 {
		weight, err := s.sentOff(e.entry, local, id)
		if err != nil {
			return err
		}
		ix.done.own++
		ix.done.ownBytes += weight
	} else {
		e.foreign = true
		e.added = e.added || !gone
		if ix.own {
			ix.done.own++
		} else {
			ix.done.changes++
		}
	}
	e.clock = max(e.clock, o.clock)
	switch {
	case len(e.live) == 1 && len(e.pending) == 0 && !gone && o.understood && !e.join:
		if local == 0 {
			e.expires, e.available = o.expires, o.available
		}
	default:
		e.join = true
	}
	if o.about != nil {
		return s.learnNamespace(o.key.tag(), o.about)
	}
	return nil
}

// flush stores the entries.
func (ix *indexer) flush() error {
	for _, key := range ix.order {
		e := ix.entries[key]
		if e.join || len(e.live) > 1 {
			if err := ix.s.join(e.entry); err != nil {
				return err
			}
		}
		if e.foreign {
			if err := ix.s.touch(key, e.entry); err != nil {
				return err
			}
			ix.s.fed = true
		}
		if err := ix.s.setRecord(key, e.entry); err != nil {
			return err
		}
		disputed, err := ix.s.dispute(key, e)
		if err != nil {
			return err
		}
		if disputed {
			ix.done.conflicts++
		}
	}
	return nil
}

// unlist deals with superseded changes whose record is not that of the change
// that superseded them, or where that is not known: refs are by place, and
// liveness does not ask for names.
func (ix *indexer) unlist() error {
	s := ix.s
	for id := range ix.superseded {
		h, err := s.openChange(id)
		if err != nil {
			return err
		}
		if h == nil {
			continue // it never came or never opened, and is in no record
		}
		header, err := s.log.Header(id.Commit)
		if err != nil {
			return err
		}
		key := s.v.keys.recordKey(keys.Tag(header[6:22]), h.payload.Name)
		e, err := ix.entry(key, h.payload.Name)
		if err != nil {
			return err
		}
		if err := s.supersededIn(key, e.entry, map[commitlog.ChangeID]bool{id: true}); err != nil {
			return err
		}
		e.join, e.foreign = true, true
	}
	return nil
}

// supersededIn moves those of a record's live changes that were superseded into
// its history.
func (s *state) supersededIn(key recordKey, e *entry, superseded map[commitlog.ChangeID]bool) error {
	if len(superseded) == 0 {
		return nil
	}
	for i := 0; i < len(e.live); {
		if !superseded[e.live[i]] {
			i++
			continue
		}
		delete(superseded, e.live[i])
		if err := s.version(key, e.live[i]); err != nil {
			return err
		}
		e.live = slices.Delete(e.live, i, i+1)
	}
	return nil
}

// endsMore reports whether this commit ends a live change of a record that a pending
// change, which is in it, does not name.
func (ix *indexer) endsMore(local uint64, live []commitlog.ChangeID) (bool, error) {
	ended := slices.DeleteFunc(slices.Clone(live), func(id commitlog.ChangeID) bool { return !ix.superseded[id] })
	if len(ended) == 0 {
		return false, nil
	}
	p, err := ix.s.pendingChange(local)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(ended, func(id commitlog.ChangeID) bool {
		return !slices.Contains(p.refs, pendingRef{id: id})
	}), nil
}

// sentOff takes an own change that is in the log now out of the outbox, and
// returns its bytes.
func (s *state) sentOff(e *entry, local uint64, id commitlog.ChangeID) (uint64, error) {
	e.pending = slices.DeleteFunc(e.pending, func(l uint64) bool { return l == local })
	for _, l := range e.pending {
		if err := s.follow(l, local, id); err != nil {
			return 0, err
		}
	}
	p, err := s.pendingChange(local)
	if err != nil {
		return 0, err
	}
	weight := p.weight()
	return weight, s.dropPending(p)
}

// control opens and applies the statements of a control commit. None is applied
// that is not whole, understood and in its chain, and nothing after it is.
func (s *state) control(b *commitlog.Bundle) error {
	c := b.Commit
	refuse := func(err error) error {
		return &commitlog.CommitError{ID: b.ID, Err: err}
	}
	if c.Header.Tag != s.v.keys.control {
		return refuse(commitlog.ErrControlFork)
	}
	sealer, err := s.v.keys.sealer(c.Header.Tag, c.Header.Epoch)
	if err != nil {
		return refuse(fmt.Errorf("%w: %v", commitlog.ErrVersion, err))
	}
	head := s.controlHead()
	for i, blob := range b.Blobs {
		if blob == nil {
			return refuse(fmt.Errorf("%w: content of a control statement", commitlog.ErrOmission))
		}
		p, err := sealer.Open(blob)
		if err != nil {
			return refuse(fmt.Errorf("%w: statement %d does not open", commitlog.ErrControlFork, i))
		}
		if p.Form != seal.FormInline || p.Name != "" || p.ContentType != "" {
			return refuse(fmt.Errorf("%w: statement of form %d, or with a name", commitlog.ErrVersion, p.Form))
		}
		st, err := commitlog.ParseStatement(p.Value)
		if err != nil {
			return refuse(err)
		}
		epoch, err := s.epoch()
		if err != nil {
			return err
		}
		active, err := s.activeDevices()
		if err != nil {
			return err
		}
		if err := head.Follow(st, s.v.keys.vault, s.log.Authority(), epoch, active, s.log.Author); err != nil {
			return refuse(err)
		}
		if err := s.applyStatement(b.ID, st); err != nil {
			return err
		}
		head = head.Next(p.Value)
	}
	return s.meta.Put(metaControl, append(be.AppendUint64(nil, head.Number), head.Hash[:]...))
}

// activeDevices counts the devices that are admitted and not revoked.
func (s *state) activeDevices() (n int, err error) {
	err = s.log.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if !id.IsZero() && a.Revoked == 0 {
			n++
		}
		return nil
	})
	return n, err
}

func (s *state) applyStatement(id commitlog.CommitID, st *commitlog.Statement) error {
	switch st.Kind() {
	case commitlog.StatementAddDevice:
		cert := st.AddDevice.Certificate
		if err := s.log.SetAuthor(cert.Device, &commitlog.Author{Sign: cert.Sign, Auth: cert.Auth, Scope: cert.Scope}); err != nil {
			return err
		}
		return s.devices.Put(slices.Clone(cert.Device[:]), s.v.keys.local.Seal(nil, []byte(cert.Name), cert.Device[:]))
	case commitlog.StatementRevoke:
		a, err := s.log.Author(st.Revoke.Device)
		if err != nil {
			return err
		}
		revoked := *a
		revoked.Revoked = id
		return s.log.SetAuthor(st.Revoke.Device, &revoked)
	}
	return nil
}

// own returns a commit of this device, as the log says it stands at id, from
// what the device kept when it signed it.
func (s *state) own(id commitlog.CommitID, seq uint64) (*incoming, *sentCommit, error) {
	b := s.sent.Get(localKey(seq))
	if b == nil {
		b = s.refused.Get(localKey(seq))
	}
	if b == nil {
		return nil, nil, &commitlog.CommitError{ID: id, Err: commitlog.ErrDeviceStateRollback, Reason: fmt.Sprintf("this device does not know its own commit with sequence number %d", seq)}
	}
	sc, err := parseSent(slices.Clone(b))
	if err != nil {
		return nil, nil, err
	}
	if in := s.ownAttempt(id, sc); in != nil {
		return in, sc, nil
	}
	in := &incoming{
		bundle: &commitlog.Bundle{ID: id, Commit: sc.commit, Blobs: make([][]byte, len(sc.locals))},
		opened: make([]opened, len(sc.locals)), locals: make([]uint64, len(sc.locals)),
	}
	for i, local := range sc.locals {
		if s.outbox.Get(localKey(local)) == nil {
			continue // it was replaced, or is in the log by another commit: the blob is fetched like any other
		}
		p, err := s.pendingChange(local)
		if err != nil {
			return nil, nil, err
		}
		e, err := s.record(p.key)
		if err != nil {
			return nil, nil, err
		}
		if e == nil {
			return nil, nil, fmt.Errorf("%w: pending change without its record", ErrDamaged)
		}
		in.locals[i] = local
		in.opened[i] = opened{known: true, understood: true, key: p.key, name: e.name, clock: p.clock}
		if commitlog.CheckBlob(&sc.commit.Changes[i], p.blob) == nil { // it may have been sealed anew
			in.bundle.Blobs[i] = p.blob
		}
	}
	return in, sc, nil
}
