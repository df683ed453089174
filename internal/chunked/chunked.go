// Package chunked encrypts messages as in c2sp.org/chunked-encryption, in the
// instantiation with SHA-512 and AES-256-GCM that is called Cobblestone-256.
//
//	key32 ‖ nonce12 ‖ commitment32 = HKDF-Expand-SHA512(
//	    prk  = input key,
//	    info = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM" ‖ 00 ‖ salt ‖ context)
//
//	Pos  Len      Field
//	0    24       salt, never the same twice for one input key
//	24   32       commitment to input key, salt and context
//	56   16400 n  chunks of 16 KiB with a tag of 16
//	…    16…16399 last chunk: shorter than 16 KiB, perhaps empty, with a tag
//
// Chunk i has the nonce nonce12 ⊕ i. That the last chunk is the only short one
// marks the end: a message that was cut at a chunk's end misses it.
//
// A [Deriver] makes and checks the header; a [Cipher] handles the chunks, whole
// or as a stream. Where the same salt comes from is the caller's business.
//
// Neither is safe for concurrent use, and neither starts a goroutine.
package chunked

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
	"io"
)

// Sizes in bytes.
const (
	KeySize        = 32 // input key
	SaltSize       = 24
	CommitmentSize = 32
	HeaderSize     = SaltSize + CommitmentSize

	ChunkSize = 16 << 10 // plaintext of every chunk but the last
	TagSize   = 16

	sealedChunkSize = ChunkSize + TagSize
)

// maxChunks is the number of chunks that the specification allows.
const maxChunks = 1 << 38

const infoPrefix = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"

// ErrOpen is returned for every message that does not open, whatever the cause.
var ErrOpen = errors.New("chunked: message does not open")

// SealedSize returns the length of the chunks for a message of n bytes, without
// the header.
func SealedSize(n uint64) uint64 { return n + (n/ChunkSize+1)*TagSize }

// MessageSize returns the length of the message whose chunks, without the
// header, have size bytes. It reports false if no message has chunks of that
// size.
func MessageSize(size uint64) (n uint64, ok bool) {
	full, last := size/sealedChunkSize, size%sealedChunkSize
	if last < TagSize {
		return 0, false
	}
	return full*ChunkSize + last - TagSize, true
}

// A Deriver derives the keys of messages from one input key.
type Deriver struct {
	mac  hash.Hash // HMAC-SHA512, keyed
	info []byte    // infoPrefix, and behind it what the last call needed
	okm  [2 * sha512.Size]byte
}

// NewDeriver returns a deriver for an input key, which must have KeySize bytes.
func NewDeriver(key []byte) (*Deriver, error) {
	if len(key) != KeySize {
		return nil, errors.New("chunked: input key of wrong size")
	}
	return &Deriver{mac: hmac.New(sha512.New, key), info: []byte(infoPrefix)}, nil
}

// derive sets d.okm to HKDF-Expand of 76 bytes, followed by bytes of no use.
// The two blocks are written out: the keyed state of the HMAC is kept between
// calls, which halves the cost of sealing a small record.
func (d *Deriver) derive(salt, context []byte) {
	info := append(d.info[:len(infoPrefix)], salt...)
	info = append(info, context...)
	info = append(info, 1)
	d.info = info

	d.mac.Reset()
	d.mac.Write(info)
	t1 := d.mac.Sum(d.okm[:0])

	info[len(info)-1] = 2
	d.mac.Reset()
	d.mac.Write(t1)
	d.mac.Write(info)
	d.mac.Sum(t1)
}

// SealHeader sets c to seal the message with this salt and context, and appends
// the message's header to dst.
func (d *Deriver) SealHeader(c *Cipher, dst, salt, context []byte) []byte {
	if len(salt) != SaltSize {
		panic("chunked: internal error: salt of wrong size")
	}
	d.derive(salt, context)
	c.init(d.okm[:32], d.okm[32:44])
	dst = append(dst, salt...)
	return append(dst, d.okm[44:76]...)
}

// OpenHeader sets c to open the message with this header and context. It
// returns [ErrOpen] if the commitment is wrong, and then leaves c alone.
func (d *Deriver) OpenHeader(c *Cipher, header, context []byte) error {
	if len(header) != HeaderSize {
		return ErrOpen
	}
	d.derive(header[:SaltSize], context)
	if subtle.ConstantTimeCompare(d.okm[44:76], header[SaltSize:]) != 1 {
		return ErrOpen
	}
	c.init(d.okm[:32], d.okm[32:44])
	return nil
}

// A Cipher seals or opens the chunks of one message. This alone is what the
// specification calls raw mode.
type Cipher struct {
	aead  cipher.AEAD
	base  [12]byte
	nonce [12]byte // scratch: base ⊕ i
}

// NewCipher returns the cipher of a message with this key of 32 bytes and base
// nonce of 12.
func NewCipher(key, nonce []byte) (*Cipher, error) {
	if len(key) != KeySize || len(nonce) != 12 {
		return nil, errors.New("chunked: key or nonce of wrong size")
	}
	c := new(Cipher)
	c.init(key, nonce)
	return c, nil
}

func (c *Cipher) init(key, nonce []byte) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("chunked: internal error: " + err.Error()) // unreachable: the key has 32 bytes
	}
	c.aead, err = cipher.NewGCM(block)
	if err != nil {
		panic("chunked: internal error: " + err.Error()) // unreachable: AES has the block size of GCM
	}
	copy(c.base[:], nonce)
}

// Forget drops the key.
func (c *Cipher) Forget() { *c = Cipher{} }

func (c *Cipher) setNonce(i uint64) {
	if i >= maxChunks {
		panic("chunked: internal error: message too long")
	}
	c.nonce = c.base
	low := binary.BigEndian.Uint64(c.nonce[4:])
	binary.BigEndian.PutUint64(c.nonce[4:], low^i)
}

// sealChunk appends sealed chunk i to dst.
func (c *Cipher) sealChunk(dst, chunk []byte, i uint64) []byte {
	c.setNonce(i)
	return c.aead.Seal(dst, c.nonce[:], chunk, nil)
}

// openChunk appends opened chunk i to dst.
func (c *Cipher) openChunk(dst, chunk []byte, i uint64) ([]byte, error) {
	c.setNonce(i)
	dst, err := c.aead.Open(dst, c.nonce[:], chunk, nil)
	if err != nil {
		return nil, ErrOpen
	}
	return dst, nil
}

// Seal appends the chunks of message to dst. The two must not overlap.
func (c *Cipher) Seal(dst, message []byte) []byte {
	for i := uint64(0); ; i++ {
		n := min(len(message), ChunkSize)
		dst = c.sealChunk(dst, message[:n], i)
		if n < ChunkSize {
			return dst
		}
		message = message[n:]
	}
}

// Open appends the message of these chunks to dst. The two must not overlap.
// If any chunk does not open, it returns [ErrOpen] and no bytes.
func (c *Cipher) Open(dst, chunks []byte) ([]byte, error) {
	if _, ok := MessageSize(uint64(len(chunks))); !ok {
		return nil, ErrOpen
	}
	for i := uint64(0); ; i++ {
		n := min(len(chunks), sealedChunkSize)
		var err error
		if dst, err = c.openChunk(dst, chunks[:n], i); err != nil {
			return nil, err
		}
		if n < sealedChunkSize {
			return dst, nil
		}
		chunks = chunks[n:]
	}
}

// A Writer seals what is written to it.
type Writer struct {
	w   io.Writer
	c   *Cipher
	i   uint64
	n   int // bytes of plaintext in buf
	buf [sealedChunkSize]byte
	err error // of w, or for a Writer that is closed
}

// NewWriter returns a writer that writes the chunks, without a header, to w. It
// keeps up to one chunk until Close.
func NewWriter(w io.Writer, c *Cipher) *Writer { return &Writer{w: w, c: c} }

// Write seals p as far as it fills chunks.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && w.err == nil {
		m := copy(w.buf[w.n:ChunkSize], p)
		w.n += m
		n += m
		p = p[m:]
		if w.n == ChunkSize {
			w.flush()
		}
	}
	return n, w.err
}

// Close writes the last chunk. It does not close the writer below.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.flush()
	if w.err != nil {
		return w.err
	}
	w.err = errors.New("chunked: writer is closed")
	return nil
}

func (w *Writer) flush() {
	if w.i >= maxChunks {
		w.err = errors.New("chunked: message too long")
		return
	}
	_, w.err = w.w.Write(w.c.sealChunk(w.buf[:0], w.buf[:w.n], w.i))
	w.i++
	w.n = 0
}

// A Reader opens chunks as they are read. It hands out no byte of a chunk that
// is not authentic; that nothing is missing at the end is certain only when it
// returns [io.EOF].
type Reader struct {
	r     io.Reader
	c     *Cipher
	i     uint64
	plain []byte // not yet handed out; in buf
	buf   [sealedChunkSize]byte
	err   error // for when plain is used up
}

// NewReader returns a reader of the message whose chunks, without a header, r
// delivers up to its end.
func NewReader(r io.Reader, c *Cipher) *Reader { return &Reader{r: r, c: c} }

// Read returns [ErrOpen], now and for ever, where a chunk does not open, and
// the error of the reader below where that fails.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// fill opens the next chunk and says in r.err what comes after it.
func (r *Reader) fill() {
	n, err := io.ReadFull(r.r, r.buf[:])
	switch {
	case r.i >= maxChunks:
		r.err = ErrOpen
		return
	case err == nil:
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		if n < TagSize { // also n = 0: the short chunk is missing
			r.err = ErrOpen
			return
		}
		r.err = io.EOF
	default:
		r.err = err
		return
	}
	plain, err := r.c.openChunk(r.buf[:0], r.buf[:n], r.i)
	if err != nil {
		r.err = err
		return
	}
	r.plain = plain
	r.i++
}
