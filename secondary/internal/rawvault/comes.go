package rawvault

import (
	"bytes"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// A Live is a live change, with the commit that it is in.
type Live struct {
	Tag    keys.Tag
	ID     commitlog.ChangeID
	Bundle *commitlog.Bundle
}

// Entry returns the encoded change.
func (l Live) Entry() []byte { return l.Bundle.Commit.Changes[l.ID.Index].Entry }

// Blob returns the change's blob.
func (l Live) Blob() []byte { return l.Bundle.Blobs[l.ID.Index] }

// LiveIn returns what is live in a log of these commits, in the order of SNAPSHOT.
// It knows puts and deletes, and refs by commit ID.
func (v *Vault) LiveIn(log []*commitlog.Bundle) (out []Live) {
	for at, b := range log {
		for i, ch := range b.Commit.Changes {
			out = slices.DeleteFunc(out, func(l Live) bool {
				return slices.Contains(ch.Refs, commitlog.Ref{At: uint64(l.ID.Commit), Index: l.ID.Index})
			})
			if ch.Op == commitlog.OpPut {
				out = append(out, Live{b.Commit.Header.Tag, commitlog.ChangeID{Commit: commitlog.CommitID(at + 1), Index: uint16(i)}, b})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Live) int {
		switch {
		case a.Tag == b.Tag:
			return 0
		case a.Tag == v.Control:
			return -1
		case b.Tag == v.Control:
			return 1
		}
		return bytes.Compare(a.Tag[:], b.Tag[:])
	})
	return out
}

// Comes returns what the log of these commits, which the vault knows, comes to, as
// a checkpoint of nobody.
func (v *Vault) Comes(log []*commitlog.Bundle) *commitlog.Checkpoint {
	c := &commitlog.Checkpoint{Vault: v.ID(), Size: uint64(len(log))}
	for _, i := range commitlog.Peaks(c.Size) {
		h, err := v.ReadHash(i)
		must(err)
		c.Peaks = append(c.Peaks, h)
	}
	ends := make(map[keys.DeviceID]commitlog.AuthorEnd)
	for _, b := range log {
		h := &b.Commit.Header
		ends[h.Device] = commitlog.AuthorEnd{Device: h.Device, Seq: h.Seq, Leaf: b.Commit.Leaf(), Seen: h.SeenSize}
	}
	for _, e := range ends {
		c.Authors = append(c.Authors, e)
	}
	slices.SortFunc(c.Authors, func(a, b commitlog.AuthorEnd) int { return bytes.Compare(a.Device[:], b.Device[:]) })
	states := make(map[keys.Tag]*commitlog.StateHash)
	for _, l := range v.LiveIn(log) {
		if states[l.Tag] == nil {
			states[l.Tag] = commitlog.NewStateHash()
		}
		states[l.Tag].Add(l.ID, l.Bundle.Commit.Leaf(), l.Entry())
	}
	for tag, s := range states {
		c.Namespaces = append(c.Namespaces, commitlog.NamespaceState{Tag: tag, Count: s.Count, Bytes: s.Bytes, Hash: s.Sum()})
		if tag == v.Control {
			c.Control.Number = s.Count
		}
	}
	slices.SortFunc(c.Namespaces, func(a, b commitlog.NamespaceState) int { return bytes.Compare(a.Tag[:], b.Tag[:]) })
	return c
}

// Checkpoint returns the checkpoint, signed by the device at a time in Unix ms.
func (d *Device) Checkpoint(c *commitlog.Checkpoint, time uint64) *commitlog.Checkpoint {
	signed := *c
	signed.Device, signed.Time = d.ID, time
	must(signed.Sign(func(m []byte) [64]byte { return d.Sign.Sign(keys.PurposeCheckpoint, d.vault.ID(), m) }))
	return &signed
}

// Edit returns the device's next commit, of a put that names others of its
// namespace.
func (d *Device) Edit(tag keys.Tag, named ...commitlog.ChangeID) *commitlog.Bundle {
	return d.follow(commitlog.OpPut, tag, named)
}

// Delete returns the device's next commit, which removes other changes.
func (d *Device) Delete(tag keys.Tag, named ...commitlog.ChangeID) *commitlog.Bundle {
	return d.follow(commitlog.OpDelete, tag, named)
}

func (d *Device) follow(op commitlog.Op, tag keys.Tag, named []commitlog.ChangeID) *commitlog.Bundle {
	change, blob := Put(commitlog.MinBlob)
	change.Op = op
	for _, n := range named {
		change.Refs = append(change.Refs, commitlog.Ref{At: uint64(n.Commit), Index: n.Index})
	}
	return d.CommitOf(tag, []commitlog.Change{change}, [][]byte{blob})
}
