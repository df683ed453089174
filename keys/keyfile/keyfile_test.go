package keyfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kistvault/kist/internal/testonly"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
)

func TestMain(m *testing.M) {
	testonly.ScryptWorkFactor = 10
	os.Exit(m.Run())
}

var created = time.Date(2026, 11, 20, 16, 59, 0, 0, time.UTC)

func newFile(servers int) *keyfile.File {
	root := keys.GenerateRoot()
	f := &keyfile.File{Vault: root.VaultID(), Created: created, Root: root}
	for i := range servers {
		binding := keyfile.BindingExporter
		if i%2 == 1 {
			binding = keyfile.BindingNone
		}
		f.Servers = append(f.Servers, keyfile.Server{
			URL:     fmt.Sprintf("wss://vault%d.example.net/", i),
			Key:     keys.GenerateSigningKey().Public(),
			Binding: binding,
		})
	}
	return f
}

func passphrase(s string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(s), nil }
}

// equal compares two key files by their text.
func equal(t *testing.T, got, want *keyfile.File) {
	t.Helper()
	g, err := got.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("the files differ: %d and %d bytes", len(g), len(w))
	}
}

func TestText(t *testing.T) {
	f := newFile(2)
	f.Checkpoint = &keyfile.Checkpoint{Size: 1234, Root: [32]byte{1, 2, 3}, Resets: 5, Stated: 6}
	text, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := "kist-key-file v1\n" +
		"vault: " + f.Vault.String() + "\n" +
		"created: 2026-11-20T16:59:00Z\n" +
		"root: " + f.Root.Text() + "\n" +
		"server: wss://vault0.example.net/\n" +
		"server-key: " + f.Servers[0].Key.String() + "\n" +
		"server-binding: exporter\n" +
		"server: wss://vault1.example.net/\n" +
		"server-key: " + f.Servers[1].Key.String() + "\n" +
		"server-binding: none\n" +
		"checkpoint: 1234 AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= 5 6\n" +
		"end\n"
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Error(d)
	}
	got, err := keyfile.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, f)
	if !got.Created.Equal(f.Created) || !got.Root.Equal(f.Root) || *got.Checkpoint != *f.Checkpoint {
		t.Errorf("got %+v", got)
	}
}

func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFile(rapid.IntRange(0, 16).Draw(t, "servers"))
		f.Created = time.Unix(rapid.Int64Range(0, 253402300799).Draw(t, "created"), 999)
		if rapid.Bool().Draw(t, "checkpoint") {
			f.Checkpoint = &keyfile.Checkpoint{Size: rapid.Uint64Range(0, 1<<40-1).Draw(t, "size"), Resets: rapid.Uint64Range(0, 9).Draw(t, "resets"), Stated: rapid.Uint64Range(0, 9).Draw(t, "stated")}
		}
		text, err := f.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := keyfile.Parse(text)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if again, err := got.Marshal(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("marshals to another text: %v", err)
		}
	})
}

// TestTextStrict changes a good text in every way that leaves its meaning, and
// in others.
func TestTextStrict(t *testing.T) {
	f := newFile(1)
	f.Checkpoint = &keyfile.Checkpoint{Size: 7}
	b, _ := f.Marshal()
	text := string(b)
	lines := strings.SplitAfter(text, "\n")
	replace := func(old, new string) string {
		s := strings.Replace(text, old, new, 1)
		if s == text {
			t.Fatalf("no %q", old)
		}
		return s
	}
	vault := f.Vault.String()
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":                {"", keyfile.ErrDamaged},
		"no end":               {strings.TrimSuffix(text, "end\n"), keyfile.ErrDamaged},
		"no last line break":   {strings.TrimSuffix(text, "\n"), keyfile.ErrDamaged},
		"something behind":     {text + "\n", keyfile.ErrDamaged},
		"CRLF":                 {strings.ReplaceAll(text, "\n", "\r\n"), keyfile.ErrDamaged},
		"byte order mark":      {"\ufeff" + text, keyfile.ErrDamaged},
		"version 2":            {replace("v1", "v2"), keyfile.ErrVersion},
		"device file":          {replace("kist-key-file", "kist-device-file"), keyfile.ErrDamaged},
		"vault in lower case":  {replace(vault, strings.ToLower(vault)), keyfile.ErrDamaged},
		"vault in groups":      {replace(vault, vault[:4]+"-"+vault[4:]), keyfile.ErrDamaged},
		"other vault":          {replace(vault, keys.VaultID{1}.String()), keyfile.ErrVaultIDMismatch},
		"time with a fraction": {replace("00Z", "00.5Z"), keyfile.ErrDamaged},
		"time with a zone":     {replace("00Z", "00+00:00"), keyfile.ErrDamaged},
		"no such day":          {replace("2026-11-20", "2026-02-30"), keyfile.ErrDamaged},
		"two spaces":           {replace("vault: ", "vault:  "), keyfile.ErrDamaged},
		"no space":             {replace("vault: ", "vault:"), keyfile.ErrDamaged},
		"trailing space":       {replace("Z\n", "Z \n"), keyfile.ErrDamaged},
		"root in lower case":   {replace(f.Root.Text(), strings.ToLower(f.Root.Text())), keyfile.ErrDamaged},
		"lines swapped":        {lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""), keyfile.ErrDamaged},
		"line twice":           {lines[0] + lines[1] + lines[1] + strings.Join(lines[2:], ""), keyfile.ErrDamaged},
		"unknown line":         {lines[0] + lines[1] + lines[2] + lines[3] + "note: x\n" + strings.Join(lines[4:], ""), keyfile.ErrDamaged},
		"server without key":   {strings.Join(append(append([]string{}, lines[:5]...), lines[6:]...), ""), keyfile.ErrDamaged},
		"other scheme":         {replace("wss://", "https://"), keyfile.ErrDamaged},
		"space in the address": {replace("example.net", "example .net"), keyfile.ErrDamaged},
		"unknown binding":      {replace("exporter", "unique"), keyfile.ErrDamaged},
		"server key padded":    {replace(f.Servers[0].Key.String(), f.Servers[0].Key.String()+"="), keyfile.ErrDamaged},
		"number with a zero":   {replace("checkpoint: 7", "checkpoint: 07"), keyfile.ErrDamaged},
		"number with a sign":   {replace("checkpoint: 7", "checkpoint: +7"), keyfile.ErrDamaged},
		"number too large":     {replace("checkpoint: 7", "checkpoint: 1099511627776"), keyfile.ErrDamaged},
		"checkpoint cut":       {replace("= 0 0\n", "= 0\n"), keyfile.ErrDamaged},
		"checkpoint twice":     {replace("end\n", lines[7]+"end\n"), keyfile.ErrDamaged},
		"17 servers":           {strings.Join(lines[:4], "") + strings.Repeat(strings.Join(lines[4:7], ""), 17) + "end\n", keyfile.ErrDamaged},
		"over 8 KiB":           {text + strings.Repeat("x", keyfile.MaxContent), keyfile.ErrDamaged},
	} {
		_, err := keyfile.Parse([]byte(c.text))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil && strings.Contains(strings.ToUpper(err.Error()), f.Root.Text()[15:30]) {
			t.Errorf("%s: the error shows the root: %v", name, err)
		}
	}
	for i := range lines[:len(lines)-1] { // every line taken out
		short := strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "")
		if _, err := keyfile.Parse([]byte(short)); err == nil && !strings.HasPrefix(lines[i], "checkpoint") {
			t.Errorf("parses without %q", lines[i])
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *keyfile.File)
		want   error
	}{
		"no root":         {func(f *keyfile.File) { f.Root = keys.Root{} }, keyfile.ErrVaultIDMismatch},
		"other vault":     {func(f *keyfile.File) { f.Vault[0] ^= 1 }, keyfile.ErrVaultIDMismatch},
		"no time":         {func(f *keyfile.File) { f.Created = time.Time{} }, keyfile.ErrContent},
		"year 10000":      {func(f *keyfile.File) { f.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, keyfile.ErrContent},
		"address":         {func(f *keyfile.File) { f.Servers[0].URL = "https://x/" }, keyfile.ErrContent},
		"address, break":  {func(f *keyfile.File) { f.Servers[0].URL = "wss://x/\nroot: y" }, keyfile.ErrContent},
		"address, length": {func(f *keyfile.File) { f.Servers[0].URL = "wss://" + strings.Repeat("x", 250) }, keyfile.ErrContent},
		"server key":      {func(f *keyfile.File) { f.Servers[0].Key = keys.VerifyKey{} }, keyfile.ErrContent},
		"binding":         {func(f *keyfile.File) { f.Servers[0].Binding = "" }, keyfile.ErrContent},
		"many servers":    {func(f *keyfile.File) { f.Servers = newFile(17).Servers }, keyfile.ErrContent},
		"checkpoint":      {func(f *keyfile.File) { f.Checkpoint = &keyfile.Checkpoint{Size: 1 << 40} }, keyfile.ErrContent},
		"statements":      {func(f *keyfile.File) { f.Checkpoint = &keyfile.Checkpoint{Stated: 1 << 40} }, keyfile.ErrContent},
	} {
		f := newFile(1)
		c.change(f)
		if b, err := f.Marshal(); !errors.Is(err, c.want) || b != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// The largest content fits.
	f := newFile(16)
	for i := range f.Servers {
		f.Servers[i].URL = "wss://" + strings.Repeat("x", keyfile.MaxURL-6)
	}
	f.Checkpoint = &keyfile.Checkpoint{Size: 1<<40 - 1, Resets: 1<<40 - 1, Stated: 1<<40 - 1}
	if b, err := f.Marshal(); err != nil {
		t.Errorf("largest content: %d bytes, %v", len(b), err)
	}
}

func TestCheckURL(t *testing.T) {
	for _, s := range []string{"wss://vault.example.net/", "ws://127.0.0.1:8080/", "wss://[::1]:443/path", "wss://x"} {
		if err := keyfile.CheckURL(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "vault.example.net", "https://x/", "wss://", "wss:///path", "wss://user:pw@x/", "wss://x/#f", "wss://x/ y", "wss://:80/", "WSS://x/", "wss://x:y/"} {
		if err := keyfile.CheckURL(s); !errors.Is(err, keyfile.ErrContent) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	k := newFile(2)
	k.Checkpoint = &keyfile.Checkpoint{Size: 3}
	b, _ := k.Marshal()
	f.Add(b)
	b, _ = newFile(0).Marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := keyfile.Parse(text)
		if err != nil {
			return
		}
		if again, err := k.Marshal(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("marshals to another text: %v", err)
		}
	})
}

func FuzzParseDevice(f *testing.F) {
	b, err := newDevice(f, 2).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := keyfile.ParseDevice(text)
		if err != nil {
			return
		}
		if again, err := d.Marshal(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("marshals to another text: %v", err)
		}
	})
}

func FuzzDecrypt(f *testing.F) {
	f.Add(lockWith(f, "p", 10, []byte("content")))
	id, _ := age.GenerateX25519Identity()
	f.Add(lockFor(f, []byte("content"), id.Recipient()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		_, err := keyfile.Decrypt(b, keyfile.Unlock{Passphrase: func() ([]byte, error) { return nil, errNotAsked }, Identities: []age.Identity{id}})
		for _, e := range []error{nil, keyfile.ErrDamaged, keyfile.ErrNoMatch, keyfile.ErrWorkFactor, errNotAsked} {
			if errors.Is(err, e) {
				return
			}
		}
		t.Errorf("got %v", err)
	})
}

var errNotAsked = errors.New("no passphrase here")

// lockWith makes an armored age file with a passphrase and any work factor.
func lockWith(t testing.TB, passphrase string, factor int, content []byte) []byte {
	t.Helper()
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(factor)
	return lockFor(t, content, r)
}

func lockFor(t testing.TB, content []byte, recipients ...age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	a := armor.NewWriter(&b)
	w, err := age.Encrypt(a, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestNotPrinted plants a root and a device seed.
func TestNotPrinted(t *testing.T) {
	f, d := newFile(1), newDevice(t, 1)
	var out strings.Builder
	for _, v := range []any{f, *f, []any{f}, d, *d, keyfile.Lock{Passphrase: []byte("p")}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
	}
	seed, tag := d.Seed.Bytes(), d.TagSecret.Bytes()
	for _, secret := range []string{f.Root.Text()[11:30], fmt.Sprintf("%x", seed[:8]), fmt.Sprintf("%x", tag[:8]), fmt.Sprint(seed[:8])} {
		if strings.Contains(out.String(), strings.Trim(secret, "[]")) {
			t.Errorf("printed: %s", secret)
		}
	}
}
