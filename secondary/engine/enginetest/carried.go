package enginetest

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/internal/rawvault"
)

// carried is a vault as an engine has given it: a taker that keeps everything.
type carried struct {
	Whole  engine.Whole
	Things []thing // objects and commits, in their order, then checkpoints
	Ended  bool
}

// thing is one call of a taker.
type thing struct {
	Object     []byte // nil: none
	Hash       commitlog.Hash
	Bundle     []byte // nil: none
	At         uint64
	Epoch      uint32
	Resets     uint16
	Checkpoint []byte // nil: none
}

func (c *carried) Begin(_ context.Context, w *engine.Whole) error {
	c.Whole = *w
	c.Whole.Devices = slices.Clone(w.Devices)
	return nil
}

func (c *carried) Object(_ context.Context, hash commitlog.Hash, size uint64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err == nil && uint64(len(data)) != size {
		err = io.ErrUnexpectedEOF
	}
	c.Things = append(c.Things, thing{Object: data, Hash: hash})
	return err
}

func (c *carried) Commit(_ context.Context, w *engine.WholeCommit) error {
	c.Things = append(c.Things, thing{Bundle: rawvault.Encode(w.Bundle), At: w.At, Epoch: w.Epoch, Resets: w.Resets})
	return nil
}

func (c *carried) Checkpoint(_ context.Context, p *commitlog.Checkpoint) error {
	c.Things = append(c.Things, thing{Checkpoint: bytes.Clone(p.Raw)})
	return nil
}

func (c *carried) End(context.Context) error {
	c.Ended = true
	return nil
}

// give gives the vault to a taker, of all calls the first n.
func (c *carried) give(ctx context.Context, to engine.Taker, n int) error {
	step := func(do func() error) error {
		if n--; n < 0 {
			return nil
		}
		return do()
	}
	w := c.Whole
	err := step(func() error { return to.Begin(ctx, &w) })
	for _, x := range c.Things {
		if err != nil {
			return err
		}
		err = step(func() error {
			switch {
			case x.Object != nil:
				return to.Object(ctx, x.Hash, uint64(len(x.Object)), bytes.NewReader(x.Object))
			case x.Checkpoint != nil:
				p, err := commitlog.ParseCheckpoint(bytes.Clone(x.Checkpoint))
				if err != nil {
					return err
				}
				return to.Checkpoint(ctx, p)
			}
			b, err := commitlog.ParseBundle(bytes.Clone(x.Bundle))
			if err != nil {
				return err
			}
			return to.Commit(ctx, &engine.WholeCommit{Bundle: b, At: x.At, Epoch: x.Epoch, Resets: x.Resets})
		})
	}
	if err == nil {
		err = step(func() error { return to.End(ctx) })
	}
	return err
}

// calls is how many calls give makes.
func (c *carried) calls() int { return len(c.Things) + 2 }
