package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kistvault/kist/vault"
)

// offline measures how 700 commits that were made without a secondary go up, and
// a transaction of just under 16 MiB.
func (b *bench) offline(ctx context.Context) error {
	_, ada, end, err := b.scene(ctx, "offline", nil)
	if err != nil {
		return err
	}
	defer end()
	v, _, err := ada.device(ctx, vault.Config{KeepEach: true})
	if err != nil {
		return err
	}
	const commits = 700
	start := time.Now()
	for i := range commits { // one record, so that no two share a commit
		if _, err := v.Namespace("bench").Put(ctx, name(0), value(i)); err != nil {
			return err
		}
	}
	row(fmt.Sprintf("%d single puts, each kept", commits), show(time.Since(start)))
	start = time.Now()
	r, err := v.Sync(ctx, vault.SyncOptions{})
	if err != nil {
		return err
	}
	if r.Commits != commits+1 { // the first admits the device
		return fmt.Errorf("%d puts are %d commits", commits, r.Commits-1)
	}
	row(fmt.Sprintf("  up, as %d commits", commits), show(time.Since(start)))

	const values, size = 245, 64 << 10
	start = time.Now()
	err = v.Update(ctx, "bench", func(tx *vault.Tx) error {
		for i := range values {
			if _, err := tx.Put(name(i), make([]byte, size)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	row(fmt.Sprintf("one transaction of %s", mib(values*size)), show(time.Since(start)))
	start = time.Now()
	if err := sync(ctx, v); err != nil {
		return err
	}
	row("  up, as one commit", show(time.Since(start)))
	start = time.Now()
	if _, _, err := ada.device(ctx, vault.Config{}); err != nil {
		return err
	}
	row("all of that down to a new device", show(time.Since(start)))
	return nil
}
