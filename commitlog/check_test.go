package commitlog_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// follows returns a commit of a that claims to follow the nth newest of its commits.
func follows(w *world, n int) (string, *commitlog.Commit) {
	w.t.Helper()
	w.data("a", put("followed"))
	leaf := w.authors["a"].prev
	for i := range n - 1 {
		w.data("a", put(fmt.Sprint("later ", i)))
	}
	h := w.header("a", tagA, commitlog.KindData)
	h.PrevLeaf = leaf
	return "a", w.build("a", h, put("4"))
}

// TestCheckRefuses breaks one rule at a time. Each case first appends an honest
// commit by a, number 2, with two puts.
func TestCheckRefuses(t *testing.T) {
	tests := []struct {
		name string
		want error
		// make returns the commit to try and the author who signs it.
		make func(w *world) (string, *commitlog.Commit)
	}{
		{"honest", nil, func(w *world) (string, *commitlog.Commit) {
			return "a", w.build("a", w.header("a", tagA, commitlog.KindData), put("3"))
		}},
		{"unknown signer", commitlog.ErrUnknownSigner, func(w *world) (string, *commitlog.Commit) {
			w.authors["z"] = &author{id: keys.DeviceID{'z'}, key: keys.GenerateSigningKey()}
			return "z", w.build("z", w.header("z", tagA, commitlog.KindData), put("3"))
		}},
		{"control commit of a device's making", commitlog.ErrSignature, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", ctlTag, commitlog.KindControl)
			h.Device, h.Seq, h.PrevLeaf = keys.DeviceID{}, 2, w.authors[""].prev
			return "a", w.build("a", h, put("3"))
		}},
		{"data in the control log", commitlog.ErrMalformed, func(w *world) (string, *commitlog.Commit) {
			return "a", w.build("a", w.header("a", ctlTag, commitlog.KindData), put("3"))
		}},
		{"control in a namespace", commitlog.ErrMalformed, func(w *world) (string, *commitlog.Commit) {
			return "", w.build("", w.header("", tagA, commitlog.KindControl), put("3"))
		}},
		{"another's key", commitlog.ErrSignature, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			return "b", w.build("b", h, put("3"))
		}},
		{"another vault's signature", commitlog.ErrSignature, func(w *world) (string, *commitlog.Commit) {
			other := *w
			other.vault = keys.VaultID{1}
			return "a", other.build("a", w.header("a", tagA, commitlog.KindData), put("3"))
		}},
		{"read-only device", commitlog.ErrScope, func(w *world) (string, *commitlog.Commit) {
			w.admit("r", []keys.ScopeEntry{{Tag: tagA}})
			return "r", w.build("r", w.header("r", tagA, commitlog.KindData), put("3"))
		}},
		{"outside its scope", commitlog.ErrScope, func(w *world) (string, *commitlog.Commit) {
			w.admit("r", []keys.ScopeEntry{{Tag: tagA, Write: true}})
			return "r", w.build("r", w.header("r", tagB, commitlog.KindData), put("3"))
		}},
		{"sequence number again", commitlog.ErrEquivocation, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			h.Seq--
			return "a", w.build("a", h, put("3"))
		}},
		{"two first commits", commitlog.ErrEquivocation, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			h.PrevLeaf = commitlog.Hash{}
			return "a", w.build("a", h, put("3"))
		}},
		{"an older leaf", commitlog.ErrEquivocation, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			w.data("a", put("3"))
			h2 := w.header("a", tagA, commitlog.KindData)
			h2.PrevLeaf = h.PrevLeaf
			return "a", w.build("a", h2, put("4"))
		}},
		{"the oldest leaf that is looked for", commitlog.ErrEquivocation, func(w *world) (string, *commitlog.Commit) {
			return follows(w, commitlog.RecentNumbers)
		}},
		{"a leaf that is older", commitlog.ErrOmission, func(w *world) (string, *commitlog.Commit) {
			return follows(w, commitlog.RecentNumbers+1)
		}},
		{"a commit left out", commitlog.ErrOmission, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			h.PrevLeaf = commitlog.Hash{1}
			return "a", w.build("a", h, put("3"))
		}},
		{"seen size of the future", commitlog.ErrOrder, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			h.SeenSize++
			return "a", w.build("a", h, put("3"))
		}},
		{"seen size goes back", commitlog.ErrOrder, func(w *world) (string, *commitlog.Commit) {
			w.data("a", put("3"))
			h := w.header("a", tagA, commitlog.KindData)
			h.SeenSize = 1
			return "a", w.build("a", h, put("4"))
		}},
		{"nothing seen", commitlog.ErrOrder, func(w *world) (string, *commitlog.Commit) {
			h := w.header("b", tagA, commitlog.KindData)
			h.SeenSize, h.SeenRoot = 0, commitlog.EmptyRoot
			return "b", w.build("b", h, put("3"))
		}},
		{"another history", commitlog.ErrFork, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			h.SeenRoot[0] ^= 1
			return "a", w.build("a", h, put("3"))
		}},
		{"another epoch", commitlog.ErrEpoch, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			h.Epoch = 2
			return "a", w.build("a", h, put("3"))
		}},
		{"serialised, too late", commitlog.ErrOrder, func(w *world) (string, *commitlog.Commit) {
			h := w.header("b", tagA, commitlog.KindSerialised)
			w.data("a", put("3"))
			return "b", w.build("b", h, put("4"))
		}},
		{"serialised, in time", nil, func(w *world) (string, *commitlog.Commit) {
			return "b", w.build("b", w.header("b", tagA, commitlog.KindSerialised), put("3"))
		}},
		{"data, late but seen", nil, func(w *world) (string, *commitlog.Commit) {
			h := w.header("b", tagA, commitlog.KindData)
			w.data("a", put("3"))
			return "b", w.build("b", h, put("4"))
		}},
		{"ref to nothing", commitlog.ErrMalformed, func(w *world) (string, *commitlog.Commit) {
			return "a", w.build("a", w.header("a", tagA, commitlog.KindData), put("3", at(2, 7)))
		}},
		{"ref to another namespace", commitlog.ErrScope, func(w *world) (string, *commitlog.Commit) {
			return "b", w.build("b", w.header("b", tagB, commitlog.KindData), put("3", at(2, 0)))
		}},
		{"ref to a delete", commitlog.ErrMalformed, func(w *world) (string, *commitlog.Commit) {
			w.data("a", del(at(2, 0)))
			return "a", w.build("a", w.header("a", tagA, commitlog.KindData), put("4", at(3, 0)))
		}},
		{"own ref to nothing", commitlog.ErrMalformed, func(w *world) (string, *commitlog.Commit) {
			h := w.header("a", tagA, commitlog.KindData)
			h.Seq = 9
			return "a", w.build("a", h, put("3", own(5, 0)))
		}},
		{"own ref to what it had seen", commitlog.ErrMalformed, func(w *world) (string, *commitlog.Commit) {
			return "a", w.build("a", w.header("a", tagA, commitlog.KindData), put("3", own(1, 0)))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.data("a", put("1"), put("2"))
			name, c := tt.make(w)
			before := w.live()
			err := w.try(name, c)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil && !slices.Equal(w.live(), before) {
				t.Error("a refused commit changed what is live")
			}
		})
	}
}

// What no author may write, whatever the log holds, does not even build.
func TestBuildRefuses(t *testing.T) {
	w := newWorld(t)
	h := w.header("a", tagA, commitlog.KindData)
	with := func(f func(h *commitlog.Header)) commitlog.Header { g := h; f(&g); return g }
	big := put("x")
	big.BlobSize = commitlog.MaxBlob + 1
	object := del(at(1, 0))
	object.ObjectSize = 1000
	many := make([]commitlog.Change, 150)
	for i := range many {
		many[i] = put("x")
		many[i].BlobSize = commitlog.MaxBlob
	}
	tests := []struct {
		name    string
		h       commitlog.Header
		want    error
		changes []commitlog.Change
	}{
		{"no changes", h, commitlog.ErrLimit, nil},
		{"kind 4", with(func(h *commitlog.Header) { h.Kind = 4 }), commitlog.ErrVersion, []commitlog.Change{put("x")}},
		{"epoch 0", with(func(h *commitlog.Header) { h.Epoch = 0 }), commitlog.ErrLimit, []commitlog.Change{put("x")}},
		{"epoch too large", with(func(h *commitlog.Header) { h.Epoch = 1 << 31 }), commitlog.ErrLimit, []commitlog.Change{put("x")}},
		{"sequence number 0", with(func(h *commitlog.Header) { h.Seq = 0 }), commitlog.ErrMalformed, []commitlog.Change{put("x")}},
		{"log too large", with(func(h *commitlog.Header) { h.SeenSize = 1 << 40 }), commitlog.ErrLimit, []commitlog.Change{put("x")}},
		{"device and control", with(func(h *commitlog.Header) { h.Kind = commitlog.KindControl }), commitlog.ErrMalformed, []commitlog.Change{put("x")}},
		{"op 4", h, commitlog.ErrVersion, []commitlog.Change{change(4, "x")}},
		{"delete of nothing", h, commitlog.ErrMalformed, []commitlog.Change{del()}},
		{"restate of nothing", h, commitlog.ErrMalformed, []commitlog.Change{restate()}},
		{"delete with an object", h, commitlog.ErrMalformed, []commitlog.Change{object}},
		{"restate beside a delete", h, commitlog.ErrMalformed, []commitlog.Change{restate(at(1, 0)), del(at(1, 0))}},
		{"restate with an own ref", with(func(h *commitlog.Header) { h.Seq = 5 }), commitlog.ErrMalformed, []commitlog.Change{restate(own(1, 0))}},
		{"restate with refs of both forms", with(func(h *commitlog.Header) { h.Seq = 5 }), commitlog.ErrMalformed, []commitlog.Change{restate(at(1, 0), own(1, 0))}},
		{"refs not ascending", h, commitlog.ErrMalformed, []commitlog.Change{put("x", at(1, 1), at(1, 0))}},
		{"refs twice", h, commitlog.ErrMalformed, []commitlog.Change{put("x", at(1, 0), at(1, 0))}},
		{"own ref before a ref", h, commitlog.ErrMalformed, []commitlog.Change{put("x", own(1, 0), at(1, 0))}},
		{"ref to commit 0", h, commitlog.ErrMalformed, []commitlog.Change{put("x", at(0, 0))}},
		{"ref above the seen size", h, commitlog.ErrMalformed, []commitlog.Change{put("x", at(2, 0))}},
		{"own ref to itself", h, commitlog.ErrMalformed, []commitlog.Change{put("x", own(1, 0))}},
		{"blob too large", h, commitlog.ErrLimit, []commitlog.Change{big}},
		{"commit too large", h, commitlog.ErrLimit, many},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := commitlog.Build(tt.h, tt.changes, func([]byte) [64]byte { return [64]byte{} })
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func ids(pairs ...uint64) (out []commitlog.ChangeID) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, commitlog.ChangeID{Commit: commitlog.CommitID(pairs[i]), Index: uint16(pairs[i+1])})
	}
	return out
}

func TestLiveness(t *testing.T) {
	tests := []struct {
		name string
		do   func(w *world)
		want []commitlog.ChangeID
	}{
		{"puts", func(w *world) { w.data("a", put("1"), put("2")) }, ids(2, 0, 2, 1)},
		{"a put supersedes", func(w *world) {
			w.data("a", put("1"))
			w.data("b", put("2", at(2, 0)))
		}, ids(3, 0)},
		{"a delete ends", func(w *world) {
			w.data("a", put("1"))
			w.data("b", del(at(2, 0)))
		}, nil},
		{"concurrent puts are siblings", func(w *world) {
			w.data("a", put("1"))
			hb := w.header("b", tagA, commitlog.KindData)
			w.data("a", put("2", at(2, 0)))
			fatal(w.t, w.try("b", w.build("b", hb, put("3", at(2, 0)))))
		}, ids(3, 0, 4, 0)},
		{"an edit survives a concurrent delete", func(w *world) {
			w.data("a", put("1"))
			hb := w.header("b", tagA, commitlog.KindData)
			w.data("a", del(at(2, 0)))
			fatal(w.t, w.try("b", w.build("b", hb, put("3", at(2, 0)))))
		}, ids(4, 0)},
		{"pipelined own changes", func(w *world) {
			h := w.header("a", tagA, commitlog.KindData)
			w.data("a", put("1"))
			h.Seq, h.PrevLeaf = 2, w.authors["a"].prev
			fatal(w.t, w.try("a", w.build("a", h, put("2", own(1, 0)))))
		}, ids(3, 0)},
		{"a restate supersedes", func(w *world) {
			w.data("a", put("1"), put("2"))
			w.data("b", restate(at(2, 0), at(2, 1)))
		}, ids(3, 0)},
		{"a restate of what is gone is void", func(w *world) {
			w.data("a", put("1"), put("2"))
			hb := w.header("b", tagA, commitlog.KindData)
			w.data("a", put("3", at(2, 0)))
			fatal(w.t, w.try("b", w.build("b", hb, restate(at(2, 0), at(2, 1)))))
		}, ids(2, 1, 3, 0)},
		{"an edit by one who never saw the restate covers it", func(w *world) {
			w.data("a", put("1"), put("2"))
			ha := w.header("a", tagA, commitlog.KindData)
			w.data("b", restate(at(2, 0), at(2, 1)))
			fatal(w.t, w.try("a", w.build("a", ha, put("3", at(2, 0), at(2, 1)))))
		}, ids(4, 0)},
		{"two changes of one commit cover it together", func(w *world) {
			w.data("a", put("1"), put("2"))
			ha := w.header("a", tagA, commitlog.KindData)
			w.data("b", restate(at(2, 0), at(2, 1)))
			fatal(w.t, w.try("a", w.build("a", ha, put("3", at(2, 0)), del(at(2, 1)))))
		}, ids(4, 0)},
		{"an edit of half of it does not", func(w *world) {
			w.data("a", put("1"), put("2"))
			ha := w.header("a", tagA, commitlog.KindData)
			w.data("b", restate(at(2, 0), at(2, 1)))
			fatal(w.t, w.try("a", w.build("a", ha, put("3", at(2, 0)))))
		}, ids(3, 0, 4, 0)},
		{"not through two levels", func(w *world) {
			w.data("a", put("1"))
			ha := w.header("a", tagA, commitlog.KindData)
			w.data("b", restate(at(2, 0)))
			w.data("b", restate(at(3, 0)))
			fatal(w.t, w.try("a", w.build("a", ha, put("2", at(2, 0)))))
		}, ids(4, 0, 5, 0)},
		{"two changes of one commit name one", func(w *world) {
			w.data("a", put("1"))
			w.data("b", put("2", at(2, 0)), put("3", at(2, 0)))
		}, ids(3, 0, 3, 1)},
		{"a restate after a put of the same commit is void", func(w *world) {
			w.data("a", put("1"))
			w.data("b", put("2", at(2, 0)), restate(at(2, 0)))
		}, ids(3, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.do(w)
			if got := w.live(); !slices.Equal(got, tt.want) {
				t.Errorf("live: %v, want %v", got, tt.want)
			}
		})
	}
}
