package vectors

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/kistvault/kist/keys/keyfile"
)

type ageVector struct {
	expect      string
	payload     [32]byte // SHA-256 of what may be handed out
	passphrases []string
	identities  []age.Identity
	armored     bool
	file        []byte
}

func parseAgeVector(t *testing.T, b []byte) ageVector {
	t.Helper()
	var v ageVector
	compressed := false
	for {
		line, rest, ok := strings.Cut(string(b), "\n")
		if !ok {
			t.Fatal("vector without a file")
		}
		b = b[len(b)-len(rest):]
		if line == "" {
			break
		}
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "expect":
			v.expect = value
		case "payload":
			h, err := hex.DecodeString(value)
			if err != nil || len(h) != 32 {
				t.Fatalf("payload: %v", err)
			}
			v.payload = [32]byte(h)
		case "passphrase":
			v.passphrases = append(v.passphrases, value)
		case "identity":
			if id, err := age.ParseX25519Identity(value); err == nil {
				v.identities = append(v.identities, id)
			} else if id, err := age.ParseHybridIdentity(value); err == nil {
				v.identities = append(v.identities, id)
			} else {
				t.Fatalf("identity: %v", err)
			}
		case "armored":
			v.armored = true
		case "compressed":
			compressed = true
		case "file key", "comment":
		default:
			t.Fatalf("key %q is not known", key)
		}
	}
	v.file = b
	if compressed {
		z, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if v.file, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// asKeyFile returns the file in the form of key files: armored.
func (v ageVector) asKeyFile(t *testing.T) []byte {
	t.Helper()
	if v.armored {
		return v.file
	}
	var b bytes.Buffer
	w := armor.NewWriter(&b)
	w.Write(v.file)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unlocks returns one try for each passphrase and identity of the vector, and
// one with all identities.
func (v ageVector) unlocks() []keyfile.Unlock {
	all := keyfile.Unlock{Identities: v.identities}
	if len(v.passphrases) == 0 {
		return []keyfile.Unlock{all}
	}
	var us []keyfile.Unlock
	for _, p := range v.passphrases {
		u := all
		u.Passphrase = func() ([]byte, error) { return []byte(p), nil }
		us = append(us, u)
	}
	return us
}

// TestCCTV opens age's vectors as if they were key files, as far as the age
// layer goes. What the vectors call by six names has four here: a wrong
// passphrase and a missing identity are two, and every kind of damage is one,
// except for a work factor that is refused before anything is computed.
func TestCCTV(t *testing.T) {
	names, err := fs.ReadDir(agetest.Vectors, ".")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 147 {
		t.Errorf("%d vectors, want 147", len(names))
	}
	counts := make(map[string]int)
	for _, entry := range names {
		name := entry.Name()
		t.Run(name, func(t *testing.T) {
			b, err := fs.ReadFile(agetest.Vectors, name)
			if err != nil {
				t.Fatal(err)
			}
			v := parseAgeVector(t, b)
			file := v.asKeyFile(t)
			var got []byte
			for _, u := range v.unlocks() {
				if got, err = keyfile.Decrypt(file, u); err == nil || !errors.Is(err, keyfile.ErrPassphrase) {
					break
				}
			}
			counts[v.expect]++

			// Armor and header take less than half of MaxFile with one
			// recipient, so a long file has a long content.
			if len(v.file) > keyfile.MaxContent {
				counts["refused: content over 8 KiB"]++
				if !errors.Is(err, keyfile.ErrDamaged) || got != nil {
					t.Errorf("long content: %d bytes, %v", len(got), err)
				}
				return
			}
			switch v.expect {
			case "success":
				if err != nil || sha256.Sum256(got) != v.payload {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				return
			case "no match":
				if !errors.Is(err, keyfile.ErrNoMatch) && !errors.Is(err, keyfile.ErrPassphrase) {
					t.Errorf("got %v", err)
				}
			case "header failure":
				if !errors.Is(err, keyfile.ErrDamaged) && !errors.Is(err, keyfile.ErrWorkFactor) {
					t.Errorf("got %v", err)
				}
				tooLarge := name == "scrypt_work_factor_23" || name == "scrypt_work_factor_overflow"
				if tooLarge != errors.Is(err, keyfile.ErrWorkFactor) {
					t.Errorf("got %v", err)
				}
			case "HMAC failure", "payload failure", "armor failure":
				if !errors.Is(err, keyfile.ErrDamaged) {
					t.Errorf("got %v", err)
				}
			default:
				t.Errorf("the vector expects %q", v.expect)
			}
			if got != nil { // keyfile hands out nothing before the end
				t.Errorf("%d bytes with an error", len(got))
			}
		})
	}
	t.Log(counts)
}
