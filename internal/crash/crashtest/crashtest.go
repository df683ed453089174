// Package crashtest lets a device's process end at any point, within a test:
// run something with a [Crash] at the n-th point of a kind, for n from 1 until
// it is not reached any more, and look each time at what is there afterwards.
//
// A crash is either a cut connection, after which the caller gets an error and
// does with it what it does, or an image: the device's directories are copied at
// that moment, everything fails from then on, and [Crash.Restore] puts the copy
// in the place of what the caller left behind. So nothing that the caller does
// on its way out can help.
//
// Importing the package takes [durable.Hook].
package crashtest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// A Point is a kind of moment at which a device can end.
type Point string

// The kinds. At Sending and Sent, Receiving and the frames the connection is
// cut; the others are images.
const (
	Sending  Point = "message lost on its way up"
	Sent     Point = "message arrived, answer lost"
	Received Point = "message lost on its way down"
	FrameUp  Point = "cut within a frame up"
	FrameIn  Point = "cut within a frame down"
	Between  Point = "ended between transactions" // of the vault's store: see Step
	Within   Point = "ended within a transaction" // or before it: see Now
	File     Point = "ended around a change to a file"
)

// Messages are the points that are messages of a session, Images the others.
var (
	Messages = []Point{Sending, Sent, Received}
	Frames   = []Point{FrameUp, FrameIn}
	Images   = []Point{Between, Within, File}
)

// ErrCrash is what everything fails with after the crash. It looks like a
// connection that broke.
var ErrCrash = fmt.Errorf("%w: crash", wire.ErrUnreachable)

// A Crash comes once, at the n-th point of a kind.
type Crash struct {
	t      testing.TB
	at     Point
	n      int64
	dirs   []string // of the device
	image  string
	taps   Taps
	signed *Signed

	count atomic.Int64 // points so far
	over  atomic.Bool
}

// active holds each Crash whose File points count.
var active sync.Map // :: *Crash → nothing

func init() { // before a server's goroutine could read it
	durable.Hook = func(_ durable.Op, _ bool, path string) (err error) {
		active.Range(func(k, _ any) bool {
			c := k.(*Crash)
			if c.owns(path) && (c.over.Load() || c.reached(File)) {
				err = ErrCrash
			}
			return err == nil
		})
		return err
	}
}

// New returns a Crash at the n-th point of a kind, never for n = 0, of a device
// that keeps its files in dirs. taps is the tap of the secondary; signed, if not
// nil, checks what is sent. [Crash.Restore] ends it.
func New(t testing.TB, at Point, n int, taps Taps, signed *Signed, dirs ...string) *Crash {
	c := &Crash{t: t, at: at, n: int64(n), dirs: dirs, image: filepath.Join(t.TempDir(), "image"), taps: taps, signed: signed}
	active.Store(c, nil)
	t.Cleanup(func() { active.Delete(c) })
	return c
}

// Over reports whether the crash has come.
func (c *Crash) Over() bool { return c.over.Load() }

// reached counts a point and reports whether the crash is there; then it has
// made the image.
func (c *Crash) reached(p Point) bool {
	if p != c.at || c.over.Load() || c.count.Add(1) != c.n {
		return false
	}
	if p == Between || p == Within || p == File {
		for i, dir := range c.dirs {
			Copy(c.t, c.imageOf(i), dir)
		}
	}
	c.over.Store(true)
	return true
}

func (c *Crash) imageOf(i int) string { return filepath.Join(c.image, fmt.Sprint(i)) }

func (c *Crash) owns(path string) bool {
	for _, dir := range c.dirs {
		if path == dir || strings.HasPrefix(path, dir+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// Step is a point between transactions: to be called by the goroutine that makes
// them, when nobody else writes. A sync's Progress is.
func (c *Crash) Step() { c.reached(Between) }

// Now is the time, and a point within a transaction: a vault asks for the time
// when it writes.
func (c *Crash) Now() time.Time {
	c.reached(Within)
	return time.Now()
}

// Restore ends the crash: where it made an image, the image takes the place of
// the directories. Nobody uses them.
func (c *Crash) Restore() {
	c.t.Helper()
	active.Delete(c)
	if !c.over.Load() {
		return
	}
	if _, err := os.Stat(c.image); err != nil {
		return // a cut connection
	}
	for i, dir := range c.dirs {
		if err := os.RemoveAll(dir); err != nil {
			c.t.Fatal(err)
		}
		Copy(c.t, dir, c.imageOf(i))
	}
}

// Copy copies a file or a directory with all in it, and the modes. That there
// is nothing to copy is no error.
func Copy(t testing.TB, to, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), info.Mode().Perm())
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, info.Mode().Perm())
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// Taps tells when the secondary has a frame: its Tap is to be the secondary's.
type Taps chan struct{}

// NewTaps returns Taps for one secondary.
func NewTaps() Taps { return make(Taps, 1<<16) }

// Tap notes a frame.
func (t Taps) Tap([]byte) {
	select {
	case t <- struct{}{}:
	default: // nobody has waited for a long time
	}
}

// Dial dials as [client.Dial] does, and the session crashes where it is to.
func (c *Crash) Dial(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
	if c.over.Load() {
		return nil, ErrCrash
	}
	var p *proxy
	if c.at == FrameUp || c.at == FrameIn {
		var err error
		if p, err = newProxy(c, s.URL); err != nil {
			return nil, err
		}
		s.URL = p.url()
	}
	conn, err := client.Dial(ctx, s, id)
	if err != nil {
		if p != nil {
			p.close()
		}
		return nil, err
	}
	for len(c.taps) > 0 { // those of sign-in, and of sessions before
		<-c.taps
	}
	if c.signed != nil {
		c.signed.begin()
	}
	return &messenger{Conn: conn, crash: c, proxy: p}, nil
}

// messenger is a session that crashes. Send returns when the secondary has what
// was sent, so that there is no doubt about that after the crash.
type messenger struct {
	*client.Conn
	crash *Crash
	proxy *proxy // may be nil
}

func (m *messenger) Send(ctx context.Context, msg wire.Message) error {
	if m.crash.over.Load() {
		return ErrCrash
	}
	if m.crash.signed != nil {
		m.crash.signed.check(msg)
	}
	if m.crash.reached(Sending) {
		return ErrCrash
	}
	if m.crash.reached(Sent) { // from here on no answer is heard
		if err := m.Conn.Send(context.WithoutCancel(ctx), msg); err != nil {
			return err
		}
		<-m.crash.taps
		return ErrCrash
	}
	if err := m.Conn.Send(ctx, msg); err != nil {
		return err
	}
	if m.proxy == nil && !m.arrived(ctx) {
		return ctx.Err()
	}
	return nil
}

// arrived waits until the secondary has a frame. It reports false where the
// session has ended before.
func (m *messenger) arrived(ctx context.Context) bool {
	select {
	case <-m.crash.taps:
		return true
	case <-ctx.Done():
	}
	select {
	case <-m.crash.taps: // the answer came, and the session was over with it
		return true
	default:
		return false
	}
}

func (m *messenger) Receive(ctx context.Context) (wire.Message, error) {
	msg, err := m.Conn.Receive(ctx)
	if err != nil {
		return nil, err
	}
	if m.crash.over.Load() || m.crash.reached(Received) {
		return nil, ErrCrash
	}
	return msg, nil
}

func (m *messenger) Close() error {
	err := m.Conn.Close()
	if m.proxy != nil {
		m.proxy.close()
	}
	return err
}
