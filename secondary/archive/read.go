package archive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
)

func fromMillis(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() }

// Read reads an archive to its end and gives what is in it to a taker, whose errors it
// returns. What it can tell without a log is checked: the form, the hashes of contents,
// and, before the taker's End, the hash of the whole. Otherwise the error is
// [ErrDamaged], or one of r other than the end.
func Read(ctx context.Context, r io.Reader, to engine.Taker) error {
	x := &reader{in: bufio.NewReaderSize(r, 64<<10), hash: sha256.New(), to: to}
	return x.read(ctx)
}

// Check is Read for nobody. It returns the vault.
func Check(ctx context.Context, r io.Reader) (*engine.Whole, error) {
	var n nobody
	err := Read(ctx, r, &n)
	return n.w, err
}

// reader reads an archive.
type reader struct {
	in   *bufio.Reader
	hash hash.Hash // of what was read
	to   engine.Taker

	w       *engine.Whole // nil: not read yet
	next    commitlog.CommitID
	objects []commitlog.Hash // that the next commit has to name, in this order
	point   keys.DeviceID    // of the last checkpoint; zero: none was read
}

// full reads so many bytes.
func (x *reader) full(b []byte) error {
	if _, err := io.ReadFull(x.in, b); err != nil {
		return torn(err)
	}
	x.hash.Write(b)
	return nil
}

func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends before its end")
	}
	return err
}

// body reads a body into memory of its own, which grows with what comes.
func (x *reader) body(n uint64) ([]byte, error) {
	var b bytes.Buffer
	if n <= 1<<20 {
		b.Grow(int(n))
	}
	if _, err := io.CopyN(&b, x.in, int64(n)); err != nil {
		return nil, torn(err)
	}
	x.hash.Write(b.Bytes())
	return b.Bytes(), nil
}

func (x *reader) read(ctx context.Context) error {
	first := make([]byte, len(magic))
	if err := x.full(first); err != nil {
		return err
	}
	if string(first) != magic {
		return damaged("this is none, or one of a newer program")
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		head := make([]byte, headSize)
		if err := x.full(head); err != nil {
			return err
		}
		k, n := kind(head[0]), be.Uint64(head[1:])
		if n > k.maxBody() || (k == kindVault) != (x.w == nil) {
			return damaged("a record of kind %d and %d bytes where none can be", k, n)
		}
		if k == kindEnd {
			return x.end(ctx, n)
		}
		if err := x.record(ctx, k, n); err != nil {
			return err
		}
	}
}

func (x *reader) record(ctx context.Context, k kind, n uint64) error {
	if k == kindObject {
		return x.object(ctx, n)
	}
	b, err := x.body(n)
	if err != nil {
		return err
	}
	switch k {
	case kindVault:
		if x.w, err = parseWhole(b); err != nil {
			return err
		}
		return x.to.Begin(ctx, x.w)
	case kindCommit:
		return x.commit(ctx, b)
	default:
		return x.checkpoint(ctx, b)
	}
}

// object gives the bytes of an object while they are read, and looks at their hash
// after.
func (x *reader) object(ctx context.Context, n uint64) error {
	if n <= hashSize || !x.point.IsZero() || len(x.objects) == commitlog.MaxChanges {
		return damaged("an object where none can be")
	}
	var hash commitlog.Hash
	if err := x.full(hash[:]); err != nil {
		return err
	}
	own := sha256.New()
	r := &counted{r: io.TeeReader(x.in, io.MultiWriter(x.hash, own)), left: int64(n - hashSize)}
	err := x.to.Object(ctx, hash, n-hashSize, r)
	switch { // what was read comes before what somebody made of it
	case r.err != nil:
		return torn(r.err)
	case r.left == 0 && commitlog.Hash(own.Sum(nil)) != hash:
		return damaged("object %s is another", hash)
	case err != nil:
		return err
	case r.left > 0:
		return fmt.Errorf("object %s: %d bytes were left", hash, r.left)
	}
	x.objects = append(x.objects, hash)
	return nil
}

// counted reads so many bytes, and keeps the error by which there are fewer.
type counted struct {
	r    io.Reader
	left int64
	err  error
}

func (c *counted) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err != nil && c.left > 0 {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		c.err = err
		return n, err
	}
	return n, nil
}

func (x *reader) commit(ctx context.Context, b []byte) error {
	if len(b) < stampSize || !x.point.IsZero() {
		return damaged("a commit where none can be")
	}
	f := &fields{b, true}
	c := &engine.WholeCommit{At: f.u64(), Epoch: f.u32(), Resets: f.u16()}
	var err error
	if c.Bundle, err = commitlog.ParseBundle(f.b); err != nil {
		return damaged("commit %d: %v", x.next+1, err)
	}
	if x.next++; c.Bundle.ID != x.next || uint64(x.next) > x.w.Size || c.At >= maxTime {
		return damaged("commit %d as number %d of %d", c.Bundle.ID, x.next, x.w.Size)
	}
	for i := range c.Bundle.Commit.Changes {
		ch := &c.Bundle.Commit.Changes[i]
		if len(x.objects) > 0 && c.Bundle.Blobs[i] != nil && ch.HasObject() && ch.ObjectHash == x.objects[0] {
			x.objects = x.objects[1:]
		}
	}
	if len(x.objects) > 0 {
		return damaged("object %s is not named by the commit behind it", x.objects[0])
	}
	return x.to.Commit(ctx, c)
}

func (x *reader) checkpoint(ctx context.Context, b []byte) error {
	c, err := commitlog.ParseCheckpoint(b)
	if err != nil {
		return damaged("checkpoint: %v", err)
	}
	if uint64(x.next) != x.w.Size || len(x.objects) > 0 || c.Vault != x.w.Vault || string(c.Device[:]) <= string(x.point[:]) {
		return damaged("a checkpoint where none can be")
	}
	x.point = c.Device
	return x.to.Checkpoint(ctx, c)
}

func (x *reader) end(ctx context.Context, n uint64) error {
	if n != hashSize || uint64(x.next) != x.w.Size || len(x.objects) > 0 {
		return damaged("it ends after commit %d of %d", x.next, x.w.Size)
	}
	want := commitlog.Hash(x.hash.Sum(nil))
	var have commitlog.Hash
	if err := x.full(have[:]); err != nil {
		return err
	}
	if have != want {
		return damaged("it is not as it was written")
	}
	if _, err := x.in.ReadByte(); err == nil {
		return damaged("something comes after its end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return x.to.End(ctx)
}

// nobody is a taker that keeps nothing.
type nobody struct{ w *engine.Whole }

func (n *nobody) Begin(_ context.Context, w *engine.Whole) error {
	n.w = w
	return nil
}

func (*nobody) Object(_ context.Context, _ commitlog.Hash, _ uint64, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (*nobody) Commit(context.Context, *engine.WholeCommit) error       { return nil }
func (*nobody) Checkpoint(context.Context, *commitlog.Checkpoint) error { return nil }
func (*nobody) End(context.Context) error                               { return nil }
