package vault

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// A Status is what a vault knows of itself, without asking anybody.
type Status struct {
	Vault      keys.VaultID
	Device     keys.DeviceID
	DeviceName string
	Enrolled   bool // the log admits this device
	Revoked    bool // … and has shut it out again
	Rebuilding bool // the store was made anew (see Rebuild), and a sync has to get the rest
	Secondary  string
	Moved      *Moved         // what the log says of where it is; nil: it was never moved
	Commits    uint64         // size of the verified log
	Base       uint64         // it began at a checkpoint of this size, and not all below is verified; 0: it is whole
	Verified   uint64         // … of that, commits verified from the first one on
	Beginning  bool           // it begins at a checkpoint and is not admitted yet: nothing is read or written
	InStep     time.Time      // when it was in step with its secondary last, by this device's clock; zero: not known. Of a session that goes on it is when the secondary was heard last
	Checkpoint time.Time      // of this device's last checkpoint; zero: none
	Heard      time.Time      // when another device signed the newest that came from one; zero: not known
	Stale      bool           // that was more than a week ago, though this device is in contact: see SPEC.md, "Checkpoints"
	Root       commitlog.Hash // its root
	Epoch      uint32
	Records    int // that show something now
	Pending    int // local changes that are not in the log yet
	Aside      int // … of these, refused by the secondary
	NoRoom     int // … of these, since the vault has no more room there
	Undecided  int // transactions of Transact that may come into the log yet, or may be there
	Missing    int // changes whose content is to be here and has not come
	Quarantine int // changes whose content cannot be used
	Ahead      int // records dated more than a day ahead of this device's clock; see Record.Ahead
	Conflicts  int // records with several versions that differ; see Vault.Conflicts
	Devices    []Device
	Namespaces []NamespaceStatus
	Selection  Selection   // what is kept on this device
	Selecting  bool        // … and the next sync has to carry that out
	Retention  Retention   // which versions this device keeps
	LastCommit *CommitInfo // nil: none
	Alarm      string      // what the secondary was caught at, and the sync is stopped for; empty: nothing. See Vault.Alarm
}

// A Device is one of the vault's devices.
type Device struct {
	ID      keys.DeviceID
	Name    string
	Revoked bool
	This    bool
	Commits bool // it has written
}

// A NamespaceStatus counts a namespace.
type NamespaceStatus struct {
	Name     string // empty where the device does not know it
	Tag      keys.Tag
	Records  int
	Selected bool // it is kept on this device; otherwise Records are those that were written here
}

// A CommitInfo describes a commit by its header.
type CommitInfo struct {
	ID        commitlog.CommitID
	Kind      commitlog.Kind
	Namespace string // empty where it is not known
	Device    string
	Changes   int
	Seen      uint64
	Leaf      commitlog.Hash
	Time      time.Time // by the clock of its first change; zero where that is not known

	Statements []*commitlog.Statement   // of a control commit, as far as they can be read
	Names      map[keys.DeviceID]string // of the devices that they are about
}

// Status returns the vault's state. It counts the records, which takes time in
// a large vault.
func (v *Vault) Status(ctx context.Context) (*Status, error) {
	st := &Status{Vault: v.ID(), Device: v.Device()}
	if servers := v.Servers(); len(servers) > 0 {
		st.Secondary = servers[0].URL
	}
	now := millis(v.conf.Now())
	err := v.view(func(s *state) error {
		st.DeviceName = s.deviceName(v.keys.device)
		st.Commits = s.log.Size()
		var err error
		if st.Root, err = s.log.RootAt(st.Commits); err != nil {
			return err
		}
		if st.Epoch, err = s.epoch(); err != nil {
			return err
		}
		if st.Moved, err = s.whereIs(); err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		st.Rebuilding, _ = s.rebuilding()
		st.InStep = s.inStepAt()
		if err = s.addBase(st, now); err != nil {
			return err
		}
		st.Enrolled, err = s.enrolled()
		if err == ErrRevoked {
			st.Revoked, err = true, nil
		}
		if err != nil {
			return err
		}
		count := func(b interface {
			Scan([]byte, func(k, v []byte) (bool, error)) error
		}, n *int) error {
			return b.Scan(nil, func(_, _ []byte) (bool, error) { *n++; return true, nil })
		}
		if err := count(s.outbox, &st.Pending); err != nil {
			return err
		}
		if st.Aside, st.NoRoom, err = s.countAside(); err != nil {
			return err
		}
		if err := count(s.missing, &st.Missing); err != nil {
			return err
		}
		if err := count(s.quarantine, &st.Quarantine); err != nil {
			return err
		}
		if st.Retention, err = s.retention(); err != nil {
			return err
		}
		if st.Undecided, err = s.undecided(); err != nil {
			return err
		}
		if a, err := s.alarm(); err != nil {
			return err
		} else if a != nil {
			st.Alarm = a.String()
		}
		err = s.conflicts.Scan(nil, func(_, b []byte) (bool, error) {
			c, err := parseConflictState(b)
			if err == nil && c.differ {
				st.Conflicts++
			}
			return true, err
		})
		if err != nil {
			return err
		}
		if err := s.countRecords(ctx, st, now); err != nil {
			return err
		}
		if err := s.addSelection(st); err != nil {
			return err
		}
		err = s.log.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
			if id != (keys.DeviceID{}) {
				st.Devices = append(st.Devices, Device{
					ID: id, Name: s.deviceName(id), Revoked: a.Revoked != 0, This: id == v.keys.device, Commits: a.LastSeq > 0,
				})
			}
			return nil
		})
		if err == nil && st.Commits > 0 {
			st.LastCommit, err = s.commitInfo(commitlog.CommitID(st.Commits))
			if errors.Is(err, store.ErrNotFound) && st.Commits == s.log.Base() {
				err = nil
			}
		}
		st.Stale = st.Stale && slices.ContainsFunc(st.Devices, func(d Device) bool { return !d.This && !d.Revoked })
		return err
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// addBase adds what is known of checkpoints.
func (s *state) addBase(st *Status, now uint64) error {
	st.Base = s.log.Base()
	var err error
	if st.Beginning, err = s.beginning(); err != nil {
		return err
	}
	if past, err := s.tx.Past(bucketLog, false); err == nil {
		st.Verified = past.Size()
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	st.Checkpoint = fromMillis(s.postedCheckpoint().time)
	heard, looked := metaTime(s, metaHeard), metaTime(s, metaLooked)
	st.Heard = fromMillis(heard)
	const fresh = 2 * checkpointTime // in contact: it has looked in this time
	st.Stale = heard != 0 && now > heard+uint64(staleTime.Milliseconds()) && now < looked+uint64(fresh.Milliseconds())
	return nil
}

// addSelection adds what is kept, and the namespaces of the log that nothing
// is here of.
func (s *state) addSelection(st *Status) error {
	k, err := s.keeping()
	if err != nil {
		return err
	}
	st.Selection, st.Selecting = k.clone(), s.meta.Get(metaSweep) != nil
	here := make(map[keys.Tag]bool)
	for i := range st.Namespaces {
		n := &st.Namespaces[i]
		n.Selected, here[n.Tag] = k.has(n.Tag), true
	}
	return s.log.Namespaces(func(tag keys.Tag) error {
		if tag != s.v.keys.control && !here[tag] {
			st.Namespaces = append(st.Namespaces, NamespaceStatus{Name: s.namespaceName(tag), Tag: tag, Selected: k.has(tag)})
		}
		return nil
	})
}

// countRecords counts the records that show something, by namespace.
func (s *state) countRecords(ctx context.Context, st *Status, now uint64) error {
	about := make(map[recordKey]bool)
	seen := 0
	return s.records.Scan(nil, func(k, b []byte) (bool, error) {
		if seen++; seen%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		key := recordKey(k)
		if n := len(st.Namespaces); n == 0 || st.Namespaces[n-1].Tag != key.tag() {
			st.Namespaces = append(st.Namespaces, NamespaceStatus{Name: s.namespaceName(key.tag()), Tag: key.tag()})
			about[s.v.keys.recordKey(key.tag(), aboutName)] = true
		}
		e, err := s.v.keys.parseEntry(key, b)
		if err != nil {
			return false, err
		}
		if about[key] || e.hidden(now) {
			return true, nil
		}
		ok, err := s.shown(e)
		if err != nil || !ok {
			return true, err
		}
		st.Records++
		if ahead(e.clock, s.v.conf.Now()) {
			st.Ahead++
		}
		st.Namespaces[len(st.Namespaces)-1].Records++
		return true, nil
	})
}

func (s *state) commitInfo(id commitlog.CommitID) (*CommitInfo, error) {
	raw, err := s.log.Header(id)
	if err != nil {
		return nil, err
	}
	h, err := commitlog.ParseHeader(raw)
	if err != nil {
		return nil, err
	}
	c := &CommitInfo{ID: id, Kind: h.Kind, Changes: int(h.Changes), Seen: h.SeenSize, Leaf: commitlog.LeafHash(raw)}
	if h.Kind == commitlog.KindControl {
		c.Namespace, c.Device = keys.ControlNamespace, "authority"
		s.addStatements(c)
	} else {
		c.Namespace, c.Device = s.namespaceName(h.Tag), s.deviceName(h.Device)
	}
	// The first change may be the namespace's own record, which has no clock.
	for i := range min(c.Changes, 2) {
		if head, err := s.openChange(commitlog.ChangeID{Commit: id, Index: uint16(i)}); err == nil && head != nil && head.payload.HLC > 0 {
			c.Time = clockTime(head.payload.HLC)
		}
	}
	return c, nil
}

// addStatements adds what a control commit says.
func (s *state) addStatements(c *CommitInfo) {
	c.Names = make(map[keys.DeviceID]string)
	for i := range c.Changes {
		st, _, err := s.statement(commitlog.ChangeID{Commit: c.ID, Index: uint16(i)})
		if err != nil {
			continue // it is said of the commit that it is there, and kist log --verify says more
		}
		c.Statements = append(c.Statements, st)
		switch {
		case st.AddDevice != nil:
			id := st.AddDevice.Certificate.Device
			c.Names[id] = s.deviceName(id)
		case st.Revoke != nil:
			c.Names[st.Revoke.Device] = s.deviceName(st.Revoke.Device)
		}
	}
}

// Log returns the commits after a commit ID, oldest first, at most limit. Where
// the log began at a checkpoint, those below may be left out.
func (v *Vault) Log(ctx context.Context, after commitlog.CommitID, limit int) (out []*CommitInfo, err error) {
	err = v.view(func(s *state) error {
		for id := after + 1; uint64(id) <= s.log.Size() && len(out) < limit; id++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			c, err := s.commitInfo(id)
			if errors.Is(err, store.ErrNotFound) && uint64(id) <= s.log.Base() {
				continue
			}
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

// Digest returns one hash over the live changes of all namespaces, and the
// number of local changes that are not among them yet. Two devices with equal
// logs have equal digests, and so have two that show the same after a restore.
func (v *Vault) Digest(ctx context.Context) (digest commitlog.Hash, pending int, err error) {
	err = v.view(func(s *state) error {
		if digest, err = s.log.Digest(); err != nil {
			return err
		}
		return s.outbox.Scan(nil, func(_, _ []byte) (bool, error) { pending++; return true, nil })
	})
	return digest, pending, err
}
