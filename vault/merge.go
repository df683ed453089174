package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// A Merged says what [Vault.Merge] did.
type Merged struct {
	Kept   uint64 // commits that both histories have
	Lost   uint64 // commits of this device's history after that: written anew, as far as they count
	Theirs uint64 // commits of the secondary's history after that, before any of this device came
	Report *Report
}

// Merge brings this device's history and the secondary's together, where each has
// commits that the other has not: as the vault's owner. The secondary's log goes on.
// What this device's log says and the other does not is written there anew, and then
// the owner's word ends this device's history; devices that have it change over by
// themselves when they sync next. Nothing of either is lost: where both have changed
// a record it has several versions.
//
// This device must have everything that is live ([ErrNotAll]), and the headers of its
// log down to where the two part. Where they do not part, it is [ErrNoMerge], and
// nothing is changed. Merge may be called again after it was cut at any point. An
// alarm is taken back when all is done.
func (v *Vault) Merge(ctx context.Context, a keys.Authority, o SyncOptions) (m *Merged, err error) {
	if a.Public().VaultID() != v.ID() {
		return nil, commitlog.ErrVaultIDMismatch
	}
	at, err := v.follow()
	if err != nil {
		return nil, err
	}
	if err := v.completeLive(); err != nil {
		return nil, err
	}
	release, err := v.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	r := &runner{o: &o, tell: notify(o.Progress)}
	defer func() { r.tell.end(err) }()
	for range maxCarries {
		if err := v.dropBeside(); err != nil { // of an earlier time
			return nil, err
		}
		if r.v, err = v.beside(); err != nil {
			return nil, err
		}
		if m, err = v.merge(ctx, r, a, at); !errors.Is(err, errOvertaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	m.Report, err = v.summary(r.total, nil)
	return m, err
}

// merge is Merge into the log beside this vault's, which is r's and empty yet.
func (v *Vault) merge(ctx context.Context, r *runner, a keys.Authority, at keyfile.Server) (m *Merged, err error) {
	side := r.v
	mode := &mergeMode{own: v}
	owner := func(sign bool) error {
		mode.sign, mode.done = sign, false
		e := &engine{v: side, at: at, owner: &ownerMode{authority: a, now: v.conf.Now(), whole: true, merge: mode}}
		return r.once(ctx, e, side.connectAs(client.Owner(a)))
	}
	if err := owner(false); err != nil {
		return nil, err
	}
	m = &Merged{Kept: mode.kept, Theirs: mode.theirs}
	for tries := 1; ; tries++ {
		more := false
		err = v.both(side, func(own, other *state) error {
			if err := mode.brought(own, other); err != nil {
				return err
			}
			c := &carrying{own: own, other: other, kept: mode.kept, cut: mode.cut}
			m.Lost = own.log.Size() - mode.kept
			if err := c.log(); err != nil {
				return err
			}
			if c.left > 0 {
				return fmt.Errorf("%w: %d values cannot be read here", ErrNotAll, c.left)
			}
			more, mode.carried = !other.unsent.Empty(), other.log.Size()
			last := localKey(max(own.sequence(), other.sequence()))
			return other.meta.Put(metaSequence, last)
		})
		if err != nil {
			return nil, err
		}
		if mode.last = tries >= maxCarries; more {
			if err := r.once(ctx, &engine{v: side, at: at, errand: true, own: true}, side.connect); err != nil {
				return nil, err
			}
			if !mode.last {
				continue
			}
		}
		if err := owner(true); err != nil {
			return nil, err
		}
		if mode.at != 0 {
			break
		}
	}
	return m, v.change(ctx, side, &otherHistory{id: mode.at, leaf: mode.leaf})
}

// maxCarries is how often what others write meanwhile is looked at. Another device may
// be at the same, and write anew what this one knows to have ended; but who writes without
// end must not keep the histories apart.
const maxCarries = 4

// ErrNoMerge: this device's history and the secondary's do not part.
var ErrNoMerge = errors.New("the secondary has the beginning of this device's history, or the other way round")

// errOvertaken: another device has brought histories together since the other log was
// looked at. What it has ended is not to be written anew.
var errOvertaken = errors.New("another device has reset the vault's history meanwhile")

// overtaken returns errOvertaken where that is so of the log beside this vault's.
func (s *state) overtaken() error {
	if s.v.main == nil {
		return nil
	}
	there, err := s.resets()
	if err == nil && len(there) != s.v.resets {
		err = errOvertaken
	}
	return err
}

// mergeMode is a session of the vault's owner that brings two histories together.
type mergeMode struct {
	own  *Vault
	sign bool // the reset is to be signed; else what has to be there before

	found        bool
	kept, theirs uint64
	cut          uint64             // up to there other devices have brought this history in already; kept: none has
	ended        bool               // … and all of it
	carried      uint64             // size of the other log when it was looked at for what to carry over
	last         bool               // the reset is signed even if that has grown since
	at           commitlog.CommitID // of the commit with the reset; 0: it is not in the log yet
	leaf         commitlog.Hash
	done         bool
}

// pump returns the control commit that is wanting, once for each size of the log.
func (m *mergeMode) pump(e *engine, o *ownerMode) (out []wire.Message, err error) {
	err = m.own.both(e.v, func(own, other *state) error {
		out = nil
		if !m.found {
			if err := m.look(own, other); err != nil {
				return err
			}
		}
		statements, devices, err := m.wanting(own, other)
		if err != nil {
			return err
		}
		here, err := m.stays(own, other, e.at)
		if err != nil || here == nil && m.done {
			return err
		}
		moved := wire.MovedNot
		if here != nil {
			statements, moved, m.done = append(statements, here), wire.MovedHere, false
		}
		b, err := other.controlCommit(o.authority, o.now, statements)
		if err != nil {
			return err
		}
		epoch, err := other.epoch()
		if err != nil {
			return err
		}
		control := &wire.Control{Epoch: epoch, Devices: devices, Moved: moved}
		lost, err := lostBy(statements)
		if err != nil {
			return err
		}
		control.Resets = uint16(len(lost))
		data, _ := b.AppendBinary(nil)
		size := b.Commit.Header.SeenSize
		items := wire.Cut(data)
		for i, item := range items {
			u := &wire.Upload{Items: []wire.Item{item}}
			if i == len(items)-1 {
				u.Condition, u.Control = &size, control
			}
			out = append(out, u)
		}
		return nil
	})
	if err == nil && len(out) > 0 {
		o.tried, o.at = true, e.size
		e.frames++
	}
	return out, err
}

// look sees where the logs part.
func (m *mergeMode) look(own, other *state) (err error) {
	if m.kept, err = fork(own, other); err != nil {
		return err
	}
	m.found, m.theirs = true, other.log.Size()-m.kept
	return nil
}

// brought sees what of the own log is in the other one already.
func (m *mergeMode) brought(own, other *state) error {
	there, err := other.resets()
	if err != nil {
		return err
	}
	other.v.resets = len(there)
	news, _, err := own.news(other)
	if err != nil {
		return err
	}
	m.cut = m.kept
	for i := range news {
		in, err := own.beginsLike(&news[i].lost)
		if err != nil {
			return err
		}
		m.cut = max(m.cut, in)
	}
	ended, err := own.endedBy(other, news)
	if err != nil || ended == nil {
		return err
	}
	if m.ended = own.log.Size() <= ended.lost.Size(); m.ended {
		return m.is(other, ended)
	}
	return nil
}

// beginsLike returns up to which size this log is the beginning of a lost one, as far as
// its headers tell.
func (s *state) beginsLike(lost *commitlog.LostLog) (size uint64, err error) {
	for i, leaf := range lost.Leaves {
		header, err := s.log.Header(commitlog.CommitID(lost.Kept) + commitlog.CommitID(i) + 1)
		if errors.Is(err, store.ErrNotFound) || err == nil && commitlog.LeafHash(header) != leaf {
			break // another, or behind its end
		}
		if err != nil {
			return 0, err
		}
		size = lost.Kept + uint64(i) + 1
	}
	return size, nil
}

// is takes a reset in the other log for that of this one.
func (m *mergeMode) is(other *state, r *reset) error {
	header, err := other.log.Header(r.at)
	m.at, m.leaf = r.at, commitlog.LeafHash(header)
	return err
}

// wanting returns the statements that the other log wants, none if it is done.
func (m *mergeMode) wanting(own, other *state) (out []*commitlog.Statement, devices []wire.Registration, err error) {
	if m.sign {
		out, err = m.ending(own, other)
		return out, nil, err
	}
	out, devices, err = m.repeated(own, other)
	m.done = err == nil && len(out) == 0
	return out, devices, err
}

// ending returns the reset that ends the own log, none if it is there.
func (m *mergeMode) ending(own, other *state) ([]*commitlog.Statement, error) {
	if m.ended {
		m.done = true
		return nil, nil
	}
	lost := commitlog.LostLog{Kept: m.kept}
	for id := commitlog.CommitID(m.kept + 1); uint64(id) <= own.log.Size(); id++ {
		header, err := own.log.Header(id)
		if err != nil {
			return nil, err
		}
		lost.Leaves = append(lost.Leaves, commitlog.LeafHash(header))
	}
	there, err := other.resets()
	if err != nil {
		return nil, err
	}
	if i := indexOf(there, reset{lost: lost}); i >= 0 {
		m.done = true
		return nil, m.is(other, &there[i])
	}
	if other.log.Size() != m.carried && !m.last {
		m.done = true // for this time: what has come is looked at first
		return nil, nil
	}
	return statementsOf(&lost), nil
}

func statementsOf(l *commitlog.LostLog) (out []*commitlog.Statement) {
	for _, r := range l.Statements() {
		out = append(out, &commitlog.Statement{Reset: r})
	}
	return out
}

// repeated returns the statements of the own log after the fork that the other one
// wants, and what the secondary is told with them.
func (m *mergeMode) repeated(own, other *state) (out []*commitlog.Statement, devices []wire.Registration, err error) {
	there, err := other.resets()
	if err != nil {
		return nil, nil, err
	}
	policy := false
	err = other.statements(commitlog.CommitID(m.kept), func(_ commitlog.ChangeID, st *commitlog.Statement) error {
		policy = policy || st.Policy != nil
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	known := make(map[keys.DeviceID]wire.Registration) // those that come now
	err = own.statements(commitlog.CommitID(m.kept), func(_ commitlog.ChangeID, st *commitlog.Statement) error {
		again := &commitlog.Statement{AddDevice: st.AddDevice, Revoke: st.Revoke, Policy: st.Policy}
		switch {
		case st.AddDevice != nil:
			id := st.AddDevice.Certificate.Device
			if a, err := other.log.Author(id); err != nil || a != nil {
				return err
			}
			known[id] = registration(st.AddDevice.Certificate)
			devices = append(devices, known[id])
		case st.Revoke != nil:
			a, err := other.log.Author(st.Revoke.Device)
			if err != nil || a != nil && a.Revoked != 0 {
				return err
			}
			r, ok := known[st.Revoke.Device]
			if !ok {
				if r, err = other.registered(st.Revoke.Device); err != nil {
					return err
				}
			}
			r.Revoked = true
			devices = append(devices, r)
		case st.Policy != nil:
			if policy {
				return nil
			}
		case st.Reset != nil, st.Move != nil:
			return nil // below, whole; by another one, see stays
		default:
			return fmt.Errorf("%w: a control statement of kind %d cannot be repeated", commitlog.ErrVersion, st.Kind())
		}
		out = append(out, again)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	all, err := own.resets()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		if uint64(r.at) <= m.kept || indexOf(there, r) >= 0 {
			continue
		}
		lost := r.lost
		if lost.Kept > m.kept { // in the other log it parts earlier
			var between []commitlog.Hash
			for id := commitlog.CommitID(m.kept + 1); uint64(id) <= lost.Kept; id++ {
				header, err := own.log.Header(id)
				if err != nil {
					return nil, nil, err
				}
				between = append(between, commitlog.LeafHash(header))
			}
			lost = commitlog.LostLog{Kept: m.kept, Leaves: append(between, lost.Leaves...)}
		}
		out = append(out, statementsOf(&lost)...)
	}
	return out, devices, nil
}

// registered returns what the secondary was told of a device that the log admits.
func (s *state) registered(id keys.DeviceID) (r wire.Registration, err error) {
	err = s.statements(0, func(_ commitlog.ChangeID, st *commitlog.Statement) error {
		if st.AddDevice != nil && st.AddDevice.Certificate.Device == id {
			r = registration(st.AddDevice.Certificate)
		}
		return nil
	})
	return r, err
}
