package store

import "bytes"

// Drain deletes up to n keys in b and in the buckets within it, and the buckets that
// are empty then, and returns how many keys it has deleted: fewer than n if b is
// empty. So a large bucket goes in steps, between which others can write. Keys that
// are not where they are looked for, and would never go, are ErrDamaged.
func (b *Bucket) Drain(n int) (deleted int, err error) {
	for deleted < n {
		var keys [][]byte
		bucket := ""
		c := b.bolt().Cursor()
		for k, v := c.First(); k != nil && len(keys) < n-deleted; k, v = c.Next() {
			if len(keys) > 0 && bytes.Compare(k, keys[len(keys)-1]) <= 0 {
				return deleted, b.disorder()
			}
			if v == nil {
				bucket = string(k)
				break
			}
			keys = append(keys, bytes.Clone(k))
		}
		for _, k := range keys {
			if err := b.Delete(k); err != nil {
				return deleted, err
			}
		}
		deleted += len(keys)
		if bucket == "" && len(keys) == 0 {
			break
		}
		if len(keys) > 0 {
			if err := b.beyond(keys[len(keys)-1]); err != nil {
				return deleted, err
			}
		}
		if bucket == "" || deleted == n {
			continue
		}
		in := b.Bucket(bucket)
		if in == nil {
			return deleted, b.disorder()
		}
		gone, err := in.Drain(n - deleted)
		if deleted += gone; err != nil || deleted == n {
			return deleted, err
		}
		if err := b.DeleteBucket(bucket); err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// beyond returns ErrDamaged unless all that is left of b is behind a key.
func (b *Bucket) beyond(key []byte) error {
	if k, _ := b.bolt().Cursor().First(); k != nil && bytes.Compare(k, key) <= 0 {
		return b.disorder()
	}
	return nil
}
