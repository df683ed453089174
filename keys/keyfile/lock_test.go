package keyfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/kistvault/kist/internal/testonly"
	"github.com/kistvault/kist/keys/keyfile"
)

func TestUnlock(t *testing.T) {
	x1, _ := age.GenerateX25519Identity()
	x2, _ := age.GenerateX25519Identity()
	h1, _ := age.GenerateHybridIdentity()
	h2, _ := age.GenerateHybridIdentity()
	content := []byte("content")
	pass := lockWith(t, "right", 10, content)
	x := lockFor(t, content, x1.Recipient(), x2.Recipient())
	h := lockFor(t, content, h1.Recipient())
	ids := func(ids ...age.Identity) keyfile.Unlock { return keyfile.Unlock{Identities: ids} }
	cancelled := errors.New("cancelled")

	for name, c := range map[string]struct {
		file   []byte
		unlock keyfile.Unlock
		want   error
	}{
		"passphrase":              {pass, keyfile.Unlock{Passphrase: passphrase("right")}, nil},
		"wrong passphrase":        {pass, keyfile.Unlock{Passphrase: passphrase("wrong")}, keyfile.ErrPassphrase},
		"empty passphrase":        {pass, keyfile.Unlock{Passphrase: passphrase("")}, keyfile.ErrPassphrase},
		"cancelled":               {pass, keyfile.Unlock{Passphrase: func() ([]byte, error) { return nil, cancelled }}, cancelled},
		"identity for passphrase": {pass, ids(x1), keyfile.ErrNoMatch},
		"nothing for passphrase":  {pass, keyfile.Unlock{}, keyfile.ErrNoMatch},
		"identity":                {x, ids(x1), nil},
		"second identity":         {x, ids(h1, x2), nil},
		"hybrid":                  {h, ids(x1, h1), nil},
		"other identity":          {h, ids(x1, h2), keyfile.ErrNoMatch},
		"passphrase for identity": {x, keyfile.Unlock{Passphrase: passphrase("right")}, keyfile.ErrNoMatch},
		"nothing for identity":    {x, keyfile.Unlock{}, keyfile.ErrNoMatch},
		"plaintext":               {[]byte("kist-key-file v1\n"), keyfile.Unlock{}, keyfile.ErrDamaged},
		"empty":                   {nil, keyfile.Unlock{}, keyfile.ErrDamaged},
		"too long":                {bytes.Repeat([]byte("x"), keyfile.MaxFile+1), keyfile.Unlock{}, keyfile.ErrDamaged},
		"content too long":        {lockFor(t, make([]byte, keyfile.MaxContent+1), x1.Recipient()), ids(x1), keyfile.ErrDamaged},
	} {
		got, err := keyfile.Decrypt(c.file, c.unlock)
		if !errors.Is(err, c.want) || (err == nil) != bytes.Equal(got, content) {
			t.Errorf("%s: %q, %v, want %v", name, got, err, c.want)
		}
	}
}

// TestDamage cuts and changes files; what does not open is damaged, or, where
// the change hit what the key is wrapped with, of another passphrase.
func TestDamage(t *testing.T) {
	id, _ := age.GenerateX25519Identity()
	u := keyfile.Unlock{Identities: []age.Identity{id}}
	good := lockFor(t, []byte("content"), id.Recipient())
	for i := range good {
		if _, err := keyfile.Decrypt(good[:i], u); !errors.Is(err, keyfile.ErrDamaged) && i < len(good)-1 {
			t.Errorf("cut to %d: %v", i, err)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		got, err := keyfile.Decrypt(b, u)
		if err == nil && string(got) == "content" && i == len(good)-1 {
			continue // the last line break is white space behind the armor
		}
		if !errors.Is(err, keyfile.ErrDamaged) && !errors.Is(err, keyfile.ErrNoMatch) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	// A mail program does this, and it does no harm.
	if _, err := keyfile.Decrypt(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), u); err != nil {
		t.Errorf("CRLF: %v", err)
	}
}

// TestErrorsAreSilent feeds secrets where a file is expected.
func TestErrorsAreSilent(t *testing.T) {
	f := newFile(0)
	text, _ := f.Marshal()
	for _, b := range [][]byte{[]byte(f.Root.Text()), text, []byte("AGE-SECRET-KEY-1QQQ" + f.Root.Text()[11:]),
		[]byte("-----BEGIN AGE ENCRYPTED FILE-----\n" + f.Root.Text() + "\n")} {
		_, err := keyfile.Decrypt(b, keyfile.Unlock{})
		if !errors.Is(err, keyfile.ErrDamaged) || strings.Contains(err.Error(), f.Root.Text()[15:25]) {
			t.Errorf("got %v", err)
		}
	}
}

// TestWorkFactor: attack A6. The passphrase is not even asked for.
func TestWorkFactor(t *testing.T) {
	file := string(lockWith(t, "p", 10, []byte("content")))
	binary := mustDearmor(t, file)
	for _, c := range []struct {
		factor string
		want   error
	}{
		{"1", keyfile.ErrWorkFactor},
		{"9", keyfile.ErrWorkFactor},
		{"21", keyfile.ErrWorkFactor},
		{"30", keyfile.ErrWorkFactor},
		{"63", keyfile.ErrWorkFactor},
		{"64", keyfile.ErrWorkFactor},
		{"18446744073709551626", keyfile.ErrWorkFactor},
		{strings.Repeat("9", 1000), keyfile.ErrWorkFactor},
		{"0", keyfile.ErrDamaged},
		{"010", keyfile.ErrDamaged},
		{"+10", keyfile.ErrDamaged},
		{"-1", keyfile.ErrDamaged},
		{"0x0a", keyfile.ErrDamaged},
		{"１０", keyfile.ErrDamaged}, // digits, but not ASCII
		{"11", keyfile.ErrPassphrase},
	} {
		asked := false // no scrypt before it
		_, err := keyfile.Decrypt(armored(t, strings.Replace(binary, " 10\n", " "+c.factor+"\n", 1)), keyfile.Unlock{
			Passphrase: func() ([]byte, error) { asked = true; return []byte("p"), nil },
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%.20s: %v, want %v", c.factor, err, c.want)
		}
		if asked != (c.want == keyfile.ErrPassphrase) {
			t.Errorf("%.20s: asked for the passphrase: %v", c.factor, asked)
		}
		if len(err.Error()) > 300 {
			t.Errorf("%.20s: error of %d bytes", c.factor, len(err.Error()))
		}
	}
	// Accepted at both ends.
	for _, factor := range []int{10, 14} {
		if _, err := keyfile.Decrypt(lockWith(t, "p", factor, nil), keyfile.Unlock{Passphrase: passphrase("p")}); err != nil {
			t.Errorf("%d: %v", factor, err)
		}
	}
}

// raceEnabled is set where the race detector runs, which makes scrypt slow.
var raceEnabled bool

func TestWeakWorkFactorWarns(t *testing.T) {
	for factor, want := range map[int]bool{10: true, 16: true, 17: false} {
		if factor > 14 && (testing.Short() || raceEnabled) {
			continue
		}
		var warned []string
		u := keyfile.Unlock{Passphrase: passphrase("p"), Warn: func(s string) { warned = append(warned, s) }}
		if _, err := keyfile.Decrypt(lockWith(t, "p", factor, nil), u); err != nil {
			t.Fatal(err)
		}
		if (len(warned) == 1) != want {
			t.Errorf("%d: %q", factor, warned)
		}
	}
	u := keyfile.Unlock{Passphrase: passphrase("q"), Warn: func(s string) { t.Errorf("warned about a file that does not open: %s", s) }}
	if _, err := keyfile.Decrypt(lockWith(t, "p", 10, nil), u); !errors.Is(err, keyfile.ErrPassphrase) {
		t.Error(err)
	}
}

// TestDefaultWorkFactor makes one key file as programs do.
func TestDefaultWorkFactor(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("seconds of scrypt")
	}
	testonly.ScryptWorkFactor = 0
	defer func() { testonly.ScryptWorkFactor = 10 }()
	path := filepath.Join(t.TempDir(), "a.kistkey")
	if err := keyfile.Create(path, newFile(0), keyfile.Lock{Passphrase: []byte("p")}, keyfile.Unlock{}); err != nil {
		t.Fatal(err)
	}
	if s := mustDearmor(t, string(readFile(t, path))); !strings.Contains(strings.SplitN(s, "\n", 3)[1], " 18") {
		t.Errorf("the header is %q", strings.SplitN(s, "\n", 3)[1])
	}
}

func TestLockRefuses(t *testing.T) {
	x, _ := age.GenerateX25519Identity()
	h, _ := age.GenerateHybridIdentity()
	s, _ := age.NewScryptRecipient("p")
	dir := t.TempDir()
	var many []age.Recipient
	for range 17 {
		many = append(many, x.Recipient())
	}
	for name, lock := range map[string]keyfile.Lock{
		"nothing":             {},
		"empty passphrase":    {Passphrase: []byte{}},
		"both":                {Passphrase: []byte("p"), Recipients: []age.Recipient{x.Recipient()}},
		"scrypt as recipient": {Recipients: []age.Recipient{s}},
		"classic and pq":      {Recipients: []age.Recipient{x.Recipient(), h.Recipient()}},
		"unknown type":        {Recipients: []age.Recipient{ownRecipient{}}},
		"unknown plugin":      {Recipients: []age.Recipient{pluginRecipient(t, "evil")}},
		"17 recipients":       {Recipients: many},
	} {
		path := filepath.Join(dir, "a.kistkey")
		err := keyfile.Create(path, newFile(0), lock, keyfile.Unlock{Identities: []age.Identity{x, h}})
		if !errors.Is(err, keyfile.ErrLock) {
			t.Errorf("%s: %v", name, err)
		}
		if names := list(t, dir); len(names) != 0 {
			t.Errorf("%s: left %q", name, names)
		}
	}
}

// TestPlugins: a plugin outside the list is not started, one in it is asked for.
func TestPlugins(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	x, _ := age.GenerateX25519Identity()
	file := lockFor(t, []byte("content"), x.Recipient())
	for name, want := range map[string]error{"evil": keyfile.ErrNoMatch, "yubikey": nil} {
		id, err := plugin.NewIdentityWithoutData(name, &plugin.ClientUI{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = keyfile.Decrypt(file, keyfile.Unlock{Identities: []age.Identity{id}})
		var notFound *plugin.NotFoundError
		if want != nil && !errors.Is(err, want) || want == nil && !errors.As(err, &notFound) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := keyfile.Decrypt(file, keyfile.Unlock{Identities: []age.Identity{id, x}}); err != nil {
			t.Errorf("%s before a native identity that fits: %v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "a.kistkey")
	err := keyfile.Create(path, newFile(0), keyfile.Lock{Recipients: []age.Recipient{pluginRecipient(t, "yubikey")}}, keyfile.Unlock{})
	var notFound *plugin.NotFoundError
	if !errors.Is(err, keyfile.ErrLock) || !errors.As(err, &notFound) {
		t.Errorf("missing plugin: %v", err)
	}
}

type ownRecipient struct{}

func (ownRecipient) Wrap([]byte) ([]*age.Stanza, error) { return nil, fmt.Errorf("not asked") }

func pluginRecipient(t *testing.T, name string) *plugin.Recipient {
	t.Helper()
	r, err := plugin.NewRecipient(plugin.EncodeRecipient(name, []byte("data")), &plugin.ClientUI{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
