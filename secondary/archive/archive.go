// Package archive keeps one vault of a secondary in a file: all that an engine has of
// it, sealed as it is there (SPEC.md, "Archives").
//
//	"kist-archive v1" LF
//	records: kind u8 ‖ length u64 ‖ body, in this order
//	  1 vault        once: what is not in commits, see appendWhole
//	  2 object       hash 32 ‖ its bytes; before the first commit that names it
//	  3 commit       appended u64 ‖ epoch u32 ‖ resets u16 ‖ bundle (package commitlog)
//	  4 checkpoint   as signed
//	  5 end          SHA-256 of all bytes before this body
//
// A [Writer] takes a vault, [Read] gives it to another taker. Memory is bounded by the
// largest commit.
package archive

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
)

// ErrDamaged: what is read is not an archive, or not all of one, or not as it was
// written.
var ErrDamaged = errors.New("the archive is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

var be = binary.BigEndian

const magic = "kist-archive v1\n"

const headSize = 1 + 8 // of a record: kind, length

type kind byte

const (
	kindVault      kind = 1
	kindObject     kind = 2
	kindCommit     kind = 3
	kindCheckpoint kind = 4
	kindEnd        kind = 5
)

const (
	hashSize   = 32
	stampSize  = 8 + 4 + 2 // appended, epoch, resets
	wholeSize  = 16 + 32 + 32 + 8 + 32 + 8 + 8 + 8 + 1 + 8 + 1 + 8 + 8 + 4 + 4
	deviceSize = 16 + 32 + 32 + 8 + 1

	// maxWhole bounds the record of the vault: thousands of devices, with the
	// largest scopes.
	maxWhole = 64 << 20
)

// maxBody is the length of the longest body.
func (k kind) maxBody() uint64 {
	switch k {
	case kindVault:
		return maxWhole
	case kindObject:
		return hashSize + commitlog.MaxObject
	case kindCommit:
		return stampSize + commitlog.MaxBundle
	case kindCheckpoint:
		return commitlog.MaxCheckpoint
	case kindEnd:
		return hashSize
	}
	return 0
}

// appendWhole appends the body of the first record:
//
//	vault 16 ‖ authority signing key 32 ‖ authority auth key 32 ‖ size u64 ‖ root 32 ‖
//	moved u64 ‖ created u64 ‖ seen u64 ‖ state u8 ‖ since u64 ‖
//	own u8 ‖ bytes u64 ‖ commits u64 ‖ devices u32 ‖ n u32 ‖ n × device
//	device = id 16 ‖ signing key 32 ‖ auth key 32 ‖ revoked u64 ‖
//	         0 u8 | 1 u8 ‖ t u16 ‖ t × tag 16
func appendWhole(b []byte, w *engine.Whole) []byte {
	b = append(b, w.Vault[:]...)
	b = append(b, w.Authority.Sign[:]...)
	b = append(b, w.Authority.Auth[:]...)
	b = be.AppendUint64(b, w.Size)
	b = append(b, w.Root[:]...)
	b = be.AppendUint64(b, uint64(w.Moved))
	b = be.AppendUint64(b, uint64(w.Created.UnixMilli()))
	b = be.AppendUint64(b, uint64(w.Seen.UnixMilli()))
	b = append(b, byte(w.State))
	b = be.AppendUint64(b, uint64(w.Since.UnixMilli()))
	own, q := byte(0), engine.Quota{}
	if w.Own != nil {
		own, q = 1, *w.Own
	}
	b = be.AppendUint64(append(b, own), q.Bytes)
	b = be.AppendUint32(be.AppendUint64(b, q.Commits), q.Devices)
	b = be.AppendUint32(b, uint32(len(w.Devices)))
	for _, d := range w.Devices {
		b = append(b, d.ID[:]...)
		b = append(b, d.Sign[:]...)
		b = append(b, d.Auth[:]...)
		b = be.AppendUint64(b, uint64(d.Revoked))
		if d.Tags == nil {
			b = append(b, 0)
			continue
		}
		b = be.AppendUint16(append(b, 1), uint16(len(d.Tags)))
		for _, t := range d.Tags {
			b = append(b, t[:]...)
		}
	}
	return b
}

// fields takes a body apart.
type fields struct {
	b  []byte
	ok bool // there was enough so far
}

func (f *fields) take(n int) []byte {
	if !f.ok || n > len(f.b) {
		f.ok = false
		return make([]byte, n)
	}
	out := f.b[:n:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) u8() byte    { return f.take(1)[0] }
func (f *fields) u16() uint16 { return be.Uint16(f.take(2)) }
func (f *fields) u32() uint32 { return be.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return be.Uint64(f.take(8)) }

// maxTime is the first time that cannot be, in Unix ms.
const maxTime = 1 << 48

func parseWhole(b []byte) (*engine.Whole, error) {
	if len(b) < wholeSize {
		return nil, damaged("vault in %d bytes", len(b))
	}
	f := &fields{b, true}
	w := new(engine.Whole)
	w.Vault = keys.VaultID(f.take(16))
	w.Authority.Sign = keys.VerifyKey(f.take(32))
	w.Authority.Auth = keys.VerifyKey(f.take(32))
	w.Size, w.Root, w.Moved = f.u64(), commitlog.Hash(f.take(32)), commitlog.CommitID(f.u64())
	created, seen := f.u64(), f.u64()
	w.State = engine.State(f.u8())
	since := f.u64()
	own := f.u8()
	q := engine.Quota{Bytes: f.u64(), Commits: f.u64(), Devices: f.u32()}
	n := f.u32()
	switch {
	case w.Size >= commitlog.MaxLog || uint64(w.Moved) > w.Size, created >= maxTime || seen >= maxTime || since >= maxTime,
		w.State < engine.StateActive || w.State > engine.StateDeleted,
		own > 1 || own == 0 && q != (engine.Quota{}),
		uint64(n) > uint64(len(f.b))/deviceSize:
		return nil, damaged("vault")
	}
	w.Created, w.Seen, w.Since = fromMillis(created), fromMillis(seen), fromMillis(since)
	if own == 1 {
		w.Own = &q
	}
	w.Devices = make([]engine.Device, n)
	for i := range w.Devices {
		if !f.device(&w.Devices[i]) || i > 0 && string(w.Devices[i-1].ID[:]) >= string(w.Devices[i].ID[:]) {
			return nil, damaged("device %d of the vault", i+1)
		}
	}
	if len(f.b) > 0 {
		return nil, damaged("%d bytes after the vault", len(f.b))
	}
	return w, nil
}

// device reads one, and reports whether that can be one.
func (f *fields) device(d *engine.Device) bool {
	d.ID = keys.DeviceID(f.take(16))
	d.Sign = keys.VerifyKey(f.take(32))
	d.Auth = keys.VerifyKey(f.take(32))
	d.Revoked = commitlog.CommitID(f.u64())
	switch f.u8() {
	case 0:
		return f.ok
	case 1:
	default:
		return false
	}
	n := int(f.u16())
	if n > len(f.b)/16 {
		return false
	}
	d.Tags = make([]keys.Tag, n)
	for i := range d.Tags {
		d.Tags[i] = keys.Tag(f.take(16))
		if i > 0 && string(d.Tags[i-1][:]) >= string(d.Tags[i][:]) {
			return false
		}
	}
	return f.ok
}
