package chunked

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

var (
	testKey  = bytes.Repeat([]byte{1}, KeySize)
	testSalt = bytes.Repeat([]byte{2}, SaltSize)
)

func seal(t testing.TB, salt, context, message []byte) []byte {
	t.Helper()
	d, err := NewDeriver(testKey)
	if err != nil {
		t.Fatal(err)
	}
	var c Cipher
	return c.Seal(d.SealHeader(&c, nil, salt, context), message)
}

func open(t testing.TB, context, sealed []byte) ([]byte, error) {
	t.Helper()
	d, err := NewDeriver(testKey)
	if err != nil {
		t.Fatal(err)
	}
	var c Cipher
	if err := d.OpenHeader(&c, sealed[:min(len(sealed), HeaderSize)], context); err != nil {
		return nil, err
	}
	return c.Open(nil, sealed[HeaderSize:])
}

// reference is the specification, a second time and as plainly as possible.
func reference(t testing.TB, key, salt, context, message []byte) []byte {
	t.Helper()
	okm, err := hkdf.Expand(sha512.New, key, "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"+string(salt)+string(context), 76)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(okm[:32])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(salt), okm[44:]...)
	for i := 0; ; i++ {
		nonce := bytes.Clone(okm[32:44])
		nonce[11] ^= byte(i)
		nonce[10] ^= byte(i >> 8)
		nonce[9] ^= byte(i >> 16)
		n := min(len(message), 16384)
		out = aead.Seal(out, nonce, message[:n], nil)
		message = message[n:]
		if n < 16384 {
			return out
		}
	}
}

var edgeSizes = []int{0, 1, 15, 16, 17, 1000, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize - 1, 2 * ChunkSize, 2*ChunkSize + 1, 257 * ChunkSize}

func TestReference(t *testing.T) {
	d, _ := NewDeriver(testKey) // one for all, to find state that is left over
	for _, n := range edgeSizes {
		for _, context := range [][]byte{nil, []byte("context"), bytes.Repeat([]byte("c"), 1000)} {
			if n > 3*ChunkSize && len(context) != 7 {
				continue // a long message is for the counter
			}
			salt := make([]byte, SaltSize)
			rand.Read(salt)
			message := make([]byte, n)
			rand.Read(message)
			var c Cipher
			got := c.Seal(d.SealHeader(&c, nil, salt, context), message)
			want := reference(t, testKey, salt, context, message)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, context of %d: not what the specification says", n, len(context))
			}
			if err := d.OpenHeader(&c, want[:HeaderSize], context); err != nil {
				t.Fatal(err)
			}
			opened, err := c.Open(nil, want[HeaderSize:])
			if err != nil || !bytes.Equal(opened, message) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, n := range edgeSizes {
		sealed := seal(t, testSalt, nil, make([]byte, n))
		size := uint64(len(sealed) - HeaderSize)
		if got := SealedSize(uint64(n)); got != size {
			t.Errorf("SealedSize(%d) = %d, want %d", n, got, size)
		}
		if got, ok := MessageSize(size); !ok || got != uint64(n) {
			t.Errorf("MessageSize(%d) = %d, %v, want %d", size, got, ok, n)
		}
	}
	for _, size := range []uint64{0, 1, 15, 16400, 16401, 16415, 2 * 16400} {
		if n, ok := MessageSize(size); ok {
			t.Errorf("MessageSize(%d) = %d", size, n)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(0, 1<<52).Draw(t, "n")
		if got, ok := MessageSize(SealedSize(n)); !ok || got != n {
			t.Errorf("%d → %d → %d, %v", n, SealedSize(n), got, ok)
		}
	})
}

// TestStream seals and opens in steps of many sizes.
func TestStream(t *testing.T) {
	for _, n := range edgeSizes[:len(edgeSizes)-1] {
		message := make([]byte, n)
		rand.Read(message)
		want := seal(t, testSalt, nil, message)[HeaderSize:]
		d, _ := NewDeriver(testKey)
		for _, step := range []int{1000, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3 * ChunkSize} {
			t.Run(fmt.Sprintf("%d in steps of %d", n, step), func(t *testing.T) {
				var c Cipher
				d.SealHeader(&c, nil, testSalt, nil)
				var out bytes.Buffer
				w := NewWriter(&out, &c)
				for rest := message; len(rest) > 0; {
					m, err := w.Write(rest[:min(step, len(rest))])
					if err != nil {
						t.Fatal(err)
					}
					rest = rest[m:]
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out.Bytes(), want) {
					t.Error("sealed in steps to other bytes")
				}
				if _, err := w.Write([]byte{0}); err == nil {
					t.Error("written after Close")
				}
				r := NewReader(bytes.NewReader(want), &c)
				got, err := io.ReadAll(io.MultiReader(io.LimitReader(r, int64(step)), r))
				if err != nil || !bytes.Equal(got, message) {
					t.Errorf("opened %d bytes, %v", len(got), err)
				}
			})
		}
		if n < ChunkSize-1 || n > ChunkSize+1 { // that takes long, and finds what it finds at the edge
			continue
		}
		var c Cipher
		d.SealHeader(&c, nil, testSalt, nil)
		if err := iotest.TestReader(NewReader(iotest.OneByteReader(bytes.NewReader(want)), &c), message); err != nil {
			t.Error(err)
		}
	}
}

// TestTampering changes, cuts and rearranges a message of several chunks, and
// opens it whole and as a stream.
func TestTampering(t *testing.T) {
	message := make([]byte, 2*ChunkSize+100)
	rand.Read(message)
	good := seal(t, testSalt, []byte("c"), message)
	const c0, c1, c2 = HeaderSize, HeaderSize + sealedChunkSize, HeaderSize + 2*sealedChunkSize
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0x80
		return b
	}
	for name, c := range map[string]struct {
		sealed []byte
		prefix int // bytes that a stream may hand out
	}{
		"salt":              {flip(3), 0},
		"commitment":        {flip(SaltSize + 3), 0},
		"first chunk":       {flip(c0 + 5), 0},
		"second chunk":      {flip(c1 + 5), ChunkSize},
		"last chunk":        {flip(c2 + 5), 2 * ChunkSize},
		"tag of the last":   {flip(len(good) - 1), 2 * ChunkSize},
		"empty":             {nil, 0},
		"header cut":        {good[:HeaderSize-1], 0},
		"header only":       {good[:HeaderSize], 0},
		"cut in a chunk":    {good[:c1+50], ChunkSize},
		"cut after a chunk": {good[:c2], 2 * ChunkSize},
		"cut in the tag":    {good[:c2+8], 2 * ChunkSize},
		"cut by one":        {good[:len(good)-1], 2 * ChunkSize},
		"one more":          {join(good, []byte{0}), 2 * ChunkSize},
		"chunks swapped":    {join(good[:c0], good[c1:c2], good[c0:c1], good[c2:]), 0},
		"chunk repeated":    {join(good[:c1], good[c0:]), ChunkSize},
		"chunk left out":    {join(good[:c0], good[c1:]), 0},
		"last chunk twice":  {join(good, good[c2:]), 2 * ChunkSize},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := open(t, []byte("c"), c.sealed); err != ErrOpen || got != nil {
				t.Errorf("opened %d bytes, %v", len(got), err)
			}
			d, _ := NewDeriver(testKey)
			var ci Cipher
			if err := d.OpenHeader(&ci, c.sealed[:min(len(c.sealed), HeaderSize)], []byte("c")); err != nil {
				if err != ErrOpen || c.prefix != 0 {
					t.Errorf("header: %v", err)
				}
				return
			}
			r := NewReader(bytes.NewReader(c.sealed[HeaderSize:]), &ci)
			got, err := io.ReadAll(r)
			if err != ErrOpen {
				t.Errorf("stream: %v", err)
			}
			if len(got) != c.prefix || !bytes.Equal(got, message[:c.prefix]) {
				t.Errorf("stream handed out %d bytes, want %d", len(got), c.prefix)
			}
			if n, err := r.Read(make([]byte, 10)); n != 0 || err != ErrOpen {
				t.Errorf("read on: %d, %v", n, err)
			}
		})
	}
	if _, err := open(t, []byte("d"), good); err != ErrOpen {
		t.Errorf("other context: %v", err)
	}
	if _, err := open(t, nil, good); err != ErrOpen {
		t.Errorf("no context: %v", err)
	}
	other, _ := NewDeriver(bytes.Repeat([]byte{9}, KeySize))
	if err := other.OpenHeader(new(Cipher), good[:HeaderSize], []byte("c")); err != ErrOpen {
		t.Errorf("other key: %v", err)
	}
}

func TestKeySizes(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := NewDeriver(make([]byte, n)); err == nil {
			t.Errorf("input key of %d bytes", n)
		}
		if _, err := NewCipher(make([]byte, n), make([]byte, 12)); err == nil {
			t.Errorf("key of %d bytes", n)
		}
	}
	if _, err := NewCipher(make([]byte, 32), make([]byte, 11)); err == nil {
		t.Error("nonce of 11 bytes")
	}
}

func TestErrorsBelow(t *testing.T) {
	broken := errors.New("broken")
	c, _ := NewCipher(testKey, make([]byte, 12))
	r := NewReader(iotest.ErrReader(broken), c)
	for range 2 {
		if _, err := r.Read(make([]byte, 1)); err != broken {
			t.Errorf("reading: %v", err)
		}
	}
	w := NewWriter(writerFunc(func([]byte) (int, error) { return 0, broken }), c)
	if _, err := w.Write(make([]byte, 2*ChunkSize)); err != broken {
		t.Errorf("writing: %v", err)
	}
	if err := w.Close(); err != broken {
		t.Errorf("closing: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestMaxChunks(t *testing.T) {
	c, _ := NewCipher(testKey, make([]byte, 12))
	w := NewWriter(io.Discard, c)
	w.i = maxChunks
	if err := w.Close(); err == nil {
		t.Error("sealed a chunk beyond the last")
	}
	r := NewReader(bytes.NewReader(c.sealChunk(nil, nil, 0)), c)
	r.i = maxChunks
	if _, err := r.Read(make([]byte, 1)); err != ErrOpen {
		t.Errorf("opened a chunk beyond the last: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(nil), []byte("message"), 0, byte(0))
	f.Add([]byte("c"), make([]byte, ChunkSize), 60, byte(1))
	f.Fuzz(func(t *testing.T, context, message []byte, at int, xor byte) {
		sealed := seal(t, testSalt, context, message)
		got, err := open(t, context, sealed)
		if err != nil || !bytes.Equal(got, message) {
			t.Fatalf("does not open: %v", err)
		}
		if xor == 0 || at < 0 {
			return
		}
		sealed[at%len(sealed)] ^= xor
		if _, err := open(t, context, sealed); err != ErrOpen {
			t.Errorf("byte %d changed: %v", at%len(sealed), err)
		}
	})
}
