package seal_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

func benchKey() *seal.Key {
	root := keys.GenerateRoot()
	tag := root.TagSecret().Tag("contacts")
	return seal.New(root.VaultID(), 1, tag, root.Epoch(1).Namespace(tag))
}

// record is a record whose padded payload has 256 bytes.
func record() *seal.Payload {
	return &seal.Payload{Form: seal.FormInline, HLC: 1 << 40, ContentType: "text/vcard", Name: "0123456789abcdef01234567", Value: bytes.Repeat([]byte{'v'}, 180)}
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{180, 4096, 65536} {
		b.Run(sizeName(n), func(b *testing.B) {
			k, p := benchKey(), record()
			p.Value = bytes.Repeat([]byte{'v'}, n)
			var buf []byte
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				buf, _ = k.Seal(buf[:0], p)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{180, 4096, 65536} {
		b.Run(sizeName(n), func(b *testing.B) {
			k, p := benchKey(), record()
			p.Value = bytes.Repeat([]byte{'v'}, n)
			blob, err := k.Seal(nil, p)
			if err != nil {
				b.Fatal(err)
			}
			var q seal.Payload
			var buf []byte
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if buf, err = k.OpenInto(&q, buf, blob); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkObject(b *testing.B) {
	k := benchKey()
	value := bytes.Repeat([]byte{'v'}, 4<<20)
	var sealed bytes.Buffer
	info, err := k.SealObject(&sealed, bytes.NewReader(value), keys.DeviceID{1}, 1, 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		b.SetBytes(int64(len(value)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.SealObject(io.Discard, bytes.NewReader(value), keys.DeviceID{1}, 1, 1<<30); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.SetBytes(int64(len(value)))
		b.ReportAllocs()
		for b.Loop() {
			r, err := k.OpenObject(bytes.NewReader(sealed.Bytes()), info.Size, info.Length)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func sizeName(n int) string {
	if n < 1024 {
		return "record"
	}
	return fmt.Sprintf("%dKiB", n/1024)
}
