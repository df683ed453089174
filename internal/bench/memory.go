package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// memory measures what a sync of few and of many pending changes holds: each
// device and the secondary in a process of its own. What grows at first are the
// windows: some MiB of commits that are built, sent and applied at a time, and
// the pages of the store that they touch. They are full before the last size.
func (b *bench) memory(ctx context.Context) error {
	sizes := []int{1000, b.large / 4, b.large}
	var got [][2]pendingResult
	for _, pending := range sizes {
		r, err := b.pending(ctx, pending)
		if err != nil {
			return err
		}
		got = append(got, r)
	}
	for j, way := range []string{"sent", "fetched"} {
		for i, pending := range sizes {
			r := &got[i][j]
			row(fmt.Sprintf("%d changes %s: RssAnon of device, secondary, at the peak", pending, way), mib(r.Peak)+", "+mib(r.secondary))
			row("  heap of the device, garbage included, at the peak", mib(r.Heap))
		}
		last, before := &got[2][j], &got[1][j]
		ratio := max(float64(last.Peak)/float64(before.Peak), float64(last.secondary)/float64(before.secondary))
		b.mark("  the last beside the one before, a quarter as many", fmt.Sprintf("%.2f", ratio), "bounded: under 1.5", ratio < 1.5)
	}
	return nil
}

type pendingResult struct {
	result
	secondary int64
}

// pending syncs a device that has so many changes to send, and then another
// that has to fetch them.
func (b *bench) pending(ctx context.Context, n int) (out [2]pendingResult, err error) {
	dir, err := b.sub(fmt.Sprintf("pending-%d", n))
	if err != nil {
		return out, err
	}
	place, err := newAway(filepath.Join(dir, "secondary"))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, place.stop()) }()
	ada, err := place.person(dir)
	if err != nil {
		return out, err
	}
	for i := range 2 {
		v, _, err := ada.device(ctx, vault.Config{})
		if err != nil {
			return out, err
		}
		if i > 0 {
			continue
		}
		if err := fill(ctx, v, n); err != nil {
			return out, err
		}
	}
	if err := ada.close(); err != nil {
		return out, err
	}
	for i := range out {
		if _, err := place.heap(); err != nil { // and what was garbage is gone
			return out, err
		}
		peak := watchMemory(place.cmd.Process.Pid)
		r, err := device(ada.deviceDir(i + 1))
		u := peak()
		if err != nil {
			return out, err
		}
		if r.Changes < n {
			return out, fmt.Errorf("%d changes were synced, not %d", r.Changes, n)
		}
		out[i] = pendingResult{r, u.anon}
	}
	return out, nil
}

// slow measures what a secondary holds for devices that follow the log and read
// nothing of it, with more and more to send to them.
func (b *bench) slow(ctx context.Context) (err error) {
	dir, err := b.sub("slow")
	if err != nil {
		return err
	}
	place, err := newAway(filepath.Join(dir, "secondary"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.stop()) }()
	ada, err := place.person(dir)
	if err != nil {
		return err
	}
	defer ada.close()
	writer, _, err := ada.device(ctx, vault.Config{})
	if err != nil {
		return err
	}
	const peers, block = 8, 64 << 20
	var ids []client.Identity
	for range peers {
		_, id, _, err := ada.identified(ctx, vault.Config{}, vault.SyncOptions{})
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	before, err := place.heap()
	if err != nil {
		return err
	}
	for _, id := range ids {
		c, err := client.Dial(ctx, client.Server{URL: ada.invite.URL, Key: ada.invite.Server, Binding: ada.invite.Binding}, id)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Send(ctx, &wire.Bind{Root: commitlog.EmptyRoot, Flags: wire.BindLive}); err != nil {
			return err
		}
	}
	var each []int64
	for round := range 3 {
		if round > 0 {
			if err := load(ctx, writer, round, block); err != nil {
				return err
			}
			if err := sync(ctx, writer); err != nil {
				return err
			}
		}
		n, err := settled(place)
		if err != nil {
			return err
		}
		each = append(each, (n-before)/peers)
		row(fmt.Sprintf("alive in the secondary for each of %d, %d MiB to send", peers, round*block>>20), mib(each[round]))
	}
	// One frame that waits for the line, as it was read and as it is encoded.
	most := max(each[1], each[2])
	b.mark("  the most of these", mib(most), "bounded: under 4 MiB", most < 4<<20)
	return nil
}

// settled returns what is alive in the secondary when that changes no more.
func settled(a *away) (int64, error) {
	for last := int64(-1); ; time.Sleep(200 * time.Millisecond) {
		n, err := a.heap()
		if err != nil || max(n-last, last-n) < 64<<10 {
			return n, err
		}
		last = n
	}
}

// load writes so many bytes, in values of 32 KiB.
func load(ctx context.Context, v *vault.Vault, round, size int) error {
	const value = 32 << 10
	const each = 16 // values in a commit, which then fits into a frame
	for i := 0; i < size/value; i += each {
		err := v.Update(ctx, "bench", func(tx *vault.Tx) error {
			for j := i; j < min(i+each, size/value); j++ {
				if _, err := tx.Put(fmt.Sprintf("%d of %d", j, round), make([]byte, value)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
