package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/vault"
)

// A line is what one session moves.
type line struct{ sent, received int64 }

func (l line) sum() int64 { return l.sent + l.received }

func (l line) minus(m line) line { return line{l.sent - m.sent, l.received - m.received} }

func (l line) String() string { return fmt.Sprintf("%d up, %d down", l.sent, l.received) }

// framesOf syncs a device without TLS and returns the bytes of the WebSocket's
// frames, heads and masks of them included: all that follows the HTTP upgrade.
func framesOf(ctx context.Context, p *place, v *vault.Vault) (line, error) {
	var c *frameCounter
	_, err := v.Sync(ctx, vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		s.URL, s.Binding = p.plain.URL, p.plain.Binding
		s.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			c = &frameCounter{Conn: conn}
			return c, err
		}
		conn, err := client.Dial(ctx, s, id)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}})
	if err != nil {
		return line{}, err
	}
	return line{c.sent.frames.Load(), c.received.frames.Load()}, nil
}

// wireOf syncs a device with TLS and returns all bytes of the connection.
func wireOf(ctx context.Context, v *vault.Vault) (line, error) {
	r, err := v.Sync(ctx, vault.SyncOptions{})
	return line{r.BytesOut, r.BytesIn}, err
}

// frameCounter counts what follows the HTTP heads of a connection.
type frameCounter struct {
	net.Conn
	sent, received afterHead
}

func (c *frameCounter) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.add(p[:n])
	return n, err
}

func (c *frameCounter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.add(p[:n])
	return n, err
}

// afterHead counts the bytes that come after a HTTP head.
type afterHead struct {
	head   []byte // so far
	over   bool
	frames atomic.Int64
}

func (a *afterHead) add(p []byte) {
	if !a.over {
		a.head = append(a.head, p...)
		end := bytes.Index(a.head, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		a.over = true
		p = a.head[end+4:]
	}
	a.frames.Add(int64(len(p)))
}

// A pair is two devices in step, of a vault with so many records.
type pair struct {
	place   *place
	ada     *person
	end     func()
	a, b    *vault.Vault
	records int
}

func (b *bench) newPair(ctx context.Context, records int) (*pair, error) {
	place, ada, end, err := b.scene(ctx, fmt.Sprintf("pair-%d", records), nil)
	if err != nil {
		return nil, err
	}
	p := &pair{place: place, ada: ada, end: end, records: records}
	if p.a, _, err = p.ada.device(ctx, vault.Config{}); err != nil {
		return p, err
	}
	if err := fill(ctx, p.a, records); err != nil {
		return p, err
	}
	if err := sync(ctx, p.a); err != nil {
		return p, err
	}
	if p.b, _, err = p.ada.device(ctx, vault.Config{}); err != nil {
		return p, err
	}
	return p, sync(ctx, p.a, p.b)
}

func (p *pair) close() {
	if p != nil {
		p.end()
	}
}

// change changes n records that are there, 256 bytes each; round tells one
// change from the next.
func (p *pair) change(ctx context.Context, n, round int) error {
	for i := range n {
		value := bytes.Repeat([]byte{byte(round), byte(i)}, 128)
		if _, err := p.a.Namespace("bench").Put(ctx, name((round*997+i)%p.records), value); err != nil {
			return err
		}
	}
	return nil
}

// traffic measures the bytes of a session in which there is nothing to do, and
// what one changed record adds to it, up and down.
func (b *bench) traffic(ctx context.Context) error {
	for _, records := range []int{1000, b.large} {
		p, err := b.newPair(ctx, records)
		defer p.close()
		if err != nil {
			return err
		}
		fmt.Printf("  in a vault of %d records\n", records)
		nothing, err := framesOf(ctx, p.place, p.a)
		if err != nil {
			return err
		}
		secure, err := wireOf(ctx, p.a)
		if err != nil {
			return err
		}
		b.mark("session with nothing to do, sign-in included, frames", fmt.Sprintf("%d bytes", nothing.sum()), nothing.String()+"; under 2,048", nothing.sum() < 2048)
		row("  the same with TLS 1.3 and HTTP upgrade, on the line", fmt.Sprintf("%d bytes", secure.sum()))

		var up, down line
		for round := range 5 {
			if err := p.change(ctx, 1, round+1); err != nil {
				return err
			}
			l, err := framesOf(ctx, p.place, p.a)
			if err != nil {
				return err
			}
			if l = l.minus(nothing); l.sum() > up.sum() {
				up = l
			}
			if l, err = framesOf(ctx, p.place, p.b); err != nil {
				return err
			}
			if l = l.minus(nothing); l.sum() > down.sum() {
				down = l
			}
		}
		b.mark("one changed record of 256 bytes going up, frames beyond that", fmt.Sprintf("%d bytes", up.sum()), up.String()+"; under 1,229", up.sum() < 1229)
		b.mark("the same coming down to the other device", fmt.Sprintf("%d bytes", down.sum()), down.String()+"; under 1,229", down.sum() < 1229)
	}
	return nil
}

// incremental measures syncs of 10 changes in a small and in a large vault, turn
// by turn, so that both have the same machine.
func (b *bench) incremental(ctx context.Context) error {
	const rounds, changes = 25, 10
	sizes := []int{1000, b.large}
	var pairs []*pair
	for _, records := range sizes {
		p, err := b.newPair(ctx, records)
		defer p.close()
		if err != nil {
			return err
		}
		pairs = append(pairs, p)
	}
	times := make(map[int]*[2][]time.Duration)
	for _, p := range pairs {
		times[p.records] = new([2][]time.Duration)
	}
	for round := range rounds {
		for _, p := range pairs {
			if err := p.change(ctx, changes, round+1); err != nil {
				return err
			}
			for i, v := range []*vault.Vault{p.a, p.b} {
				start := time.Now()
				if err := sync(ctx, v); err != nil {
					return err
				}
				times[p.records][i] = append(times[p.records][i], time.Since(start))
			}
		}
	}
	for i, what := range []string{"up", "down"} {
		small, large := quantile(times[sizes[0]][i], 0.5), quantile(times[sizes[1]][i], 0.5)
		row(fmt.Sprintf("%d changes %s, sign-in included, %d records: p50", changes, what, sizes[0]), show(small))
		row(fmt.Sprintf("%d changes %s, sign-in included, %d records: p50", changes, what, sizes[1]), show(large))
		ratio := float64(large) / float64(small)
		b.mark("  ratio", fmt.Sprintf("%.2f", ratio), "about 1", ratio < 1.25)
	}
	return nil
}
