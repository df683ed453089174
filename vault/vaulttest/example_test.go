package vaulttest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// An app's own test. It takes milliseconds, whatever time passes in it.
func Example() {
	// go test calls what is in an app named TestNotes.
	_ = testNotes
	// Output:
}

func testNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.NewSecondary(t)
		v := s.NewVault(t)
		laptop := v.Device(t, "laptop", vault.Config{})
		phone := v.Device(t, "phone", vault.Config{})

		// Both write the same note while neither knows of the other.
		write(t, laptop, "shopping", "bread")
		time.Sleep(time.Minute)
		write(t, phone, "shopping", "bread, milk")
		vaulttest.Sync(t, laptop, phone, laptop)
		vaulttest.InStep(t, laptop, phone)
		rec, err := laptop.Namespace("notes").Get(t.Context(), "shopping")
		if err != nil || string(rec.Value) != "bread, milk" || rec.Siblings == 0 {
			t.Errorf("the later one is shown, with the other beside it: %+v, %v", rec, err)
		}

		// The phone keeps itself in step, and loses its network for an hour.
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- phone.Run(ctx, vault.SyncOptions{}) }()
		synctest.Wait() // until nothing is left to do
		phone.Network.Disconnect()
		write(t, phone, "ideas", "a boat")
		time.Sleep(time.Hour)
		phone.Network.Connect()
		time.Sleep(10 * time.Minute) // it tries again by itself
		vaulttest.Sync(t, laptop)
		vaulttest.InStep(t, laptop, phone)
		stop()
		<-ended
	})
}

func write(t *testing.T, d *vaulttest.Device, name, value string) {
	t.Helper()
	if _, err := d.Namespace("notes").Put(t.Context(), name, []byte(value)); err != nil {
		t.Fatal(err)
	}
}
