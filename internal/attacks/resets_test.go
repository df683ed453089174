package attacks_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
)

// reads answers the question for a reset with other COMMITS: what f makes of the bundle
// that was asked for.
func reads(name string, l lying.Log, reset commitlog.CommitID, f func(request uint32, bundle []byte) []wire.Message) lying.Mutation {
	return lying.Both(name,
		lying.Answer("", func(m *wire.Read) []wire.Message { return f(m.Request, slices.Clone(l[reset-1])) }),
		serves("", l, reset))
}

// bundles is an answer that holds them.
func bundles(request uint32, all ...[]byte) []wire.Message {
	m := &wire.Commits{Request: request}
	for _, b := range all {
		m.Items = append(m.Items, wire.Item{Kind: wire.ItemBundle, Data: b})
	}
	return []wire.Message{m}
}

// changes returns the change list of a bundle.
func changes(t *testing.T, bundle []byte) []commitlog.Change {
	t.Helper()
	return parse(t, bundle).Commit.Changes
}

// forgeries returns commits that say that they are the reset in a log, each with
// why it is none.
func (p *parted) forgeries(t *testing.T) (out []struct {
	name   string
	bundle []byte
	why    error
}) {
	t.Helper()
	over := p.log[:p.reset-1]
	genuine := p.log[p.reset-1]
	add := func(name string, bundle []byte, why error) {
		out = append(out, struct {
			name   string
			bundle []byte
			why    error
		}{name, bundle, why})
	}
	owner := authorityOf(p.vault.Root)
	statements := owner.opens(t, genuine)

	// Signed by others than the authority.
	device := authorOf(t, p.b)
	for name, by := range map[string]*author{"a device": device, "a stranger": stranger(device)} {
		for _, purpose := range []keys.Purpose{keys.PurposeCommit, keys.PurposeControl} {
			in := *by
			in.device, in.purpose = keys.DeviceID{}, purpose
			add(fmt.Sprintf("signed by %s in the owner's name, as %s", name, purpose), in.states(t, over, statements...), commitlog.ErrSignature)
		}
	}

	// Each field of the statement altered, under the signature that was there.
	first := *statements[0].Reset
	for name, edit := range map[string]func(st *commitlog.Statement){
		"kept less":      func(st *commitlog.Statement) { st.Reset.Kept-- },
		"kept more":      func(st *commitlog.Statement) { st.Reset.Kept++ },
		"more to come":   func(st *commitlog.Statement) { st.Reset.More = !st.Reset.More },
		"another leaf":   func(st *commitlog.Statement) { st.Reset.Leaves[0][0] ^= 1 },
		"one leaf less":  func(st *commitlog.Statement) { st.Reset.Leaves = st.Reset.Leaves[1:] },
		"one leaf more":  func(st *commitlog.Statement) { st.Reset.Leaves = append(st.Reset.Leaves, commitlog.Hash{1}) },
		"another number": func(st *commitlog.Statement) { st.Number++ },
		"another before": func(st *commitlog.Statement) { st.Previous[0] ^= 1 },
	} {
		reset := first
		reset.Leaves = slices.Clone(first.Leaves)
		st := *statements[0]
		st.Reset = &reset
		edit(&st)
		value, err := st.AppendBinary(nil)
		fatal(t, err)
		change, blob := owner.payload(t, keys.ControlNamespace, &seal.Payload{Form: seal.FormInline, HLC: 1 << 40, Value: value})
		b := parse(t, genuine)
		b.Blobs[0] = blob // the list is as it was
		why := commitlog.ErrBlob
		if len(blob) < int(changes(t, genuine)[0].BlobSize) {
			why = commitlog.ErrMalformed // it ends too soon
		}
		add(name+", only the blob", encode(b), why)
		b = parse(t, genuine)
		list := changes(t, genuine)
		list[0] = change
		h := b.Commit.Header
		c, err := commitlog.Build(h, list, func([]byte) [64]byte { return h.Signature })
		fatal(t, err)
		b.Commit, b.Blobs[0] = c, blob
		add(name+", header and list fit", encode(b), commitlog.ErrSignature)
	}
	for name, edit := range map[string]func(h *commitlog.Header){
		"seen size": func(h *commitlog.Header) { h.SeenSize-- }, "seen root": func(h *commitlog.Header) { h.SeenRoot[0] ^= 1 },
		"sequence number": func(h *commitlog.Header) { h.Seq++ }, "previous commit": func(h *commitlog.Header) { h.PrevLeaf[0] ^= 1 },
	} {
		b := parse(t, genuine)
		h := b.Commit.Header
		edit(&h)
		c, err := commitlog.Build(h, b.Commit.Changes, func([]byte) [64]byte { return h.Signature })
		fatal(t, err)
		b.Commit = c
		want := commitlog.ErrSignature
		if name == "seen size" {
			want = commitlog.ErrControlFork // valid at one place alone
		}
		add("another "+name, encode(b), want)
	}
	return out
}

// C16: a reset that the owner has not made is none: for a device whose log is another
// it is the alarm that it would have been without, for one that only asks it says why.
func TestC16Forged(t *testing.T) {
	p := newParted(t, false)
	genuine := p.log[p.reset-1]
	var lost, acked []attack
	for _, f := range p.forgeries(t) {
		name, bundle, why := f.name, f.bundle, f.why
		log := with(p.log[:p.reset-1], bundle)
		lost = append(lost,
			attack{serves(name, log, p.reset), commitlog.ErrFork},
			// Where BOUND names the true one, and the answer is another.
			attack{reads(name+", in the answer alone", p.log, p.reset, func(r uint32, _ []byte) []wire.Message { return bundles(r, lying.SetID(bundle, p.reset)) }), commitlog.ErrFork},
		)
		acked = append(acked, attack{serves(name, log, p.reset), why})
	}
	// BOUND names what is no reset.
	for id := commitlog.CommitID(1); id < p.reset; id++ {
		b := parse(t, p.log[id-1])
		lost = append(lost, attack{serves(fmt.Sprintf("commit %d, of kind %d", id, b.Commit.Header.Kind), p.log, id), commitlog.ErrFork})
		if uint64(id) > p.kept {
			acked = append(acked, attack{serves(fmt.Sprintf("commit %d, of kind %d", id, b.Commit.Header.Kind), p.log, id), commitlog.ErrControlFork})
		}
	}
	// And where the log is the beginning of its own: no reset in it explains that.
	for _, id := range []commitlog.CommitID{1, commitlog.CommitID(p.kept)} {
		lost = append(lost, attack{serves(fmt.Sprintf("an older log, and its commit %d", id), p.log[:p.kept], id), commitlog.ErrRollback})
	}
	for _, a := range []struct {
		name        string
		f           func(r uint32, b []byte) []wire.Message
		lost, acked error
	}{
		{"garbage", func(r uint32, b []byte) []wire.Message { return bundles(r, slices.Repeat([]byte{7}, len(b))) }, commitlog.ErrFork, commitlog.ErrMalformed},
		{"cut short", func(r uint32, b []byte) []wire.Message { return bundles(r, b[:len(b)-1]) }, commitlog.ErrFork, commitlog.ErrMalformed},
		{"with more behind it", func(r uint32, b []byte) []wire.Message { return bundles(r, append(b, 0)) }, commitlog.ErrFork, commitlog.ErrMalformed},
		{"under another number", func(r uint32, b []byte) []wire.Message { return bundles(r, lying.SetID(b, p.reset+1)) }, wire.ErrProtocol, wire.ErrProtocol},
		{"another commit", func(r uint32, b []byte) []wire.Message { return bundles(r, lying.SetID(p.log[p.reset], p.reset)) }, commitlog.ErrFork, commitlog.ErrControlFork},
		{"twice", func(r uint32, b []byte) []wire.Message { return bundles(r, b, b) }, wire.ErrProtocol, wire.ErrProtocol},
		{"with the next one", func(r uint32, b []byte) []wire.Message { return bundles(r, b, lying.SetID(p.log[p.reset], p.reset+1)) }, wire.ErrProtocol, wire.ErrProtocol},
		{"of another question", func(r uint32, b []byte) []wire.Message { return bundles(r+1, b) }, wire.ErrProtocol, wire.ErrProtocol},
		{"not found", func(r uint32, b []byte) []wire.Message {
			e := wire.NewError(wire.CodeNotFound, "")
			e.Request = r
			return []wire.Message{e}
		}, commitlog.ErrFork, commitlog.ErrRollback},
		{"no answer", func(r uint32, b []byte) []wire.Message { return []wire.Message{} }, wire.ErrTimeout, wire.ErrTimeout},
		{"without its blob", func(r uint32, b []byte) []wire.Message {
			c := parse(t, b)
			c.Blobs[0] = nil
			return bundles(r, encode(c))
		}, commitlog.ErrFork, commitlog.ErrOmission},
		{"a part that is never whole", func(r uint32, b []byte) []wire.Message {
			return []wire.Message{&wire.Commits{Request: r, Items: []wire.Item{{Kind: wire.ItemPart, Data: genuine[:100]}}}}
		}, wire.ErrTimeout, wire.ErrTimeout},
	} {
		lost = append(lost, attack{reads("the answer: "+a.name, p.log, p.reset, a.f), a.lost})
		acked = append(acked, attack{reads("the answer: "+a.name, p.log, p.reset, a.f), a.acked})
	}
	t.Run("lost", func(t *testing.T) { p.refuses(t, of(p.lost), lost...) })
	t.Run("acknowledged", func(t *testing.T) { p.refuses(t, of(p.acked), acked...) })
}

// C16: the word of the owner counts in the log in which it stands, and once.
func TestC16Replayed(t *testing.T) {
	p := newParted(t, true)
	first := commitlog.CommitID(p.kept + 1) // the first reset, which a device made after what it had carried over
	owner := authorityOf(p.vault.Root)
	for ; first < p.reset; first++ {
		if b := parse(t, p.log[first-1]); b.Commit.Header.Kind == commitlog.KindControl && owner.opens(t, p.log[first-1])[0].Reset != nil {
			break
		}
	}
	if first == p.reset {
		t.Fatal("there is one reset")
	}
	// Device b has gone on in a log of its own, from before the first reset, after it,
	// and after the second: the liar knows b's keys.
	clone := authorOf(t, p.b)
	fork := func(at commitlog.CommitID) lying.Log {
		return with(p.log[:at], clone.write(t, p.log[:at], "notes", "other", "history", nil))
	}
	// One that has all of it knows the resets, and they explain nothing.
	p.refuses(t, of(p.merged),
		attack{serves("an older log, and its reset", p.log[:first], first), commitlog.ErrRollback},
		attack{serves("an older log, and its second reset", p.log[:p.reset], p.reset), commitlog.ErrRollback},
		attack{serves("another log after the first reset", fork(first), first), commitlog.ErrFork},
		attack{serves("another log after the second reset", fork(p.reset), p.reset), commitlog.ErrFork},
		attack{serves("another log after the second reset, and the first", fork(p.reset), first), commitlog.ErrFork},
		attack{serves("the first reset again, at the end", with(p.log[:p.reset], p.log[first-1]), p.reset+1), commitlog.ErrFork},
		attack{reads("the first reset again, as the one at the end", p.log[:p.reset], p.reset, func(r uint32, _ []byte) []wire.Message {
			return bundles(r, lying.SetID(p.log[first-1], p.reset))
		}), commitlog.ErrRollback},
	)
	// One that has the lost log is shown true resets, in logs that are not theirs, or not
	// where they stand.
	for name, who := range map[string]victim{"lost": of(p.lost), "beyond": of(p.beyond)} {
		t.Run(name, func(t *testing.T) {
			p.refuses(t, who,
				attack{serves("the beginning, and the reset behind it", with(p.log[:p.kept], p.log[first-1]), commitlog.CommitID(p.kept+1)), commitlog.ErrFork},
				attack{reads("the log without its reset, which is shown", fork(first-1), first, func(r uint32, _ []byte) []wire.Message {
					return bundles(r, p.log[first-1])
				}), commitlog.ErrFork},
				attack{reads("the log up to the second reset, which is another, which is shown", fork(p.reset-1), p.reset, func(r uint32, _ []byte) []wire.Message {
					return bundles(r, p.log[p.reset-1])
				}), commitlog.ErrFork},
				attack{serves("the first reset in the second one's place", with(p.log[:p.reset-1], p.log[first-1]), p.reset), commitlog.ErrFork},
			)
		})
	}
	// To one whose log is the beginning, too: what is shown has to come.
	t.Run("acknowledged", func(t *testing.T) {
		p.refuses(t, of(p.acked),
			attack{reads("the log without its reset, which is shown", fork(first-1), first, func(r uint32, _ []byte) []wire.Message {
				return bundles(r, p.log[first-1])
			}), commitlog.ErrFork},
			attack{serves("the beginning, and the reset behind it", with(p.log[:p.kept], p.log[first-1]), commitlog.CommitID(p.kept+1)), commitlog.ErrControlFork},
			attack{serves("the first reset in the second one's place", with(p.log[:p.reset-1], p.log[first-1]), p.reset), commitlog.ErrControlFork},
		)
	})
}

// C16: a true reset is not enough: the log in which it stands has to have what the
// owner has decided before, and the history that is given up has to be the one
// that the owner has seen.
func TestC16NotTheOwnersWill(t *testing.T) {
	p := newParted(t, false)
	owner := authorityOf(p.vault.Root)
	statements := owner.opens(t, p.log[p.reset-1])

	// What an owner's faulty program may sign: a reset without what it has to repeat.
	var again []*commitlog.Statement
	for _, b := range p.log[p.kept:] {
		if parse(t, b).Commit.Header.Kind == commitlog.KindControl {
			for _, st := range owner.opens(t, b) {
				if st.AddDevice != nil {
					again = append(again, st)
				}
			}
		}
	}
	if len(again) != 1 {
		t.Fatalf("%d admissions are repeated", len(again))
	}
	late, err := device(t, p.late).Seed.Keys()
	fatal(t, err)
	narrow, err := keys.NewCertificate(p.vault.Root.Authority(), late, "late", []keys.ScopeEntry{{Tag: owner.tag("notes")}}, time.Now())
	fatal(t, err)
	over := lying.Log(p.log[:p.kept])
	without := with(over, owner.states(t, over, statements...))
	other := with(over, owner.states(t, over, append([]*commitlog.Statement{{AddDevice: &commitlog.AddDevice{Certificate: narrow, Grant: again[0].AddDevice.Grant}}}, statements...)...))
	shorter := *statements[0].Reset
	shorter.Leaves = shorter.Leaves[:len(shorter.Leaves)-1]
	less := *statements[0].Reset
	less.Kept--
	another := *statements[0].Reset
	another.Leaves = append(slices.Clone(another.Leaves[:len(another.Leaves)-1]), commitlog.Hash{1})
	end := commitlog.CommitID(p.kept + 1)
	reset := func(name string, r commitlog.Reset, want error) attack {
		l := with(over, owner.states(t, over, again[0], &commitlog.Statement{Reset: &r}))
		return attack{serves(name, l, end), want}
	}
	t.Run("lost", func(t *testing.T) {
		p.refuses(t, of(p.lost),
			attack{serves("without the admission", without, end), commitlog.ErrControlFork},
			attack{serves("with the admission, to less", other, end), commitlog.ErrControlFork},
			reset("of a log that has another last commit", another, commitlog.ErrControlFork),
			reset("of a log that begins elsewhere", less, commitlog.ErrControlFork),
			attack{serves("in two parts, of which one comes", with(over, owner.states(t, over, again[0], &commitlog.Statement{Reset: &commitlog.Reset{
				Kept: shorter.Kept, More: true, Leaves: shorter.Leaves,
			}})), end), commitlog.ErrControlFork},
			attack{serves("in two parts that do not follow", with(over, owner.states(t, over, again[0],
				&commitlog.Statement{Reset: &commitlog.Reset{Kept: shorter.Kept, More: true, Leaves: shorter.Leaves}},
				&commitlog.Statement{Reset: &commitlog.Reset{Kept: shorter.Kept, Leaves: statements[0].Reset.Leaves[:1]}})), end), commitlog.ErrControlFork},
			attack{serves("with the admission twice", with(over, owner.states(t, over, append([]*commitlog.Statement{again[0], again[0]}, statements...)...)), end), commitlog.ErrControlFork},
		)
	})
	// Where it is shown whole, and its blob does not come with the log.
	t.Run("withheld", func(t *testing.T) {
		b := parse(t, p.log[p.reset-1])
		b.Blobs[0] = nil
		bare := with(p.log[:p.reset-1], encode(b))
		bare = with(bare, p.log[p.reset:]...)
		shown := func(r uint32, _ []byte) []wire.Message { return bundles(r, p.log[p.reset-1]) }
		p.refuses(t, of(p.lost), attack{reads("shown, and not in the log", bare, p.reset, shown), commitlog.ErrOmission})
		p.refuses(t, of(p.beyond), attack{reads("shown, and not in the log", bare, p.reset, shown), commitlog.ErrOmission})
	})
	// A history that the secondary has shown to one device alone, and that the owner
	// never saw, is not given up by the reset of another one.
	t.Run("hidden", func(t *testing.T) {
		clone := authorOf(t, p.b)
		hidden := lying.Log(p.log[:p.kept])
		for i := range 3 {
			hidden = with(hidden, clone.write(t, hidden, "notes", "hidden", fmt.Sprint(i), nil))
			p.refusesOne(t, p.shown(p.began, hidden), attack{serves(fmt.Sprintf("%d commits", i+1), p.log, p.reset), commitlog.ErrControlFork})
		}
		// Also where it begins with the lost log.
		begun := p.lostLog[:p.kept+1]
		hidden = with(begun, clone.write(t, begun, "notes", "hidden", "1", nil))
		p.refusesOne(t, p.shown(p.began, hidden), attack{serves("after the first of the lost log", p.log, p.reset), commitlog.ErrControlFork})
	})
}

// C16: what was signed for the lost log comes into no log after the reset: neither what
// is written there anew, nor what was removed since.
func TestC16LostCommits(t *testing.T) {
	p := newParted(t, false)
	newest := make(map[keys.DeviceID]uint64) // sequence numbers in the log
	for _, b := range p.log {
		h := parse(t, b).Commit.Header
		newest[h.Device] = h.Seq
	}
	var attacks []attack
	orders := 0
	lost := with(p.lostLog, p.beyondLog[len(p.lostLog):]...)
	for _, b := range lost[p.kept:] {
		h := parse(t, b).Commit.Header
		want := commitlog.ErrEquivocation // its author has signed more for this log
		switch {
		case h.Seq <= newest[h.Device]:
		case h.SeenSize < uint64(p.reset):
			want = commitlog.ErrOrder
			orders++
		default:
			want = commitlog.ErrFork // it had seen the lost log, of that size
			orders++
		}
		attacks = append(attacks, attack{serves(fmt.Sprintf("commit %d", lying.ID(b)), with(p.log, b), p.reset), want})
	}
	if orders < 2 {
		t.Errorf("%d commits are refused by the reset alone", orders)
	}
	t.Run("merged", func(t *testing.T) { p.refuses(t, of(p.merged), attacks...) })
	t.Run("lost", func(t *testing.T) { p.refuses(t, of(p.lost), attacks...) })

	// Who signs over the log as it was before the reset is refused by it: also a device
	// of the vault that has seen it.
	b := authorOf(t, p.b)
	var stale []attack
	for seen := p.kept; seen < uint64(p.reset); seen++ {
		c := b.write(t, p.log, "notes", "removed", "back", func(h *commitlog.Header) { h.SeenSize, h.SeenRoot = seen, p.log.Root(seen) })
		stale = append(stale, attack{serves(fmt.Sprintf("seen %d commits", seen), with(p.log, c), p.reset), commitlog.ErrOrder})
	}
	c := b.write(t, p.log, "notes", "removed", "back", func(h *commitlog.Header) {
		h.SeenSize, h.SeenRoot = uint64(len(p.lostLog)), p.lostLog.Root(uint64(len(p.lostLog)))
	})
	want := commitlog.ErrFork // it had seen the lost log
	if len(p.lostLog) < int(p.reset) {
		want = commitlog.ErrOrder
	}
	stale = append(stale, attack{serves("seen the lost log", with(p.log, c), p.reset), want})
	t.Run("stale", func(t *testing.T) { p.refuses(t, of(p.merged), stale...) })
}

// C16: a floor is not dodged by a reset: only that of the lost log is met, and only by a
// log with the reset in it.
func TestC16Floor(t *testing.T) {
	p := newParted(t, false)
	before := lying.Log(p.log[:p.reset-1])
	truth := lying.Mutation{}
	check := func(name string, floor keyfile.Checkpoint, lie lying.Mutation, want error) {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, whole %v", name, whole), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := p.meet(t, restoringWith(floor, whole), lie)
					if !errors.Is(o.err, want) || (o.err == nil) != (want == nil) {
						t.Errorf("%v, want %v", o.err, want)
					}
					if want != nil && o.status.Enrolled {
						t.Error("something was signed")
					}
					if lie.Begin != nil && slices.Contains(o.heard, wire.TypeUpload) {
						t.Errorf("the secondary was told something afterwards: %v", o.heard)
					}
				})
			})
		}
	}
	check("the floor of the lost log", *p.floor, truth, nil)
	check("the log before the reset", *p.floor, serves("", before, 0), commitlog.ErrRollback)
	check("the log before the reset, and a commit of it as one", *p.floor, serves("", before, p.reset-1), commitlog.ErrRollback)
	check("the beginning", *p.floor, serves("", p.log[:p.kept], 0), commitlog.ErrRollback)
	clone := authorOf(t, p.b)
	for uint64(len(before)) <= p.floor.Size {
		before = with(before, clone.write(t, before, "notes", "more", "x", nil))
	}
	check("another log without a reset", *p.floor, serves("", before, 0), commitlog.ErrFork)
	at := func(l lying.Log, size uint64) func(*keyfile.Checkpoint) {
		return func(f *keyfile.Checkpoint) { f.Size, f.Root = size, l.Root(size) }
	}
	end := p.floor.Size
	for _, x := range []struct {
		name string
		edit func(f *keyfile.Checkpoint)
		want error // nil: it is met
	}{
		{"the lost log, shorter", at(p.lostLog, end-1), nil},
		{"the lost log, and one commit more", at(p.beyondLog, end+1), commitlog.ErrRollback},
		{"a third history", func(f *keyfile.Checkpoint) { f.Root[0] ^= 1 }, commitlog.ErrFork},
		{"the lost log at another size", func(f *keyfile.Checkpoint) { f.Size-- }, commitlog.ErrFork},
		{"far more commits", func(f *keyfile.Checkpoint) { f.Size += 1000 }, commitlog.ErrRollback},
		{"as many statements as come up to the reset", func(f *keyfile.Checkpoint) { f.Stated = p.stated() }, commitlog.ErrFork},
		{"one statement less than that", func(f *keyfile.Checkpoint) { f.Stated = p.stated() - 1 }, nil},
	} {
		floor := *p.floor
		x.edit(&floor)
		check(x.name, floor, truth, x.want)
	}
}

// stated returns how many statements stand up to and with the reset.
func (p *parted) stated() (n uint64) {
	for _, b := range p.log[:p.reset] {
		if c, err := commitlog.ParseBundle(b); err == nil && c.Commit.Header.Kind == commitlog.KindControl {
			n += uint64(len(c.Commit.Changes))
		}
	}
	return n
}
