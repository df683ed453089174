package seal_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

func sealObject(t testing.TB, k *seal.Key, value []byte) ([]byte, seal.ObjectInfo) {
	t.Helper()
	var b bytes.Buffer
	info, err := k.SealObject(&b, bytes.NewReader(value), keys.DeviceID{1}, 1, int64(len(value)))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), info
}

func openObject(k *seal.Key, sealed []byte, length uint64) ([]byte, error) {
	r, err := k.OpenObject(bytes.NewReader(sealed), uint64(len(sealed)), length)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestObject(t *testing.T) {
	k := newFixture(1).Key
	for _, n := range []int{0, 1, 255, 256, 257, 16383, 16384, 16385, 40000, 65536, 65537, 1 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			value := make([]byte, n)
			rand.Read(value)
			sealed, info := sealObject(t, k, value)
			want := seal.ObjectInfo{Hash: sha256.Sum256(sealed), Size: uint64(len(sealed)), Length: uint64(n)}
			if info != want {
				t.Errorf("got %+v, want %+v", info, want)
			}
			if got := seal.ObjectSize(uint64(n)); got != info.Size {
				t.Errorf("ObjectSize %d, want %d", got, info.Size)
			}
			r, err := k.OpenObject(bytes.NewReader(sealed), info.Size, info.Length)
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(r, value); err != nil {
				t.Error(err)
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("read on: %d, %v", n, err)
			}
			// In other steps the same.
			var b bytes.Buffer
			random := [32]byte{9}
			if _, err := k.SealObjectWith(&b, bytes.NewReader(value), keys.DeviceID{}, 7, int64(n), random); err != nil {
				t.Fatal(err)
			}
			one := bytes.Clone(b.Bytes())
			b.Reset()
			if _, err := k.SealObjectWith(&b, iotest.HalfReader(bytes.NewReader(value)), keys.DeviceID{}, 7, int64(n), random); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(one, b.Bytes()) {
				t.Error("sealed to other bytes in other steps")
			}
		})
	}
}

func TestObjectTampering(t *testing.T) {
	k := newFixture(1).Key
	value := bytes.Repeat([]byte("value"), 8000)
	sealed, info := sealObject(t, k, value)
	flip := func(at int) []byte {
		b := bytes.Clone(sealed)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		sealed []byte
		length uint64
		want   error
	}{
		"salt":                {flip(0), info.Length, seal.ErrOpen},
		"commitment":          {flip(30), info.Length, seal.ErrOpen},
		"first chunk":         {flip(60), info.Length, seal.ErrOpen},
		"last chunk":          {flip(len(sealed) - 20), info.Length, seal.ErrOpen},
		"last tag":            {flip(len(sealed) - 1), info.Length, seal.ErrOpen},
		"cut":                 {sealed[:len(sealed)-1], info.Length, seal.ErrOpen},
		"cut after a chunk":   {sealed[:56+2*16400], 100, seal.ErrOpen},
		"one byte more":       {append(bytes.Clone(sealed), 0), info.Length, seal.ErrOpen},
		"empty":               {nil, 0, seal.ErrOpen},
		"header only":         {sealed[:56], 0, seal.ErrOpen},
		"shorter than it is":  {sealed, info.Length - 1, seal.ErrPayload}, // the last byte is in the padding
		"longer than it can":  {sealed, 1 << 20, seal.ErrPayload},
		"longer than allowed": {sealed, 1 << 40, seal.ErrPayload},
		"padding not zero":    {k.SealPlainObject(append(bytes.Clone(value), 0, 0, 1), [32]byte{}), uint64(len(value)), seal.ErrPayload},
	} {
		got, err := openObject(k, c.sealed, c.length)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if !bytes.HasPrefix(value, got) {
			t.Errorf("%s: handed out something else than the value", name)
		}
	}
	if _, err := newFixture(2).OpenObject(bytes.NewReader(sealed), info.Size, info.Length); err != seal.ErrOpen {
		t.Errorf("other key: %v", err)
	}
}

// TestObjectErrorStays reads on after an error.
func TestObjectErrorStays(t *testing.T) {
	k := newFixture(1).Key
	sealed, info := sealObject(t, k, make([]byte, 40000))
	sealed[56+16400] ^= 1
	r, err := k.OpenObject(bytes.NewReader(sealed), info.Size, info.Length)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != 16384 || err != seal.ErrOpen {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != seal.ErrOpen {
		t.Errorf("read on: %d, %v", n, err)
	}
	// The file is shorter than the size that was promised.
	sealed[56+16400] ^= 1
	r, err = k.OpenObject(bytes.NewReader(sealed[:30000]), info.Size, info.Length)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != seal.ErrOpen {
		t.Errorf("short file: %v", err)
	}
}

func TestObjectLimits(t *testing.T) {
	k := newFixture(1).Key
	if _, err := k.SealObject(io.Discard, strings.NewReader("12345"), keys.DeviceID{}, 1, 4); !errors.Is(err, seal.ErrLimit) {
		t.Errorf("got %v", err)
	}
	if _, err := k.SealObject(io.Discard, strings.NewReader("12345"), keys.DeviceID{}, 1, 5); err != nil {
		t.Error(err)
	}
	if _, err := k.SealObject(io.Discard, strings.NewReader("1"), keys.DeviceID{}, 1, -1); !errors.Is(err, seal.ErrLimit) {
		t.Errorf("got %v", err)
	}
	broken := errors.New("broken")
	if _, err := k.SealObject(io.Discard, iotest.ErrReader(broken), keys.DeviceID{}, 1, 5); !errors.Is(err, broken) {
		t.Errorf("reading: %v", err)
	}
	if _, err := k.SealObject(failingWriter{broken}, strings.NewReader("1"), keys.DeviceID{}, 1, 5); !errors.Is(err, broken) {
		t.Errorf("writing: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestObjectMemory seals and opens 64 MiB and looks at what was allocated.
func TestObjectMemory(t *testing.T) {
	k := newFixture(1).Key
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 64 << 20
	info, err := k.SealObject(io.Discard, io.LimitReader(zeroReader{}, n), keys.DeviceID{}, 1, n)
	runtime.ReadMemStats(&after)
	if err != nil || info.Length != n {
		t.Fatalf("%+v, %v", info, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes allocated", used)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }
