package seal_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kistvault/kist/internal/chunked"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// fixture is a vault's key for one namespace and epoch, with what it was made
// from.
type fixture struct {
	vault  keys.VaultID
	epoch  uint32
	tag    keys.Tag
	secret keys.NamespaceSecret
	*seal.Key
}

func newFixture(seed byte) fixture {
	secret := keys.NewEpochSecret([32]byte{seed}).Namespace(keys.Tag{seed})
	f := fixture{vault: keys.VaultID{seed}, epoch: uint32(seed), tag: keys.Tag{seed}, secret: secret}
	f.Key = seal.New(f.vault, f.epoch, f.tag, f.secret)
	return f
}

func mustSeal(t testing.TB, k *seal.Key, p *seal.Payload) []byte {
	t.Helper()
	b, err := k.Seal(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func payloads() *rapid.Generator[*seal.Payload] {
	return rapid.Custom(func(t *rapid.T) *seal.Payload {
		p := &seal.Payload{
			Form: rapid.SampledFrom([]seal.Form{seal.FormInline, seal.FormObject, seal.FormDocument, seal.FormDelete, 5, 255}).Draw(t, "form"),
			HLC:  rapid.Uint64().Draw(t, "hlc"),
			Name: rapid.StringN(0, -1, seal.MaxName).Draw(t, "name"),
		}
		if p.Form != seal.FormDelete {
			p.Expires = rapid.Uint64Range(0, 1<<48-1).Draw(t, "expires")
			p.Available = rapid.Uint64Range(0, 1<<48-1).Draw(t, "available")
			p.ContentType = rapid.StringN(0, -1, seal.MaxContentType).Draw(t, "content type")
		}
		switch p.Form {
		case seal.FormObject:
			p.Object = &seal.ObjectRef{
				Hash:   [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash")),
				Length: rapid.Uint64Range(0, seal.MaxObject).Draw(t, "length"),
			}
		case seal.FormDelete:
		default:
			p.Value = rapid.SliceOfN(rapid.Byte(), 1, 2000).Draw(t, "value")
		}
		return p
	})
}

func TestRoundTrip(t *testing.T) {
	k := newFixture(1)
	var q seal.Payload // used again and again
	var buf []byte
	rapid.Check(t, func(t *rapid.T) {
		p := payloads().Draw(t, "payload")
		blob, err := k.Seal([]byte("before"), p)
		if err != nil {
			t.Fatal(err)
		}
		blob, ok := bytes.CutPrefix(blob, []byte("before"))
		if !ok {
			t.Fatal("what was in dst is gone")
		}
		if got, want := seal.BlobSize(p), len(blob); got != want {
			t.Errorf("BlobSize %d, want %d", got, want)
		}
		got, err := k.Open(blob)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Error(d)
		}
		if buf, err = k.OpenInto(&q, buf, blob); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, &q); d != "" {
			t.Error(d)
		}
	})
}

// TestFormula computes a blob by the formulas of SPEC.md.
func TestFormula(t *testing.T) {
	f := newFixture(7)
	p := &seal.Payload{Form: seal.FormInline, HLC: 5, ContentType: "text/plain", Name: "ada", Value: bytes.Repeat([]byte("v"), 300)}
	random := [32]byte{1, 2, 3}
	got, err := f.SealWith(nil, p, random)
	if err != nil {
		t.Fatal(err)
	}

	context := append([]byte("kist/v1/change\x00"), f.vault[:]...)
	context = binary.BigEndian.AppendUint32(context, f.epoch)
	context = append(context, f.tag[:]...)

	plain := append([]byte{1}, make([]byte, 24)...)
	plain[8] = 5
	plain = append(plain, "\x0atext/plain\x00\x03ada\x00\x00\x01\x2c"...)
	plain = append(plain, p.Value...)
	plain = append(plain, make([]byte, 352-len(plain))...) // Padmé(345)

	sealKey, saltKey := f.secret.SealKey(), f.secret.SaltKey()
	mac := hmac.New(sha256.New, saltKey[:])
	mac.Write(random[:])
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(context))))
	mac.Write(context)
	mac.Write(plain)

	d, err := chunked.NewDeriver(sealKey[:])
	if err != nil {
		t.Fatal(err)
	}
	var c chunked.Cipher
	want := c.Seal(d.SealHeader(&c, nil, mac.Sum(nil)[:24], context), plain)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// TestPadding compares the padded length with the formula as it is published.
func TestPadding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(0, 1<<40).Draw(t, "n")
		l := max(n, 256)
		e := bits.Len64(l) - 1         // ⌊log₂ l⌋
		s := bits.Len(uint(e)) - 1 + 1 // ⌊log₂ e⌋ + 1
		low := e - s                   // bits to clear
		want := (l + 1<<low - 1) >> low << low
		got := seal.Padded(n)
		if got != want {
			t.Errorf("%d padded to %d, want %d", n, got, want)
		}
		if got < n || got < 256 || seal.Padded(got) != got || float64(got) > float64(l)*1.12 {
			t.Errorf("%d padded to %d", n, got)
		}
	})
	for n, want := range map[uint64]uint64{0: 256, 1: 256, 256: 256, 257: 272, 345: 352, 1000: 1024, 65536: 65536, 65537: 67584} {
		if got := seal.Padded(n); got != want {
			t.Errorf("%d padded to %d, want %d", n, got, want)
		}
	}
	// Equal lengths give equal sizes, whatever the content.
	k := newFixture(1)
	a := mustSeal(t, k.Key, &seal.Payload{Form: seal.FormInline, Name: "a", Value: bytes.Repeat([]byte{0}, 1000)})
	b := mustSeal(t, k.Key, &seal.Payload{Form: seal.FormInline, Name: "b", Value: []byte(strings.Repeat("xyz", 333) + "!")})
	if len(a) != len(b) {
		t.Errorf("%d and %d bytes", len(a), len(b))
	}
}

// TestElsewhere opens a blob under every other key that differs in one thing:
// attack B1.
func TestElsewhere(t *testing.T) {
	f := newFixture(1)
	blob := mustSeal(t, f.Key, &seal.Payload{Form: seal.FormInline, Value: []byte("v")})
	for name, k := range map[string]*seal.Key{
		"vault":  seal.New(keys.VaultID{2}, f.epoch, f.tag, f.secret),
		"epoch":  seal.New(f.vault, 2, f.tag, f.secret),
		"tag":    seal.New(f.vault, f.epoch, keys.Tag{2}, f.secret),
		"secret": seal.New(f.vault, f.epoch, f.tag, keys.NewNamespaceSecret([32]byte{2})),
	} {
		if p, err := k.Open(blob); err != seal.ErrOpen || p != nil {
			t.Errorf("other %s: %v, %v", name, p, err)
		}
	}
	if _, err := f.OpenObject(bytes.NewReader(blob), uint64(len(blob)), 0); err != seal.ErrOpen {
		t.Errorf("as an object: %v", err)
	}
	var object bytes.Buffer
	if _, err := f.SealObject(&object, strings.NewReader("value"), keys.DeviceID{}, 1, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(object.Bytes()); err != seal.ErrOpen {
		t.Errorf("object as a blob: %v", err)
	}
}

// TestTampering changes every byte and cuts at every length: one error for all,
// attack B4.
func TestTampering(t *testing.T) {
	k := newFixture(1)
	blob := mustSeal(t, k.Key, &seal.Payload{Form: seal.FormInline, Name: "n", Value: []byte("v")})
	try := func(what string, b []byte) {
		t.Helper()
		if p, err := k.Open(b); err != seal.ErrOpen || p != nil {
			t.Errorf("%s: %v, %v", what, p, err)
		}
	}
	for i := range blob {
		for _, x := range []byte{1, 0x80} {
			b := bytes.Clone(blob)
			b[i] ^= x
			try(fmt.Sprintf("byte %d changed", i), b)
		}
		try(fmt.Sprintf("cut to %d", i), blob[:i])
	}
	try("one byte more", append(bytes.Clone(blob), 0))
	try("twice", append(bytes.Clone(blob), blob...))
	try("nil", nil)
	try("too long", make([]byte, seal.MaxBlob+1))
}

// TestMalformed seals what no correct device would.
func TestMalformed(t *testing.T) {
	k := newFixture(1)
	payload := func(form seal.Form, value string) []byte {
		p := &seal.Payload{Form: form, Value: []byte(value)}
		return p.Append(nil)
	}
	inline := payload(seal.FormInline, "value")
	patch := func(b []byte, at int, s string) []byte {
		b = bytes.Clone(b)
		copy(b[at:], s)
		return b
	}
	pad := func(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n)...) }
	for name, plain := range map[string][]byte{
		"empty":                  nil,
		"cut in the fixed part":  inline[:20],
		"cut in the value":       inline[:len(inline)-1],
		"form 0":                 payload(0, ""),
		"content type too long":  patch(inline, 25, "\xff"),
		"name too long":          patch(inline, 26, "\xff\xff"),
		"value too long":         patch(inline, 28, "\xff\xff\xff\xff"),
		"name over its limit":    (&seal.Payload{Form: 1, Name: strings.Repeat("n", seal.MaxName+1)}).Append(nil),
		"value over its limit":   payload(seal.FormInline, strings.Repeat("v", seal.MaxInline+1)),
		"type not UTF-8":         (&seal.Payload{Form: 1, ContentType: "\xff"}).Append(nil),
		"expires beyond 48 bits": (&seal.Payload{Form: 1, Expires: 1 << 48}).Append(nil),
		"available beyond":       (&seal.Payload{Form: 1, Available: 1 << 63}).Append(nil),
		"delete with a value":    payload(seal.FormDelete, "v"),
		"delete with a type":     (&seal.Payload{Form: seal.FormDelete, ContentType: "t"}).Append(nil),
		"delete that expires":    (&seal.Payload{Form: seal.FormDelete, Expires: 1}).Append(nil),
		"object of 39 bytes":     append(patch(payload(seal.FormInline, ""), 0, "\x02")[:28], append([]byte{0, 0, 0, 39}, make([]byte, 39)...)...),
		"object over 1 GiB":      (&seal.Payload{Form: 2, Object: &seal.ObjectRef{Length: 1<<30 + 1}}).Append(nil),
		"padding not zero":       append(pad(inline, 10), 1),
		"too much padding":       pad(inline, seal.MaxPadding+1),
	} {
		p, err := k.Open(k.SealPlain(plain, [32]byte{}))
		if !errors.Is(err, seal.ErrPayload) || errors.Is(err, seal.ErrLimit) || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
		if err != nil && strings.Contains(err.Error(), "value value") {
			t.Errorf("%s: the error shows the content: %v", name, err)
		}
	}
	// Padding of any length up to the limit opens: a namespace may have its own
	// padding policy.
	for _, n := range []int{0, 1, 1000, seal.MaxPadding} {
		if p, err := k.Open(k.SealPlain(pad(inline, n), [32]byte{})); err != nil || string(p.Value) != "value" {
			t.Errorf("padding of %d: %v, %v", n, p, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	k := newFixture(1)
	for name, c := range map[string]struct {
		p    seal.Payload
		want error
	}{
		"name":              {seal.Payload{Form: 1, Name: strings.Repeat("n", seal.MaxName+1)}, seal.ErrLimit},
		"content type":      {seal.Payload{Form: 1, ContentType: strings.Repeat("n", 256)}, seal.ErrLimit},
		"value":             {seal.Payload{Form: 1, Value: make([]byte, seal.MaxInline+1)}, seal.ErrLimit},
		"object length":     {seal.Payload{Form: 2, Object: &seal.ObjectRef{Length: seal.MaxObject + 1}}, seal.ErrLimit},
		"no form":           {seal.Payload{}, seal.ErrPayload},
		"no object":         {seal.Payload{Form: 2}, seal.ErrPayload},
		"object and value":  {seal.Payload{Form: 2, Object: &seal.ObjectRef{}, Value: []byte{1}}, seal.ErrPayload},
		"object, inline":    {seal.Payload{Form: 1, Object: &seal.ObjectRef{}}, seal.ErrPayload},
		"delete with value": {seal.Payload{Form: 4, Value: []byte{1}}, seal.ErrPayload},
	} {
		dst := []byte("before")
		b, err := k.Seal(dst, &c.p)
		if !errors.Is(err, c.want) || string(b) != "before" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	largest := &seal.Payload{Form: 1, Name: strings.Repeat("n", seal.MaxName), ContentType: strings.Repeat("t", 255), Value: make([]byte, seal.MaxInline)}
	blob := mustSeal(t, k.Key, largest)
	if _, err := k.Open(blob); err != nil || len(blob) > seal.MaxBlob {
		t.Errorf("largest payload: %d bytes, %v", len(blob), err)
	}
}

func TestControl(t *testing.T) {
	f := newFixture(1)
	c := seal.NewControl(f.vault, f.epoch, f.tag, f.secret)
	p := &seal.Payload{Form: seal.FormInline, Value: make([]byte, seal.MaxControl)}
	blob := mustSeal(t, c, p)
	if got, err := c.Open(blob); err != nil || len(got.Value) != seal.MaxControl || len(blob) > seal.MaxControlBlob {
		t.Errorf("largest statement: %v", err)
	}
	if _, err := f.Open(blob); err != seal.ErrOpen {
		t.Errorf("opened as a record: %v", err)
	}
	p.Value = append(p.Value, 0)
	if _, err := c.Seal(nil, p); !errors.Is(err, seal.ErrLimit) {
		t.Errorf("over the limit: %v", err)
	}
	// Below the limit of a record the two are the same.
	small := mustSeal(t, c, &seal.Payload{Form: seal.FormInline, Value: []byte("v")})
	if _, err := f.Open(small); err != nil {
		t.Error(err)
	}
}

// TestHedgedSalts seals with the same random bytes again and again: attack A7.
func TestHedgedSalts(t *testing.T) {
	f := newFixture(1)
	random := [32]byte{4}
	p := seal.Payload{Form: 1, HLC: 1, Name: "n", Value: []byte("v")}
	sealed := func(k *seal.Key, p seal.Payload) []byte {
		b, err := k.SealWith(nil, &p, random)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := sealed(f.Key, p)
	if !bytes.Equal(first, sealed(f.Key, p)) {
		t.Error("same randomness, same content: other blob")
	}
	salts := map[string]string{string(first[:24]): "first"}
	differs := func(what string, b []byte) {
		t.Helper()
		if was, ok := salts[string(b[:24])]; ok {
			t.Errorf("%s has the salt of %s", what, was)
		}
		salts[string(b[:24])] = what
	}
	for what, change := range map[string]func(p *seal.Payload){
		"clock":     func(p *seal.Payload) { p.HLC++ },
		"name":      func(p *seal.Payload) { p.Name = "m" },
		"value":     func(p *seal.Payload) { p.Value = []byte("w") },
		"available": func(p *seal.Payload) { p.Available = 1 },
	} {
		q := p
		change(&q)
		differs(what, sealed(f.Key, q))
	}
	differs("epoch", sealed(seal.New(f.vault, 2, f.tag, f.secret), p))
	differs("vault", sealed(seal.New(keys.VaultID{2}, f.epoch, f.tag, f.secret), p))

	for _, c := range []struct {
		device  keys.DeviceID
		counter uint64
	}{{keys.DeviceID{}, 1}, {keys.DeviceID{}, 2}, {keys.DeviceID{1}, 1}} {
		var b bytes.Buffer
		if _, err := f.SealObjectWith(&b, strings.NewReader("value"), c.device, c.counter, 10, random); err != nil {
			t.Fatal(err)
		}
		differs(fmt.Sprint(c), b.Bytes())
	}

	// With real randomness nothing repeats.
	for range 100 {
		differs("random", mustSeal(t, f.Key, &p))
	}
}

func TestUnderstood(t *testing.T) {
	for _, c := range []struct {
		p    seal.Payload
		want bool
	}{
		{seal.Payload{Form: seal.FormInline}, true},
		{seal.Payload{Form: seal.FormObject}, true},
		{seal.Payload{Form: seal.FormDelete}, true},
		{seal.Payload{Form: seal.FormDocument}, false},
		{seal.Payload{Form: 5}, false},
		{seal.Payload{Form: seal.FormInline, HLC: 1<<63 - 1}, true},
		{seal.Payload{Form: seal.FormInline, HLC: 1 << 63}, false},
	} {
		if got := c.p.Understood(); got != c.want {
			t.Errorf("form %d, clock %x: %v", c.p.Form, c.p.HLC, got)
		}
	}
}

func TestConcurrent(t *testing.T) {
	k := newFixture(1)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var q seal.Payload
			var buf []byte
			for n := range 200 {
				p := &seal.Payload{Form: 1, HLC: uint64(i), Name: fmt.Sprint(i, n), Value: bytes.Repeat([]byte{byte(i)}, n*10)}
				blob, err := k.Seal(nil, p)
				if err != nil {
					t.Error(err)
					return
				}
				if buf, err = k.OpenInto(&q, buf, blob); err != nil || q.Name != p.Name || !bytes.Equal(q.Value, p.Value) {
					t.Errorf("%q: %v", p.Name, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// raceEnabled is set where the race detector runs, which makes things slow and
// empties pools at random.
var raceEnabled bool

// TestAllocations keeps sealing and opening cheap: the AES key schedule and GCM
// need two allocations, the name one.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties the pools")
	}
	k, p := newFixture(1), record()
	blob := mustSeal(t, k.Key, p)
	buf := make([]byte, 0, len(blob))
	if n := testing.AllocsPerRun(100, func() { buf, _ = k.Seal(buf[:0], p) }); n > 2 {
		t.Errorf("sealing: %v allocations", n)
	}
	var q seal.Payload
	if n := testing.AllocsPerRun(100, func() {
		q.Name = ""
		buf, _ = k.OpenInto(&q, buf, blob)
	}); n > 3 {
		t.Errorf("opening: %v allocations", n)
	}
}

func FuzzPayload(f *testing.F) {
	for _, p := range []*seal.Payload{
		{Form: seal.FormInline, Name: "n", ContentType: "t", Value: []byte("v")},
		{Form: seal.FormObject, Object: &seal.ObjectRef{Length: 1}},
		{Form: seal.FormDelete, Name: "n"},
		{Form: 9, Value: []byte("later")},
	} {
		f.Add(append(p.Append(nil), 0, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := seal.ParsePayload(b)
		if err != nil {
			if !errors.Is(err, seal.ErrPayload) {
				t.Errorf("got %v", err)
			}
			return
		}
		again := p.Append(nil)
		if len(again) > len(b) || !bytes.Equal(append(again, make([]byte, len(b)-len(again))...), b) {
			t.Errorf("%x encodes to %x", b, again)
		}
		// Whatever opens can be sealed again: a device that re-authors another's
		// change needs that.
		if _, err := newFixture(1).Seal(nil, p); err != nil {
			t.Errorf("parses and cannot be sealed: %v", err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	k := newFixture(1)
	blob, _ := k.SealWith(nil, &seal.Payload{Form: 1, Value: []byte("v")}, [32]byte{})
	f.Add(blob)
	f.Add(blob[:56])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := k.Open(b); err != seal.ErrOpen && !bytes.Equal(b, blob) {
			t.Errorf("got %v", err)
		}
	})
}
