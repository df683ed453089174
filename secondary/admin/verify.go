package admin

import (
	"context"

	"github.com/kistvault/kist/secondary/engine"
)

// A VerifyQuestion asks to verify what is stored.
type VerifyQuestion struct{}

// A Verification is the answer.
type Verification struct {
	Verified engine.Verified `json:"verified"`
	Faults   []string        `json:"faults"`
	More     int             `json:"more"` // faults that are not listed
}

// maxFaults bounds how many faults are listed.
const maxFaults = 1000

func (o *Operator) verify(ctx context.Context, _ VerifyQuestion) (a Verification, err error) {
	k, err := o.keeper()
	if err != nil {
		return a, err
	}
	a.Faults = []string{}
	// Beside a server, nobody is to wait until all pages have been read.
	a.Verified, err = k.Verify(ctx, engine.VerifyOptions{Pages: o.Server == nil}, func(f engine.Fault) {
		if len(a.Faults) == maxFaults {
			a.More++
			return
		}
		a.Faults = append(a.Faults, f.String())
	})
	return a, err
}

// Verify verifies what is stored: see engine.Keeper.
func (c *Client) Verify(ctx context.Context) (Verification, error) {
	return ask[Verification](ctx, c, "verify", VerifyQuestion{})
}
