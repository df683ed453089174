// Package rawvault makes vaults and commits for tests of the secondary. Their
// blobs are random bytes: a secondary cannot tell.
package rawvault

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// Vault is an authority with its copy of the log's tree. It is used by one
// goroutine.
type Vault struct {
	Authority keys.Authority
	Control   keys.Tag
	Epoch     uint32 // in force; 0: the first

	author
	hashes []commitlog.Hash
	size   uint64
}

// author is the own chain of a device or of the authority.
type author struct {
	seq  uint64
	prev commitlog.Hash
}

// Device is a device of a vault.
type Device struct {
	ID   keys.DeviceID
	Auth keys.SigningKey
	Sign keys.SigningKey

	vault *Vault
	kem   [32]byte
	author
}

// New returns a vault whose log is empty.
func New() *Vault {
	v := &Vault{Authority: keys.Authority{Sign: keys.GenerateSigningKey(), Auth: keys.GenerateSigningKey()}}
	rand.Read(v.Control[:])
	return v
}

// ID returns the vault's id.
func (v *Vault) ID() keys.VaultID { return v.Authority.Public().VaultID() }

// ReadHash makes the vault a commitlog.Hashes.
func (v *Vault) ReadHash(i int64) (commitlog.Hash, error) {
	if i >= int64(len(v.hashes)) {
		return commitlog.Hash{}, fmt.Errorf("hash %d of %d", i, len(v.hashes))
	}
	return v.hashes[i], nil
}

// Size returns the number of commits that the vault knows in the log.
func (v *Vault) Size() uint64 { return v.size }

// Root returns the root at a size.
func (v *Vault) Root(size uint64) commitlog.Hash {
	h, err := commitlog.TreeRoot(v, size)
	must(err)
	return h
}

// Appended tells the vault that the commit is the next in the log.
func (v *Vault) Appended(leaf commitlog.Hash) {
	hashes, err := commitlog.GrowTree(v, v.size, leaf)
	must(err)
	v.hashes = append(v.hashes, hashes...)
	v.size++
}

// NewDevice returns a device that is not registered yet.
func (v *Vault) NewDevice() *Device {
	d := &Device{Sign: keys.GenerateSigningKey(), Auth: keys.GenerateSigningKey(), vault: v}
	rand.Read(d.kem[:])
	r := d.Registration(false)
	d.ID = r.Device
	return d
}

// Registration returns what the secondary is told of the device.
func (d *Device) Registration(revoked bool) wire.Registration {
	r := wire.Registration{Sign: d.Sign.Public(), Auth: d.Auth.Public(), KEMHash: d.kem, Revoked: revoked}
	r.Device = r.ID()
	return r
}

// ControlCommit returns the authority's next commit, and what goes with it.
func (v *Vault) ControlCommit(devices ...wire.Registration) (*commitlog.Bundle, *wire.Control) {
	return v.ControlOf([]int{commitlog.MinBlob}, devices...)
}

// ControlOf is ControlCommit with blobs of these sizes.
func (v *Vault) ControlOf(sizes []int, devices ...wire.Registration) (*commitlog.Bundle, *wire.Control) {
	h := commitlog.Header{Kind: commitlog.KindControl, Tag: v.Control}
	var changes []commitlog.Change
	var blobs [][]byte
	for _, n := range sizes {
		change, blob := Put(n)
		changes, blobs = append(changes, change), append(blobs, blob)
	}
	b := v.build(v, h, changes, blobs, func(m []byte) [64]byte {
		return v.Authority.Sign.Sign(keys.PurposeControl, v.ID(), m)
	})
	return b, &wire.Control{Epoch: max(v.Epoch, 1), Devices: devices}
}

// Put returns a change with a random blob of n bytes.
func Put(n int) (commitlog.Change, []byte) {
	blob := make([]byte, n)
	rand.Read(blob)
	return commitlog.Change{Op: commitlog.OpPut, BlobHash: sha256.Sum256(blob), BlobSize: uint32(n)}, blob
}

// Commit returns the device's next commit, of n puts into a namespace.
func (d *Device) Commit(tag keys.Tag, n int) *commitlog.Bundle {
	changes, blobs := puts(n)
	return d.CommitOf(tag, changes, blobs)
}

// Serialised is Commit for a serialised commit.
func (d *Device) Serialised(tag keys.Tag, n int) *commitlog.Bundle {
	changes, blobs := puts(n)
	return d.commit(commitlog.KindSerialised, tag, changes, blobs)
}

func puts(n int) (changes []commitlog.Change, blobs [][]byte) {
	for range n {
		c, b := Put(commitlog.MinBlob)
		changes, blobs = append(changes, c), append(blobs, b)
	}
	return changes, blobs
}

// CommitOf returns the device's next commit, of these changes.
func (d *Device) CommitOf(tag keys.Tag, changes []commitlog.Change, blobs [][]byte) *commitlog.Bundle {
	return d.commit(commitlog.KindData, tag, changes, blobs)
}

func (d *Device) commit(kind commitlog.Kind, tag keys.Tag, changes []commitlog.Change, blobs [][]byte) *commitlog.Bundle {
	return d.build(d.vault, commitlog.Header{Kind: kind, Tag: tag, Device: d.ID}, changes, blobs, func(m []byte) [64]byte {
		return d.Sign.Sign(keys.PurposeCommit, d.vault.ID(), m)
	})
}

func (a *author) build(v *Vault, h commitlog.Header, changes []commitlog.Change, blobs [][]byte, sign func([]byte) [64]byte) *commitlog.Bundle {
	h.Epoch = max(v.Epoch, 1)
	h.Seq = a.seq + 1
	h.PrevLeaf = a.prev
	h.SeenSize, h.SeenRoot = v.size, v.Root(v.size)
	c, err := commitlog.Build(h, changes, sign)
	must(err)
	a.seq, a.prev = h.Seq, c.Leaf()
	return &commitlog.Bundle{Commit: c, Blobs: blobs}
}

// Forget has the author's next commit follow another: those after it were
// refused.
func (a *author) Forget(prev commitlog.Hash) { a.prev = prev }

// Encode returns the encoded bundle.
func Encode(b *commitlog.Bundle) []byte {
	data, err := b.AppendBinary(nil)
	must(err)
	return data
}

func must(err error) {
	if err != nil {
		panic("rawvault: internal error: " + err.Error())
	}
}
