package secondary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// excerptBytes is how much an excerpt is filled with. The largest blob fits an
// item beside that.
const excerptBytes = 512 << 10

// stateFlow is how far a SNAPSHOT has been answered.
type stateFlow struct {
	request uint32
	reader  engine.StateReader
	after   engine.Place
	tags    map[keys.Tag]bool // whose blobs are wanted; nil: all
}

// wanted returns the tags of a request as a set, nil for all.
func wanted(tags wire.Tags) map[keys.Tag]bool {
	if tags == nil {
		return nil
	}
	set := make(map[keys.Tag]bool, len(tags))
	for _, t := range tags {
		set[t] = true
	}
	return set
}

// snapshot notes a SNAPSHOT.
func (s *Session) snapshot(ctx context.Context, m *wire.Snapshot) (wire.Message, error) {
	f := &s.flow
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil {
		return nil, fmt.Errorf("%w: a second SNAPSHOT", wire.ErrProtocol)
	}
	if err := s.mayScan(ctx); err != nil {
		return s.refuse(m.Request, err)
	}
	reader, err := s.server.config.Engine.OpenState(ctx, s.vault(), m.Size)
	if err != nil {
		return s.notFound(m.Request, err)
	}
	f.state = &stateFlow{
		request: m.Request, reader: reader, tags: wanted(m.Tags),
		after: engine.Place{Tag: m.Tag, ID: commitlog.ChangeID{Commit: m.Commit, Index: m.Index}},
	}
	return nil, nil
}

// commitsAScan is how many commits make a scan cost as much again.
const commitsAScan = 10_000

// mayScan returns an error where the vault has had all read that is live in it more
// often than it may.
func (s *Session) mayScan(ctx context.Context) error {
	c := &s.server.config
	head, err := c.Engine.Head(ctx, s.vault(), 0)
	if err != nil {
		return err
	}
	if wait := s.server.scans.take(s.vault(), c.Now(), 1+int(head.Size/commitsAScan)); wait > 0 {
		return busy(wait, "too much of this vault was read at a time")
	}
	return nil
}

// next returns the next STATE.
func (f *stateFlow) next(ctx context.Context) (*wire.State, error) {
	m := &wire.State{Request: f.request, Done: true}
	x := excerpts{tags: f.tags}
	err := f.reader.Next(ctx, f.after, func(c *engine.LiveChange) (bool, error) {
		if x.size >= downloadFrame {
			m.Done = false
			return false, nil
		}
		x.add(c)
		f.after = c.Place
		return true, nil
	})
	x.cut()
	m.Items = x.items
	return m, err
}

// excerpts makes the items of a STATE.
type excerpts struct {
	tags  map[keys.Tag]bool
	items []wire.Item
	size  int // of all of them, and of what is being made

	id      commitlog.CommitID // of the excerpt being made
	header  []byte
	n       int
	changes []byte
}

func (x *excerpts) add(c *engine.LiveChange) {
	if x.n > 0 && (c.Place.ID.Commit != x.id || len(x.changes) >= excerptBytes) {
		x.cut()
	}
	if x.n == 0 {
		x.id, x.header = c.Place.ID.Commit, append(x.header[:0], c.Header...)
		x.size += len(c.Header)
	}
	blob := c.Blob
	if x.tags != nil && !x.tags[c.Place.Tag] && commitlog.Kind(c.Header[1]) != commitlog.KindControl {
		blob = nil
	}
	before := len(x.changes)
	x.changes = commitlog.AppendExcerptChange(x.changes, c.Place.ID.Index, c.Entry, blob)
	x.size += len(x.changes) - before
	x.n++
}

// cut ends the excerpt being made.
func (x *excerpts) cut() {
	if x.n == 0 {
		return
	}
	data := commitlog.AppendExcerpt(make([]byte, 0, 8+len(x.header)+2+len(x.changes)), x.id, x.header, x.n)
	x.items = append(x.items, wire.Item{Kind: wire.ItemExcerpt, Data: append(data, x.changes...)})
	x.changes, x.n = x.changes[:0], 0
}

// read notes a READ.
func (s *Session) read(ctx context.Context, m *wire.Read) (wire.Message, error) {
	f := &s.flow
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.past != nil {
		return nil, fmt.Errorf("%w: a second READ", wire.ErrProtocol)
	}
	head, err := s.server.config.Engine.Head(ctx, s.vault(), 0)
	if err == nil && uint64(m.To) > head.Size {
		err = fmt.Errorf("%w: the log has %d commits, not %d", wire.ErrNotFound, head.Size, m.To)
	}
	if err != nil {
		return s.notFound(m.Request, err)
	}
	f.past = &pastFlow{id: m.Request, to: m.To, request: engine.ReadRequest{Vault: s.vault(), After: m.After, Tags: wanted(m.Tags), Dead: true}}
	return nil, nil
}

// pastFlow is how far a READ has been answered.
type pastFlow struct {
	id      uint32
	to      commitlog.CommitID
	request engine.ReadRequest
	rest    []wire.Item // parts of a bundle that are still to come
}

// next returns the next COMMITS, and whether it is the last.
func (f *pastFlow) next(ctx context.Context, e engine.Engine) (m *wire.Commits, last bool, err error) {
	m = &wire.Commits{Request: f.id}
	if f.rest == nil {
		items, _, err := bundles(ctx, e, f.request, f.to)
		if err != nil {
			return nil, false, err
		}
		if items[0].Kind != wire.ItemPart {
			m.Items = items
			return m, true, nil
		}
		f.rest = items
	}
	m.Items, f.rest = f.rest[:1:1], f.rest[1:]
	return m, len(f.rest) == 0, nil
}

// checkpoint answers a CHECKPOINT.
func (s *Session) checkpoint(ctx context.Context, m *wire.Checkpoint) (wire.Message, error) {
	e := s.server.config.Engine
	reply := &wire.Checkpoint{Request: m.Request}
	if len(m.Data) > 0 {
		if err := s.post(ctx, m); err != nil {
			return s.refuse(m.Request, err)
		}
		return reply, nil
	}
	c, err := e.Checkpoint(ctx, s.vault(), m.Size, m.Device)
	if errors.Is(err, wire.ErrNotFound) {
		return reply, nil
	}
	if err != nil {
		return nil, err
	}
	reply.Size, reply.Device, reply.Data = c.Size, c.Device, c.Raw
	return reply, nil
}

// post takes a checkpoint of the device.
func (s *Session) post(ctx context.Context, m *wire.Checkpoint) error {
	if err := s.mayScan(ctx); err != nil {
		return err
	}
	bad := func(what string) error { return fmt.Errorf("%w: checkpoint: %s", wire.ErrProtocol, what) }
	c, err := commitlog.ParseCheckpoint(append([]byte(nil), m.Data...))
	if err != nil {
		return bad(err.Error())
	}
	if c.Vault != s.vault() || c.Device != s.me.device || m.Size != 0 || !m.Device.IsZero() {
		return bad("not one of this device")
	}
	author, err := s.server.config.Engine.Author(ctx, c.Vault, c.Device)
	if err != nil {
		return err
	}
	switch {
	case author.Revoked != 0:
		return commitlog.ErrRevoked
	case author.Scope != nil:
		return fmt.Errorf("%w: a checkpoint of all", commitlog.ErrScope)
	case int64(c.Time) > s.server.config.Now().Add(24*time.Hour).UnixMilli():
		return bad("from the future")
	case !c.Verify(author.Sign):
		return bad("its signature does not verify")
	}
	return s.server.config.Engine.PutCheckpoint(ctx, c)
}
