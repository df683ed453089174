package keyfile_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
)

func newDevice(t testing.TB, epochs int) *keyfile.Device {
	t.Helper()
	root, seed := keys.GenerateRoot(), keys.GenerateDeviceSeed()
	d, err := seed.Keys()
	if err != nil {
		t.Fatal(err)
	}
	f := &keyfile.Device{
		Vault:     root.VaultID(),
		ID:        d.ID(),
		Seed:      seed,
		Authority: root.Authority().Public(),
		TagSecret: root.TagSecret(),
		Servers:   newFile(1).Servers,
	}
	for e := range epochs {
		f.Epochs = append(f.Epochs, keys.Epoch{Number: uint32(3*e + 1), Secret: root.Epoch(uint32(3*e + 1))})
	}
	return f
}

func TestDeviceText(t *testing.T) {
	d := newDevice(t, 2)
	text, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b64 := func(b [32]byte) string { return base64.RawURLEncoding.EncodeToString(b[:]) }
	want := "kist-device-file v1\n" +
		"vault: " + d.Vault.String() + "\n" +
		"device: " + d.ID.String() + "\n" +
		"seed: " + b64(d.Seed.Bytes()) + "\n" +
		"authority-sign: " + d.Authority.Sign.String() + "\n" +
		"authority-auth: " + d.Authority.Auth.String() + "\n" +
		"tag-secret: " + b64(d.TagSecret.Bytes()) + "\n" +
		"epoch: 1 " + b64(d.Epochs[0].Secret.Bytes()) + "\n" +
		"epoch: 4 " + b64(d.Epochs[1].Secret.Bytes()) + "\n" +
		"server: wss://vault0.example.net/\n" +
		"server-key: " + d.Servers[0].Key.String() + "\n" +
		"server-binding: exporter\n" +
		"end\n"
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	got, err := keyfile.ParseDevice(text)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := got.Marshal(); err != nil || !bytes.Equal(again, text) {
		t.Errorf("marshals to another text: %v", err)
	}
}

func TestDeviceTextStrict(t *testing.T) {
	d := newDevice(t, 2)
	b, _ := d.Marshal()
	text := string(b)
	lines := strings.SplitAfter(text, "\n")
	replace := func(old, new string) string { return strings.Replace(text, old, new, 1) }
	other := newDevice(t, 1)
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":            {"", keyfile.ErrDamaged},
		"version":          {replace("v1", "v9"), keyfile.ErrVersion},
		"key file":         {replace("kist-device-file", "kist-key-file"), keyfile.ErrDamaged},
		"other vault":      {replace(d.Vault.String(), other.Vault.String()), keyfile.ErrVaultIDMismatch},
		"other device":     {replace(d.ID.String(), other.ID.String()), keyfile.ErrDamaged},
		"other authority":  {replace(d.Authority.Sign.String(), other.Authority.Sign.String()), keyfile.ErrVaultIDMismatch},
		"epochs swapped":   {strings.Join(lines[:7], "") + lines[8] + lines[7] + strings.Join(lines[9:], ""), keyfile.ErrDamaged},
		"epoch twice":      {strings.Join(lines[:8], "") + lines[7] + strings.Join(lines[8:], ""), keyfile.ErrDamaged},
		"no epoch":         {strings.Join(lines[:7], "") + strings.Join(lines[9:], ""), keyfile.ErrDamaged},
		"epoch 0":          {replace("epoch: 1 ", "epoch: 0 "), keyfile.ErrDamaged},
		"epoch of 2³¹":     {replace("epoch: 4 ", "epoch: 2147483648 "), keyfile.ErrDamaged},
		"epoch, no secret": {replace("epoch: 1 ", "epoch: 1"), keyfile.ErrDamaged},
		"CRLF":             {strings.ReplaceAll(text, "\n", "\r\n"), keyfile.ErrDamaged},
		"behind the end":   {text + "x", keyfile.ErrDamaged},
		"too long":         {text + strings.Repeat("x", keyfile.MaxDeviceFile), keyfile.ErrDamaged},
	} {
		_, err := keyfile.ParseDevice([]byte(c.text))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		seed := d.Seed.Bytes()
		if err != nil && strings.Contains(err.Error(), base64.RawURLEncoding.EncodeToString(seed[:])[:10]) {
			t.Errorf("%s: the error shows the seed: %v", name, err)
		}
	}
	for i := range b { // no byte is without meaning
		changed := bytes.Clone(b)
		changed[i] ^= 4
		if got, err := keyfile.ParseDevice(changed); err == nil {
			if again, _ := got.Marshal(); !bytes.Equal(again, changed) {
				t.Errorf("byte %d changed: parses to another text", i)
			}
		}
	}
}

func TestDeviceMarshalRefuses(t *testing.T) {
	for name, change := range map[string]func(d *keyfile.Device){
		"no seed":       func(d *keyfile.Device) { d.Seed = keys.DeviceSeed{} },
		"no tag secret": func(d *keyfile.Device) { d.TagSecret = keys.TagSecret{} },
		"no epoch":      func(d *keyfile.Device) { d.Epochs = nil },
		"empty epoch":   func(d *keyfile.Device) { d.Epochs[0].Secret = keys.EpochSecret{} },
		"other device":  func(d *keyfile.Device) { d.ID[0] ^= 1 },
		"no authority":  func(d *keyfile.Device) { d.Authority = keys.AuthorityKeys{} },
		"server":        func(d *keyfile.Device) { d.Servers[0].URL = "x" },
	} {
		d := newDevice(t, 1)
		change(d)
		if b, err := d.Marshal(); !errors.Is(err, keyfile.ErrContent) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := newDevice(t, 1)
	d.Vault[0] ^= 1
	if _, err := d.Marshal(); !errors.Is(err, keyfile.ErrVaultIDMismatch) {
		t.Errorf("other vault: %v", err)
	}
}

func TestDeviceFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "device.key")
	if _, err := keyfile.ReadDevice(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, d := range []*keyfile.Device{newDevice(t, 1), newDevice(t, 300)} {
		if err := keyfile.WriteDevice(path, d); err != nil {
			t.Fatal(err)
		}
		got, err := keyfile.ReadDevice(path)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Seed.Equal(d.Seed) || !got.TagSecret.Equal(d.TagSecret) || len(got.Epochs) != len(d.Epochs) || got.ID != d.ID {
			t.Errorf("got %+v", got)
		}
		if names := list(t, dir); len(names) != 1 {
			t.Errorf("left %q", names)
		}
	}
	if runtime.GOOS != "windows" {
		for mode, want := range map[fs.FileMode]error{0o600: nil, 0o400: nil, 0o640: keyfile.ErrMode, 0o604: keyfile.ErrMode, 0o620: keyfile.ErrMode} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := keyfile.ReadDevice(path); !errors.Is(err, want) {
				t.Errorf("mode %o: %v", mode, err)
			}
		}
		os.Chmod(path, 0o600)
	}
	b := readFile(t, path)
	writeFile(t, path, b[:len(b)/2])
	if _, err := keyfile.ReadDevice(path); !errors.Is(err, keyfile.ErrDamaged) {
		t.Errorf("cut: %v", err)
	}
	broken := newDevice(t, 0)
	if err := keyfile.WriteDevice(path, broken); !errors.Is(err, keyfile.ErrContent) {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(readFile(t, path), b[:len(b)/2]) {
		t.Error("the old file was touched")
	}
}

// TestDeviceFileFaults: the file is the old or the new one, whatever step fails.
func TestDeviceFileFaults(t *testing.T) {
	old, renewed := newDevice(t, 1), newDevice(t, 2)
	for _, crashes := range []bool{false, true} {
		for point := 1; ; point++ {
			path := filepath.Join(t.TempDir(), "device.key")
			if err := keyfile.WriteDevice(path, old); err != nil {
				t.Fatal(err)
			}
			n, reached, renamed := 0, false, false
			setHook(t, func(op durable.Op, done bool, p string) error {
				renamed = renamed || op == durable.OpRename && done
				if n++; n != point {
					return nil
				}
				reached = true
				if crashes {
					panic(errCrash)
				}
				return errCrash
			})
			err, crashed := run(func() error { return keyfile.WriteDevice(path, renewed) })
			durable.Hook = nil
			if reached && !crashed && !errors.Is(err, errCrash) {
				t.Errorf("point %d: %v", point, err)
			}
			want := old
			if renamed {
				want = renewed
			}
			if got, err := keyfile.ReadDevice(path); err != nil || !got.Seed.Equal(want.Seed) {
				t.Errorf("crash %v, point %d: %v", crashes, point, err)
			}
			if !reached {
				break
			}
		}
	}
}
