package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

func tagSecret(b byte) *keys.TagSecret {
	s := keys.NewTagSecret([32]byte{b})
	return &s
}

func epochs(numbers ...uint32) []keys.Epoch {
	var es []keys.Epoch
	for _, n := range numbers {
		es = append(es, keys.Epoch{Number: n, Secret: keys.NewEpochSecret([32]byte{byte(n)})})
	}
	return es
}

func namespaceEpochs(numbers ...uint32) []keys.NamespaceEpoch {
	var es []keys.NamespaceEpoch
	for _, n := range numbers {
		es = append(es, keys.NamespaceEpoch{Number: n, Secret: keys.NewNamespaceSecret([32]byte{byte(n)})})
	}
	return es
}

var grants = map[string]*seal.Grant{
	"vault": {TagSecret: tagSecret(1), Epochs: epochs(1, 2, 7)},
	"scoped": {Namespaces: []seal.NamespaceGrant{
		{Tag: keys.Tag{1}, Epochs: namespaceEpochs(1)},
		{Tag: keys.Tag{2}, Epochs: namespaceEpochs(1, 2)},
	}},
}

func TestGrant(t *testing.T) {
	d, _ := keys.GenerateDeviceSeed().Keys()
	other, _ := keys.GenerateDeviceSeed().Keys()
	vault, device, pub := keys.VaultID{1}, d.ID(), d.Public().KEM
	for name, g := range grants {
		b, err := seal.SealGrant(pub, vault, device, g)
		if err != nil {
			t.Fatal(err)
		}
		got, err := seal.OpenGrant(d.KEM, vault, device, b)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := g.Marshal()
		if again, err := got.Marshal(); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s: got %x, want %x", name, again, want)
		}
		if len(b) != len(want)+seal.GrantOverhead {
			t.Errorf("%s: %d bytes for %d", name, len(b), len(want))
		}
		for what, open := range map[string]func() (*seal.Grant, error){
			"other vault":   func() (*seal.Grant, error) { return seal.OpenGrant(d.KEM, keys.VaultID{2}, device, b) },
			"other device":  func() (*seal.Grant, error) { return seal.OpenGrant(d.KEM, vault, other.ID(), b) },
			"other key":     func() (*seal.Grant, error) { return seal.OpenGrant(other.KEM, vault, device, b) },
			"cut":           func() (*seal.Grant, error) { return seal.OpenGrant(d.KEM, vault, device, b[:len(b)-1]) },
			"one byte more": func() (*seal.Grant, error) { return seal.OpenGrant(d.KEM, vault, device, append(bytes.Clone(b), 0)) },
			"empty":         func() (*seal.Grant, error) { return seal.OpenGrant(d.KEM, vault, device, nil) },
			"too long": func() (*seal.Grant, error) {
				return seal.OpenGrant(d.KEM, vault, device, make([]byte, seal.MaxGrant+1))
			},
		} {
			if g, err := open(); err != seal.ErrOpen || g != nil {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		for i := 0; i < len(b); i += 7 {
			changed := bytes.Clone(b)
			changed[i] ^= 1
			if _, err := seal.OpenGrant(d.KEM, vault, device, changed); err != seal.ErrOpen {
				t.Errorf("%s, byte %d changed: %v", name, i, err)
			}
		}
	}
}

func TestGrantRefuses(t *testing.T) {
	d, _ := keys.GenerateDeviceSeed().Keys()
	for name, g := range map[string]*seal.Grant{
		"nothing":           {},
		"no epoch":          {TagSecret: tagSecret(1)},
		"no namespace's":    {Namespaces: []seal.NamespaceGrant{{Tag: keys.Tag{1}}}},
		"two kinds":         {TagSecret: tagSecret(1), Epochs: epochs(1), Namespaces: grants["scoped"].Namespaces},
		"epochs, no tag":    {Epochs: epochs(1)},
		"epoch 0":           {TagSecret: tagSecret(1), Epochs: epochs(0)},
		"epochs descending": {TagSecret: tagSecret(1), Epochs: epochs(2, 1)},
		"epoch twice":       {TagSecret: tagSecret(1), Epochs: epochs(2, 2)},
		"epoch too large":   {TagSecret: tagSecret(1), Epochs: epochs(1 << 31)},
		"tag twice":         {Namespaces: []seal.NamespaceGrant{{Tag: keys.Tag{1}, Epochs: namespaceEpochs(1)}, {Tag: keys.Tag{1}, Epochs: namespaceEpochs(2)}}},
		"too many":          {TagSecret: tagSecret(1), Epochs: make([]keys.Epoch, 1<<16)},
	} {
		if _, err := seal.SealGrant(d.Public().KEM, keys.VaultID{}, keys.DeviceID{}, g); !errors.Is(err, seal.ErrPayload) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := seal.SealGrant(make([]byte, 100), keys.VaultID{}, keys.DeviceID{}, grants["vault"]); !errors.Is(err, seal.ErrPayload) {
		t.Errorf("KEM key: %v", err)
	}
	var many []uint32
	for i := range uint32(40000) {
		many = append(many, i+1)
	}
	if _, err := seal.SealGrant(d.Public().KEM, keys.VaultID{}, keys.DeviceID{}, &seal.Grant{TagSecret: tagSecret(1), Epochs: epochs(many...)}); !errors.Is(err, seal.ErrLimit) {
		t.Errorf("over the limit: %v", err)
	}
}

func FuzzGrant(f *testing.F) {
	for _, g := range grants {
		b, _ := g.Marshal()
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte{2, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := seal.ParseGrant(b)
		if err != nil {
			if !errors.Is(err, seal.ErrPayload) || g != nil {
				t.Errorf("got %v, %v", g, err)
			}
			return
		}
		if again, err := g.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x encodes to %x, %v", b, again, err)
		}
	})
}

func TestLocalSealer(t *testing.T) {
	s := seal.NewLocalSealer([32]byte{1})
	for _, n := range []int{0, 1, 1000} {
		plain := bytes.Repeat([]byte("p"), n)
		b := s.Seal([]byte("before"), plain, []byte("page 1"))
		b = bytes.TrimPrefix(b, []byte("before"))
		if len(b) != n+seal.LocalOverhead {
			t.Errorf("%d bytes for %d", len(b), n)
		}
		got, err := s.Open([]byte("x"), b, []byte("page 1"))
		if err != nil || string(got) != "x"+string(plain) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if bytes.Equal(b, s.Seal(nil, plain, []byte("page 1"))) {
			t.Error("sealed twice to the same bytes")
		}
		if _, err := s.Open(nil, b, []byte("page 2")); err != seal.ErrOpen {
			t.Errorf("in another place: %v", err)
		}
		if _, err := seal.NewLocalSealer([32]byte{2}).Open(nil, b, []byte("page 1")); err != seal.ErrOpen {
			t.Errorf("other key: %v", err)
		}
		for i := range b[:min(len(b), 30)] {
			b[i] ^= 1
			if _, err := s.Open(nil, b, []byte("page 1")); err != seal.ErrOpen {
				t.Errorf("byte %d changed: %v", i, err)
			}
			b[i] ^= 1
		}
	}
	for n := range seal.LocalOverhead {
		if _, err := s.Open(nil, make([]byte, n), nil); err != seal.ErrOpen {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestKeysAreNotPrinted plants a secret in each type that holds one. Grants hold
// the secret types of package keys, which have a test of their own.
func TestKeysAreNotPrinted(t *testing.T) {
	planted := [32]byte(bytes.Repeat([]byte{0xc7, 0x3a}, 16))
	secret := keys.NewNamespaceSecret(planted)
	sealKey, saltKey := secret.SealKey(), secret.SaltKey()
	k := seal.New(keys.VaultID{}, 1, keys.Tag{}, secret)
	mustSeal(t, k, record())
	for name, v := range map[string]any{
		"Key":         k,
		"LocalSealer": seal.NewLocalSealer(planted),
		"Grant":       &seal.Grant{Namespaces: []seal.NamespaceGrant{{Epochs: []keys.NamespaceEpoch{{Number: 1, Secret: secret}}}}},
	} {
		type hidden struct{ v any }
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%p"} {
			fmt.Fprintf(&out, verb+"\n", v)
			fmt.Fprintf(&out, verb+"\n", hidden{v})
			fmt.Fprintf(&out, verb+"\n", &hidden{v})
			fmt.Fprintf(&out, verb+"\n", []any{v})
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		j, _ := json.Marshal(v)
		out.Write(j)
		for _, s := range [][]byte{planted[:8], sealKey[:8], saltKey[:8]} {
			for _, form := range []string{"%x", "%X", "%d", "%v", "%q", "% x", "%#v", "%s"} {
				needle := strings.Trim(strings.TrimPrefix(fmt.Sprintf(form, s), "[]byte"), `[]{}"`)
				if strings.Contains(out.String(), needle) {
					t.Errorf("%s shows a secret: %s", name, needle)
				}
			}
		}
	}
}
