package wire

import (
	"github.com/kistvault/kist/commitlog"
)

// ItemKind says what an item of [Download] or [Upload] is. The numbers are sent.
type ItemKind uint8

const (
	ItemBundle ItemKind = 1 // a whole bundle (package commitlog)
	ItemPart   ItemKind = 2 // part of a bundle that goes on in the next frame of its direction: the frame's last item
	ItemLast   ItemKind = 3 // the last part of a bundle: the frame's first item
	ItemStub   ItemKind = 4 // a commit that its author knows: commit ID u64 ‖ its sequence number u64
)

// ItemExcerpt is the kind of what STATE carries: an excerpt (package commitlog).
const ItemExcerpt ItemKind = 5

// An Item is a commit in a frame, or a part of one.
type Item struct {
	Kind ItemKind
	Data []byte
}

const itemHeader = 1 + 4 // kind u8 ‖ length u32

// EncodedSize returns the item's length in a frame in bytes.
func (i Item) EncodedSize() int { return itemHeader + len(i.Data) }

// NewStub returns the item that stands for a device's own commit.
func NewStub(id commitlog.CommitID, seq uint64) Item {
	return Item{ItemStub, be.AppendUint64(be.AppendUint64(make([]byte, 0, 16), uint64(id)), seq)}
}

// Stub returns what the item of kind [ItemStub] says.
func (i Item) Stub() (id commitlog.CommitID, seq uint64) {
	return commitlog.CommitID(be.Uint64(i.Data)), be.Uint64(i.Data[8:])
}

// Cut returns the items that carry an encoded bundle: one, or the parts of a
// bundle over [MaxItem], which stand in frames of their own, one after another.
// The items share the bundle's memory.
func Cut(bundle []byte) []Item {
	if len(bundle) <= MaxItem {
		return []Item{{ItemBundle, bundle}}
	}
	var items []Item
	for len(bundle) > MaxItem {
		items = append(items, Item{ItemPart, bundle[:MaxItem:MaxItem]})
		bundle = bundle[MaxItem:]
	}
	return append(items, Item{ItemLast, bundle})
}

func appendItems(dst []byte, items []Item) []byte {
	for _, i := range items {
		dst = append(dst, byte(i.Kind))
		dst = be.AppendUint32(dst, uint32(len(i.Data)))
		dst = append(dst, i.Data...)
	}
	return dst
}

func parseItems(b []byte) ([]Item, error) {
	// Two passes, so that the slice is no larger than what it holds.
	n := 0
	for rest := b; len(rest) > 0; n++ {
		if len(rest) < itemHeader || uint64(len(rest)-itemHeader) < uint64(be.Uint32(rest[1:])) {
			return nil, malformed("item beyond the frame")
		}
		i := Item{ItemKind(rest[0]), rest[itemHeader:][:be.Uint32(rest[1:])]}
		if err := i.check(); err != nil {
			return nil, err
		}
		rest = rest[i.EncodedSize():]
	}
	items := make([]Item, n)
	for k := range items {
		size := int(be.Uint32(b[1:]))
		items[k] = Item{ItemKind(b[0]), b[itemHeader:][:size:size]}
		b = b[itemHeader+size:]
	}
	return items, nil
}

func (i Item) check() error {
	low, high := 0, 0
	switch i.Kind {
	case ItemBundle:
		low, high = minBundle, MaxItem
	case ItemPart, ItemLast:
		low, high = 1, MaxItem
	case ItemStub:
		low, high = 16, 16
	case ItemExcerpt:
		low, high = minExcerpt, MaxItem
	default:
		return malformed("item kind %d", i.Kind)
	}
	if len(i.Data) < low || len(i.Data) > high {
		return malformed("item of kind %d with %d bytes", i.Kind, len(i.Data))
	}
	return nil
}

// checkItems checks kinds, sizes and order of a frame's items.
func checkItems(items []Item, stubs bool) error {
	if len(items) == 0 {
		return malformed("no items")
	}
	for k, i := range items {
		if err := i.check(); err != nil {
			return err
		}
		switch {
		case i.Kind == ItemPart && k < len(items)-1:
			return malformed("an item after a part")
		case i.Kind == ItemLast && k > 0:
			return malformed("an item before a last part")
		case i.Kind == ItemStub && !stubs, i.Kind == ItemExcerpt:
			return malformed("item of kind %d", i.Kind)
		}
	}
	return nil
}

// An Assembler puts bundles together that came in parts. The zero value is
// ready. It holds at most [commitlog.MaxBundle] bytes.
type Assembler struct{ part []byte }

// Add takes the next item of a direction. It returns the encoded bundle that the
// item completes, nil if it completes none or is a stub, and [ErrProtocol] for
// an item that cannot come next. The bundle shares the item's memory, or is the
// caller's own.
func (a *Assembler) Add(i Item) (bundle []byte, err error) {
	switch i.Kind {
	case ItemPart, ItemLast:
		if i.Kind == ItemLast && a.part == nil {
			return nil, malformed("last part of no bundle")
		}
		if len(a.part)+len(i.Data) > commitlog.MaxBundle {
			return nil, malformed("bundle of more than %d bytes", commitlog.MaxBundle)
		}
		a.part = append(a.part, i.Data...)
		if i.Kind == ItemPart {
			return nil, nil
		}
		bundle, a.part = a.part, nil
		if len(bundle) < minBundle {
			return nil, malformed("bundle of %d bytes", len(bundle))
		}
		return bundle, nil
	}
	if a.part != nil {
		return nil, malformed("another item within a bundle")
	}
	if i.Kind == ItemBundle {
		return i.Data, nil
	}
	return nil, nil
}

// Held returns how many bytes of a bundle have come that is not whole yet.
func (a *Assembler) Held() int { return len(a.part) }

// Partial reports whether parts of a bundle have come and its last has not.
func (a *Assembler) Partial() bool { return a.part != nil }
