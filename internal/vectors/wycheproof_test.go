package vectors

import (
	"bytes"
	"compress/zlib"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/kistvault/kist/internal/chunked"
)

// hexBytes is bytes that are written in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type chunkedFile struct {
	NumberOfTests int
	TestGroups    []struct {
		Type, AEAD, SHA string
		Tests           []chunkedTest
	}
}

type chunkedTest struct {
	TcID      int
	Comment   string
	Key, Ctx  hexBytes
	Ct        hexBytes  // compressed with zlib
	AeadKey   *hexBytes // nil where the header is at fault
	BaseNonce *hexBytes
	MsgLength *int // of the message, or of its longest valid prefix
	MsgSha512 hexBytes
	Result    string
	Flags     []string
}

func (c chunkedTest) flag(name string) bool { return slices.Contains(c.Flags, name) }

// isPrefix checks what a reader handed out before it failed: no more than the
// valid prefix.
func (c chunkedTest) isPrefix(t *testing.T, got []byte) {
	t.Helper()
	switch {
	case len(got) == 0:
	case c.MsgLength == nil || !c.flag("PartialPlaintext"):
		t.Errorf("handed out %d bytes, and none are valid", len(got))
	case len(got) > *c.MsgLength:
		t.Errorf("handed out %d bytes, and %d are valid", len(got), *c.MsgLength)
	case len(got) == *c.MsgLength:
		c.isMessage(t, got)
	}
}

func (c chunkedTest) isMessage(t *testing.T, got []byte) {
	t.Helper()
	if sum := sha512.Sum512(got); c.MsgLength == nil || len(got) != *c.MsgLength || !bytes.Equal(sum[:], c.MsgSha512) {
		t.Errorf("opened to another message, of %d bytes", len(got))
	}
}

func loadChunked(t *testing.T) []chunkedTest {
	t.Helper()
	b, err := fs.ReadFile(wycheproof.TestVectors, "c2sp_chunked_encryption_aes_256_gcm_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var f chunkedFile
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	var tests []chunkedTest
	for _, g := range f.TestGroups {
		if g.Type != "ChunkedEncryption" || g.AEAD != "AEAD_AES_256_GCM" || g.SHA != "SHA-512" {
			t.Fatalf("group of %s with %s and %s", g.Type, g.AEAD, g.SHA)
		}
		for _, c := range g.Tests {
			z, err := zlib.NewReader(bytes.NewReader(c.Ct))
			if err != nil {
				t.Fatal(err)
			}
			if c.Ct, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
			tests = append(tests, c)
		}
	}
	if len(tests) != f.NumberOfTests || len(tests) != 35 {
		t.Fatalf("%d tests, want %d and 35", len(tests), f.NumberOfTests)
	}
	return tests
}

// TestWycheproof opens each vector whole and as a stream, and seals the valid
// ones again.
func TestWycheproof(t *testing.T) {
	valid, invalid := 0, 0
	for _, c := range loadChunked(t) {
		t.Run(c.Comment, func(t *testing.T) {
			wantOK := c.Result == "valid"
			if wantOK {
				valid++
			} else {
				invalid++
			}
			d, err := chunked.NewDeriver(c.Key)
			if c.flag("InvalidKeySize") {
				if err == nil {
					t.Error("key of a wrong size was taken")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}

			var cipher chunked.Cipher
			header := c.Ct[:min(len(c.Ct), chunked.HeaderSize)]
			err = d.OpenHeader(&cipher, header, c.Ctx)
			if (err != nil) != c.flag("HeaderFailure") {
				t.Errorf("header: %v", err)
			}
			if err != nil {
				if err != chunked.ErrOpen {
					t.Errorf("header: %v", err)
				}
				return
			}
			chunks := c.Ct[chunked.HeaderSize:]
			testChunks(t, c, &cipher, chunks)

			// Raw mode: the key that the vector gives instead of the derived one.
			raw, err := chunked.NewCipher(*c.AeadKey, *c.BaseNonce)
			if err != nil {
				t.Fatal(err)
			}
			testChunks(t, c, raw, chunks)

			if !wantOK {
				return
			}
			message, err := raw.Open(nil, chunks)
			if err != nil {
				t.Fatal(err)
			}
			if n, ok := chunked.MessageSize(uint64(len(chunks))); !ok || n != uint64(len(message)) {
				t.Errorf("message size %d, want %d", n, len(message))
			}
			if got := chunked.SealedSize(uint64(len(message))); got != uint64(len(chunks)) {
				t.Errorf("sealed size %d, want %d", got, len(chunks))
			}
			again := d.SealHeader(&cipher, nil, header[:chunked.SaltSize], c.Ctx)
			if again = cipher.Seal(again, message); !bytes.Equal(again, c.Ct) {
				t.Error("sealed again to other bytes")
			}
			var stream bytes.Buffer
			w := chunked.NewWriter(&stream, raw)
			if _, err := w.Write(message); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil || !bytes.Equal(stream.Bytes(), chunks) {
				t.Errorf("sealed as a stream to other bytes, %v", err)
			}
		})
	}
	t.Logf("%d valid, %d invalid", valid, invalid)
}

func testChunks(t *testing.T, c chunkedTest, cipher *chunked.Cipher, chunks []byte) {
	t.Helper()
	wantOK := c.Result == "valid"

	message, err := cipher.Open(nil, chunks)
	if (err == nil) != wantOK || err != nil && (err != chunked.ErrOpen || message != nil) {
		t.Errorf("whole: %d bytes, %v", len(message), err)
	}
	if wantOK {
		c.isMessage(t, message)
	}

	r := chunked.NewReader(bytes.NewReader(chunks), cipher)
	message, err = io.ReadAll(r)
	if wantOK {
		if err != nil {
			t.Errorf("stream: %v", err)
		}
		c.isMessage(t, message)
		return
	}
	if err != chunked.ErrOpen {
		t.Errorf("stream: %v", err)
	}
	c.isPrefix(t, message)
	for range 3 {
		if n, err := r.Read(make([]byte, 100)); n != 0 || err != chunked.ErrOpen {
			t.Errorf("read on after the error: %d bytes, %v", n, err)
		}
	}
}
