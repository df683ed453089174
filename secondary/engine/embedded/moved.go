package embedded

import (
	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// A vault that was moved to another secondary is closed here: nobody appends to it,
// until a move brings it back. Its owner may fill its log again for that.

// movedAt returns the commit with which the vault was moved away, 0 if it is here.
func movedAt(tx *store.Tx, vault keys.VaultID) commitlog.CommitID {
	if b := tx.Bucket(bucketMoved); b != nil {
		if v := b.Get(vault[:]); len(v) == 8 {
			return commitlog.CommitID(be.Uint64(v))
		}
	}
	return 0
}

// setMoved closes or opens the vault, as a control commit has it.
func setMoved(tx *store.Tx, vault keys.VaultID, id commitlog.CommitID, m wire.Moved) error {
	if m == wire.MovedNot {
		return nil
	}
	b, err := tx.CreateBucket(bucketMoved)
	if err != nil {
		return err
	}
	if m == wire.MovedHere {
		return b.Delete(append([]byte(nil), vault[:]...))
	}
	return b.Put(append([]byte(nil), vault[:]...), be.AppendUint64(nil, uint64(id)))
}
