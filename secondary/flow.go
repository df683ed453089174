package secondary

import (
	"context"
	"fmt"
	"sync"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// downloadFrame is how many bytes of commits a DOWNLOAD is filled with: some two
// thousand small records.
const downloadFrame = 1 << 20

// flow is what a session sends at the line's own speed.
type flow struct {
	mu      sync.Mutex
	words   []wire.Message // BOUND and UNBOUND, before all else; at most wire.MaxBinds
	fetches []*wire.Fetch  // to be answered
	log     *logFlow       // nil: not bound
	state   *stateFlow     // nil: no SNAPSHOT is under way
	past    *pastFlow      // nil: no READ is under way
}

// logFlow is how far a bound session has sent the log.
type logFlow struct {
	follows bool               // the device's log is the beginning of this one
	live    bool               // new commits are sent as they come
	request engine.ReadRequest // After is what has been sent
	target  uint64             // what is to be sent in any case
	marks   []*wire.Marked     // to be said once their size has been sent
	rest    []*wire.Download   // the frames still to come of a bundle in parts
	cancel  func()             // ends the subscription to news
}

// bound reports whether the session follows the log.
func (f *flow) bound() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log != nil
}

// mayBind returns an error where a client asks for more than it takes answers to.
func (f *flow) mayBind() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.words) >= wire.MaxBinds {
		return fmt.Errorf("%w: more than %d BIND and UNBIND under way", wire.ErrProtocol, wire.MaxBinds)
	}
	return nil
}

// unbind stops following the log and says words instead.
func (f *flow) unbind(words ...wire.Message) {
	f.mu.Lock()
	log := f.log
	f.log = nil
	f.words = append(f.words, words...)
	f.mu.Unlock()
	if log != nil {
		log.cancel()
	}
}

// held returns how many bytes of the log are in memory to be sent: the rest of a large
// bundle.
func (f *flow) held() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != nil {
		for _, m := range f.log.rest {
			n += len(m.Items[0].Data)
		}
	}
	if f.past != nil {
		for _, i := range f.past.rest {
			n += len(i.Data)
		}
	}
	return n
}

// tagBytes is what a namespace that is asked for takes in memory.
const tagBytes = 36

// asked returns how many bytes the namespaces take that are asked for.
func (f *flow) asked() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != nil {
		n += len(f.log.request.Tags)
	}
	if f.state != nil {
		n += len(f.state.tags)
	}
	if f.past != nil {
		n += len(f.past.request.Tags)
	}
	return n * tagBytes
}

// stop forgets everything.
func (f *flow) stop() {
	f.unbind()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.words, f.fetches, f.state, f.past = nil, nil, nil, nil
}

// bind answers BIND and begins to follow the log after the device's position.
func (s *Session) bind(ctx context.Context, m *wire.Bind) error {
	if s.flow.bound() {
		return fmt.Errorf("%w: BIND while bound", wire.ErrProtocol)
	}
	if err := s.flow.mayBind(); err != nil {
		return err
	}
	log := &logFlow{live: m.Flags&wire.BindLive != 0, cancel: func() {}}
	if log.live { // before the size is read, so that nothing falls in between
		log.cancel = s.server.config.Hub.Subscribe(s.vault(), s.grown)
	}
	bound, err := s.position(ctx, m.Size)
	if err != nil {
		log.cancel()
		return err
	}
	log.follows = m.Size <= bound.Size && m.Root == bound.Root
	log.target = bound.Size
	log.request = engine.ReadRequest{Vault: s.vault(), After: commitlog.CommitID(m.Size), Tags: wanted(m.Tags)}
	if m.Flags&wire.BindStubs != 0 {
		log.request.Stubs = &s.me.device
	}

	f := &s.flow
	f.mu.Lock()
	defer f.mu.Unlock()
	f.words = append(f.words, bound)
	f.log = log
	return nil
}

// position returns what BOUND says to a device that has size commits.
func (s *Session) position(ctx context.Context, size uint64) (*wire.Bound, error) {
	c := &s.server.config
	head, err := c.Engine.Head(ctx, s.vault(), size)
	if err != nil {
		return nil, err
	}
	last, err := c.Engine.LastHeader(ctx, s.vault(), s.me.device)
	if err != nil {
		return nil, err
	}
	return &wire.Bound{Size: head.Size, Root: head.Root, Last: last, Reset: head.Reset, MaxObject: c.MaxObject, Retention: c.RetentionDays}, nil
}

// grown hears that the log has grown.
func (s *Session) grown(size uint64) {
	for {
		old := s.size.Load()
		if size <= old {
			return
		}
		if s.size.CompareAndSwap(old, size) {
			s.wake()
			return
		}
	}
}

// unbind answers UNBIND; what was still to be sent of the log is not.
func (s *Session) unbind() error {
	if !s.flow.bound() {
		return fmt.Errorf("%w: UNBIND without BIND", wire.ErrProtocol)
	}
	if err := s.flow.mayBind(); err != nil {
		return err
	}
	s.parts = wire.Assembler{} // what is half here will not go on
	s.flow.unbind(&wire.Unbound{})
	return nil
}

// mark notes a MARK, to be answered behind all that the log holds now.
func (s *Session) mark(ctx context.Context, m *wire.Mark) error {
	head, err := s.server.config.Engine.Head(ctx, s.vault(), 0)
	if err != nil {
		return err
	}
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	log := s.flow.log
	if log == nil || !log.follows || len(log.marks) >= wire.MaxMarks {
		return fmt.Errorf("%w: MARK without a log to follow, or too many", wire.ErrProtocol)
	}
	log.marks = append(log.marks, &wire.Marked{Token: m.Token, Size: head.Size})
	log.target = max(log.target, head.Size)
	return nil
}

// fetch notes a FETCH.
func (s *Session) fetch(m *wire.Fetch) error {
	f := &s.flow
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fetches) >= wire.MaxFetches {
		return fmt.Errorf("%w: more than %d FETCH under way", wire.ErrProtocol, wire.MaxFetches)
	}
	f.fetches = append(f.fetches, m)
	return nil
}

// Next returns the next message to send, nil if there is none now.
func (s *Session) Next(ctx context.Context) wire.Message {
	if e := s.ending.Load(); e != nil {
		return e
	}
	m, err := s.next(ctx)
	if err != nil {
		return s.answer(err)
	}
	return m
}

// word is Next where that is a few bytes that go before all else, and nil otherwise.
func (s *Session) word() wire.Message {
	if e := s.ending.Load(); e != nil {
		return e
	}
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	m, _ := pop(&s.flow.words)
	return m
}

// due reports whether Next has something to say that may be large.
func (s *Session) due() bool {
	f := &s.flow
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.fetches) > 0 || f.state != nil || f.past != nil || f.log != nil && f.log.due(s.size.Load())
}

// due reports whether there is something to send of a log of which size was heard.
func (l *logFlow) due(size uint64) bool {
	sent := uint64(l.request.After)
	return l.follows && (len(l.rest) > 0 || len(l.marks) > 0 && sent >= l.marks[0].Size || sent < l.target || l.live && sent < size)
}

func (s *Session) next(ctx context.Context) (wire.Message, error) {
	f := &s.flow
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := pop(&f.words); ok {
		return m, nil
	}
	if m, ok := pop(&f.fetches); ok {
		return s.blobs(ctx, m)
	}
	if f.state != nil {
		m, err := f.state.next(ctx)
		if err != nil || m.Done {
			f.state = nil
		}
		if err != nil {
			return nil, err
		}
		return m, nil
	}
	if m, err := f.follow(ctx, s); m != nil || err != nil {
		return m, err
	}
	if f.past != nil { // after all else: it is what nobody waits for
		m, last, err := f.past.next(ctx, s.server.config.Engine)
		if err != nil || last {
			f.past = nil
		}
		if err != nil {
			return nil, err
		}
		return m, nil
	}
	return nil, nil
}

// follow returns the next message of the log that the session is bound to.
func (f *flow) follow(ctx context.Context, s *Session) (wire.Message, error) {
	log := f.log
	if log == nil || !log.due(s.size.Load()) {
		return nil, nil
	}
	if m, ok := pop(&log.rest); ok {
		return m, nil
	}
	sent := uint64(log.request.After)
	if len(log.marks) > 0 && sent >= log.marks[0].Size {
		m, _ := pop(&log.marks)
		return m, nil
	}
	return log.next(ctx, s.server.config.Engine)
}

// pop takes the first element of a queue.
func pop[T any](q *[]T) (first T, ok bool) {
	if len(*q) == 0 {
		return first, false
	}
	first = (*q)[0]
	*q = (*q)[1:]
	return first, true
}

// bundles reads the next commits from a log, up to the commit to, as items. A
// bundle over wire.MaxItem stands alone and in parts.
func bundles(ctx context.Context, e engine.Engine, r engine.ReadRequest, to commitlog.CommitID) (items []wire.Item, p engine.Progress, err error) {
	size := 0
	p, err = e.Read(ctx, r, func(entry *engine.Entry) (bool, error) {
		if size >= downloadFrame || entry.ID > to {
			return false, nil
		}
		if entry.Bundle == nil {
			items = append(items, wire.NewStub(entry.ID, entry.Seq))
			size += items[len(items)-1].EncodedSize()
			return true, nil
		}
		n := entry.Bundle.EncodedSize()
		if size > 0 && size+n > downloadFrame {
			return false, nil
		}
		data, err := entry.Bundle.AppendBinary(make([]byte, 0, n))
		items = append(items, wire.Cut(data)...)
		size += n
		return true, err
	})
	return items, p, err
}

// next reads the next commits from the log.
func (l *logFlow) next(ctx context.Context, e engine.Engine) (wire.Message, error) {
	items, p, err := bundles(ctx, e, l.request, commitlog.MaxLog)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	l.request.After = p.Next
	if items[0].Kind != wire.ItemPart {
		return &wire.Download{Size: p.Size, Left: p.Left, Items: items}, nil
	}
	frames := make([]*wire.Download, len(items))
	left := p.Left
	for i := len(items) - 1; i >= 0; i-- {
		frames[i] = &wire.Download{Size: p.Size, Left: left, Items: items[i : i+1]}
		left += uint64(len(items[i].Data))
	}
	l.rest = frames[1:]
	return frames[0], nil
}
