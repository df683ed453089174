package lying

import (
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// A Log is encoded bundles in the place of a log, with or without sense.
type Log [][]byte

// Root returns the root over the first size commits, as a secondary would name it.
func (l Log) Root(size uint64) commitlog.Hash {
	t := tree{}
	for _, b := range l[:size] {
		grown, err := commitlog.GrowTree(&t, t.size, commitlog.LeafHash(b[8:8+commitlog.HeaderSize]))
		if err != nil {
			panic(err) // unreachable: the tree is in memory
		}
		t.hashes = append(t.hashes, grown...)
		t.size++
	}
	root, err := commitlog.TreeRoot(&t, size)
	if err != nil {
		panic(err) // unreachable
	}
	return root
}

type tree struct {
	hashes []commitlog.Hash
	size   uint64
}

func (t *tree) ReadHash(i int64) (commitlog.Hash, error) { return t.hashes[i], nil }

// header returns the header of the newest commit of a device, nil if there is none.
func (l Log) header(device keys.DeviceID) []byte {
	for _, b := range slices.Backward(l) {
		if h := b[8 : 8+commitlog.HeaderSize]; keys.DeviceID(h[22:38]) == device {
			return slices.Clone(h)
		}
	}
	return nil
}

// A Served is a log to be served in the place of the vault's, and what is said of it.
type Served struct {
	Log    Log
	Reset  commitlog.CommitID // named as the newest commit with a reset; 0: none
	Silent bool               // no device's last commit is named
}

// Serve serves another log in the place of the vault's, in one frame: BIND, MARK,
// UNBIND, READ and FETCH of blobs are answered from it. Bundles are numbered by their
// place. UPLOAD, OBJECT and FETCH of objects still go to the honest session.
//
// Of each device it names its newest commit in that log as its last.
func Serve(name string, l Log) Mutation { return Served{Log: l}.As(name) }

// ServeSilently is Serve, but names no device's last commit.
func ServeSilently(name string, l Log) Mutation { return Served{Log: l, Silent: true}.As(name) }

// As is [Serve], saying what s says.
func (s Served) As(name string) Mutation {
	l := s.Log
	return Mutation{Name: name, Begin: func() Lie {
		var me keys.DeviceID // zero: the owner
		return Lie{Up: func(frame []byte) (pass, answer [][]byte) {
			switch m := decode(frame).(type) {
			case *wire.Auth:
				me = m.Device
			case *wire.Bind:
				at := min(m.Size, uint64(len(l)))
				b := &wire.Bound{Size: uint64(len(l)), Root: l.Root(at), Reset: s.Reset, MaxObject: 68 << 20, Retention: 30}
				if !s.Silent {
					b.Last = l.header(me)
				}
				out := []wire.Message{b}
				if m.Size < uint64(len(l)) && b.Root == m.Root {
					d := &wire.Download{Size: uint64(len(l))}
					for i := range l[m.Size:] {
						d.Items = append(d.Items, l.item(m.Size+uint64(i)+1))
					}
					out = append(out, d)
				}
				return nil, encode(out)
			case *wire.Mark:
				return nil, encode([]wire.Message{&wire.Marked{Token: m.Token, Size: uint64(len(l))}})
			case *wire.Unbind:
				return nil, encode([]wire.Message{&wire.Unbound{}})
			case *wire.Read:
				if uint64(m.To) > uint64(len(l)) {
					e := wire.NewError(wire.CodeNotFound, "")
					e.Request = m.Request
					return nil, encode([]wire.Message{e})
				}
				return nil, encode([]wire.Message{&wire.Commits{Request: m.Request, Items: []wire.Item{l.item(uint64(m.After) + 1)}}})
			case *wire.Fetch:
				if m.Object || uint64(m.Commit) > uint64(len(l)) {
					break
				}
				answer := &wire.Blobs{Request: m.Request, Absent: true}
				if b, err := commitlog.ParseBundle(l[m.Commit-1]); err == nil && int(m.Index) < len(b.Blobs) && b.Blobs[m.Index] != nil {
					answer = &wire.Blobs{Request: m.Request, Size: uint64(len(b.Blobs[m.Index])), Data: b.Blobs[m.Index]}
				}
				return nil, encode([]wire.Message{answer})
			}
			return [][]byte{frame}, nil
		}}
	}}
}

// item returns the bundle at a place, from 1, as it is sent.
func (l Log) item(at uint64) wire.Item {
	return wire.Item{Kind: wire.ItemBundle, Data: SetID(l[at-1], commitlog.CommitID(at))}
}
