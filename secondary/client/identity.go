package client

import (
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// Identity is as whom a client signs in. See [Device], [Owner] and [NewVault].
type Identity struct {
	vault  keys.VaultID
	role   wire.Role
	device keys.DeviceID
	key    keys.SigningKey

	token     wire.Token         // of RoleCreate
	authority keys.AuthorityKeys // of RoleCreate
}

// Device signs a device in, with its auth key.
func Device(vault keys.VaultID, device keys.DeviceID, auth keys.SigningKey) Identity {
	return Identity{vault: vault, role: wire.RoleDevice, device: device, key: auth}
}

// Owner signs the owner of a vault in, with the authority's keys.
func Owner(a keys.Authority) Identity {
	return Identity{vault: a.Public().VaultID(), role: wire.RoleOwner, key: a.Auth}
}

// NewVault makes the authority's vault with an invite, and signs the owner in.
// Repeated with the same invite, it signs in to the vault that is there.
func NewVault(a keys.Authority, token wire.Token) Identity {
	return Identity{vault: a.Public().VaultID(), role: wire.RoleCreate, key: a.Auth, token: token, authority: a.Public()}
}

// message returns what proves the identity to the secondary.
func (i *Identity) message(t *wire.Transcript) wire.Message {
	proof := func(key [16]byte) [64]byte {
		return i.key.Sign(keys.PurposeClientAuth, i.vault, t.ClientBytes(i.role, key))
	}
	if i.role == wire.RoleCreate {
		return &wire.Create{Token: i.token, Sign: i.authority.Sign, Auth: i.authority.Auth, Signature: proof(i.token)}
	}
	return &wire.Auth{Vault: i.vault, Role: i.role, Device: i.device, Signature: proof(i.device)}
}
