package lying

import (
	"encoding/binary"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

// Commits is the mutation that f makes of the commits that a DOWNLOAD carries, each
// an encoded bundle or a stub. Commits that come in parts are left as they are.
// Where f leaves none, the frame is left out.
func Commits(name string, f func(items []wire.Item) []wire.Item) Mutation {
	return Replace(name, All, func(d *wire.Download) []wire.Message {
		if d.Items[0].Kind == wire.ItemPart || d.Items[0].Kind == wire.ItemLast {
			return []wire.Message{d}
		}
		d.Items = f(slices.Clone(d.Items))
		if len(d.Items) == 0 {
			return nil
		}
		return []wire.Message{d}
	}).Named("%s", name)
}

// Commit is the mutation that f makes of the bundle of one commit: what it returns
// comes in its place, one item each.
func Commit(name string, id commitlog.CommitID, f func(bundle []byte) [][]byte) Mutation {
	return Commits(name, func(items []wire.Item) (out []wire.Item) {
		for _, i := range items {
			if i.Kind != wire.ItemBundle || ID(i.Data) != id {
				out = append(out, i)
				continue
			}
			for _, b := range f(slices.Clone(i.Data)) {
				out = append(out, wire.Item{Kind: wire.ItemBundle, Data: b})
			}
		}
		return out
	}).Named("%s: commit %d", name, id)
}

// ID returns the commit ID of an encoded bundle.
func ID(bundle []byte) commitlog.CommitID {
	return commitlog.CommitID(binary.BigEndian.Uint64(bundle))
}

// SetID returns the bundle with another commit ID, which is outside of what is
// signed.
func SetID(bundle []byte, id commitlog.CommitID) []byte {
	bundle = slices.Clone(bundle)
	binary.BigEndian.PutUint64(bundle, uint64(id))
	return bundle
}

// Renumber gives bundles and stubs the IDs from first on: what was left out or put
// in does not show in the numbers.
func Renumber(items []wire.Item, first commitlog.CommitID) []wire.Item {
	out := make([]wire.Item, len(items))
	for k, i := range items {
		id := first + commitlog.CommitID(k)
		if i.Kind == wire.ItemStub {
			_, seq := i.Stub()
			out[k] = wire.NewStub(id, seq)
		} else {
			out[k] = wire.Item{Kind: i.Kind, Data: SetID(i.Data, id)}
		}
	}
	return out
}

// One sends each commit in a frame of its own, so that what comes before a lie has
// been taken.
func One() Mutation {
	return Replace("one by one", All, func(d *wire.Download) (out []wire.Message) {
		if d.Items[0].Kind == wire.ItemPart || d.Items[0].Kind == wire.ItemLast {
			return []wire.Message{d}
		}
		for _, i := range d.Items {
			out = append(out, &wire.Download{Size: d.Size, Left: d.Left, Items: []wire.Item{i}})
		}
		return out
	})
}
