package keyfile

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/keys"
)

// Device is the content of a device file. The device's name is not in it, nor
// anything that the control log tells.
//
//	kist-device-file v1
//	vault: NHX5VH17Q14KE52EQGQTWC2Z2W
//	device: …
//	seed: …
//	authority-sign: …
//	authority-auth: …
//	tag-secret: …
//	epoch: 1 …
//	server: wss://vault.example.net/
//	server-key: …
//	server-binding: exporter
//	end
//
// Secrets and keys are 32 bytes in base64url, 43 characters.
type Device struct {
	Vault     keys.VaultID  // that of Authority
	ID        keys.DeviceID // that of Seed
	Seed      keys.DeviceSeed
	Authority keys.AuthorityKeys
	TagSecret keys.TagSecret
	Epochs    []keys.Epoch // at least one, strictly ascending
	Servers   []Server
}

const devicePrefix = "kist-device-file v"

// Marshal returns the text of the device file. The error wraps [ErrContent] or
// [ErrVaultIDMismatch].
func (d *Device) Marshal() ([]byte, error) {
	if d.Seed.IsZero() || d.TagSecret.IsZero() {
		return nil, fmt.Errorf("%w: no seed or no tag secret", ErrContent)
	}
	if !d.Authority.Sign.Valid() || !d.Authority.Auth.Valid() {
		return nil, fmt.Errorf("%w: authority keys", ErrContent)
	}
	if d.Authority.VaultID() != d.Vault {
		return nil, ErrVaultIDMismatch
	}
	device, err := d.Seed.Keys()
	if err != nil {
		return nil, err
	}
	if device.ID() != d.ID {
		return nil, fmt.Errorf("%w: device id of another seed", ErrContent)
	}
	if len(d.Epochs) == 0 {
		return nil, fmt.Errorf("%w: no epoch", ErrContent)
	}
	var b strings.Builder
	fmt.Fprintln(&b, devicePrefix+"1")
	fmt.Fprintln(&b, "vault:", d.Vault)
	fmt.Fprintln(&b, "device:", d.ID)
	fmt.Fprintln(&b, "seed:", encodeSecret(d.Seed.Bytes()))
	fmt.Fprintln(&b, "authority-sign:", d.Authority.Sign)
	fmt.Fprintln(&b, "authority-auth:", d.Authority.Auth)
	fmt.Fprintln(&b, "tag-secret:", encodeSecret(d.TagSecret.Bytes()))
	last := uint32(0)
	for _, e := range d.Epochs {
		if e.Number <= last || e.Number > keys.MaxEpoch || e.Secret.IsZero() {
			return nil, fmt.Errorf("%w: epoch %d after epoch %d", ErrContent, e.Number, last)
		}
		last = e.Number
		fmt.Fprintln(&b, "epoch:", e.Number, encodeSecret(e.Secret.Bytes()))
	}
	if err := appendServers(&b, d.Servers); err != nil {
		return nil, err
	}
	fmt.Fprintln(&b, lastLine)
	if b.Len() > MaxDeviceFile {
		return nil, fmt.Errorf("%w: device file of %d bytes, at most %d", ErrContent, b.Len(), MaxDeviceFile)
	}
	return []byte(b.String()), nil
}

func encodeSecret(b [32]byte) string { return secretText.EncodeToString(b[:]) }

// ParseDevice parses the text of a device file. The error wraps [ErrDamaged],
// [ErrVersion] or [ErrVaultIDMismatch].
func ParseDevice(text []byte) (*Device, error) {
	if len(text) > MaxDeviceFile {
		return nil, fmt.Errorf("%w: device file of %d bytes, at most %d", ErrDamaged, len(text), MaxDeviceFile)
	}
	l := newLines(text)
	l.first(devicePrefix)
	d := &Device{
		Vault:     l.vault("vault"),
		ID:        l.device("device"),
		Seed:      keys.NewDeviceSeed(l.secret("seed")),
		Authority: keys.AuthorityKeys{Sign: l.verifyKey("authority-sign"), Auth: l.verifyKey("authority-auth")},
		TagSecret: keys.NewTagSecret(l.secret("tag-secret")),
	}
	for ok := true; ok; ok = l.next("epoch") { // at least one
		d.Epochs = append(d.Epochs, l.epoch("epoch"))
	}
	d.Servers = l.servers()
	l.last()
	if l.err != nil {
		return nil, l.err
	}
	if d.Authority.VaultID() != d.Vault {
		return nil, ErrVaultIDMismatch
	}
	if err := l.sameAs(d.Marshal()); err != nil {
		return nil, err
	}
	return d, nil
}

// WriteDevice writes the device file at path, in place of the one there if
// there is one, readable for its owner only. When it returns nil, the file is
// on the disk.
func WriteDevice(path string, d *Device) error {
	text, err := d.Marshal()
	if err != nil {
		return fmt.Errorf("writing device file: %w", err)
	}
	if err := durable.WriteFile(path, text, fileMode); err != nil {
		return fmt.Errorf("writing device file: %w", err)
	}
	return nil
}

// ReadDevice reads the device file at path. Its mode is all that protects it:
// if the group or others may read it, the error wraps [ErrMode] and nothing is
// read. (Not on Windows, where the mode says nothing.)
func ReadDevice(path string) (*Device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading device file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("reading device file %q: %w (mode %04o): chmod 600 it; if others use this machine, they may have what opens this vault", path, ErrMode, mode)
	}
	text, err := readFile(path, MaxDeviceFile)
	if err != nil {
		return nil, fmt.Errorf("reading device file: %w", err)
	}
	d, err := ParseDevice(text)
	if err != nil {
		return nil, fmt.Errorf("reading device file %q: %w", path, err)
	}
	return d, nil
}
