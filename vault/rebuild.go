package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys/keyfile"
)

// A SavedChange is a change that was not in the log yet and could be read.
type SavedChange struct {
	Record  string // namespace/name; "/name" where the namespace's name is lost
	Deleted bool
	Time    time.Time
	Bytes   uint64
}

// A Damage says how a vault's directory is damaged, and what can be saved.
type Damage struct {
	Faults []error       // what is damaged in the store, the first of it; none: its pages are in order
	Saved  []SavedChange // unsent changes that can be read, in the order of writing
	Lost   int           // unsent changes that are seen to be there, and cannot be read
	Kept   string        // after Rebuild: where the damaged store is now
}

// Examine looks at a vault that nobody has open, and that [Open] may refuse: it
// changes nothing. It returns an error where nothing can be done without the key
// file: the device file is damaged or gone ([ErrDamaged]), or there is no vault.
func Examine(dir string) (*Damage, error) {
	_, _, s, err := examine(dir)
	if err != nil {
		return nil, err
	}
	return s.damage(), nil
}

func examine(dir string) (*keyfile.Device, *keyring, *salvage, error) {
	d, err := keyfile.ReadDevice(filepath.Join(dir, deviceFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := os.Stat(filepath.Join(dir, storeFile)); serr == nil {
			return nil, nil, nil, fmt.Errorf("%w: its %s is gone", ErrDamaged, deviceFile)
		}
		return nil, nil, nil, fmt.Errorf("%w: %s", ErrNoVault, dir)
	}
	if errors.Is(err, keyfile.ErrDamaged) {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	ring, err := newKeyring(d)
	if err != nil {
		return nil, nil, nil, err
	}
	objects, err := store.OpenObjects(filepath.Join(dir, objectsDir))
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := salvageStore(dir, ring, objects)
	if errors.Is(err, store.ErrInUse) {
		err = fmt.Errorf("%w: %s", ErrInUse, dir)
	}
	return d, ring, s, err
}

func (s *salvage) damage() *Damage {
	d := &Damage{Faults: s.faults, Lost: s.lost}
	for _, local := range s.locals() {
		p := s.pending[local]
		if p.payload.Name == aboutName {
			continue
		}
		c := SavedChange{Deleted: p.op == commitlog.OpDelete, Time: clockTime(p.payload.HLC), Bytes: p.weight()}
		if sealed, ok := s.namespaces[p.key.tag()]; ok {
			tag := p.key.tag()
			if name, err := s.keys.local.Open(nil, sealed, tag[:]); err == nil {
				c.Record = string(name)
			}
		}
		c.Record += "/" + p.payload.Name
		d.Saved = append(d.Saved, c)
	}
	return d
}

// Rebuild makes a new store in the place of one that is damaged or gone, for the
// device that the device file says. It holds the unsent changes that could be
// read, and nothing of the log: the next [Vault.Sync] gets that from the
// secondary, without the key file, and until it has come to its end reads say
// [ErrIncomplete] of what is not here. The old store is kept beside it, under the
// name in Damage.Kept. All of it is durable when Rebuild returns; one that was
// interrupted may be run again.
//
// Nobody may have the vault open. Without a secondary there is nothing to get the
// rest from: then it is [ErrNoSecondary], and nothing changes.
func Rebuild(ctx context.Context, dir string, conf Config) (*Damage, error) {
	d, ring, s, err := examine(dir)
	if err != nil {
		return nil, err
	}
	if len(d.Servers) == 0 {
		return nil, ErrNoSecondary
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v := newVault(dir, conf, d, ring)
	v.objects = s.objects
	fresh, path := filepath.Join(dir, storeFile+".tmp"), filepath.Join(dir, storeFile)
	if err := os.RemoveAll(fresh); err != nil {
		return nil, err
	}
	if v.db, err = createStore(fresh, d, s.name()); err != nil {
		return nil, err
	}
	err = v.update(func(st *state) error { return st.adopt(s) })
	if err = errors.Join(err, v.db.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(fresh))
	}
	report := s.damage()
	if report.Kept, err = keepAside(path, v.conf.Now()); err != nil {
		return nil, err
	}
	return report, durable.Rename(fresh, path)
}

// keepAside gives the damaged store a second name. It returns "" if there is none.
func keepAside(path string, now time.Time) (string, error) {
	name := path + ".damaged-" + now.UTC().Format("20060102T150405Z")
	for n := 2; ; n++ {
		err := durable.Link(path, name)
		if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
			err = copyFile(path, name) // a file system without links
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case !errors.Is(err, fs.ErrExist):
			return name, err
		}
		name = fmt.Sprintf("%s.damaged-%s-%d", path, now.UTC().Format("20060102T150405Z"), n)
	}
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return durable.SyncDir(filepath.Dir(to))
}

// name returns the device's name, as far as it is known.
func (s *salvage) name() string {
	if name, err := s.keys.local.Open(nil, s.meta[string(metaName)], metaName); err == nil {
		return string(name)
	}
	return s.keys.device.Short()
}

// jump is added to the numbers that must never be used twice, beyond the highest
// that could be read: sequence numbers, local ids and revisions. What could not be
// read is less than that ahead of it.
const jump = 1 << 32

// adopt puts what was saved into a new store, and notes that the rest has to come.
func (st *state) adopt(s *salvage) error {
	for _, err := range []error{
		st.meta.Put(metaRebuild, append(localKey(uint64(s.newest.id)), s.newest.header...)),
		st.meta.Put(metaSequence, localKey(s.sequence+jump)),
		st.outbox.SetSequence(s.local + jump),
		st.feed.SetSequence(s.feed + jump),
	} {
		if err != nil {
			return err
		}
	}
	if raw := s.meta[string(metaSelection)]; raw != nil {
		if _, err := s.keys.local.Open(nil, raw, metaSelection); err == nil {
			if err := st.meta.Put(metaSelection, raw); err != nil {
				return err
			}
		}
	}
	if err := st.adoptAlarms(s); err != nil {
		return err
	}
	for tag, sealed := range s.namespaces {
		if err := st.namespaces.Put(slices.Clone(tag[:]), sealed); err != nil {
			return err
		}
	}
	built, err := st.adoptSigned(s)
	if err != nil {
		return err
	}
	for _, local := range s.locals() {
		if err := st.adoptChange(s, s.pending[local], built); err != nil {
			return err
		}
	}
	return nil
}

// adoptAlarms puts back what a secondary was caught at: damage here excuses nothing
// there.
func (st *state) adoptAlarms(s *salvage) error {
	for n, b := range s.alarms {
		if err := errors.Join(st.alarms.Put(localKey(n), b), st.alarms.SetSequence(max(n, st.alarms.Sequence()))); err != nil {
			return err
		}
	}
	standing := s.meta[string(metaAlarm)]
	if len(standing) != 8 || s.alarms[be.Uint64(standing)] == nil {
		return nil
	}
	return st.meta.Put(metaAlarm, standing)
}

// adoptSigned puts the signed commits back that can still be sent as they are,
// and returns the places of their changes. Others are kept as refused, in case
// they are in the log.
func (st *state) adoptSigned(s *salvage) (built map[uint64][]byte, err error) {
	built = make(map[uint64][]byte)
	acked := make(map[uint64]uint64) // sequence number → commit ID
	for id, seq := range s.acked {
		acked[seq] = id
	}
	attempt := s.meta[string(metaAttempt)]
	for seq, c := range s.sent {
		if uint64(c.acked) != acked[seq] {
			c.acked = 0 // one of the two was spoilt
		}
		whole := true
		for i, local := range c.locals {
			if local == 0 { // of an attempt
				continue
			}
			p := s.pending[local]
			whole = whole && p != nil
			built[local] = be.AppendUint16(localKey(seq), uint16(i))
		}
		if c.locals[0] == 0 {
			whole = len(attempt) > 16 && be.Uint64(attempt) == seq
			if whole {
				_, err := parseAttempt(slices.Clone(attempt[16:]), c.commit)
				whole = err == nil
			}
			if whole {
				if err := st.meta.Put(metaAttempt, attempt); err != nil {
					return nil, err
				}
			}
		}
		to := st.sent
		if !whole {
			to, c.acked = st.refused, 0
			for _, local := range c.locals {
				delete(built, local)
			}
		}
		if err := to.Put(localKey(seq), c.encode()); err != nil {
			return nil, err
		}
		if c.acked != 0 {
			if err := st.acked.Put(localKey(uint64(c.acked)), localKey(seq)); err != nil {
				return nil, err
			}
		}
	}
	for seq, c := range s.refused {
		if s.sent[seq] == nil {
			c.acked = 0
			if err := st.refused.Put(localKey(seq), c.encode()); err != nil {
				return nil, err
			}
		}
	}
	return built, nil
}

// adoptChange puts one change back into the outbox, and its record into the index.
func (st *state) adoptChange(s *salvage, p *saved, built map[uint64][]byte) error {
	e, err := st.record(p.key)
	if err != nil {
		return err
	}
	if e == nil {
		e = &entry{key: p.key, name: p.payload.Name}
	}
	if p.payload.HLC <= maxClock {
		e.clock = max(e.clock, p.payload.HLC)
	}
	e.pending = append(e.pending, p.local)
	e.expires, e.available = p.payload.Expires, p.payload.Available
	place, reason := built[p.local], s.aside[p.local]
	switch {
	case place != nil:
		err = st.built.Put(localKey(p.local), place)
	case reason != nil:
		err = st.aside.Put(localKey(p.local), reason)
	default:
		err = st.unsent.Put(unsentKey(p.key.tag(), p.local), present)
	}
	return errors.Join(err,
		st.countPending(1, int64(p.weight())),
		st.setPending(p.pendingChange),
		st.touch(p.key, e),
		st.setRecord(p.key, e),
	)
}
