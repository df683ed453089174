package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/keys/seal"
)

// keyring holds what the device can open and sign with. It is safe for
// concurrent use.
type keyring struct {
	vault   keys.VaultID
	device  keys.DeviceID
	own     *keys.DeviceKeys
	tags    keys.TagSecret
	control keys.Tag

	index sync.Pool // of hash.Hash: HMAC of the point index
	local *seal.LocalSealer

	sealersMu sync.RWMutex
	epochs    map[uint32]keys.EpochSecret
	sealers   map[sealerID]*seal.Key
	named     map[string]keys.Tag // :: namespace → tag
}

type sealerID struct {
	tag   keys.Tag
	epoch uint32
}

func newKeyring(d *keyfile.Device) (*keyring, error) {
	own, err := d.Seed.Keys()
	if err != nil {
		return nil, err
	}
	point := own.Local.Derive("point-index")
	k := &keyring{
		vault:   d.Vault,
		device:  own.ID(),
		own:     own,
		tags:    d.TagSecret,
		control: d.TagSecret.Tag(keys.ControlNamespace),
		local:   seal.NewLocalSealer(own.Local.Derive("record-seal")),
		epochs:  make(map[uint32]keys.EpochSecret),
		sealers: make(map[sealerID]*seal.Key),
		named:   make(map[string]keys.Tag),
	}
	k.index.New = func() any { return hmac.New(sha256.New, point[:]) }
	for _, e := range d.Epochs {
		k.epochs[e.Number] = e.Secret
	}
	return k, nil
}

// tag returns the tag of a namespace.
func (k *keyring) tag(namespace string) keys.Tag {
	k.sealersMu.RLock()
	tag, ok := k.named[namespace]
	k.sealersMu.RUnlock()
	if !ok {
		tag = k.tags.Tag(namespace)
		k.sealersMu.Lock()
		k.named[namespace] = tag
		k.sealersMu.Unlock()
	}
	return tag
}

// sealer returns what seals and opens the blobs of a namespace in an epoch.
func (k *keyring) sealer(tag keys.Tag, epoch uint32) (*seal.Key, error) {
	id := sealerID{tag, epoch}
	k.sealersMu.RLock()
	s := k.sealers[id]
	k.sealersMu.RUnlock()
	if s != nil {
		return s, nil
	}
	k.sealersMu.Lock()
	defer k.sealersMu.Unlock()
	secret, ok := k.epochs[epoch]
	if !ok {
		return nil, fmt.Errorf("no keys of epoch %d", epoch)
	}
	if tag == k.control {
		s = seal.NewControl(k.vault, epoch, tag, secret.Namespace(tag))
	} else {
		s = seal.New(k.vault, epoch, tag, secret.Namespace(tag))
	}
	k.sealers[id] = s
	return s, nil
}

// recordKey returns the key of a record in the local indexes: the namespace's
// tag, and a MAC of the name under a key of this device alone.
//
//	tag 16 ‖ HMAC-SHA256(point index key, tag ‖ 00 ‖ name)[:16]
func (k *keyring) recordKey(tag keys.Tag, name string) (key recordKey) {
	h := k.index.Get().(hash.Hash)
	h.Reset()
	h.Write(tag[:])
	h.Write([]byte{0})
	h.Write([]byte(name))
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	k.index.Put(h)
	copy(key[:], tag[:])
	copy(key[16:], sum[:16])
	return key
}
