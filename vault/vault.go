package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
)

// Files in a vault's directory.
const (
	deviceFile = "device.key" // what the device can open and sign with
	storeFile  = "vault.db"   // the log, the outbox, the local indexes
	objectsDir = "objects"    // sealed values over 64 KiB

	// onboardingFile is package onboarding's, which writes it before there is a
	// vault.
	onboardingFile = "onboarding"
	// agentFile is package internal/agent's: it says where the process that
	// holds the vault serves others. One that was killed leaves it.
	agentFile = "agent"
)

// Config says how a vault is opened. The zero value is usual.
type Config struct {
	// Logger gets what goes on in the background. Nil discards it. It is never
	// given names or values of records.
	Logger *slog.Logger
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
	// MaxObject is the longest value in bytes. Zero is 64 MiB; the format's
	// limit is 1 GiB.
	MaxObject int64
	// KeepEach sends every local change, also those that a later one replaces
	// before it was sent.
	KeepEach bool
	// Conflict is told of each conflict between devices, if not nil: a record
	// that came to have several versions, a removal and an edit that did not
	// know of each other, a resolver that failed. See [Conflict].
	//
	// It is called in a goroutine of its own, one conflict after the other, and
	// holds up nothing: what it has not been told is kept, over a restart too,
	// and told once for each record, as it is then. It may panic, and may use
	// the vault.
	Conflict func(Conflict)
	// Dial opens the sessions whose SyncOptions have no Dial of their own, and
	// those of Transact. Nil dials the vault's secondary.
	Dial func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error)
	// NoSync leaves out fsync: for simulations, whose files die with them.
	NoSync bool
}

// DefaultMaxObject is the longest value in bytes where Config does not say.
const DefaultMaxObject = 64 << 20

// A Vault is an open vault of one device. It is safe for concurrent use.
type Vault struct {
	dir     string
	conf    Config
	device  *keyfile.Device // but for its secondaries, see servers
	keys    *keyring
	db      *store.DB
	objects *store.Objects

	serversMu sync.Mutex
	servers   []keyfile.Server

	kept atomic.Pointer[keeping] // the selection last used

	mendMu sync.Mutex // held while somebody mends the store

	changedMu sync.Mutex
	changed   chan struct{} // closed and replaced when the feed has grown
	unsent    chan struct{} // closed and replaced when the outbox has grown
	run       runState

	asked chan *waiter  // to the Run that is going on
	nudge chan struct{} // holds one, for the Run that is going on
	slot  chan struct{} // holds one while there is a session
	held  heldBack      // of the session that has the slot

	contact   contact
	tidied    atomic.Pointer[time.Time] // when tidy has looked last
	prompt    atomic.Bool               // a session is in step, and sends what is signed at once
	listener  listener
	resolvers resolvers
	turn      chan struct{}       // holds one while there is a transaction through the secondary
	hold      atomic.Bool         // it waits for its place: nothing else is signed
	why       atomic.Pointer[why] // the last attempt was refused

	closeOnce sync.Once
	closed    chan struct{} // closed by Close

	main *Vault // of the vault beside another one: that; see histories.go
	room string // of the store that is this vault's; "": the store itself
	// … how many resets its log had when it was last looked at for what to write anew
	resets int
	fence  sync.RWMutex // held alone while the vault changes over to another log

	moving  chan struct{}              // holds one while somebody takes another log beside this one
	between atomic.Bool                // a change of rooms is half done
	carried atomic.Pointer[carriedIDs] // by the last one
}

// Open opens the vault in dir. It never waits for the network. It returns
// [ErrNoVault], [ErrInUse] or [ErrDamaged]; the caller closes the vault.
func Open(ctx context.Context, dir string, conf Config) (*Vault, error) {
	ok, err := Exists(dir)
	if err != nil {
		return nil, err
	}
	if !ok {
		if err := Vacant(dir); errors.Is(err, ErrDamaged) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", ErrNoVault, dir)
	}
	d, err := keyfile.ReadDevice(filepath.Join(dir, deviceFile))
	if errors.Is(err, keyfile.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	ring, err := newKeyring(d)
	if err != nil {
		return nil, err
	}
	v := newVault(dir, conf, d, ring)
	v.db, err = openStore(filepath.Join(dir, storeFile), v.conf.NoSync)
	switch {
	case errors.Is(err, store.ErrInUse):
		return nil, fmt.Errorf("%w: %s", ErrInUse, dir)
	case errors.Is(err, store.ErrDamaged), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	case err != nil:
		return nil, err
	}
	if v.objects, err = store.OpenObjects(filepath.Join(dir, objectsDir)); err == nil {
		err = v.addBuckets()
	}
	if err == nil {
		err = v.finishChange()
	}
	if err == nil {
		err = v.view((*state).plausible)
	}
	if err == nil {
		err = v.reread()
	}
	if err != nil {
		return nil, errors.Join(err, v.db.Close())
	}
	v.listener.start(v)
	return v, nil
}

// newVault returns a vault without its store.
func newVault(dir string, conf Config, d *keyfile.Device, ring *keyring) *Vault {
	if conf.Logger == nil {
		conf.Logger = slog.New(slog.DiscardHandler)
	}
	if conf.Now == nil {
		conf.Now = time.Now
	}
	if conf.MaxObject == 0 {
		conf.MaxObject = DefaultMaxObject
	}
	return &Vault{
		dir: dir, conf: conf, device: d, keys: ring, servers: d.Servers,
		changed: make(chan struct{}), unsent: make(chan struct{}), closed: make(chan struct{}),
		run: runState{changed: make(chan struct{})}, asked: make(chan *waiter), nudge: make(chan struct{}, 1), slot: make(chan struct{}, 1),
		turn: make(chan struct{}, 1), moving: make(chan struct{}, 1),
	}
}

// Close closes the vault. Watches and syncs that still run end with
// [ErrClosed].
func (v *Vault) Close() (err error) {
	v.closeOnce.Do(func() {
		close(v.closed)
		err = v.db.Close()
	})
	return err
}

// ID returns the vault's id.
func (v *Vault) ID() keys.VaultID { return v.device.Vault }

// Device returns the id of this device.
func (v *Vault) Device() keys.DeviceID { return v.keys.device }

// Servers returns the secondaries that the device knows, the one in use first. A
// sync replaces them where it finds that the vault was moved, see [Vault.Move].
func (v *Vault) Servers() []keyfile.Server {
	v.serversMu.Lock()
	defer v.serversMu.Unlock()
	return v.servers
}

// SetServers replaces the secondaries in the device file. It is durable when it
// returns. A move that this device was about to follow is not followed any more.
func (v *Vault) SetServers(servers []keyfile.Server) error {
	if err := v.update(func(s *state) error { return s.meta.Delete(metaMoving) }); err != nil {
		return err
	}
	return v.writeServers(servers)
}

func (v *Vault) writeServers(servers []keyfile.Server) error {
	v.serversMu.Lock()
	defer v.serversMu.Unlock()
	d := *v.device
	d.Servers = servers
	if err := keyfile.WriteDevice(filepath.Join(v.dir, deviceFile), &d); err != nil {
		return err
	}
	v.servers = servers
	return nil
}

// Buckets of the store beside the log. Their contents are described where they
// are used: records and the feed in record.go, the outbox in outbox.go.
const (
	bucketLog        = "log"
	bucketMeta       = "meta"
	bucketRecords    = "records"    // record key → entry
	bucketVersions   = "versions"   // record key ‖ ID ‖ index → —
	bucketFeed       = "feed"       // revision → record key
	bucketOutbox     = "outbox"     // local id → pendingChange
	bucketUnsent     = "unsent"     // tag ‖ local id → —
	bucketBuilt      = "built"      // local id → sequence ‖ index
	bucketAside      = "aside"      // local id → reason
	bucketSent       = "sent"       // sequence → sentCommit
	bucketAcked      = "acked"      // commit ID → sequence, of sent commits that were acknowledged
	bucketRefused    = "refused"    // sequence → sentCommit
	bucketMissing    = "missing"    // ID ‖ index → what, as bits: 1 blob, 2 object, 4 a reader asked for it
	bucketQuarantine = "quarantine" // ID ‖ index → reason
	bucketDevices    = "devices"    // device id → sealed name
	bucketNamespaces = "namespaces" // tag → sealed name
	bucketConflicts  = "conflicts"  // record key → conflictState
	bucketRaised     = "raised"     // record key → u8: what the listener has to be told of it
	bucketTimed      = "timed"      // record key → —, of records with times
	bucketAlarms     = "alarms"     // number → alarmJSON
	bucketWithdrawn  = "withdrawn"  // record → time u64 ‖ pendingChange: removed before it was sent; see withdrawn.go
	bucketUnread     = "unread"     // ID ‖ index → unread: what cannot be used, live or not
)

var buckets = []string{
	bucketMeta, bucketRecords, bucketVersions, bucketFeed, bucketOutbox, bucketUnsent, bucketBuilt,
	bucketAside, bucketSent, bucketRefused, bucketMissing, bucketQuarantine, bucketDevices, bucketNamespaces, bucketAcked,
}

// shapes says how long keys and values are of those buckets where that is fixed.
var shapes = map[string]store.Shape{
	bucketRecords: {Key: 32, Value: store.Any}, bucketVersions: {Key: 42}, bucketFeed: {Key: 8, Value: 32},
	bucketOutbox: {Key: 8, Value: store.Any}, bucketUnsent: {Key: 24}, bucketBuilt: {Key: 8, Value: 10}, bucketAside: {Key: 8, Value: store.Any},
	bucketSent: {Key: 8, Value: store.Any}, bucketRefused: {Key: 8, Value: store.Any}, bucketAcked: {Key: 8, Value: 8},
	bucketMissing: {Key: 10, Value: 1}, bucketQuarantine: {Key: 10, Value: store.Any}, bucketUnread: {Key: 10, Value: 42},
	bucketDevices: {Key: 16, Value: store.Any}, bucketNamespaces: {Key: 16, Value: store.Any},
	bucketConflicts: {Key: 32, Value: conflictStateSize}, bucketRaised: {Key: 32, Value: 1}, bucketTimed: {Key: 32},
	bucketWithdrawn: {Key: 32, Value: store.Any},
}

func shapeOf(bucket string) store.Shape {
	if s, ok := shapes[bucket]; ok {
		return s
	}
	return store.Shape{Key: store.Any, Value: store.Any}
}

// laterBuckets came later: where a store lacks them, Open makes and fills them.
var laterBuckets = []string{bucketConflicts, bucketRaised, bucketTimed, bucketAlarms, bucketUnread, bucketWithdrawn}

// Keys of the bucket meta.
var (
	metaVersion     = []byte("version")     // u8
	metaName        = []byte("name")        // sealed name of this device
	metaSequence    = []byte("sequence")    // u64: the highest sequence number this device has signed with
	metaControl     = []byte("control")     // number u64 ‖ hash 32: head of the control log
	metaEnrol       = []byte("enrol")       // the control commit that admits this device, until it is in the log
	metaPending     = []byte("pending")     // pendingSum
	metaMoving      = []byte("moving")      // ID of the commit with the move that this device follows, until the new secondary has shown it
	metaArrived     = []byte("arrived")     // ID of the commit with the move that its secondary has shown
	metaMove        = []byte("move")        // u16 n ‖ n bytes for the secondary ‖ the control commit with the move to it that was signed last
	metaAlarm       = []byte("alarm")       // key in the bucket alarms: the one that stops the sync
	metaSelection   = []byte("selection")   // sealed: see Selection.encode
	metaSweep       = []byte("sweep")       // ID ‖ index: the change that the sweep looks at next
	metaUnderstands = []byte("understands") // u8: what the program understood that has tried last what is in unread
	metaAttempt     = []byte("attempt")     // a transaction through the secondary that is not decided; see serialised.go
	metaReady       = []byte("ready")       // in the room for another log: the vault is to change over to it
	metaOver        = []byte("over")        // u64: the highest sequence number that this device had signed with when it changed over
	metaRebuild     = []byte("rebuild")     // ID ‖ header of a commit that the log is known to hold, while a rebuilt store has not all of the log; see rebuilding.go

	metaRetention = []byte("retention") // versions u32 ‖ days u32: see Retention
	metaCompact   = []byte("compact")   // where compaction goes on, as store.Retirement.Place says; empty: at the beginning
	metaCompacted = []byte("compacted") // time u64 ‖ size u64: when compaction came to its end last, and of what log

	metaBase        = []byte("base")         // checkpoint that the log began with, or begins with, until all below it is verified
	metaBasePlace   = []byte("base place")   // basePlace: how far its live changes have come
	metaBaseIndexed = []byte("base indexed") // tag ‖ ID ‖ index: how far these are in the index
	metaPastControl = []byte("past control") // as control, of the log below the base
	metaNoted       = []byte("noted")        // n × commit ID u64: their refs below the base have to be looked at
	metaPosted      = []byte("posted")       // size u64 ‖ time u64 ‖ live changes u64 of this device's last checkpoint
	metaLooked      = []byte("looked")       // u64: when another device's was looked at
	metaHeard       = []byte("heard")        // u64: time of the newest that another device has signed
	metaInStep      = []byte("in step")      // u64 ‖ key of a secondary: when the vault was in step with it last
)

// state is the vault's store within a transaction.
type state struct {
	v   *Vault
	tx  *store.Tx
	log *store.Log

	meta, records, versions, feed, outbox, unsent, built, aside *store.Bucket
	sent, refused, missing, quarantine, devices, namespaces     *store.Bucket
	acked                                                       *store.Bucket

	conflicts, raised, timed, alarms, unread, withdrawn *store.Bucket

	kept     *keeping         // see keeping
	fed      bool             // the feed has grown
	queued   bool             // the outbox has grown, or a session has something else to do
	gone     []commitlog.Hash // objects to remove when this is durable
	told     bool             // the listener has something to be told
	disputed bool             // a record has come to have several versions, or others

	excused commitlog.CommitID // up to there another commit may stand where one of this device was acknowledged

	strategies map[keys.Tag]Strategy // as far as they were asked for
	resettled  []keys.Tag            // whose strategy has changed
}

func (v *Vault) open(tx *store.Tx) (*state, error) {
	if v.room != "" {
		if tx = tx.Within(v.room); tx == nil {
			return nil, fmt.Errorf("%w: it has no room for another log", ErrDamaged)
		}
	}
	s := &state{v: v, tx: tx}
	var err error
	if s.log, err = tx.Log(bucketLog); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	for i, dst := range []**store.Bucket{
		&s.meta, &s.records, &s.versions, &s.feed, &s.outbox, &s.unsent, &s.built,
		&s.aside, &s.sent, &s.refused, &s.missing, &s.quarantine, &s.devices, &s.namespaces, &s.acked,
	} {
		*dst = tx.Lazy(buckets[i]).Shaped(shapeOf(buckets[i]))
	}
	for i, dst := range []**store.Bucket{&s.conflicts, &s.raised, &s.timed, &s.alarms, &s.unread, &s.withdrawn} {
		*dst = tx.Lazy(laterBuckets[i]).Shaped(shapeOf(laterBuckets[i]))
	}
	s.feed.Append()
	s.outbox.Append()
	return s, nil
}

// view runs fn in a read transaction. Where what is there may not be on the disk, it
// tries to mend that first.
func (v *Vault) view(fn func(*state) error) error {
	read := func() error {
		return v.db.View(func(tx *store.Tx) error {
			s, err := v.open(tx)
			if err != nil {
				return err
			}
			return fn(s)
		})
	}
	err := read()
	if errors.Is(err, store.ErrReadOnly) && v.mend() == nil {
		err = read()
	}
	return v.storeError(err)
}

// update runs fn in a write transaction, durable when it returns, and wakes
// those who wait for what it did. fn may run more than once.
func (v *Vault) update(fn func(*state) error) error {
	if err := v.mend(); err != nil {
		return err
	}
	if err := v.endChange(); err != nil {
		return err
	}
	v.fence.RLock()
	defer v.fence.RUnlock()
	var s *state
	err := v.db.Update(func(tx *store.Tx) (err error) {
		if s, err = v.open(tx); err != nil {
			return err
		}
		if err = fn(s); err != nil {
			return err
		}
		return s.rejoin()
	})
	if err != nil {
		return v.storeError(err)
	}
	if s.told {
		v.listener.wake()
	}
	if s.disputed {
		v.resolvers.disputed.Store(true)
	}
	v.changedMu.Lock()
	if s.fed {
		close(v.changed)
		v.changed = make(chan struct{})
	}
	if s.queued {
		close(v.unsent)
		v.unsent = make(chan struct{})
	}
	v.changedMu.Unlock()
	for _, hash := range s.gone {
		if err := v.objects.Remove(hash); err != nil {
			return fmt.Errorf("forgetting a value: %w", err)
		}
	}
	return nil
}

// feedGrown returns a channel that is closed when the feed has grown after the
// call, outboxGrown the same for the outbox.
func (v *Vault) feedGrown() <-chan struct{} {
	v.changedMu.Lock()
	defer v.changedMu.Unlock()
	return v.changed
}

func (v *Vault) outboxGrown() <-chan struct{} {
	v.changedMu.Lock()
	defer v.changedMu.Unlock()
	return v.unsent
}

func (v *Vault) storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrDamaged) && !errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	select {
	case <-v.closed:
		return ErrClosed
	default:
	}
	if errors.Is(err, store.ErrReadOnly) && !errors.Is(err, ErrReadOnly) {
		err = fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// deviceName returns the name of a device, its id where that is not known.
func (s *state) deviceName(id keys.DeviceID) string {
	if sealed := s.devices.Get(id[:]); sealed != nil {
		if name, err := s.v.keys.local.Open(nil, sealed, id[:]); err == nil {
			return string(name)
		}
	}
	if id == s.v.keys.device {
		if name, err := s.v.keys.local.Open(nil, s.meta.Get(metaName), metaName); err == nil {
			return string(name)
		}
	}
	return id.Short()
}

// epoch returns the epoch that local changes are sealed for.
func (s *state) epoch() (uint32, error) { return s.log.EpochAt(s.log.Size()) }

// controlHead returns the head of the control log.
func (s *state) controlHead() commitlog.ControlHead {
	return parseControlHead(s.meta.Get(metaControl))
}
