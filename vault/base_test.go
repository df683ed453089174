package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A restoring is a vault with a checkpoint, a log that goes on after it, and what
// a device that has all of it shows.
type restoring struct {
	*person
	a, b *vault.Vault
}

// newRestoring has two devices write so many rounds, and post a checkpoint in
// the middle. What is superseded comes on both sides of it, and so do siblings,
// removals and long values.
func newRestoring(t *testing.T, rounds int) *restoring {
	t.Helper()
	return newPerson(t).restoring(rounds)
}

func (p *person) restoring(rounds int) *restoring {
	t := p.t
	t.Helper()
	clock := &manual{t: time.Now().Add(-25 * time.Hour)} // what is signed ahead of its clock the secondary refuses
	r := &restoring{p, p.device(vault.Config{Now: clock.now}), p.device(vault.Config{Now: clock.now})}
	for i := range rounds {
		if i == rounds/2 {
			clock.t = clock.t.Add(25 * time.Hour)
			sync(t, r.a) // posts
		}
		for _, v := range []*vault.Vault{r.a, r.b} {
			for j := range 6 {
				put(t, v, fmt.Sprintf("both %d", j), fmt.Sprint(v.Device(), i, j))
			}
			put(t, v, fmt.Sprintf("of %s, %d", v.Device(), i), "once")
			if i%3 == 1 {
				fatal(t, v.Namespace("notes").Delete(t.Context(), fmt.Sprintf("of %s, %d", v.Device(), i-1)))
			}
			if i%4 == 2 {
				_, err := v.Namespace("files").Put(t.Context(), "long", []byte(xs(70_000+i)))
				fatal(t, err)
			}
		}
		sync(t, r.a, r.b)
	}
	sync(t, r.a)
	sameDigest(t, r.a, r.b)
	return r
}

// equal checks that a device shows what the others show, and has a whole log.
func (r *restoring) equal(t *testing.T, v *vault.Vault) {
	t.Helper()
	r.same(t, v)
	if got, want := versions(t, v), versions(t, r.a); !slices.Equal(got, want) {
		t.Errorf("history:\n%q, want\n%q", got, want)
	}
}

// versions lists the history of all records.
func versions(t *testing.T, v *vault.Vault) (out []string) {
	t.Helper()
	for _, ns := range []string{"notes", "files"} {
		for rec, err := range v.Namespace(ns).List(t.Context()) {
			fatal(t, err)
			for old, err := range v.Namespace(ns).History(t.Context(), rec.Name) {
				fatal(t, err)
				out = append(out, fmt.Sprint(ns, "/", rec.Name, " ", old.Commit, " ", old.Size))
			}
		}
	}
	return out
}

// F37, F38: a new device begins with a checkpoint, shows what the others show as
// soon as the tail is here, and has every commit verified in the end.
func TestRestoreFromCheckpoint(t *testing.T) {
	r := newRestoring(t, 12)
	v := r.unenrolled(t.TempDir() + "/vault")
	l := &tapped{}
	_, err := v.Enrol(t.Context(), r.root.Authority(), nil, l.options())
	fatal(t, err)
	st, err := v.Status(t.Context())
	fatal(t, err)
	if st.Base == 0 || st.Base >= st.Commits {
		t.Fatalf("it began at %d of %d", st.Base, st.Commits)
	}
	if l.got[wire.TypeState] == 0 || l.got[wire.TypeProof] == 0 {
		t.Errorf("messages: %v", l.got)
	}
	sync(t, r.a)
	sameDigest(t, r.a, v) // before the history is here
	if got, want := listed(t, v, "notes"), listed(t, r.a, "notes"); !slices.Equal(got, want) {
		t.Errorf("notes: %q, want %q", got, want)
	}
	if f, err := v.Floor(t.Context()); f != nil || err != nil {
		t.Errorf("floor %v, %v, of a history that is not verified", f, err)
	}
	r.equal(t, v)
	if st, _ = v.Status(t.Context()); st.Checkpoint.IsZero() {
		sync(t, v)
		if st, err = v.Status(t.Context()); err != nil || st.Checkpoint.IsZero() {
			t.Errorf("it has posted no checkpoint: %v", err)
		}
	}
	put(t, v, "after", "all")
	sync(t, v)
	r.equal(t, v)
}

// F38: cut after any message, in either phase, it goes on, and is never taken for
// whole before it is.
func TestRestoreFromCheckpointCut(t *testing.T) {
	r := newRestoring(t, 6)
	for k := 1; ; k += sample {
		v := r.unenrolled(t.TempDir() + "/vault")
		l := &tapped{cut: k}
		_, err := v.Enrol(t.Context(), r.root.Authority(), nil, l.options())
		if err != nil {
			if !errors.Is(err, errCut) {
				t.Fatalf("after %d messages: %v", k, err)
			}
			if ok, err := v.Enrolled(); err != nil {
				t.Fatal(err)
			} else if !ok {
				_, err = v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
				fatal(t, err)
			}
		} else if _, err = v.Sync(t.Context(), l.options()); err != nil && !errors.Is(err, errCut) {
			t.Fatalf("after %d messages: %v", k, err)
		}
		r.equal(t, v)
		if t.Failed() || err == nil && l.n < k {
			return
		}
		fatal(t, v.Close())
	}
}

// A tapped connection counts what comes by type, may change it, and may be cut.
type tapped struct {
	client.Messenger
	got    map[wire.Type]int
	n, cut int // messages that came; after cut of them it breaks, 0: never
	change func(m wire.Message) []wire.Message
	queue  []wire.Message
	sent   []wire.Type
	onSend func(m wire.Message) // may be nil
}

func (l *tapped) options() vault.SyncOptions {
	return vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := client.Dial(ctx, s, id)
		l.Messenger, l.queue = c, nil
		if l.got == nil {
			l.got = make(map[wire.Type]int)
		}
		return l, err
	}}
}

func (l *tapped) Send(ctx context.Context, m wire.Message) error {
	l.sent = append(l.sent, m.Type())
	if l.onSend != nil {
		l.onSend(m)
	}
	return l.Messenger.Send(ctx, m)
}

func (l *tapped) Receive(ctx context.Context) (wire.Message, error) {
	for len(l.queue) == 0 {
		m, err := l.Messenger.Receive(ctx)
		if err != nil {
			return nil, err
		}
		if l.n++; l.cut > 0 && l.n > l.cut {
			return nil, errCut
		}
		l.got[m.Type()]++
		l.queue = []wire.Message{m}
		if l.change != nil {
			l.queue = l.change(m)
		}
	}
	m := l.queue[0]
	l.queue = l.queue[1:]
	return m, nil
}

// excerptsOf changes the excerpts of the n-th STATE.
func excerptsOf(change func(x []*commitlog.Excerpt) []*commitlog.Excerpt) func(m wire.Message) []wire.Message {
	return func(m wire.Message) []wire.Message {
		s, ok := m.(*wire.State)
		if !ok {
			return []wire.Message{m}
		}
		var in []*commitlog.Excerpt
		for _, item := range s.Items {
			x, err := commitlog.ParseExcerpt(item.Data)
			if err != nil {
				panic(err)
			}
			in = append(in, x)
		}
		s.Items = nil
		for _, x := range change(in) {
			data := commitlog.AppendExcerpt(nil, x.ID, x.Raw, len(x.Changes))
			for _, c := range x.Changes {
				data = commitlog.AppendExcerptChange(data, c.Index, c.Change.Entry, c.Blob)
			}
			s.Items = append(s.Items, wire.Item{Kind: wire.ItemExcerpt, Data: data})
		}
		return []wire.Message{s}
	}
}

// C10 of the attacks: a checkpoint that is forged, old, of another vault, or of
// nobody, and live changes that are not those it names.
func TestRestoreFromFalseCheckpoint(t *testing.T) {
	r := newRestoring(t, 6)
	other := newRestoring(t, 2)
	ctl := r.root.TagSecret().Tag(keys.ControlNamespace)
	checkpoint := func(change func(c *commitlog.Checkpoint, m *wire.Checkpoint)) func(m wire.Message) []wire.Message {
		return func(m wire.Message) []wire.Message {
			if m, ok := m.(*wire.Checkpoint); ok && len(m.Data) > 0 {
				c, err := commitlog.ParseCheckpoint(m.Data)
				fatal(t, err)
				change(c, m)
			}
			return []wire.Message{m}
		}
	}
	stranger := newDevice(t, keys.GenerateRoot())
	resign := func(c *commitlog.Checkpoint, m *wire.Checkpoint) {
		own, err := stranger.Seed.Keys()
		fatal(t, err)
		fatal(t, c.Sign(func(b []byte) [64]byte { return own.Sign.Sign(keys.PurposeCheckpoint, c.Vault, b) }))
		m.Size, m.Device, m.Data = c.Size, c.Device, c.Raw
	}
	live := func(change func(x []*commitlog.Excerpt, first int) []*commitlog.Excerpt) func(m wire.Message) []wire.Message {
		return excerptsOf(func(x []*commitlog.Excerpt) []*commitlog.Excerpt {
			first := slices.IndexFunc(x, func(x *commitlog.Excerpt) bool { return x.Header.Tag != ctl })
			if first < 0 {
				return x
			}
			return change(x, first)
		})
	}
	for _, tt := range []struct {
		name   string
		change func(m wire.Message) []wire.Message
		want   error
	}{
		{"untouched", nil, nil},
		{"bit of its signature", checkpoint(func(c *commitlog.Checkpoint, m *wire.Checkpoint) { m.Data[len(m.Data)-1] ^= 1 }), commitlog.ErrSignature},
		{"another size", checkpoint(func(c *commitlog.Checkpoint, m *wire.Checkpoint) { m.Size++ }), commitlog.ErrCheckpoint},
		{"signed by a device of another vault", checkpoint(func(c *commitlog.Checkpoint, m *wire.Checkpoint) {
			c.Device = stranger.ID
			resign(c, m)
		}), commitlog.ErrUnknownSigner},
		{"signed by another for one of the vault", checkpoint(resign), commitlog.ErrSignature},
		{"of another vault", checkpoint(func(c *commitlog.Checkpoint, m *wire.Checkpoint) {
			c.Vault = other.root.VaultID()
			resign(c, m)
		}), commitlog.ErrVaultIDMismatch},
		{"too short", checkpoint(func(c *commitlog.Checkpoint, m *wire.Checkpoint) { m.Data = m.Data[:len(m.Data)-1] }), commitlog.ErrMalformed},
		{"a change missing", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt { return slices.Delete(x, i, i+1) }), commitlog.ErrCheckpoint},
		{"the last missing", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt { return x[:len(x)-1] }), commitlog.ErrCheckpoint},
		{"a namespace missing", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt {
			tag := x[i].Header.Tag
			return slices.DeleteFunc(x, func(x *commitlog.Excerpt) bool { return x.Header.Tag == tag })
		}), commitlog.ErrCheckpoint},
		{"a change twice", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt { return slices.Insert(x, i, x[i]) }), commitlog.ErrCheckpoint},
		{"two exchanged", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt {
			x[i], x[i+1] = x[i+1], x[i]
			return x
		}), commitlog.ErrCheckpoint},
		{"another commit ID", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt {
			x[i].ID--
			return x
		}), commitlog.ErrCheckpoint},
		{"a header's bit", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt {
			x[i].Raw[200] ^= 1
			return x
		}), commitlog.ErrCheckpoint},
		{"a blob's bit", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt {
			x[i].Changes[0].Blob[100] ^= 1
			return x
		}), commitlog.ErrBlob},
		{"an entry's bit", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt {
			x[i].Changes[0].Blob = nil
			x[i].Changes[0].Change.Entry[5] ^= 1
			return x
		}), commitlog.ErrCheckpoint},
		{"a namespace more", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt {
			last := *x[len(x)-1]
			last.Raw = slices.Clone(last.Raw)
			last.Raw[6] = 0xff // its tag
			return append(x, &last)
		}), commitlog.ErrCheckpoint},
		{"no control log", excerptsOf(func(x []*commitlog.Excerpt) []*commitlog.Excerpt {
			return slices.DeleteFunc(x, func(x *commitlog.Excerpt) bool { return x.Header.Tag == ctl })
		}), commitlog.ErrNoGenesis},
		{"the first control commit missing", excerptsOf(func(x []*commitlog.Excerpt) []*commitlog.Excerpt { return x[1:] }), commitlog.ErrNoGenesis},
		{"the last control commit missing", live(func(x []*commitlog.Excerpt, i int) []*commitlog.Excerpt { return slices.Delete(x, i-1, i) }), commitlog.ErrCheckpoint},
		{"a control statement without its blob", excerptsOf(func(x []*commitlog.Excerpt) []*commitlog.Excerpt {
			x[0].Changes[0].Blob = nil
			return x
		}), commitlog.ErrOmission},
		{"no such log", func(m wire.Message) []wire.Message {
			if s, ok := m.(*wire.State); ok {
				e := wire.NewError(wire.CodeNotFound, "")
				e.Request = s.Request
				return []wire.Message{e}
			}
			return []wire.Message{m}
		}, commitlog.ErrRollback},
		{"a false proof", func(m wire.Message) []wire.Message {
			if p, ok := m.(*wire.Proof); ok && len(p.Hashes) > 0 {
				p.Hashes[0][0] ^= 1
			}
			return []wire.Message{m}
		}, commitlog.ErrFork},
		{"a state that was not asked for", func(m wire.Message) []wire.Message {
			if s, ok := m.(*wire.State); ok {
				s.Request++
			}
			return []wire.Message{m}
		}, wire.ErrProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := r.unenrolled(t.TempDir() + "/vault")
			l := &tapped{change: tt.change}
			_, err := v.Enrol(t.Context(), r.root.Authority(), nil, l.options())
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if slices.Contains(l.sent, wire.TypeUpload) != (tt.want == nil) {
				t.Errorf("it sent %v", l.sent)
			}
			if tt.want == nil {
				return
			}
			st, err := v.Status(t.Context())
			fatal(t, err)
			if st.Enrolled || (st.Alarm != "") != errors.Is(l.err(tt.want), errAlarm) {
				t.Errorf("enrolled %v, alarm %q", st.Enrolled, st.Alarm)
			}
		})
	}
}

var errAlarm = errors.New("alarm")

// err says whether an error is one that a person hears of as an alarm.
func (l *tapped) err(want error) error {
	if errors.Is(want, wire.ErrProtocol) {
		return want
	}
	return errAlarm
}

// The history below a checkpoint that a device began with is another: that is an
// alarm, and what is here stays.
func TestFalseHistoryBelowCheckpoint(t *testing.T) {
	r := newRestoring(t, 6)
	commits := func(change func(m *wire.Commits)) func(m wire.Message) []wire.Message {
		return func(m wire.Message) []wire.Message {
			if c, ok := m.(*wire.Commits); ok {
				change(c)
			}
			return []wire.Message{m}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(m wire.Message) []wire.Message
		want   error
	}{
		{"one left out", commits(func(m *wire.Commits) { m.Items = slices.Delete(m.Items, 2, 3) }), commitlog.ErrOmission},
		{"two exchanged", commits(func(m *wire.Commits) { m.Items[2], m.Items[3] = m.Items[3], m.Items[2] }), commitlog.ErrOmission},
		{"a signature", commits(func(m *wire.Commits) { m.Items[3].Data[8+200] ^= 1 }), commitlog.ErrSignature},
		{"a list", commits(func(m *wire.Commits) { m.Items[3].Data[8+216+4+3] ^= 1 }), commitlog.ErrBlob},
		{"not there", func(m wire.Message) []wire.Message {
			if c, ok := m.(*wire.Commits); ok {
				e := wire.NewError(wire.CodeNotFound, "")
				e.Request = c.Request
				return []wire.Message{e}
			}
			return []wire.Message{m}
		}, commitlog.ErrRollback},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := r.unenrolled(t.TempDir() + "/vault")
			_, err := v.Enrol(t.Context(), r.root.Authority(), nil, vault.SyncOptions{})
			fatal(t, err)
			before := listed(t, v, "notes")
			l := &tapped{change: tt.change}
			_, err = v.Sync(t.Context(), l.options())
			if !errors.Is(err, tt.want) || !vault.IsAlarm(err) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if after := listed(t, v, "notes"); !slices.Equal(before, after) {
				t.Errorf("%q, before %q", after, before)
			}
			st, err := v.Status(t.Context())
			fatal(t, err)
			if st.Base == 0 || st.Alarm == "" {
				t.Errorf("base %d, alarm %q", st.Base, st.Alarm)
			}
		})
	}
}
