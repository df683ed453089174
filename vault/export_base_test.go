package vault

import (
	"fmt"
	"testing"
)

// LimitBase has what is live at a base stored and indexed by few, up to the end of the
// test.
func LimitBase(t testing.TB, batch, indexed, each int) {
	b, i, e := baseBatch, baseIndexed, baseIndexBatch
	t.Cleanup(func() { baseBatch, baseIndexed, baseIndexBatch = b, i, e })
	baseBatch, baseIndexed, baseIndexBatch = batch, indexed, each
}

// CheckFeed returns an error unless the feed has each record once, at its revision.
func CheckFeed(v *Vault) error {
	return v.view(func(s *state) error {
		places := 0
		err := s.feed.Scan(nil, func(k, key []byte) (bool, error) {
			places++
			e, err := s.record(recordKey(key))
			if err == nil && (e == nil || uint64(e.rev) != be.Uint64(k)) {
				err = fmt.Errorf("place %d of the feed is of a record with %+v", be.Uint64(k), e)
			}
			return true, err
		})
		if err != nil {
			return err
		}
		records := 0
		err = s.records.Scan(nil, func(k, b []byte) (bool, error) {
			records++
			return true, nil
		})
		if err == nil && records != places {
			err = fmt.Errorf("the feed has %d places, and there are %d records", places, records)
		}
		return err
	})
}
