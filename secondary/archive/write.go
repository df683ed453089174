package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/engine"
)

// A Writer is an [engine.Taker] that writes an archive. It has written all of it when
// End returns nil. Nothing of it is durable by that.
type Writer struct {
	w    *bufio.Writer
	hash hash.Hash
	out  io.Writer // both
	buf  []byte
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer {
	x := &Writer{w: bufio.NewWriterSize(w, 64<<10), hash: sha256.New()}
	x.out = io.MultiWriter(x.w, x.hash)
	return x
}

var _ engine.Taker = (*Writer)(nil)

// head writes the head of a record.
func (x *Writer) head(k kind, length uint64) error {
	_, err := x.out.Write(be.AppendUint64([]byte{byte(k)}, length))
	return err
}

// record writes a record whose body is in memory.
func (x *Writer) record(k kind, body []byte) error {
	if uint64(len(body)) > k.maxBody() {
		return fmt.Errorf("%w: %d bytes in a record of kind %d of an archive", commitlog.ErrLimit, len(body), k)
	}
	if err := x.head(k, uint64(len(body))); err != nil {
		return err
	}
	_, err := x.out.Write(body)
	return err
}

// Begin implements [engine.Taker].
func (x *Writer) Begin(_ context.Context, w *engine.Whole) error {
	if _, err := io.WriteString(x.out, magic); err != nil {
		return err
	}
	return x.record(kindVault, appendWhole(nil, w))
}

// Object implements [engine.Taker].
func (x *Writer) Object(_ context.Context, hash commitlog.Hash, size uint64, r io.Reader) error {
	if err := x.head(kindObject, hashSize+size); err != nil {
		return err
	}
	if _, err := x.out.Write(hash[:]); err != nil {
		return err
	}
	_, err := io.CopyN(x.out, r, int64(size))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Commit implements [engine.Taker].
func (x *Writer) Commit(_ context.Context, c *engine.WholeCommit) (err error) {
	b := be.AppendUint64(x.buf[:0], c.At)
	b = be.AppendUint16(be.AppendUint32(b, c.Epoch), c.Resets)
	if x.buf, err = c.Bundle.AppendBinary(b); err != nil {
		return err
	}
	return x.record(kindCommit, x.buf)
}

// Checkpoint implements [engine.Taker].
func (x *Writer) Checkpoint(_ context.Context, c *commitlog.Checkpoint) error {
	return x.record(kindCheckpoint, c.Raw)
}

// End implements [engine.Taker].
func (x *Writer) End(context.Context) error {
	if err := x.head(kindEnd, hashSize); err != nil {
		return err
	}
	if _, err := x.w.Write(x.hash.Sum(nil)); err != nil {
		return err
	}
	return x.w.Flush()
}
