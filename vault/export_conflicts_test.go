package vault

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/bbolt"
)

// ByHand keeps the vault from running its resolvers by itself: ResolveDue does.
// random says how long a device waits that is not the author.
func ByHand(v *Vault, random func(n int64) int64) {
	v.resolvers.mu.Lock()
	defer v.resolvers.mu.Unlock()
	v.resolvers.work = make(chan struct{}, 1)
	v.resolvers.random = random
}

func ResolveDue(ctx context.Context, v *Vault, now time.Time) (time.Time, error) {
	return v.resolveDue(ctx, now)
}

var AnswerDue = answerDue

// AgeStore takes out of a closed vault's store what programs before this one did
// not write.
func AgeStore(path string) error {
	return DropBuckets(path, laterBuckets...)
}

// DropBuckets takes buckets out of a closed vault's store.
func DropBuckets(path string, names ...string) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range names {
			if err := tx.DeleteBucket([]byte(b)); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// Ask returns what calls a resolver as a vault does.
func Ask(r Resolver) func(ctx context.Context) (Resolution, error) {
	var rs resolvers
	rs.set("notes", r)
	return func(ctx context.Context) (Resolution, error) { return rs.ask(ctx, "notes", Conflict{}) }
}

// Asked reports whether a session has asked for the resolvers of a vault that is
// run by hand, since it was called last.
func Asked(v *Vault) bool {
	select {
	case <-v.resolvers.work:
		return true
	default:
		return false
	}
}
