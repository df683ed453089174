package keys_test

import (
	"bytes"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kistvault/kist/keys"
)

func TestIDText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := keys.VaultID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		text := id.String()
		if len(text) != 26 {
			t.Fatalf("%q has %d characters", text, len(text))
		}
		if got, want := id.Short(), text[:4]+"-"+text[4:8]; got != want {
			t.Errorf("short: got %q, want %q", got, want)
		}
		grouped := text[:4] + "-" + strings.ToLower(text[4:10]) + "-" + text[10:]
		for _, s := range []string{text, strings.ToLower(text), grouped} {
			if got, err := keys.ParseVaultID(s); err != nil || got != id {
				t.Errorf("parsing %q: got %v, %v", s, got, err)
			}
			var device keys.DeviceID
			if err := device.UnmarshalText([]byte(s)); err != nil || device != keys.DeviceID(id) {
				t.Errorf("unmarshalling %q: got %v, %v", s, device, err)
			}
		}
		var tag, tag2 keys.Tag = keys.Tag(id), keys.Tag{}
		b, _ := tag.MarshalText()
		if err := tag2.UnmarshalText(b); err != nil || tag2 != tag {
			t.Errorf("unmarshalling %q: got %v, %v", b, tag2, err)
		}
	})
}

func FuzzParseVaultID(f *testing.F) {
	f.Add(keys.VaultID{1, 2, 3}.String())
	f.Add("7QX4-MM2D")
	f.Add(strings.Repeat("-", 52))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := keys.ParseVaultID(s)
		if err != nil {
			if !id.IsZero() {
				t.Errorf("%q: error and an id", s)
			}
			return
		}
		if got, want := id.String(), strings.ToUpper(strings.ReplaceAll(s, "-", "")); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	})
}

func FuzzParseVerifyKey(f *testing.F) {
	f.Add(keys.GenerateSigningKey().Public().String())
	f.Add(keys.VerifyKey{}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := keys.ParseVerifyKey(s); err == nil && k.String() != s {
			t.Errorf("%q: got %q", s, k)
		}
	})
}

func FuzzParseRoot(f *testing.F) {
	f.Add(keys.GenerateRoot().Text())
	f.Add("KIST-ROOT-1")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := keys.ParseRoot(s)
		if err == nil && r.Text() != s {
			t.Errorf("a root that parses has another text")
		}
		if err != nil && err != keys.ErrRoot {
			t.Errorf("got %v", err)
		}
	})
}

func TestRootTextErrorIsSilent(t *testing.T) {
	text := keys.GenerateRoot().Text()
	for _, s := range []string{text[:60], text + "Q", strings.ToLower(text), "x" + text} {
		_, err := keys.ParseRoot(s)
		if !errors.Is(err, keys.ErrRoot) {
			t.Errorf("got %v", err)
		}
		if err != nil && strings.Contains(strings.ToUpper(err.Error()), text[20:40]) {
			t.Errorf("the error shows the root: %v", err)
		}
	}
}

// TestSignaturePurposes signs for every purpose and verifies for every other:
// attack A5.
func TestSignaturePurposes(t *testing.T) {
	k := keys.GenerateSigningKey()
	vaults := []keys.VaultID{{}, {1}, {2}}
	for _, p := range purposes {
		for _, v := range vaults {
			sig := k.Sign(p, v, []byte("m"))
			for _, q := range purposes {
				for _, w := range vaults {
					if got, want := k.Public().Verify(q, w, []byte("m"), sig[:]), p == q && v == w; got != want {
						t.Errorf("signed for %s %v, verified for %s %v: %v", p, v[0], q, w[0], got)
					}
				}
			}
		}
	}
}

func TestUnknownPurposePanics(t *testing.T) {
	mustPanic(t, func() { keys.GenerateSigningKey().Sign("kommit", keys.VaultID{}, nil) })
}

// TestEmptySecretsPanic checks that no key is ever derived from a secret that
// was never set.
func TestEmptySecretsPanic(t *testing.T) {
	for name, use := range map[string]func(){
		"Root.Text":               func() { keys.Root{}.Text() },
		"Root.VaultID":            func() { keys.Root{}.VaultID() },
		"Root.Epoch":              func() { keys.Root{}.Epoch(1) },
		"Root.Equal":              func() { keys.Root{}.Equal(keys.Root{}) },
		"TagSecret.Tag":           func() { keys.TagSecret{}.Tag("a") },
		"TagSecret.Bytes":         func() { keys.TagSecret{}.Bytes() },
		"EpochSecret.Namespace":   func() { keys.EpochSecret{}.Namespace(keys.Tag{}) },
		"NamespaceSecret.SealKey": func() { keys.NamespaceSecret{}.SealKey() },
		"DeviceSeed.Keys":         func() { keys.DeviceSeed{}.Keys() },
		"LocalKey.Derive":         func() { keys.LocalKey{}.Derive("a") },
		"SigningKey.Sign":         func() { keys.SigningKey{}.Sign(keys.PurposeCommit, keys.VaultID{}, nil) },
		"SigningKey.Public":       func() { keys.SigningKey{}.Public() },
		"SigningKey.Seed":         func() { keys.SigningKey{}.Seed() },
		"Root.Epoch(0)":           func() { keys.GenerateRoot().Epoch(0) },
	} {
		t.Run(name, func(t *testing.T) { mustPanic(t, use) })
	}
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if s, _ := recover().(string); !strings.HasPrefix(s, "keys: internal error: ") {
			t.Errorf("panic %q", s)
		}
	}()
	f()
}

// TestVerifyKeyValid derives the points of small order anew and compares.
func TestVerifyKeyValid(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	encode := func(y *big.Int, sign byte) (k keys.VerifyKey) {
		b := y.FillBytes(make([]byte, 32))
		for i := range b {
			k[i] = b[31-i]
		}
		k[31] |= sign << 7
		return k
	}
	// Points of order 8 have y⁴·d + 2y² − 1 = 0 on −x² + y² = 1 + d·x²·y²,
	// because doubling them gives y = 0, that is x² = −y².
	d := new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), p))
	d.Mod(d, p)
	// y² = (−1 ± √(1 + d)) / d
	root := new(big.Int).ModSqrt(new(big.Int).Mod(new(big.Int).Add(big.NewInt(1), d), p), p)
	var ys []*big.Int
	for _, s := range []*big.Int{root, new(big.Int).Neg(root)} {
		y2 := new(big.Int).Sub(s, big.NewInt(1))
		y2.Mul(y2, new(big.Int).ModInverse(d, p)).Mod(y2, p)
		if y := new(big.Int).ModSqrt(y2, p); y != nil {
			ys = append(ys, y, new(big.Int).Sub(p, y))
		}
	}
	if len(ys) != 2 {
		t.Fatalf("%d y coordinates of order 8, want 2", len(ys))
	}
	ys = append(ys, big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1)))
	for _, y := range ys {
		for sign := range byte(2) {
			if k := encode(y, sign); k.Valid() {
				t.Errorf("%x: small order, and valid", k[:])
			}
		}
	}
	for i := range int64(19) { // y ≥ p
		if k := encode(new(big.Int).Add(p, big.NewInt(i)), 0); k.Valid() {
			t.Errorf("%x: not canonical, and valid", k[:])
		}
	}
	for _, i := range []int64{2, 3, 4} {
		if k := encode(new(big.Int).Sub(p, big.NewInt(i)), 1); !k.Valid() {
			t.Errorf("%x: not valid", k[:])
		}
	}
	for range 100 {
		if k := keys.GenerateSigningKey().Public(); !k.Valid() {
			t.Errorf("%x: generated, and not valid", k[:])
		}
	}
	// What Valid is for: without it, anyone can sign for such a key.
	neutral := keys.VerifyKey{1}
	forged := append(neutral[:len(neutral):len(neutral)], make([]byte, 32)...)
	if !neutral.Verify(keys.PurposeCommit, keys.VaultID{}, []byte("any"), forged) {
		t.Log("this Ed25519 refuses the neutral element by itself")
	}
}

func newCertificate(t testing.TB, name string, scope []keys.ScopeEntry) (*keys.Certificate, keys.Authority) {
	t.Helper()
	a := keys.GenerateRoot().Authority()
	d, err := keys.GenerateDeviceSeed().Keys()
	if err != nil {
		t.Fatal(err)
	}
	c, err := keys.NewCertificate(a, d, name, scope, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c, a
}

func TestCertificateRoundTrip(t *testing.T) {
	for _, scope := range [][]keys.ScopeEntry{nil, {{Tag: keys.Tag{1}}}, {{Tag: keys.Tag{1}, Write: true}, {Tag: keys.Tag{2}}}} {
		c, a := newCertificate(t, strings.Repeat("n", keys.MaxDeviceName), scope)
		b, err := c.AppendBinary([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		b = b[len("before"):]
		got, err := keys.ParseCertificate(b)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := got.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("encodes to other bytes: %v", err)
		}
		if err := got.Verify(a.Public().VaultID(), a.Public().Sign); err != nil {
			t.Error(err)
		}
		if got.Unscoped() != (scope == nil) {
			t.Errorf("unscoped: %v", got.Unscoped())
		}
		if len(b) > keys.MaxCertificate {
			t.Errorf("%d bytes, over the limit of %d", len(b), keys.MaxCertificate)
		}
	}
}

// TestCertificateEveryByte changes each byte of a certificate.
func TestCertificateEveryByte(t *testing.T) {
	c, a := newCertificate(t, "laptop", []keys.ScopeEntry{{Tag: keys.Tag{1}, Write: true}})
	b, _ := c.AppendBinary(nil)
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 0x10
		got, err := keys.ParseCertificate(changed)
		if err == nil {
			err = got.Verify(a.Public().VaultID(), a.Public().Sign)
		}
		if err == nil {
			t.Errorf("byte %d changed, and the certificate verifies", i)
		}
	}
}

func TestNewCertificateRefuses(t *testing.T) {
	a := keys.GenerateRoot().Authority()
	d, _ := keys.GenerateDeviceSeed().Keys()
	now := time.Now()
	for _, name := range []string{"", strings.Repeat("n", 65), "a\x00", "a\x1b[31m", "a\u0085", "\xff"} {
		if err := keys.ValidDeviceName(name); !errors.Is(err, keys.ErrDeviceName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := keys.NewCertificate(a, d, name, nil, now); !errors.Is(err, keys.ErrDeviceName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, scope := range map[string][]keys.ScopeEntry{
		"empty":      {},
		"twice":      {{Tag: keys.Tag{1}}, {Tag: keys.Tag{1}, Write: true}},
		"descending": {{Tag: keys.Tag{2}}, {Tag: keys.Tag{1}}},
		"too many":   manyTags(keys.MaxScope + 1),
	} {
		if _, err := keys.NewCertificate(a, d, "n", scope, now); !errors.Is(err, keys.ErrCertificate) {
			t.Errorf("scope %s: %v", name, err)
		}
	}
	if _, err := keys.NewCertificate(a, d, "n", manyTags(keys.MaxScope), now); err != nil {
		t.Errorf("largest scope: %v", err)
	}
	if _, err := keys.NewCertificate(a, d, "n", nil, time.Unix(-1, 0)); !errors.Is(err, keys.ErrCertificate) {
		t.Errorf("issued before 1970: %v", err)
	}
}

func manyTags(n int) []keys.ScopeEntry {
	scope := make([]keys.ScopeEntry, n)
	for i := range scope {
		scope[i].Tag = keys.Tag{byte(i >> 8), byte(i)}
	}
	return scope
}

func FuzzParseCertificate(f *testing.F) {
	for _, scope := range [][]keys.ScopeEntry{nil, {{Tag: keys.Tag{1}}, {Tag: keys.Tag{2}, Write: true}}} {
		c, _ := newCertificate(f, "laptop", scope)
		b, _ := c.AppendBinary(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := keys.ParseCertificate(b)
		if err != nil {
			if !errors.Is(err, keys.ErrCertificate) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := c.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("encodes to other bytes: %v", err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	k, m := keys.GenerateSigningKey(), make([]byte, 152)
	for b.Loop() {
		k.Sign(keys.PurposeCommit, keys.VaultID{}, m)
	}
}

func BenchmarkVerify(b *testing.B) {
	k, m := keys.GenerateSigningKey(), make([]byte, 152)
	sig, pub := k.Sign(keys.PurposeCommit, keys.VaultID{}, m), k.Public()
	for b.Loop() {
		if !pub.Verify(keys.PurposeCommit, keys.VaultID{}, m, sig[:]) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkNamespaceSecret(b *testing.B) {
	r := keys.GenerateRoot()
	e, tag := r.Epoch(1), keys.Tag{1}
	for b.Loop() {
		e.Namespace(tag).SealKey()
	}
}
