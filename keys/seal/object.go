package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/kistvault/kist/internal/chunked"
	"github.com/kistvault/kist/keys"
)

// ObjectInfo describes an object that was sealed.
type ObjectInfo struct {
	Hash   [32]byte // SHA-256 of the sealed bytes
	Size   uint64   // sealed bytes
	Length uint64   // bytes of the value
}

// ObjectSize returns the length of the sealed object for a value of length
// bytes.
func ObjectSize(length uint64) uint64 {
	return chunked.HeaderSize + chunked.SealedSize(padded(length))
}

// objectSalt returns the salt of an object, which is written before the value
// has been read:
//
//	HMAC-SHA256(ns_salt, random ‖ context ‖ device id ‖ u64 counter)[:24]
//
// A device never uses a counter twice, so its salts differ even where
// randomness repeats.
func (st *state) objectSalt(random *[32]byte, context []byte, device keys.DeviceID, counter uint64) []byte {
	binary.BigEndian.PutUint64(st.number[:], counter)
	st.salt.Reset()
	st.salt.Write(random[:])
	st.salt.Write(context)
	st.salt.Write(device[:])
	st.salt.Write(st.number[:])
	return st.salt.Sum(st.sum[:0])[:chunked.SaltSize]
}

// SealObject reads src to its end and writes the sealed object to dst, in one
// pass and in little memory. counter is a number that this device has used for
// no other object. A value over maxLength bytes, or over [MaxObject], is an
// error wrapping [ErrLimit]; what was written to dst by then is worthless, as
// after any error.
func (k *Key) SealObject(dst io.Writer, src io.Reader, device keys.DeviceID, counter uint64, maxLength int64) (ObjectInfo, error) {
	st := k.get()
	defer k.put(st)
	rand.Read(st.random[:]) // never fails: it ends the program instead
	return k.sealObject(st, dst, src, device, counter, maxLength, &st.random)
}

// sealObject is SealObject with given random bytes.
func (k *Key) sealObject(st *state, dst io.Writer, src io.Reader, device keys.DeviceID, counter uint64, maxLength int64, random *[32]byte) (ObjectInfo, error) {
	maxLength = max(0, min(maxLength, MaxObject))
	hash := sha256.New()
	out := io.MultiWriter(hash, dst)

	salt := st.objectSalt(random, k.object, device, counter)
	if _, err := out.Write(st.deriver.SealHeader(&st.cipher, nil, salt, k.object)); err != nil {
		return ObjectInfo{}, fmt.Errorf("sealing object: %w", err)
	}
	w := chunked.NewWriter(out, &st.cipher)
	n, err := io.Copy(w, io.LimitReader(src, maxLength+1))
	if err != nil {
		return ObjectInfo{}, fmt.Errorf("sealing object: %w", err)
	}
	if n > maxLength {
		return ObjectInfo{}, fmt.Errorf("%w: object over %d bytes", ErrLimit, maxLength)
	}
	length := uint64(n)
	for rest := padded(length) - length; rest > 0; {
		m, err := w.Write(zeros[:min(rest, uint64(len(zeros)))])
		if err != nil {
			return ObjectInfo{}, fmt.Errorf("sealing object: %w", err)
		}
		rest -= uint64(m)
	}
	if err := w.Close(); err != nil {
		return ObjectInfo{}, fmt.Errorf("sealing object: %w", err)
	}
	info := ObjectInfo{Size: ObjectSize(length), Length: length}
	hash.Sum(info.Hash[:0])
	return info, nil
}

// zeros is what objects are padded with.
var zeros [4096]byte

// OpenObject returns a reader of the value of length bytes in the sealed object
// of size bytes. The commitment is checked before it returns. The reader hands
// out no byte of a chunk that is not authentic, and returns [io.EOF] only after
// the last chunk and the padding were found good: until then the value may turn
// out to be cut short. Its errors are [ErrOpen], one wrapping [ErrPayload], or
// those of src.
//
// The hash of the sealed bytes is not looked at; what opens is authentic
// without it.
func (k *Key) OpenObject(src io.ReaderAt, size, length uint64) (io.Reader, error) {
	if size < chunked.HeaderSize || size > chunked.HeaderSize+chunked.SealedSize(maxObjectPlain) {
		return nil, ErrOpen
	}
	n, ok := chunked.MessageSize(size - chunked.HeaderSize)
	if !ok {
		return nil, ErrOpen
	}
	if length > n || length > MaxObject {
		return nil, fmt.Errorf("%w: an object of %d bytes does not hold a value of %d", ErrPayload, size, length)
	}
	st := k.get()
	defer k.put(st)
	var header [chunked.HeaderSize]byte
	if _, err := io.ReadFull(io.NewSectionReader(src, 0, chunked.HeaderSize), header[:]); err != nil {
		return nil, fmt.Errorf("opening object: %w", err)
	}
	cipher := new(chunked.Cipher)
	if err := st.deriver.OpenHeader(cipher, header[:], k.object); err != nil {
		return nil, ErrOpen
	}
	chunks := io.NewSectionReader(src, chunked.HeaderSize, int64(size-chunked.HeaderSize))
	return &objectReader{
		r:       chunked.NewReader(chunks, cipher),
		value:   length,
		padding: n - length,
	}, nil
}

// maxObjectPlain is the length of the longest padded value of an object.
const maxObjectPlain = MaxObject + MaxObject/8

// objectReader hands out a value and checks the padding behind it.
type objectReader struct {
	r       *chunked.Reader
	value   uint64 // bytes still to hand out
	padding uint64 // bytes of zeros behind them
	err     error  // what every further Read returns
}

func (r *objectReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.value == 0 {
		r.err = r.finish()
		return 0, r.err
	}
	n, err := r.r.Read(p[:min(uint64(len(p)), r.value)])
	r.value -= uint64(n)
	if err != nil {
		r.err = r.translate(err)
	}
	return n, r.err
}

// finish reads the padding and the end. It returns io.EOF if they are good.
func (r *objectReader) finish() error {
	var buf [4096]byte
	for {
		n, err := r.r.Read(buf[:])
		if !isZero(buf[:n]) {
			return fmt.Errorf("%w: padding is not zero", ErrPayload)
		}
		r.padding -= min(uint64(n), r.padding)
		if err == io.EOF && r.padding == 0 {
			return io.EOF
		}
		if err != nil {
			return r.translate(err)
		}
	}
}

// translate makes this package's error of one of the chunked reader.
func (r *objectReader) translate(err error) error {
	switch err {
	case chunked.ErrOpen:
		return ErrOpen
	case io.EOF: // before the length that size promised: src is shorter than it said
		return ErrOpen
	}
	return fmt.Errorf("opening object: %w", err)
}
