package attacks_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
)

// parse parses an encoded bundle of the scene.
func parse(t testing.TB, bundle []byte) *commitlog.Bundle {
	t.Helper()
	b, err := commitlog.ParseBundle(slices.Clone(bundle))
	fatal(t, err)
	return b
}

func encode(b *commitlog.Bundle) []byte {
	data, _ := b.AppendBinary(nil) // it has no errors
	return data
}

// one returns a single bundle as what comes in the place of one.
func one(b []byte) [][]byte { return [][]byte{b} }

// hide leaves a commit out and closes the gap in the numbers.
func hide(id commitlog.CommitID) lying.Mutation {
	return lying.Commits("", func(items []wire.Item) []wire.Item {
		first := lying.ID(items[0].Data)
		rest := slices.DeleteFunc(items, func(i wire.Item) bool { return lying.ID(i.Data) == id })
		return lying.Renumber(rest, first)
	}).Named("hide commit %d", id)
}

// drop leaves a commit out.
func drop(id commitlog.CommitID) lying.Mutation {
	return lying.Commit("drop", id, func([]byte) [][]byte { return nil })
}

// swap exchanges two commits, with their numbers or without.
func swap(i, j commitlog.CommitID, renumber bool) lying.Mutation {
	return lying.Commits("", func(items []wire.Item) []wire.Item {
		first := lying.ID(items[0].Data)
		items[i-first], items[j-first] = items[j-first], items[i-first]
		if renumber {
			return lying.Renumber(items, first)
		}
		return items
	}).Named("swap commits %d and %d, renumbered %v", i, j, renumber)
}

// without leaves the blob of a change out of its commit, and denies to have it.
func without(t testing.TB, s *scene, id commitlog.CommitID, index int) lying.Mutation {
	return lying.Both(fmt.Sprintf("without the blob of change %d.%d", id, index),
		lying.Commit("", id, func(data []byte) [][]byte {
			b := parse(t, data)
			b.Blobs[index] = nil
			return one(encode(b))
		}),
		lying.Answer("deny", func(m *wire.Fetch) []wire.Message {
			if m.Commit != id || int(m.Index) != index || m.Object {
				return nil
			}
			return []wire.Message{&wire.Blobs{Request: m.Request, Absent: true}}
		}))
}

// C1: a device that knows more is not shown less, nor something else of that size.
func TestC1Rollback(t *testing.T) {
	s := newScene(t)
	var attacks []attack
	for _, size := range []commitlog.CommitID{0, 1, s.known / 2, s.known - 1} {
		attacks = append(attacks, attack{lying.Serve(fmt.Sprintf("the first %d commits", size), s.log[:size]), commitlog.ErrRollback})
	}
	// A clone of a device has written something else: signed, and never in the log.
	clone := authorOf(t, s.b)
	for _, at := range s.positionsBelow(s.known) {
		fork := with(s.log[:at-1], clone.write(t, s.log[:at-1], "notes", "other", "history", nil))
		for uint64(len(fork)) < uint64(s.known) {
			fork = with(fork, clone.write(t, fork, "notes", "other", "more", nil))
		}
		attacks = append(attacks,
			attack{lying.Serve(fmt.Sprintf("another log of that size, from commit %d on", at), fork), commitlog.ErrFork},
			attack{lying.Serve(fmt.Sprintf("another log that is longer, from commit %d on", at), with(fork, clone.write(t, fork, "notes", "x", "y", nil))), commitlog.ErrFork},
			attack{lying.Serve(fmt.Sprintf("another log that is shorter, from commit %d on", at), fork[:at]), commitlog.ErrFork},
		)
	}
	attacks = append(attacks,
		attack{lying.Change("one commit less, the root left as it was", 1, func(b *wire.Bound) { b.Size = uint64(s.known) - 1 }), commitlog.ErrFork},
		attack{lying.Change("an empty log, the root left as it was", 1, func(b *wire.Bound) { b.Size = 0 }), commitlog.ErrFork},
		attack{lying.Change("another root", 1, func(b *wire.Bound) { b.Root[31] ^= 1 }), commitlog.ErrFork},
		attack{lying.Change("no root", 1, func(b *wire.Bound) { b.Root = commitlog.Hash{} }), commitlog.ErrFork},
		attack{lying.Change("the root of nothing", 1, func(b *wire.Bound) { b.Root = commitlog.EmptyRoot }), commitlog.ErrFork},
		attack{lying.Change("the root of the whole log", 1, func(b *wire.Bound) { b.Root = s.log.Root(b.Size) }), commitlog.ErrFork},
	)
	s.try(t, known, attacks...)
}

// positionsBelow returns the second, a middle and the last commit ID up to one.
func (s *scene) positionsBelow(id commitlog.CommitID) []commitlog.CommitID {
	return []commitlog.CommitID{4, 5, id} // before them the clone is not admitted
}

// C3: what is left out of the log is missed, whatever it is.
func TestC3Omission(t *testing.T) {
	s := newScene(t)
	var attacks []attack
	for id := s.known + 1; id < s.last(); id++ {
		attacks = append(attacks, attack{drop(id), commitlog.ErrOmission})
	}
	attacks = append(attacks,
		// By the order of whoever wrote next: its previous commit, its position,
		// or the log that it had seen.
		attack{hide(s.known + 1), commitlog.ErrOmission},
		attack{hide(s.known + 2), commitlog.ErrOmission},
		attack{hide(s.known + 4), commitlog.ErrOrder},
		attack{hide(s.known + 6), commitlog.ErrOrder},
		attack{hide(s.known + 7), commitlog.ErrUnknownSigner}, // that admits the author of the next
		attack{lying.Drop(wire.TypeDownload, 1), wire.ErrTimeout},
		attack{lying.Drop(wire.TypeBound, 1), wire.ErrProtocol},
		attack{lying.Silence(wire.TypeBound, 1), wire.ErrUnreachable},
		attack{lying.Silence(wire.TypeDownload, 1), wire.ErrUnreachable},
	)
	// Changes, and what is in them.
	for _, id := range s.positions() {
		attacks = append(attacks,
			attack{lying.Commit("drop the last byte", id, func(b []byte) [][]byte { return one(b[:len(b)-1]) }), commitlog.ErrMalformed},
			attack{lying.Commit("drop all blobs' bytes", id, func(b []byte) [][]byte {
				p := parse(t, b)
				n := 0
				for _, blob := range p.Blobs {
					n += len(blob)
				}
				return one(b[:len(b)-n])
			}), commitlog.ErrMalformed},
		)
	}
	s.try(t, known, attacks...)

	// The tail comes never, so it is waited for.
	s.tryPartly(t, known,
		attack{drop(s.last()), wire.ErrTimeout},
		attack{lying.Commits("drop all but the first", func(items []wire.Item) []wire.Item { return items[:1] }), wire.ErrTimeout},
	)

	s.try(t, restoring,
		attack{drop(1), commitlog.ErrOmission},
		attack{hide(1), commitlog.ErrOmission},
		attack{hide(2), commitlog.ErrOmission},
		attack{hide(3), commitlog.ErrOrder},
	)
}

// C3, C4: a live change must have its content, whether it is left out or called
// outdated.
func TestC4LiveContentWithheld(t *testing.T) {
	s := newScene(t)
	object := func(name string, f func(m *wire.Fetch) []wire.Message) lying.Mutation {
		return lying.Answer(name, func(m *wire.Fetch) []wire.Message {
			if !m.Object {
				return nil
			}
			return f(m)
		})
	}
	absent := func(m *wire.Fetch) []wire.Message {
		return []wire.Message{&wire.Blobs{Request: m.Request, Absent: true}}
	}
	s.tryPartly(t, known,
		attack{without(t, s, 8, 1), commitlog.ErrOmission}, // first, middle and last of a transaction, and of the log
		attack{without(t, s, 8, 2), commitlog.ErrOmission},
		attack{without(t, s, 9, 0), commitlog.ErrOmission},
		attack{without(t, s, s.last(), 0), commitlog.ErrOmission},
		attack{object("without the object", absent), commitlog.ErrOmission},
		attack{object("the object is not found", func(m *wire.Fetch) []wire.Message {
			e := wire.NewError(wire.CodeNotFound, "")
			e.Request = m.Request
			return []wire.Message{e}
		}), wire.ErrNotFound},
		attack{object("another object", func(m *wire.Fetch) []wire.Message {
			return []wire.Message{&wire.Blobs{Request: m.Request, Size: uint64(m.Length), Data: make([]byte, m.Length)}}
		}), commitlog.ErrBlob},
		attack{object("a longer object", func(m *wire.Fetch) []wire.Message {
			return []wire.Message{&wire.Blobs{Request: m.Request, Size: uint64(m.Length) + 1, Data: make([]byte, m.Length)}}
		}), commitlog.ErrBlob},
		attack{object("an empty object", func(m *wire.Fetch) []wire.Message {
			return []wire.Message{&wire.Blobs{Request: m.Request}}
		}), commitlog.ErrBlob},
		attack{object("no answer", func(m *wire.Fetch) []wire.Message { return []wire.Message{} }), wire.ErrTimeout},
		attack{object("the answer to another request", func(m *wire.Fetch) []wire.Message {
			return []wire.Message{&wire.Blobs{Request: m.Request + 1, Absent: true}}
		}), wire.ErrProtocol},
		// What would supersede it is announced, and never comes.
		attack{lying.Both("called superseded by what never comes",
			lying.Change("", lying.All, func(d *wire.Download) { d.Size++ }),
			object("", absent)), wire.ErrTimeout},
	)

	// A change that supersedes it is forged, in its own namespace or in another,
	// directly or by one that supersedes that.
	b, victim := stranger(authorOf(t, s.b)), authorOf(t, s.b)
	victim.sign = b.sign // the right name, and the wrong key
	hides := func(a *author, namespace string, refs ...commitlog.Ref) []byte {
		c, blob := a.put(t, namespace, "big", "hidden", refs...)
		return a.commit(t, s.log, namespace, []commitlog.Change{c}, [][]byte{blob}, nil)
	}
	big := commitlog.Ref{At: 9}
	level1 := hides(victim, "notes", big)
	c, blob := victim.put(t, "notes", "big", "again", commitlog.Ref{At: uint64(s.last()) + 1})
	level2 := victim.commit(t, with(s.log, level1), "notes", []commitlog.Change{c}, [][]byte{blob}, nil)
	s.try(t, known,
		attack{lying.ServeSilently("superseded by a stranger", with(s.log, hides(b, "notes", big))), commitlog.ErrUnknownSigner},
		attack{lying.ServeSilently("superseded by a forged commit", with(s.log, level1)), commitlog.ErrSignature},
		attack{lying.ServeSilently("superseded twice by forged commits", with(s.log, level1, level2)), commitlog.ErrSignature},
		attack{lying.ServeSilently("superseded from another namespace", with(s.log, hides(authorOf(t, s.b), "tasks", big))), commitlog.ErrScope},
	)
}

// C5: the order of the log is what its authors saw.
func TestC5Order(t *testing.T) {
	s := newScene(t)
	var attacks []attack
	for i := s.known + 1; i < s.last(); i++ {
		for _, j := range []commitlog.CommitID{i + 1, s.last()} {
			if i == j || j == i+1 && j == s.last() && slices.ContainsFunc(attacks, func(a attack) bool { return a.lie.Name == swap(i, j, false).Name }) {
				continue
			}
			attacks = append(attacks, attack{swap(i, j, false), commitlog.ErrOmission})
		}
	}
	attacks = append(attacks,
		attack{swap(7, 8, true), commitlog.ErrOmission},
		attack{swap(7, s.last(), true), commitlog.ErrOmission},
		attack{swap(9, 10, true), commitlog.ErrOrder},
		attack{swap(13, 14, true), commitlog.ErrUnknownSigner},
	)
	// Both of two that booked one place.
	a, b := authorOf(t, s.a), authorOf(t, s.b)
	serialised := func(h *commitlog.Header) { h.Kind = commitlog.KindSerialised }
	first, second := a.write(t, s.log, "notes", "room", "a", serialised), b.write(t, s.log, "notes", "room", "b", serialised)
	attacks = append(attacks,
		attack{lying.ServeSilently("two at one place", with(s.log, first, second)), commitlog.ErrOrder},
		attack{lying.ServeSilently("two at one place, the other first", with(s.log, second, first)), commitlog.ErrOrder},
		attack{lying.ServeSilently("one that is late", with(s.log, b.write(t, s.log, "notes", "x", "4", nil), first)), commitlog.ErrOrder},
		attack{lying.ServeSilently("one that has seen what is not there yet", with(s.log, a.write(t, with(s.log, first), "notes", "x", "4", nil))), commitlog.ErrOmission},
	)
	for _, id := range s.positions() {
		attacks = append(attacks, attack{lying.Commit("repeat", id, func(b []byte) [][]byte { return [][]byte{b, b} }), commitlog.ErrOmission})
		attacks = append(attacks, attack{lying.Commit("repeat under the next number", id, func(b []byte) [][]byte {
			return [][]byte{b, lying.SetID(b, id+1)}
		}), commitlog.ErrEquivocation})
		attacks = append(attacks, attack{lying.Commit("the first again", id, func(b []byte) [][]byte {
			return [][]byte{lying.SetID(s.log[3], id)}
		}), commitlog.ErrEquivocation})
	}
	attacks = append(attacks, attack{lying.Repeat(wire.TypeDownload, 1), commitlog.ErrOmission})
	s.tryPartly(t, known, attacks[len(attacks)-1])
	s.try(t, known, attacks[:len(attacks)-1]...)
}

// C6: a commit that was written over another history is refused, wherever the
// histories parted.
func TestC6ForkedCommit(t *testing.T) {
	s := newScene(t)
	b := authorOf(t, s.b)
	var attacks []attack
	for _, at := range s.positions() {
		// b has seen a log in which this commit is another.
		other := with(s.log[:at-1], authorOf(t, s.a).write(t, s.log[:at-1], "notes", "x", "of the other history", nil))
		other = with(other, s.log[at:]...)
		across := b.write(t, s.log, "notes", "x", "across", func(h *commitlog.Header) {
			h.SeenRoot = other.Root(h.SeenSize)
		})
		attacks = append(attacks, attack{lying.ServeSilently(fmt.Sprintf("across a fork at commit %d", at), with(s.log, across)), commitlog.ErrFork})
	}
	// It knows of a commit of its own that is not in this log.
	gone := with(s.log, b.write(t, s.log, "notes", "x", "gone", nil))
	next := b.write(t, gone, "notes", "x", "next", nil)
	attacks = append(attacks,
		attack{lying.ServeSilently("without the author's commit before", with(s.log, next)), commitlog.ErrOmission},
		attack{lying.ServeSilently("with another commit of the author before", with(s.log, b.write(t, s.log, "notes", "x", "instead", nil), next)), commitlog.ErrOmission},
	)
	s.try(t, known, attacks...)
}

// C11: nothing that a filter lets through can be hidden from a device that filters.
func TestC11Filtered(t *testing.T) {
	s := newScene(t)
	s.try(t, selecting,
		attack{drop(7), commitlog.ErrOmission},
		attack{drop(9), commitlog.ErrOmission},
		attack{drop(14), commitlog.ErrOmission},
		attack{drop(10), commitlog.ErrOmission}, // of what it does not keep
		attack{hide(8), commitlog.ErrOmission},
	)
	s.tryPartly(t, selecting,
		attack{without(t, s, 8, 1), commitlog.ErrOmission},
		attack{without(t, s, s.last(), 0), commitlog.ErrOmission},
	)
}

// C13, C2: what a header claims about the log is checked against it.
func TestHeaderClaims(t *testing.T) {
	s := newScene(t)
	b := authorOf(t, s.b)
	claim := func(name string, want error, edit func(h *commitlog.Header)) attack {
		return attack{lying.ServeSilently(name, with(s.log, b.write(t, s.log, "notes", "x", "4", edit))), want}
	}
	s.try(t, known,
		claim("the next epoch", commitlog.ErrEpoch, func(h *commitlog.Header) { h.Epoch = 2 }),
		claim("the last epoch", commitlog.ErrEpoch, func(h *commitlog.Header) { h.Epoch = commitlog.MaxEpoch - 1 }),
		claim("seen more than there is", commitlog.ErrOrder, func(h *commitlog.Header) { h.SeenSize++ }),
		claim("seen less than before", commitlog.ErrOrder, func(h *commitlog.Header) { h.SeenSize, h.SeenRoot = 2, s.log.Root(2) }),
		claim("seen nothing", commitlog.ErrOrder, func(h *commitlog.Header) { h.SeenSize, h.SeenRoot = 0, commitlog.EmptyRoot }),
		claim("another root", commitlog.ErrFork, func(h *commitlog.Header) { h.SeenRoot[0] ^= 1 }),
		claim("an old sequence number", commitlog.ErrEquivocation, func(h *commitlog.Header) { h.Seq = 1 }),
		claim("no previous commit", commitlog.ErrEquivocation, func(h *commitlog.Header) { h.PrevLeaf = commitlog.Hash{} }),
		claim("another previous commit", commitlog.ErrOmission, func(h *commitlog.Header) { h.PrevLeaf[5] ^= 1 }),
		claim("the control log", commitlog.ErrMalformed, func(h *commitlog.Header) { h.Tag = b.tag(keys.ControlNamespace) }),
	)
}

// flipLast changes a byte of the blob of the commit after the scene's last.
func (s *scene) flipLast() lying.Mutation {
	return lying.Commit("change", s.last()+1, func(b []byte) [][]byte {
		b[len(b)-1] ^= 1
		return one(b)
	})
}
