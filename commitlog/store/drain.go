package store

import "bytes"

// Drain deletes up to n keys in b and in the buckets within it, and the buckets that
// are empty then, and returns how many keys it has deleted: fewer than n if b is
// empty. So a large bucket goes in steps, between which others can write.
func (b *Bucket) Drain(n int) (deleted int, err error) {
	for deleted < n {
		var keys [][]byte
		bucket := ""
		c := b.bolt().Cursor()
		for k, v := c.First(); k != nil && len(keys) < n-deleted; k, v = c.Next() {
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
		if bucket == "" || deleted == n {
			continue
		}
		in := b.Bucket(bucket)
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
