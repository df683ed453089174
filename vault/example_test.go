package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/kistvault/kist/vault"
)

// Two devices want the same room for the same night.
func ExampleVault_Transact() {
	phone, laptop, done := twoDevices()
	defer done()

	errTaken := errors.New("the room is taken")
	book := func(v *vault.Vault, guest string) error {
		return v.Transact(context.Background(), "rooms", func(tx *vault.Tx) error {
			_, err := tx.Get("sea view/2026-12-24")
			if err == nil {
				return errTaken
			}
			if !errors.Is(err, vault.ErrNotFound) {
				return err
			}
			_, err = tx.Put("sea view/2026-12-24", []byte(guest))
			return err
		})
	}
	for _, err := range []error{book(phone, "Ada"), book(laptop, "Grace")} {
		switch {
		case err == nil:
			fmt.Println("booked")
		case errors.Is(err, errTaken):
			fmt.Println("not booked:", err)
		case errors.Is(err, vault.ErrOffline), errors.Is(err, vault.ErrContention):
			fmt.Println("not booked, try again:", err)
		case errors.Is(err, vault.ErrOutcomeUnknown):
			fmt.Println("perhaps booked: look again after the next sync")
		default:
			fmt.Println(err)
		}
	}
	// Output:
	// booked
	// not booked: the room is taken
}

// twoDevices returns two devices of a vault with a secondary of its own.
func twoDevices() (a, b *vault.Vault, done func()) {
	t := &exampleT{}
	p := newPerson(t)
	return p.device(vault.Config{}), p.device(vault.Config{}), t.done
}

// exampleT is what the helpers of tests need of a test, for an example.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (*exampleT) Helper()                  {}
func (*exampleT) Context() context.Context { return context.Background() }
func (t *exampleT) Cleanup(f func())       { t.cleanups = append(t.cleanups, f) }
func (*exampleT) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }
func (*exampleT) Errorf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}

func (t *exampleT) TempDir() string {
	dir, err := os.MkdirTemp("", "kist-example-")
	if err != nil {
		panic(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (t *exampleT) done() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}
