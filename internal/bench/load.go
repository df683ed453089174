package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
)

// Clients that are no vaults: they sign commits of random bytes, which a secondary
// cannot tell from others, and so cost next to nothing beside it.

// A loadOrder is what a process of clients is to do. It makes the vaults, each with
// the devices that its writers, readers and idle sessions need.
type loadOrder struct {
	Invite   string
	Vaults   int
	Writers  int           // sessions that upload commits, one after the other
	Readers  int           // sessions that follow what the writers of their vault write
	Restores int           // clients that take the whole log of a vault, again and again
	Idle     int           // sessions that do nothing
	Churn    int           // clients that sign in and leave, again and again
	Garbage  int           // clients that send what is no protocol
	Pause    time.Duration // of a writer after each commit
	For      time.Duration // how long; idle sessions are kept until standard input ends
}

// A loaded is what came of it.
type loaded struct {
	Commits  int             // acknowledged
	Time     time.Duration   // that the writers took
	Latency  []time.Duration // of each, ascending
	Read     int             // commits that readers got
	Restored int             // commits that restores got
	Churned  int             // sessions that came and went
	Refused  int             // connections with garbage
	Peak     int64           // RssAnon of the clients
	CPU      time.Duration   // that the clients took, on all cores
}

// A loadVault is a vault of the clients.
type loadVault struct {
	authority keys.Authority
	tag       keys.Tag // of the namespace that is written to
	devices   []*loadDevice
	root      commitlog.Hash // at size 1
}

// A loadDevice is a device of the clients.
type loadDevice struct {
	vault      *loadVault
	id         keys.DeviceID
	sign, auth keys.SigningKey
	kem        [32]byte
	used       bool // it has its session

	seq  uint64
	last commitlog.Hash
}

func (v *loadVault) device() *loadDevice {
	d := &loadDevice{vault: v, sign: keys.GenerateSigningKey(), auth: keys.GenerateSigningKey()}
	rand.Read(d.kem[:])
	r := d.registration()
	d.id = r.ID()
	v.devices = append(v.devices, d)
	return d
}

func (d *loadDevice) registration() wire.Registration {
	return wire.Registration{Device: d.id, Sign: d.sign.Public(), Auth: d.auth.Public(), KEMHash: d.kem}
}

// commit returns the device's next commit, of one put of n random bytes.
func (d *loadDevice) commit(n int) (*commitlog.Bundle, error) {
	change, blob := randomPut(n)
	d.seq++
	c, err := commitlog.Build(commitlog.Header{
		Kind: commitlog.KindData, Epoch: 1, Tag: d.vault.tag, Device: d.id, Seq: d.seq, PrevLeaf: d.last, SeenSize: 1, SeenRoot: d.vault.root,
	}, []commitlog.Change{change}, func(m []byte) [64]byte { return d.sign.Sign(keys.PurposeCommit, d.vault.id(), m) })
	if err != nil {
		return nil, err
	}
	d.last = c.Leaf()
	return &commitlog.Bundle{Commit: c, Blobs: [][]byte{blob}}, nil
}

func (v *loadVault) id() keys.VaultID { return v.authority.Public().VaultID() }

func randomPut(n int) (commitlog.Change, []byte) {
	blob := make([]byte, n)
	rand.Read(blob)
	return commitlog.Change{Op: commitlog.OpPut, BlobHash: sha256.Sum256(blob), BlobSize: uint32(n)}, blob
}

// newLoadVault makes a vault with devices at a secondary.
func newLoadVault(ctx context.Context, s client.Server, token wire.Token, devices int) (*loadVault, error) {
	v := &loadVault{authority: keys.GenerateRoot().Authority()}
	rand.Read(v.tag[:])
	c, err := client.Dial(ctx, s, client.NewVault(v.authority, token))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Send(ctx, &wire.Bind{Root: commitlog.EmptyRoot}); err != nil {
		return nil, err
	}
	control := &wire.Control{Epoch: 1}
	for range devices {
		control.Devices = append(control.Devices, v.device().registration())
	}
	change, blob := randomPut(commitlog.MinBlob)
	var tag keys.Tag
	rand.Read(tag[:])
	first, err := commitlog.Build(commitlog.Header{Kind: commitlog.KindControl, Epoch: 1, Tag: tag, Seq: 1, SeenRoot: commitlog.EmptyRoot},
		[]commitlog.Change{change}, func(m []byte) [64]byte { return v.authority.Sign.Sign(keys.PurposeControl, v.id(), m) })
	if err != nil {
		return nil, err
	}
	data, err := (&commitlog.Bundle{Commit: first, Blobs: [][]byte{blob}}).AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if err := c.Send(ctx, &wire.Upload{Control: control, Items: wire.Cut(data)}); err != nil {
		return nil, err
	}
	v.root = first.Leaf() // of a tree of one leaf
	return v, await(ctx, c, func(m wire.Message) (bool, error) {
		u, ok := m.(*wire.Uploaded)
		if !ok {
			return false, nil
		}
		return true, u.Results[0].Err()
	})
}

// await receives until a message is the one that was waited for.
func await(ctx context.Context, c *client.Conn, is func(wire.Message) (bool, error)) error {
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return err
		}
		if e, ok := m.(*wire.Error); ok {
			return e
		}
		if done, err := is(m); done || err != nil {
			return err
		}
	}
}

// session signs a device in, and has it follow the log from where it stands, or in
// which it is interested in nothing.
func (d *loadDevice) session(ctx context.Context, s client.Server, follow bool) (*client.Conn, error) {
	c, err := client.Dial(ctx, s, client.Device(d.vault.id(), d.id, d.auth))
	if err != nil {
		return nil, err
	}
	b := &wire.Bind{Size: 1, Root: d.vault.root, Tags: wire.Tags{}}
	if follow {
		b.Flags, b.Tags = wire.BindLive, nil
	}
	return c, c.Send(ctx, b)
}

// clients does what a process of clients is asked for.
type clients struct {
	order  loadOrder
	server client.Server
	vaults []*loadVault

	commits, read, restored, churned, refused atomic.Int64
	mu                                        gosync.Mutex
	latency                                   []time.Duration
}

// take returns a device that has no session yet, of the vaults in turn.
func (c *clients) take(i int) *loadDevice {
	v := c.vaults[i%len(c.vaults)]
	for _, d := range v.devices {
		if !d.used {
			d.used = true
			return d
		}
	}
	panic("bench: too few devices")
}

func (c *clients) make(ctx context.Context, token wire.Token) error {
	o := &c.order
	each := (o.Writers+o.Readers+o.Idle+o.Churn)/o.Vaults + 1
	return inParallel(o.Vaults, 8, func(int) error {
		v, err := newLoadVault(ctx, c.server, token, each)
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.vaults = append(c.vaults, v)
		return nil
	})
}

// inParallel runs n tasks, some at a time.
func inParallel(n, most int, task func(i int) error) error {
	var wg gosync.WaitGroup
	var next atomic.Int64
	errs := make([]error, most)
	for w := range most {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = task(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// write uploads commits, one after the other, until the context ends.
func (c *clients) write(ctx context.Context, d *loadDevice) error {
	conn, err := d.session(ctx, c.server, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	var times []time.Duration
	for ctx.Err() == nil {
		b, err := d.commit(commitlog.MinBlob)
		if err != nil {
			return err
		}
		data, err := b.AppendBinary(nil)
		if err != nil {
			return err
		}
		begun := time.Now()
		if err := conn.Send(ctx, &wire.Upload{Items: wire.Cut(data)}); err != nil {
			break
		}
		err = await(ctx, conn, func(m wire.Message) (bool, error) {
			u, ok := m.(*wire.Uploaded)
			if !ok {
				return false, nil
			}
			return true, u.Results[0].Err()
		})
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		times = append(times, time.Since(begun))
		c.commits.Add(1)
		if c.order.Pause > 0 {
			sleep(ctx, c.order.Pause)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency = append(c.latency, times...)
	return nil
}

// follow counts the commits that come in.
func (c *clients) follow(ctx context.Context, d *loadDevice) error {
	conn, err := d.session(ctx, c.server, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = await(ctx, conn, func(m wire.Message) (bool, error) {
		if d, ok := m.(*wire.Download); ok {
			c.read.Add(int64(len(d.Items)))
		}
		return false, nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// restore takes the whole log of a vault, again and again.
func (c *clients) restore(ctx context.Context, v *loadVault) error {
	for ctx.Err() == nil {
		conn, err := client.Dial(ctx, c.server, client.Owner(v.authority))
		if err != nil {
			break
		}
		size, got := uint64(0), uint64(0)
		err = conn.Send(ctx, &wire.Bind{Root: commitlog.EmptyRoot})
		if err == nil {
			err = await(ctx, conn, func(m wire.Message) (bool, error) {
				switch m := m.(type) {
				case *wire.Bound:
					size = m.Size
				case *wire.Download:
					got += uint64(len(m.Items))
				}
				return size > 0 && got >= size, nil
			})
		}
		conn.Close()
		c.restored.Add(int64(got))
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// childClients is a process of clients: it reads an order, does it, and writes what
// came of it.
func childClients(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	c := &clients{}
	if err := json.Unmarshal(line, &c.order); err != nil {
		return err
	}
	o := &c.order
	i, err := wire.ParseInvite(o.Invite)
	if err != nil {
		return err
	}
	c.server = client.Server{URL: i.URL, Key: i.Server, Binding: i.Binding}
	ctx := context.Background()
	if err := c.make(ctx, i.Token); err != nil {
		return err
	}
	if o.Idle > 0 {
		conns := make([]*client.Conn, o.Idle)
		devices := make([]*loadDevice, o.Idle)
		for n := range devices {
			devices[n] = c.take(n)
		}
		err := inParallel(o.Idle, 32, func(n int) (err error) {
			conns[n], err = devices[n].session(ctx, c.server, true)
			return err
		})
		if err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(loaded{Peak: rssAnon(0)}); err != nil {
			return err
		}
		io.Copy(io.Discard, lines)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.For)
	defer cancel()
	var wg gosync.WaitGroup
	var errs []error
	begin := func(run func() error) {
		wg.Go(func() {
			if err := run(); err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	peak := watchMemory(0)
	begun, cpu := time.Now(), cpuTime(0)
	for n := range o.Readers {
		d := c.take(n)
		begin(func() error { return c.follow(ctx, d) })
	}
	for n := range o.Writers {
		d := c.take(n)
		begin(func() error { return c.write(ctx, d) })
	}
	for n := range o.Restores {
		v := c.vaults[n%len(c.vaults)]
		begin(func() error { return c.restore(ctx, v) })
	}
	for n := range o.Churn {
		d := c.take(n)
		begin(func() error { return c.churn(ctx, d) })
	}
	for range o.Garbage {
		begin(func() error { return c.garbage(ctx) })
	}
	wg.Wait()
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	slices.Sort(c.latency)
	return json.NewEncoder(out).Encode(loaded{
		Commits: int(c.commits.Load()), Time: time.Since(begun), Latency: c.latency,
		Read: int(c.read.Load()), Restored: int(c.restored.Load()),
		Churned: int(c.churned.Load()), Refused: int(c.refused.Load()), Peak: peak().anon,
		CPU: cpuTime(0) - cpu,
	})
}

// clientsAway has a process of clients do an order. For idle sessions it returns when
// they are there, and until stop is called they stay.
func clientsAway(o loadOrder) (l loaded, stop func() error, err error) {
	cmd, err := self(roleClients, "")
	if err != nil {
		return l, nil, err
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return l, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return l, nil, err
	}
	if err := cmd.Start(); err != nil {
		return l, nil, err
	}
	stop = func() error {
		in.Close()
		return cmd.Wait()
	}
	if err := json.NewEncoder(in).Encode(o); err != nil {
		return l, nil, errors.Join(err, stop())
	}
	if err := json.NewDecoder(out).Decode(&l); err != nil {
		return l, nil, errors.Join(err, stop())
	}
	return l, stop, nil
}

// load measures a secondary under many clients, each side in a process of its own.
func (b *bench) load(ctx context.Context) error {
	for _, o := range []loadOrder{
		{Vaults: 1, Writers: 1},
		{Vaults: 1, Writers: 60},
		{Vaults: 8, Writers: 64},
		{Vaults: 64, Writers: 64},
		{Vaults: 8, Writers: 64, Readers: 16, Restores: 2},
	} {
		o.For = b.loadFor
		if err := b.loadOne(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) loadOne(ctx context.Context, o loadOrder) (err error) {
	dir, err := b.sub(fmt.Sprintf("load-%d-%d-%d", o.Vaults, o.Writers, o.Readers))
	if err != nil {
		return err
	}
	place, err := newAway(filepath.Join(dir, "secondary"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.stop()) }()
	if o.Invite, err = place.ask("invites"); err != nil {
		return err
	}
	peak, cpu := watchMemory(place.cmd.Process.Pid), cpuTime(place.cmd.Process.Pid)
	l, stop, err := clientsAway(o)
	if err != nil {
		return err
	}
	cpu = cpuTime(place.cmd.Process.Pid) - cpu
	if err := stop(); err != nil {
		return err
	}
	used := peak()
	what := fmt.Sprintf("%d vaults, %d writers", o.Vaults, o.Writers)
	if o.Vaults == 1 {
		what = fmt.Sprintf("1 vault, %d writers", o.Writers)
	}
	if o.Readers > 0 {
		what += fmt.Sprintf(", %d readers, %d restores", o.Readers, o.Restores)
	}
	rate := float64(l.Commits) / l.Time.Seconds()
	p50, p99 := quantile(l.Latency, 0.5), quantile(l.Latency, 0.99)
	switch {
	case o.Writers == 1:
		b.mark(what+": p50 of a durable commit", show(p50), fmt.Sprintf("under 4 × fdatasync, %s", show(4*b.disk)), p50 < 4*b.disk)
	case o.Writers == 64 && o.Readers == 0:
		b.mark(what+": durable commits a second", fmt.Sprintf("%.0f", rate), "at least 5,000", rate >= 5000)
	default:
		row(what+": durable commits a second", fmt.Sprintf("%.0f", rate))
	}
	row("  latency p50, p99", show(p50)+", "+show(p99))
	if o.Readers > 0 {
		row("  commits a second to readers, to restores", fmt.Sprintf("%.0f, %.0f", float64(l.Read)/l.Time.Seconds(), float64(l.Restored)/l.Time.Seconds()))
	}
	if cpu > 0 && o.Readers == 0 {
		n := time.Duration(l.Commits)
		row("  time on a core for each commit: secondary, clients", show(cpu/n)+", "+show(l.CPU/n))
	}
	row("  RssAnon of the secondary at the peak", mib(used.anon))
	return nil
}

// idle measures what sessions cost that do nothing.
func (b *bench) idleSessions(ctx context.Context) (err error) {
	dir, err := b.sub("idle")
	if err != nil {
		return err
	}
	place, err := newAway(filepath.Join(dir, "secondary"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.stop()) }()
	invite, err := place.ask("invites")
	if err != nil {
		return err
	}
	o := loadOrder{Invite: invite, Vaults: b.idle/60 + 1, Idle: b.idle}
	before := rssAnon(place.cmd.Process.Pid)
	peak := watchMemory(place.cmd.Process.Pid)
	l, stop, err := clientsAway(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	atPeak := peak().anon
	heap, err := settled(place)
	if err != nil {
		return err
	}
	now := rssAnon(place.cmd.Process.Pid)
	what := fmt.Sprintf("%d idle TLS sessions: RssAnon of the secondary, all of it", b.idle)
	limit := int64(400<<20) * int64(b.idle) / 10_000
	b.mark(what, mib(now), "under "+mib(limit), now < limit)
	row("  for each session", fmt.Sprintf("%.1f KiB", float64(now-before)/float64(b.idle)/1024))
	row("  at the peak of signing in; alive in the heap; the clients", mib(atPeak)+"; "+mib(heap)+"; "+mib(l.Peak))
	return nil
}
