package main

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"time"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// apart is how long the live measure waits between two puts, so that one is over
// on both devices when the next begins.
const apart = 25 * time.Millisecond

// moments are the latest that something was seen.
type moments struct {
	mu gosync.Mutex
	at map[string]time.Time
}

func (m *moments) note(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at[what] = time.Now()
}

func (m *moments) of(what string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[what]
}

// The moments on the way of a change, each after the one before.
const (
	atUpload   = "the secondary has it"
	atDownload = "the other device has it"
)

// live measures the time from Put on one device to the event on another.
func (b *bench) live(ctx context.Context) (err error) {
	seen := &moments{at: make(map[string]time.Time)}
	_, ada, end, err := b.scene(ctx, "live", func(frame []byte) {
		if m, err := wire.Parse(frame); err == nil && m.Type() == wire.TypeUpload {
			seen.note(atUpload)
		}
	})
	if err != nil {
		return err
	}
	defer end()
	var devices []*vault.Vault
	for range 2 {
		v, _, err := ada.device(ctx, vault.Config{})
		if err != nil {
			return err
		}
		devices = append(devices, v)
	}
	writer, reader := devices[0], devices[1]
	ctx, cancel := context.WithCancel(ctx)
	sub := reader.Watch(ctx, "live")
	stop, err := run(ctx, devices, vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := client.Dial(ctx, s, id)
		if err != nil {
			return nil, err
		}
		return &noting{c, seen}, nil
	}})
	defer func() {
		cancel()
		err = errors.Join(err, stop())
	}()
	if err != nil {
		return err
	}

	const phases = 4
	var total []time.Duration
	var phase [phases][]time.Duration
	n := 0
	put := func() (time.Duration, [phases]time.Duration, error) {
		n++
		start := time.Now()
		if _, err := writer.Namespace("live").Put(ctx, name(n), value(n)); err != nil {
			return 0, [phases]time.Duration{}, err
		}
		stored := time.Now()
		rec, ok := <-sub.C
		if !ok {
			return 0, [phases]time.Duration{}, fmt.Errorf("the watch has ended: %w", sub.Err())
		}
		if rec.Name != name(n) {
			return 0, [phases]time.Duration{}, fmt.Errorf("event for %q, want %q", rec.Name, name(n))
		}
		end := time.Now()
		up, down := seen.of(atUpload), seen.of(atDownload)
		return end.Sub(start), [phases]time.Duration{stored.Sub(start), up.Sub(stored), down.Sub(up), end.Sub(down)}, nil
	}
	for i := range b.puts + 20 {
		time.Sleep(apart)
		d, ph, err := put()
		if err != nil {
			return err
		}
		if i < 20 { // to warm up
			continue
		}
		total = append(total, d)
		for j := range ph {
			phase[j] = append(phase[j], ph[j])
		}
	}
	row("fdatasync, p50", show(b.disk))
	b.latency(fmt.Sprintf("put to event, %d puts, %v apart", len(total), apart), total)
	for j, what := range []string{
		"signed and durable: Put returns",
		"at the secondary",
		"checked, durable there, at the other device",
		"checked, durable there, event",
	} {
		row("  of that, p50: "+what, show(quantile(phase[j], 0.5)))
	}
	total = total[:0]
	for range b.puts {
		d, _, err := put()
		if err != nil {
			return err
		}
		total = append(total, d)
	}
	b.latency(fmt.Sprintf("put to event, %d puts, each at the event of the last", len(total)), total)
	return nil
}

// latency prints times beside what they may be.
func (b *bench) latency(what string, times []time.Duration) {
	p50, p99 := quantile(times, 0.5), quantile(times, 0.99)
	limit := max(3*time.Millisecond, 10*b.disk)
	b.mark(what+": p50", show(p50), "under 3 ms or 10 fdatasync, here "+show(limit), p50 < limit)
	b.mark("  p99", show(p99), "under 15 ms", p99 < 15*time.Millisecond)
}

// noting notes when a DOWNLOAD comes.
type noting struct {
	*client.Conn
	seen *moments
}

func (n *noting) Receive(ctx context.Context) (wire.Message, error) {
	m, err := n.Conn.Receive(ctx)
	if d, ok := m.(*wire.Download); ok && d.Items[0].Kind != wire.ItemStub {
		n.seen.note(atDownload)
	}
	return m, err
}

// run keeps devices in step, and returns when all are live. When ctx has ended,
// stop waits for them.
func run(ctx context.Context, vs []*vault.Vault, o vault.SyncOptions) (stop func() error, err error) {
	ended := make(chan error, len(vs))
	for _, v := range vs {
		o := o
		live := make(chan struct{})
		var once gosync.Once
		o.Progress = func(p vault.Progress) {
			if p.State == vault.StateLive {
				once.Do(func() { close(live) })
			}
		}
		go func() { ended <- v.Run(ctx, o) }()
		select {
		case <-live:
		case err := <-ended:
			ended <- err
			return func() error { return nil }, fmt.Errorf("it does not stay in step: %w", err)
		}
	}
	return func() (err error) {
		for range vs {
			if e := <-ended; !errors.Is(e, context.Canceled) {
				err = errors.Join(err, e)
			}
		}
		return err
	}, nil
}
