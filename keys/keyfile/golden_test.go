package keyfile_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/kistvault/kist/internal/bech32"
	"github.com/kistvault/kist/internal/golden"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
)

// class says what the word in a vector's "expect" is here.
var class = map[string]error{
	"damaged":     keyfile.ErrDamaged,
	"version":     keyfile.ErrVersion,
	"vault id":    keyfile.ErrVaultIDMismatch,
	"passphrase":  keyfile.ErrPassphrase,
	"no match":    keyfile.ErrNoMatch,
	"work factor": keyfile.ErrWorkFactor,
}

func counting(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func rootOf(t *testing.T, b []byte) keys.Root {
	t.Helper()
	s, _ := bech32.Encode("KIST-ROOT-", b)
	r, err := keys.ParseRoot(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type textVectors struct {
	Comment string       `json:"comment"`
	Valid   []textVector `json:"valid"`
	Invalid []textVector `json:"invalid"`
}

type textVector struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Expect string `json:"expect,omitempty"` // damaged, version, vault id
}

func TestGoldenText(t *testing.T) {
	root := rootOf(t, counting(0, 32))
	f := &keyfile.File{Vault: root.VaultID(), Root: root, Created: time.Date(2026, 11, 20, 16, 59, 0, 0, time.UTC)}
	v := textVectors{Comment: "SPEC.md, Key file: the content of the age file, as text."}
	valid := func(name string) string {
		b, err := f.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		v.Valid = append(v.Valid, textVector{Name: name, Text: string(b)})
		return string(b)
	}
	short := valid("no server")
	server := keys.NewSigningKey([32]byte(counting(0x20, 32))).Public()
	f.Servers = []keyfile.Server{
		{URL: "wss://vault.example.net/", Key: server, Binding: keyfile.BindingExporter},
		{URL: "ws://127.0.0.1:8443/", Key: server, Binding: keyfile.BindingNone},
	}
	f.Checkpoint = &keyfile.Checkpoint{Size: 1234, Root: [32]byte(counting(0x90, 32)), Resets: 1, Stated: 7}
	long := valid("two servers and a checkpoint")

	broken := func(name, expect, text string) {
		v.Invalid = append(v.Invalid, textVector{name, text, expect})
	}
	replace := func(name, expect, old, new string) {
		s := strings.Replace(long, old, new, 1)
		if s == long {
			t.Fatalf("%s: no %q", name, old)
		}
		broken(name, expect, s)
	}
	broken("empty", "damaged", "")
	broken("CRLF", "damaged", strings.ReplaceAll(short, "\n", "\r\n"))
	broken("no line break at the end", "damaged", strings.TrimSuffix(short, "\n"))
	broken("text behind the end", "damaged", short+"\n")
	replace("version 2", "version", "v1", "v2")
	replace("other vault", "vault id", f.Vault.String(), keys.VaultID(counting(1, 16)).String())
	replace("vault in lower case", "damaged", f.Vault.String(), strings.ToLower(f.Vault.String()))
	replace("root in lower case", "damaged", root.Text(), strings.ToLower(root.Text()))
	replace("root with a wrong character", "damaged", "KIST-ROOT-1QQ", "KIST-ROOT-1QP")
	replace("time with a fraction", "damaged", "00Z", "00.0Z")
	replace("no created", "damaged", "created: 2026-11-20T16:59:00Z\n", "")
	replace("server without its key", "damaged", "server-key: "+server.String()+"\n", "")
	replace("unknown binding", "damaged", "exporter", "unique")
	replace("address with a space", "damaged", "vault.example", "vault example")
	replace("checkpoint before the servers", "damaged", "server: wss", "checkpoint: 1 "+strings.Repeat("A", 43)+"= 0 1\nserver: wss")
	replace("checkpoint with a leading zero", "damaged", "checkpoint: 1234", "checkpoint: 01234")
	replace("checkpoint over 2⁴⁰", "damaged", "checkpoint: 1234", "checkpoint: 1099511627776")
	replace("checkpoint without statements", "damaged", "= 1 7\n", "= 1\n")
	replace("checkpoint with a fifth number", "damaged", "= 1 7\n", "= 1 7 0\n")
	replace("statements with a leading zero", "damaged", "= 1 7\n", "= 1 07\n")
	replace("statements over 2⁴⁰", "damaged", "= 1 7\n", "= 1 1099511627776\n")
	replace("unknown line", "damaged", "end\n", "note: x\nend\n")

	golden.Check(t, "keys/keyfile-text.json", v)
	v = textVectors{}
	golden.Load(t, "keys/keyfile-text.json", &v)
	for _, c := range v.Valid {
		f, err := keyfile.Parse([]byte(c.Text))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if b, err := f.Marshal(); err != nil || string(b) != c.Text {
			t.Errorf("%s: marshals to another text, %v", c.Name, err)
		}
	}
	for _, c := range v.Invalid {
		if _, err := keyfile.Parse([]byte(c.Text)); !errors.Is(err, class[c.Expect]) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
		}
	}
}

func TestGoldenDeviceText(t *testing.T) {
	root, seed := rootOf(t, counting(0, 32)), keys.NewDeviceSeed([32]byte(counting(0x80, 32)))
	device, err := seed.Keys()
	if err != nil {
		t.Fatal(err)
	}
	d := &keyfile.Device{
		Vault: root.VaultID(), ID: device.ID(), Seed: seed, Authority: root.Authority().Public(), TagSecret: root.TagSecret(),
		Epochs: []keys.Epoch{{Number: 1, Secret: root.Epoch(1)}, {Number: 2, Secret: root.Epoch(2)}},
	}
	v := textVectors{Comment: "SPEC.md, Device file."}
	valid := func(name string) string {
		b, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		v.Valid = append(v.Valid, textVector{Name: name, Text: string(b)})
		return string(b)
	}
	short := valid("no server")
	d.Servers = []keyfile.Server{{URL: "wss://vault.example.net/", Key: keys.NewSigningKey([32]byte(counting(0x20, 32))).Public(), Binding: keyfile.BindingExporter}}
	long := valid("one server")
	broken := func(name, expect, text string) {
		v.Invalid = append(v.Invalid, textVector{name, text, expect})
	}
	lines := strings.SplitAfter(long, "\n")
	broken("text behind the end", "damaged", short+"x")
	broken("version 2", "version", strings.Replace(long, "v1", "v2", 1))
	broken("other vault", "vault id", strings.Replace(long, d.Vault.String(), keys.VaultID{}.String(), 1))
	broken("other device", "damaged", strings.Replace(long, d.ID.String(), keys.DeviceID{}.String(), 1))
	broken("no epoch", "damaged", strings.Join(lines[:7], "")+strings.Join(lines[9:], ""))
	broken("epochs descending", "damaged", strings.Join(lines[:7], "")+lines[8]+lines[7]+strings.Join(lines[9:], ""))
	broken("epoch 0", "damaged", strings.Replace(long, "epoch: 1", "epoch: 0", 1))

	golden.Check(t, "keys/devicefile.json", v)
	v = textVectors{}
	golden.Load(t, "keys/devicefile.json", &v)
	for _, c := range v.Valid {
		d, err := keyfile.ParseDevice([]byte(c.Text))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if b, err := d.Marshal(); err != nil || string(b) != c.Text {
			t.Errorf("%s: marshals to another text, %v", c.Name, err)
		}
	}
	for _, c := range v.Invalid {
		if _, err := keyfile.ParseDevice([]byte(c.Text)); !errors.Is(err, class[c.Expect]) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
		}
	}
}

type fileVectors struct {
	Comment string       `json:"comment"`
	Cases   []fileVector `json:"cases"`
}

// fileVector is a key file and what is tried on it: the passphrase, or the
// identity, or neither.
type fileVector struct {
	Name       string `json:"name"`
	Passphrase string `json:"passphrase,omitempty"`
	Identity   string `json:"identity,omitempty"`
	File       string `json:"file"`
	Text       string `json:"text,omitempty"` // content of a file that opens
	Expect     string `json:"expect"`         // success, or a class of failure
}

// TestGoldenFile opens the key files of the vectors. They are made anew only
// with -update, because age draws its own randomness.
func TestGoldenFile(t *testing.T) {
	if golden.Updating() {
		golden.Write(t, "keys/keyfile.json", makeFileVectors(t))
	}
	var v fileVectors
	golden.Load(t, "keys/keyfile.json", &v)
	for _, c := range v.Cases {
		var u keyfile.Unlock
		if c.Passphrase != "" {
			u.Passphrase = passphrase(c.Passphrase)
		}
		if id, err := age.ParseX25519Identity(c.Identity); err == nil {
			u.Identities = append(u.Identities, id)
		} else if id, err := age.ParseHybridIdentity(c.Identity); err == nil {
			u.Identities = append(u.Identities, id)
		} else if c.Identity != "" {
			t.Errorf("%s: identity: %v", c.Name, err)
		}
		text, err := keyfile.Decrypt([]byte(c.File), u)
		if err == nil {
			_, err = keyfile.Parse(text)
		}
		if c.Expect == "success" {
			if err != nil || string(text) != c.Text {
				t.Errorf("%s: %v", c.Name, err)
			}
		} else if !errors.Is(err, class[c.Expect]) {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
		}
	}
}

func makeFileVectors(t *testing.T) fileVectors {
	t.Helper()
	root := rootOf(t, counting(0, 32))
	text, err := (&keyfile.File{Vault: root.VaultID(), Root: root, Created: time.Date(2026, 11, 20, 16, 59, 0, 0, time.UTC)}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v := fileVectors{Comment: "SPEC.md, Key file: whole files. The work factor is low so that they open quickly."}
	add := func(name, expect, passphrase, identity string, file []byte) {
		c := fileVector{name, passphrase, identity, string(file), "", expect}
		if expect == "success" {
			c.Text = string(text)
		}
		v.Cases = append(v.Cases, c)
	}
	const pass = "correct horse battery staple"
	x, _ := age.GenerateX25519Identity()
	h, _ := age.GenerateHybridIdentity()
	other, _ := age.GenerateX25519Identity()
	byPass, byX, byH := lockWith(t, pass, 10, text), lockFor(t, text, x.Recipient()), lockFor(t, text, h.Recipient())
	add("passphrase", "success", pass, "", byPass)
	add("passphrase not ASCII", "success", "Größe ☎", "", lockWith(t, "Größe ☎", 11, text))
	add("X25519", "success", "", x.String(), byX)
	add("two recipients, the second", "success", "", x.String(), lockFor(t, text, other.Recipient(), x.Recipient()))
	add("hybrid", "success", "", h.String(), byH)
	add("CRLF in the armor", "success", pass, "", bytes.ReplaceAll(byPass, []byte("\n"), []byte("\r\n")))

	add("wrong passphrase", "passphrase", pass+".", "", byPass)
	add("wrong identity", "no match", "", other.String(), byX)
	add("passphrase for recipients", "no match", pass, "", byX)
	add("identity for a passphrase", "no match", "", x.String(), byPass)
	add("nothing", "no match", "", "", byPass)
	add("work factor 9", "work factor", pass, "", lockWith(t, pass, 9, text))
	header := mustDearmor(t, string(byPass))
	for _, w := range []string{"21", "30", "4294967306"} {
		add("work factor "+w, "work factor", pass, "", armored(t, strings.Replace(header, " 10\n", " "+w+"\n", 1)))
	}
	add("work factor with a leading zero", "damaged", pass, "", armored(t, strings.Replace(header, " 10\n", " 010\n", 1)))
	binary := []byte(header)
	last := bytes.Clone(binary)
	last[len(last)-1] ^= 1
	add("not armored", "damaged", pass, "", []byte("age-encryption.org/v1\n"))
	add("content changed", "damaged", pass, "", armored(t, string(last)))
	add("content cut", "damaged", pass, "", armored(t, string(binary[:len(binary)-1])))
	add("armor cut", "damaged", pass, "", byPass[:len(byPass)-30])
	changed := []byte(header)
	if mac := &changed[strings.Index(header, "\n--- ")+5]; *mac == 'A' {
		*mac = 'B'
	} else {
		*mac = 'A'
	}
	add("header MAC changed", "damaged", pass, "", armored(t, string(changed)))
	add("other content", "damaged", pass, "", lockWith(t, pass, 10, []byte("not a key file\n")))
	forged := bytes.Replace(text, []byte(root.VaultID().String()), []byte(keys.VaultID(counting(1, 16)).String()), 1)
	add("vault of another root", "vault id", "", x.String(), lockFor(t, forged, x.Recipient()))
	add("content over 8 KiB", "damaged", "", x.String(), lockFor(t, append(bytes.Clone(text), make([]byte, 8192)...), x.Recipient()))
	return v
}
