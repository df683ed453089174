package vault

import (
	"context"

	"github.com/kistvault/kist/secondary/client"
)

// SetDial changes Config.Dial. Nobody uses it.
func (v *Vault) SetDial(dial func(context.Context, client.Server, client.Identity) (client.Messenger, error)) {
	v.conf.Dial = dial
}
