// Package seal seals and opens everything that is encrypted in a vault: blobs,
// which hold records; objects, which hold values too large for a blob; grants,
// which hand secrets to a device; and what a device stores for itself alone.
//
// # Blobs and objects
//
// Both are Cobblestone-256 messages (see package chunked): a header of 56 bytes
// with salt and commitment, then chunks of 16 KiB under AES-256-GCM. What a
// message belongs to goes through the key derivation as its context:
//
//	"kist/v1/change" ‖ 00 ‖ vault id ‖ u32 epoch ‖ namespace tag     blobs
//	"kist/v1/object" ‖ 00 ‖ vault id ‖ u32 epoch ‖ namespace tag     objects
//
// so a blob that was moved to another vault, epoch or namespace, or served as an
// object, does not open. Salts are hedged: an HMAC under a key of the namespace
// over fresh random bytes and what is sealed. Where randomness repeats, in a
// cloned machine, only equal content gives equal blobs.
//
// Content is padded with zeros, so that its length tells little.
//
// # Errors
//
// What does not open gives [ErrOpen], whether the key was wrong, a bit flipped
// or the length impossible: who sends altered data learns nothing from the
// answer. What opens but is malformed gives [ErrPayload]: it was sealed by a
// device of the vault that is faulty.
package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/kistvault/kist/internal/chunked"
	"github.com/kistvault/kist/keys"
)

// ErrOpen is returned for everything that does not open, whatever the cause.
var ErrOpen = errors.New("sealed data does not open: wrong key, or altered")

// ErrPayload is returned, wrapped with a reason, for what opens and has not the
// one form that it must have, and for a payload that cannot be sealed because
// it would not have it.
var ErrPayload = errors.New("malformed content")

// ErrLimit is returned, wrapped with what was too long, for a payload, object
// or grant that cannot be sealed because a part exceeds its limit.
var ErrLimit = errors.New("too large")

const (
	contextChange = "kist/v1/change\x00"
	contextObject = "kist/v1/object\x00"
)

// Key seals and opens the blobs and objects of one namespace in one epoch. Make
// it once and keep it: it holds the derivation half done. Safe for concurrent
// use.
type Key struct {
	secret   **keySecret // behind two pointers, so that it is not printed; see keys
	change   []byte      // context of blobs
	object   []byte      // context of objects
	maxValue int         // longest value of a blob, in bytes
	states   sync.Pool   // of *state
}

type keySecret struct {
	seal [32]byte // ns_seal
	salt [32]byte // ns_salt
}

// state is what one call of Seal or Open works with.
type state struct {
	deriver *chunked.Deriver
	salt    hash.Hash // HMAC-SHA256 under ns_salt
	cipher  chunked.Cipher
	random  [32]byte
	number  [8]byte // scratch for integers in a MAC
	sum     [sha256.Size]byte
	plain   []byte // scratch for padded payloads
}

// New returns the key of a namespace in an epoch.
func New(vault keys.VaultID, epoch uint32, tag keys.Tag, secret keys.NamespaceSecret) *Key {
	return newKey(vault, epoch, tag, secret, MaxInline)
}

// NewControl returns the key of the control log in an epoch. It is like [New],
// but a value may have up to [MaxControl] bytes.
func NewControl(vault keys.VaultID, epoch uint32, tag keys.Tag, secret keys.NamespaceSecret) *Key {
	return newKey(vault, epoch, tag, secret, MaxControl)
}

func newKey(vault keys.VaultID, epoch uint32, tag keys.Tag, secret keys.NamespaceSecret, maxValue int) *Key {
	ks := &keySecret{seal: secret.SealKey(), salt: secret.SaltKey()}
	k := &Key{
		secret:   &ks,
		change:   appendContext(nil, contextChange, vault, epoch, tag),
		object:   appendContext(nil, contextObject, vault, epoch, tag),
		maxValue: maxValue,
	}
	k.states.New = func() any { return k.newState() }
	return k
}

func appendContext(b []byte, label string, vault keys.VaultID, epoch uint32, tag keys.Tag) []byte {
	b = append(b, label...)
	b = append(b, vault[:]...)
	b = binary.BigEndian.AppendUint32(b, epoch)
	return append(b, tag[:]...)
}

func (k *Key) newState() *state {
	d, err := chunked.NewDeriver((*k.secret).seal[:])
	if err != nil {
		panic("seal: internal error: " + err.Error()) // unreachable: the key has 32 bytes
	}
	return &state{deriver: d, salt: hmac.New(sha256.New, (*k.secret).salt[:])}
}

func (k *Key) get() *state { return k.states.Get().(*state) }

// put gives a state back for the next call, without what this call left in it.
func (k *Key) put(st *state) {
	clear(st.plain)
	st.plain = st.plain[:0]
	st.cipher.Forget()
	k.states.Put(st)
}

// String returns a fixed word. So do GoString, Format and LogValue.
func (k *Key) String() string { return redacted }

// GoString returns a fixed word.
func (k *Key) GoString() string { return redacted }

// Format writes a fixed word for every verb.
func (k *Key) Format(f fmt.State, verb rune) { io.WriteString(f, redacted) }

// LogValue returns a fixed word.
func (k *Key) LogValue() slog.Value { return slog.StringValue(redacted) }

const redacted = "[seal key]"

// changeSalt returns the salt of a blob:
//
//	HMAC-SHA256(ns_salt, random ‖ u64 len(context) ‖ context ‖ plaintext)[:24]
func (st *state) changeSalt(random *[32]byte, context, plaintext []byte) []byte {
	binary.BigEndian.PutUint64(st.number[:], uint64(len(context)))
	st.salt.Reset()
	st.salt.Write(random[:])
	st.salt.Write(st.number[:])
	st.salt.Write(context)
	st.salt.Write(plaintext)
	return st.salt.Sum(st.sum[:0])[:chunked.SaltSize]
}

// Seal appends the blob of p to dst. It returns an error, wrapping [ErrLimit] or
// [ErrPayload], if p cannot be sealed; any payload that Open returned can.
func (k *Key) Seal(dst []byte, p *Payload) ([]byte, error) {
	st := k.get()
	defer k.put(st)
	rand.Read(st.random[:]) // never fails: it ends the program instead
	return k.seal(st, dst, p, &st.random)
}

// seal is Seal with given random bytes.
func (k *Key) seal(st *state, dst []byte, p *Payload, random *[32]byte) ([]byte, error) {
	if err := p.check(k.maxValue); err != nil {
		return dst, err
	}
	n := int(padded(uint64(p.size())))
	plain := p.append(slices.Grow(st.plain[:0], n))
	clear(plain[len(plain):n])
	plain = plain[:n]
	st.plain = plain

	salt := st.changeSalt(random, k.change, plain)
	dst = slices.Grow(dst, chunked.HeaderSize+int(chunked.SealedSize(uint64(n))))
	dst = st.deriver.SealHeader(&st.cipher, dst, salt, k.change)
	return st.cipher.Seal(dst, plain), nil
}

// BlobSize returns the length of the blob that Seal makes of p.
func BlobSize(p *Payload) int {
	return chunked.HeaderSize + int(chunked.SealedSize(padded(uint64(p.size()))))
}

// MaxBlob is the length of the longest blob in bytes. Blobs of the control log
// can be longer; see [MaxControlBlob].
const MaxBlob = chunked.HeaderSize + maxPlain + MaxInline + (maxPlain+MaxInline)/chunked.ChunkSize*chunked.TagSize + chunked.TagSize

// MaxControlBlob is the length of the longest blob of the control log in bytes.
const MaxControlBlob = chunked.HeaderSize + maxPlain + MaxControl + (maxPlain+MaxControl)/chunked.ChunkSize*chunked.TagSize + chunked.TagSize

// maxPlain is the length of the longest padded payload, but for its value.
const maxPlain = payloadFixed + MaxContentType + MaxName + MaxPadding

// Open opens a blob. The result does not share memory with blob.
func (k *Key) Open(blob []byte) (*Payload, error) {
	p := new(Payload)
	if _, err := k.OpenInto(p, nil, blob); err != nil {
		return nil, err
	}
	return p, nil
}

// OpenInto opens a blob into p, working in buf[:0], which is grown if it is too
// short and must not overlap with blob. It returns the buffer for the next
// call; until then p.Value lies in it. Called again and again with the same p
// and buf it allocates the name and little else. After an error p holds nothing
// of use.
func (k *Key) OpenInto(p *Payload, buf, blob []byte) ([]byte, error) {
	if len(blob) < chunked.HeaderSize || len(blob) > chunked.HeaderSize+int(chunked.SealedSize(uint64(maxPlain+k.maxValue))) {
		return buf, ErrOpen
	}
	header, chunks := blob[:chunked.HeaderSize], blob[chunked.HeaderSize:]
	n, ok := chunked.MessageSize(uint64(len(chunks)))
	if !ok {
		return buf, ErrOpen
	}
	st := k.get()
	defer k.put(st)
	if err := st.deriver.OpenHeader(&st.cipher, header, k.change); err != nil {
		return buf, ErrOpen
	}
	plain, err := st.cipher.Open(slices.Grow(buf[:0], int(n)), chunks)
	if err != nil {
		return buf, ErrOpen
	}
	return plain, p.parse(plain, k.maxValue)
}
