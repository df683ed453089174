package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kistvault/kist/vault"
)

// path measures the main job: many records written, sent, restored and listed.
func (b *bench) path(ctx context.Context) error {
	_, ada, end, err := b.scene(ctx, "path", nil)
	if err != nil {
		return err
	}
	defer end()
	v, _, err := ada.device(ctx, vault.Config{})
	if err != nil {
		return err
	}
	const single = 500
	start := time.Now()
	for i := range single {
		if _, err := v.Namespace("single").Put(ctx, name(i), value(i)); err != nil {
			return err
		}
	}
	rate("put, one by one", single, time.Since(start))
	start = time.Now()
	if err := fill(ctx, v, b.large); err != nil {
		return err
	}
	rate("put, 1,000 a transaction", b.large, time.Since(start))
	runtime.GC()

	peak := watchMemory(0)
	start = time.Now()
	r, err := v.Sync(ctx, vault.SyncOptions{})
	if err != nil {
		return err
	}
	rate("upload (signed, stored, acknowledged, verified)", r.Pushed, time.Since(start))
	row("  bytes a record, with TLS", fmt.Sprintf("%.1f out, %.1f in", float64(r.BytesOut)/float64(r.Pushed), float64(r.BytesIn)/float64(r.Pushed)))
	row("  peak RssAnon, both roles in one process", mib(peak().anon))

	total := b.large + single
	runtime.GC()
	peak = watchMemory(0)
	start = time.Now()
	other, r, err := ada.device(ctx, vault.Config{})
	if err != nil {
		return err
	}
	rate("restore (pulled, verified, indexed, durable)", total, time.Since(start))
	row("  bytes a record, with TLS", fmt.Sprintf("%.1f in", float64(r.BytesIn)/float64(total)))
	row("  peak RssAnon, both roles in one process", mib(peak().anon))

	start = time.Now()
	n := 0
	for _, err := range other.Namespace("bench").List(ctx) {
		if err != nil {
			return err
		}
		n++
	}
	rate("list with values", n, time.Since(start))
	if err := sync(ctx, v); err != nil {
		return err
	}
	da, _, err := v.Digest(ctx)
	if err != nil {
		return err
	}
	start = time.Now()
	db, _, err := other.Digest(ctx)
	if err != nil {
		return err
	}
	row("digest", show(time.Since(start)))
	if da != db {
		return fmt.Errorf("the devices' digests differ: %v, %v", da, db)
	}
	for _, d := range []string{"secondary", "device-1", "device-2"} {
		size, err := diskUse(filepath.Join(ada.dir, d))
		if err != nil {
			return err
		}
		row("bytes a record on disk, "+d, fmt.Sprintf("%.1f", float64(size)/float64(total)))
	}
	return nil
}

func rate(what string, n int, d time.Duration) {
	row(what, fmt.Sprintf("%.0f/s", float64(n)/d.Seconds())+fmt.Sprintf("  (%d in %s)", n, show(d)))
}
