package store_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog/store"
)

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(filepath.Join(t.TempDir(), "kist.db"), store.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		commits := 0
		db.Observe(func(time.Duration) { commits++ })
		write := func(tx *store.Tx) error {
			_, err := tx.CreateBucket(time.Now().String())
			return err
		}

		if err := db.Update(func(*store.Tx) error { return nil }); err != nil || commits != 0 {
			t.Errorf("nothing written: %v, %d transactions", err, commits)
		}
		gate := make(chan struct{})
		done := make(chan error)
		go func() {
			done <- db.Update(func(tx *store.Tx) error {
				<-gate
				return write(tx)
			})
		}()
		synctest.Wait()
		for range 3 {
			go func() { done <- db.Update(write) }()
		}
		synctest.Wait()
		if n := db.Waiting(); n != 3 {
			t.Errorf("%d calls wait, want 3", n)
		}
		time.Sleep(time.Second) // of the bubble: another name
		close(gate)
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := db.Waiting(); n != 0 || commits != 1 {
			t.Errorf("%d calls wait, want 0; %d transactions, want 1: the second had nothing to write", n, commits)
		}
		time.Sleep(time.Second)
		if err := db.Update(write); err != nil || commits != 2 {
			t.Errorf("%v, %d transactions, want 2", err, commits)
		}
		db.Observe(nil)
		time.Sleep(time.Second)
		if err := db.Update(write); err != nil || commits != 2 {
			t.Errorf("%v, %d transactions after nobody is told", err, commits)
		}
	})
}
