package attacks_test

import (
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/vault/vaulttest"
)

// An author can sign: a device of the vault, or its authority, or somebody who only
// says so. What it writes goes where the test wants it, whatever its own vault
// thinks of that.
type author struct {
	vault   keys.VaultID
	device  keys.DeviceID // zero: the authority
	sign    keys.SigningKey
	purpose keys.Purpose
	tags    keys.TagSecret
	epoch   keys.EpochSecret
}

// authorOf returns a device of a vault as an author.
func authorOf(t testing.TB, d *vaulttest.Device) *author {
	t.Helper()
	f := device(t, d)
	return fileAuthor(t, f)
}

func fileAuthor(t testing.TB, f *keyfile.Device) *author {
	t.Helper()
	k, err := f.Seed.Keys()
	fatal(t, err)
	return &author{f.Vault, f.ID, k.Sign, keys.PurposeCommit, f.TagSecret, f.Epochs[0].Secret}
}

// authorityOf returns the authority of a root as an author.
func authorityOf(r keys.Root) *author {
	return &author{r.VaultID(), keys.DeviceID{}, r.Authority().Sign, keys.PurposeControl, r.TagSecret(), r.Epoch(1)}
}

// stranger returns a device that nobody has admitted, with the keys of a's vault.
func stranger(a *author) *author {
	s := *a
	k, err := keys.GenerateDeviceSeed().Keys()
	if err != nil {
		panic(err)
	}
	s.device, s.sign = k.ID(), k.Sign
	return &s
}

// tag returns the tag of a namespace.
func (a *author) tag(namespace string) keys.Tag { return a.tags.Tag(namespace) }

// sealer returns what seals for a namespace.
func (a *author) sealer(namespace string) *seal.Key {
	tag := a.tag(namespace)
	if namespace == keys.ControlNamespace {
		return seal.NewControl(a.vault, 1, tag, a.epoch.Namespace(tag))
	}
	return seal.New(a.vault, 1, tag, a.epoch.Namespace(tag))
}

// put returns a change that puts a value, and its blob.
func (a *author) put(t testing.TB, namespace, name, value string, refs ...commitlog.Ref) (commitlog.Change, []byte) {
	t.Helper()
	return a.payload(t, namespace, &seal.Payload{Form: seal.FormInline, HLC: 1 << 40, Name: name, Value: []byte(value)}, refs...)
}

func (a *author) payload(t testing.TB, namespace string, p *seal.Payload, refs ...commitlog.Ref) (commitlog.Change, []byte) {
	t.Helper()
	blob, err := a.sealer(namespace).Seal(nil, p)
	fatal(t, err)
	return change(blob, refs...), blob
}

// change returns a put of a blob.
func change(blob []byte, refs ...commitlog.Ref) commitlog.Change {
	return commitlog.Change{Op: commitlog.OpPut, BlobHash: sha256.Sum256(blob), BlobSize: uint32(len(blob)), Refs: refs}
}

// commit returns the author's next commit over a log as an encoded bundle. edit, if
// not nil, changes the header before it is signed.
func (a *author) commit(t testing.TB, over lying.Log, namespace string, changes []commitlog.Change, blobs [][]byte, edit func(h *commitlog.Header)) []byte {
	t.Helper()
	h := commitlog.Header{Kind: commitlog.KindData, Epoch: 1, Tag: a.tag(namespace), Device: a.device, Seq: 1}
	if a.device.IsZero() {
		h.Kind = commitlog.KindControl
	}
	for _, b := range slices.Backward(over) {
		last, err := commitlog.ParseHeader(b[8 : 8+commitlog.HeaderSize])
		fatal(t, err)
		if last.Device == a.device {
			h.Seq, h.PrevLeaf = last.Seq+1, commitlog.LeafHash(b[8:8+commitlog.HeaderSize])
			break
		}
	}
	h.SeenSize = uint64(len(over))
	h.SeenRoot = over.Root(h.SeenSize)
	if edit != nil {
		edit(&h)
	}
	c, err := commitlog.Build(h, changes, func(m []byte) [64]byte { return a.sign.Sign(a.purpose, a.vault, m) })
	fatal(t, err)
	b := commitlog.Bundle{ID: commitlog.CommitID(len(over) + 1), Commit: c, Blobs: blobs}
	out, err := b.AppendBinary(nil)
	fatal(t, err)
	return out
}

// write is commit of one put.
func (a *author) write(t testing.TB, over lying.Log, namespace, name, value string, edit func(h *commitlog.Header)) []byte {
	t.Helper()
	c, blob := a.put(t, namespace, name, value)
	return a.commit(t, over, namespace, []commitlog.Change{c}, [][]byte{blob}, edit)
}

// statement is commit of control statements.
func (a *author) statement(t testing.TB, over lying.Log, edit func(h *commitlog.Header), statements ...*commitlog.Statement) []byte {
	t.Helper()
	var changes []commitlog.Change
	var blobs [][]byte
	for _, st := range statements {
		value, err := st.AppendBinary(nil)
		fatal(t, err)
		c, blob := a.payload(t, keys.ControlNamespace, &seal.Payload{Form: seal.FormInline, HLC: 1 << 40, Value: value})
		changes, blobs = append(changes, c), append(blobs, blob)
	}
	return a.commit(t, over, keys.ControlNamespace, changes, blobs, edit)
}

// controlHead returns the end of the control chain of a log.
func (a *author) controlHead(t testing.TB, log lying.Log) (head commitlog.ControlHead) {
	t.Helper()
	sealer := a.sealer(keys.ControlNamespace)
	for _, data := range log {
		b, err := commitlog.ParseBundle(data)
		fatal(t, err)
		if b.Commit.Header.Kind != commitlog.KindControl {
			continue
		}
		for _, blob := range b.Blobs {
			p, err := sealer.Open(blob)
			fatal(t, err)
			head = head.Next(p.Value)
		}
	}
	return head
}

// with returns a log with more at its end.
func with(log lying.Log, more ...[]byte) lying.Log { return append(slices.Clone(log), more...) }
