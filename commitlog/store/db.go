package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/kistvault/kist/internal/testonly"
)

// Errors of opening and using a file.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("in use by another program")
	// ErrDamaged: the file's content makes no sense.
	ErrDamaged = errors.New("store is damaged")
	// ErrReadOnly: a write failed in a way that leaves the disk's state unknown.
	// Reading goes on, but not of what may not be on the disk; to write, see
	// [DB.Reopen], or close and open again.
	ErrReadOnly = errors.New("store is read-only after a failed write")
)

// Options of Open. The zero value is right for real data.
type Options struct {
	// Timeout is how long to wait for another process to let go of the file.
	// Zero is two seconds.
	Timeout time.Duration
	// NoSync leaves out fsync: for simulations, whose files die with them.
	NoSync bool
	// MustExist makes a missing file an error (fs.ErrNotExist) instead of an
	// empty store.
	MustExist bool

	// Ahead is to what size, in bytes, the file can grow while a View is under way.
	// Beyond it, or where it is zero, an Update that lets the file grow may wait for
	// all Views, and they for it. It costs addresses and no memory, but none but
	// 64-bit systems have those; Windows would make the file that large, so there it
	// has no effect.
	Ahead int64

	file *os.File // that is at the path, open; nil: it is opened
}

// DB is one store file. It is safe for concurrent use.
type DB struct {
	path    string
	options Options

	openMu sync.RWMutex // held while bolt is used, and to write while it is another
	bolt   *bbolt.DB    // nil: it could not be opened again
	file   *os.File     // that bbolt has open

	opening atomic.Bool // Reopen waits for openMu: who holds it for long lets go

	endMu  sync.Mutex // held by Reopen and Close
	closed bool

	settleMu sync.Mutex            // held while what follows changes
	settled  sync.Cond             // it has changed
	durable  atomic.Uint64         // number of the newest transaction that is on the disk
	broken   atomic.Pointer[error] // of a failed commit; nil: none

	observer atomic.Pointer[func(time.Duration)] // see Observe; nil: none

	queueMu sync.Mutex
	queue   []*call // waiting for a leader
	leading bool    // some Update runs the queue
}

// call is one Update under way.
type call struct {
	fn    func(*Tx) error
	err   error
	panic any           // what fn panicked with
	done  chan struct{} // closed when err is final
	lead  chan struct{} // closed to make the caller the leader
}

// Open opens or creates a store. It returns [ErrInUse] where another process
// has it, and [ErrDamaged] where it cannot be a store, or where what it says of
// itself does not agree: damage that could end the process, make it go round in
// circles or have it write over what is in use, and in a small file all that is out
// of its place (see pages.go). The rest is found when it is read, and all of it by
// [DB.Check]. The file has mode 0600.
func Open(path string, o Options) (db *DB, err error) {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	for {
		if o.MustExist {
			if _, err := os.Stat(path); err != nil {
				return nil, err
			}
		}
		db, moved, err := open(path, o)
		if err != nil {
			return nil, fmt.Errorf("opening store: %w", err)
		}
		if !moved {
			return db, nil
		}
	}
}

// open is Open. moved says that the file was written anew, by [Rewrite], while it
// was waited for: it is another by now.
func open(path string, o Options) (db *DB, moved bool, err error) {
	// bbolt does not close its file, and so keeps it locked, where it panics.
	var file *os.File
	defer func() {
		if (errors.Is(err, ErrDamaged) || errors.Is(err, ErrInUse)) && file != nil {
			unlock(file)
			file.Close()
		}
	}()
	defer catchDamage(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			if file = o.file; file == nil {
				if file, err = os.OpenFile(name, flag, mode); err != nil {
					return nil, err
				}
			}
			if err = lock(file, o.Timeout); err == nil && !o.NoSync {
				// A process that was killed may have left what is not on the disk
				// yet, and will be read as if it were.
				err = file.Sync()
			}
			if err == nil && locks {
				err = checkOpened(file)
			}
			return file, err
		},
		Timeout:         o.Timeout,
		FreelistType:    bbolt.FreelistMapType,
		NoSync:          o.NoSync,
		NoStatistics:    true,
		InitialMmapSize: ahead(o),
	})
	if err == nil && !locks {
		if err = checkOpened(file); err != nil {
			err = errors.Join(err, b.Close())
		}
	}
	switch {
	case errors.Is(err, berrors.ErrTimeout), errors.Is(err, ErrInUse):
		return nil, false, ErrInUse
	case errors.Is(err, ErrDamaged):
		return nil, false, err
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	case err != nil:
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return nil, false, err
		}
		return nil, false, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	there, err := os.Stat(path)
	if err != nil {
		return nil, false, errors.Join(err, b.Close())
	}
	here, err := file.Stat()
	if err != nil {
		return nil, false, errors.Join(err, b.Close())
	}
	if !os.SameFile(here, there) {
		return nil, true, b.Close()
	}
	if ahead(o) > 0 {
		b.AllocSize = 4 << 20 // by which the file grows, however small it is
	}
	d := &DB{path: path, options: o, bolt: b, file: file}
	d.settled.L = &d.settleMu
	err = b.View(func(tx *bbolt.Tx) error { d.durable.Store(uint64(tx.ID())); return nil })
	if err != nil {
		return nil, false, errors.Join(err, b.Close())
	}
	return d, false, nil
}

// ahead returns how many bytes of the file to map from the beginning.
func ahead(o Options) int {
	if runtime.GOOS == "windows" || strconv.IntSize < 64 {
		return 0
	}
	return int(o.Ahead)
}

// Files up to smallFile bytes are read as a whole when they are opened, which takes
// some hundredths of a second. Of one beyond hugeFile the branches are too many.
const (
	smallFile = 32 << 20
	hugeFile  = 4 << 30
)

// checkOpened looks through a store's file that is being opened, if anything was
// ever written to it.
func checkOpened(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	switch size := info.Size(); {
	case size == 0:
		return nil
	case size <= smallFile && !testonly.ShallowOpen:
		return checkPages(file, size, depthLeaves)
	case size <= hugeFile:
		return checkPages(file, size, depthBranches)
	default:
		return checkPages(file, size, depthEnds)
	}
}

// Check reads every page of the file: that all of it has its place and is in
// order. What stands in the values it does not know. It returns [ErrDamaged] for
// the first fault. Nothing can be written meanwhile.
func (d *DB) Check() error {
	return d.Update(func(*Tx) error {
		info, err := d.file.Stat()
		if err != nil {
			return err
		}
		return checkPages(d.file, info.Size(), depthLeaves)
	})
}

// Close closes the file, after the transactions under way.
func (d *DB) Close() error {
	d.endMu.Lock()
	defer d.endMu.Unlock()
	d.closed = true
	if d.bolt == nil {
		return nil
	}
	return d.bolt.Close()
}

// Path returns the file's path.
func (d *DB) Path() string { return d.path }

// View runs fn in a read transaction: a snapshot, whatever is written
// meanwhile. What fn reads is valid until it returns. A long View keeps old
// pages from being reused. It begins no other View.
//
// What is read is durable. Where the newest transaction is on its way to the disk,
// View waits for it; where that failed, it returns [ErrReadOnly].
func (d *DB) View(fn func(*Tx) error) (err error) {
	d.openMu.RLock()
	defer d.openMu.RUnlock()
	for {
		var fresh uint64
		err := d.view(func(tx *Tx) error {
			if id := uint64(tx.bolt.ID()); id > d.durable.Load() {
				fresh = id
				return nil
			}
			return fn(tx)
		})
		if fresh == 0 {
			return err
		}
		if err := d.settle(fresh); err != nil {
			return err
		}
	}
}

// settle waits until a transaction that has written all that it had to write is on the
// disk, and returns ErrReadOnly where it does not come there. It waits for no later
// one, which might wait for the caller.
func (d *DB) settle(id uint64) error {
	d.settleMu.Lock()
	defer d.settleMu.Unlock()
	for d.durable.Load() < id {
		if b := d.broken.Load(); b != nil {
			return readOnly(*b)
		}
		d.settled.Wait()
	}
	return nil
}

// Peek is [DB.View] of what may not be durable yet, for what is looked at again in
// the Update that follows. It does not wait.
func (d *DB) Peek(fn func(*Tx) error) error {
	d.openMu.RLock()
	defer d.openMu.RUnlock()
	return d.view(fn)
}

// view runs fn in bbolt's newest snapshot. openMu is held.
func (d *DB) view(fn func(*Tx) error) (err error) {
	if d.bolt == nil {
		return readOnly(*d.broken.Load())
	}
	defer catchDamage(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return d.bolt.View(func(b *bbolt.Tx) error { return fn(&Tx{bolt: b, db: d}) })
}

func readOnly(why error) error { return fmt.Errorf("%w: %w", ErrReadOnly, why) }

// Update runs fn in a write transaction and returns when it is durable, or with
// the error of fn, and then nothing of it is stored. fn may share its
// transaction with the fns of other calls and may run more than once; it should
// find its errors before its first write, since one that comes later makes the
// others run again. A panic in fn comes out of Update, and nothing is stored.
//
// An error that is not fn's own means that the outcome is unknown until the
// store is opened again.
//
// Where nothing was written, nothing is made durable: it costs no more than View.
func (d *DB) Update(fn func(*Tx) error) error {
	c := &call{fn: fn, done: make(chan struct{}), lead: make(chan struct{})}
	d.queueMu.Lock()
	d.queue = append(d.queue, c)
	leader := !d.leading
	d.leading = true
	d.queueMu.Unlock()
	if !leader {
		select {
		case <-c.done:
			return c.result()
		case <-c.lead:
		}
	}

	// This call leads: it runs all that wait, itself among them, and then hands
	// on to the first that came meanwhile.
	d.queueMu.Lock()
	batch := d.queue
	d.queue = nil
	d.queueMu.Unlock()
	ran := false
	defer func() {
		for _, b := range batch {
			if !ran && b.err == nil {
				b.err = errEnded
			}
			close(b.done)
		}
		d.queueMu.Lock()
		if len(d.queue) > 0 {
			close(d.queue[0].lead)
		} else {
			d.leading = false
		}
		d.queueMu.Unlock()
	}()
	d.run(batch)
	ran = true
	return c.result()
}

// errEnded: an fn ended its goroutine (runtime.Goexit), and with it the
// transaction that others had joined.
var errEnded = errors.New("the transaction was ended by another writer")

func (c *call) result() error {
	if c.panic != nil {
		panic(c.panic)
	}
	return c.err
}

// errAgain rolls a transaction back whose calls are to run again without the
// one that failed.
var errAgain = errors.New("run again")

// errNothing rolls a transaction back in which nobody wrote.
var errNothing = errors.New("nothing was written")

// run brings the calls to an end: each has its error, or is durable.
func (d *DB) run(batch []*call) {
	pending := batch
	for len(pending) > 0 {
		var failed *call
		var ended time.Time // the last write
		err := d.commit(func(tx *Tx) error {
			written := false
			for _, c := range pending {
				tx.dirty = false
				c.err = c.call(tx)
				if c.panic != nil || c.err != nil && tx.dirty {
					failed = c
					return errAgain
				}
				written = written || tx.dirty
			}
			if !written {
				return errNothing
			}
			ended = time.Now()
			return nil
		})
		if err == nil {
			d.committed(ended)
		}
		if errors.Is(err, errNothing) {
			err = nil
		}
		if failed == nil {
			for _, c := range pending {
				if c.err == nil {
					c.err = err
				}
			}
			return
		}
		if len(pending) == 1 {
			return
		}
		rest := make([]*call, 0, len(pending)-1)
		for _, c := range pending {
			if c != failed {
				rest = append(rest, c)
			}
		}
		pending = rest
	}
}

// call runs fn. A panic that comes from a damaged page is an error like any
// other; fn's own is kept for its caller.
func (c *call) call(tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if damage := asDamage(p); damage != nil {
				tx.dirty = true
				err = damage
				return
			}
			c.panic = p
		}
	}()
	return c.fn(tx)
}

// commit runs fn in a bbolt transaction and commits it.
func (d *DB) commit(fn func(*Tx) error) (err error) {
	d.openMu.RLock()
	defer d.openMu.RUnlock()
	if b := d.broken.Load(); b != nil {
		return readOnly(*b)
	}
	var ran bool
	var id uint64
	defer func() {
		d.settleMu.Lock()
		defer d.settleMu.Unlock()
		defer d.settled.Broadcast()
		switch {
		case !ran:
		case err == nil:
			d.durable.Store(id)
		default:
			// After a failed write or fsync nobody knows what is on the disk, and
			// the page cache may claim what is not. Only opening again tells.
			why := err
			d.broken.Store(&why)
			err = readOnly(why)
		}
	}()
	defer catchDamage(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return d.bolt.Update(func(b *bbolt.Tx) error {
		id = uint64(b.ID())
		err := fn(&Tx{bolt: b, db: d})
		ran = err == nil
		return err
	})
}

// catchDamage turns a panic out of bbolt, or a fault in its memory map, into
// ErrDamaged. Other panics go on.
func catchDamage(err *error) {
	if p := recover(); p != nil {
		damage := asDamage(p)
		if damage == nil {
			panic(p)
		}
		*err = damage
	}
}

// asDamage returns the error for a panic that a damaged file caused, nil for
// any other. To be called while the panic is being recovered: it looks at the
// stack to see who panicked.
func asDamage(p any) error {
	if name, ok := p.(absent); ok {
		return fmt.Errorf("%w: no bucket %q", ErrDamaged, string(name))
	}
	if name, ok := p.(misshapen); ok {
		return fmt.Errorf("%w: an element of bucket %q", ErrDamaged, string(name))
	}
	if fault, ok := p.(interface{ Addr() uintptr }); ok {
		return fmt.Errorf("%w: memory fault at %#x", ErrDamaged, fault.Addr())
	}
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	panicking := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicking = true
		case panicking && strings.HasPrefix(f.Function, "runtime."):
		case panicking:
			if strings.HasPrefix(f.Function, "go.etcd.io/bbolt") {
				return fmt.Errorf("%w: %v", ErrDamaged, p)
			}
			return nil
		}
		if !more {
			return nil
		}
	}
}
