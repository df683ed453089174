package commitlog_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// A world is a vault's log with authors that can sign anything, also what they
// should not.
type world struct {
	t         *testing.T
	db        *store.DB
	authority keys.Authority
	vault     keys.VaultID
	authors   map[string]*author
	size      uint64
}

type author struct {
	id   keys.DeviceID
	key  keys.SigningKey
	seq  uint64
	prev commitlog.Hash
}

var (
	ctlTag = keys.Tag{0xff}
	tagA   = keys.Tag{1}
	tagB   = keys.Tag{2}
)

// newWorld returns a log with its genesis commit and the devices a and b.
func newWorld(t *testing.T) *world {
	t.Helper()
	root := keys.GenerateRoot()
	w := &world{t: t, authority: root.Authority(), vault: root.VaultID(), authors: map[string]*author{}}
	db, err := store.Open(filepath.Join(t.TempDir(), "log.db"), store.Options{NoSync: true})
	fatal(t, err)
	t.Cleanup(func() { fatal(t, db.Close()) })
	w.db = db
	w.update(func(tx *store.Tx) error {
		_, err := tx.CreateLog("log", w.vault, w.authority.Public())
		return err
	})
	w.authors[""] = &author{key: w.authority.Sign}
	fatal(t, w.append("", ctlTag, commitlog.KindControl, put("")))
	for _, name := range []string{"a", "b"} {
		w.admit(name, nil)
	}
	return w
}

func (w *world) update(fn func(tx *store.Tx) error) {
	w.t.Helper()
	fatal(w.t, w.db.Update(fn))
}

// admit makes a device known, as a control commit would.
func (w *world) admit(name string, scope []keys.ScopeEntry) {
	w.t.Helper()
	a := &author{id: keys.DeviceID{name[0]}, key: keys.GenerateSigningKey()}
	w.authors[name] = a
	w.update(func(tx *store.Tx) error {
		l, err := tx.Log("log")
		if err != nil {
			return err
		}
		return l.SetAuthor(a.id, &commitlog.Author{Sign: a.key.Public(), Scope: scope})
	})
}

// blob returns bytes that a change can name, different for each text.
func blob(text string) []byte {
	b := sha256.Sum256([]byte(text))
	return bytes.Repeat(b[:], 11)[:commitlog.MinBlob]
}

func change(op commitlog.Op, text string, refs ...commitlog.Ref) commitlog.Change {
	b := blob(text)
	return commitlog.Change{Op: op, BlobHash: sha256.Sum256(b), BlobSize: uint32(len(b)), Refs: refs}
}

func put(text string, refs ...commitlog.Ref) commitlog.Change {
	return change(commitlog.OpPut, text, refs...)
}
func del(refs ...commitlog.Ref) commitlog.Change { return change(commitlog.OpDelete, "x", refs...) }
func restate(refs ...commitlog.Ref) commitlog.Change {
	return change(commitlog.OpRestate, "r", refs...)
}
func at(id uint64, index uint16) commitlog.Ref { return commitlog.Ref{At: id, Index: index} }
func own(seq uint64, index uint16) commitlog.Ref {
	return commitlog.Ref{Own: true, At: seq, Index: index}
}

// header returns what an honest author would sign now.
func (w *world) header(name string, tag keys.Tag, kind commitlog.Kind) commitlog.Header {
	w.t.Helper()
	a := w.authors[name]
	h := commitlog.Header{Kind: kind, Epoch: 1, Tag: tag, Device: a.id, Seq: a.seq + 1, PrevLeaf: a.prev}
	fatal(w.t, w.db.View(func(tx *store.Tx) error {
		l, err := tx.Log("log")
		if err != nil {
			return err
		}
		h.SeenSize = l.Size()
		h.SeenRoot, err = l.RootAt(l.Size())
		return err
	}))
	return h
}

// build signs a commit with the header as it is.
func (w *world) build(name string, h commitlog.Header, changes ...commitlog.Change) *commitlog.Commit {
	w.t.Helper()
	purpose := keys.PurposeCommit
	if h.Kind == commitlog.KindControl {
		purpose = keys.PurposeControl
	}
	c, err := commitlog.Build(h, changes, func(m []byte) [64]byte {
		return w.authors[name].key.Sign(purpose, w.vault, m)
	})
	fatal(w.t, err)
	return c
}

// try checks a commit and appends it if it holds.
func (w *world) try(name string, c *commitlog.Commit) error {
	w.t.Helper()
	var refused error
	w.update(func(tx *store.Tx) error {
		l, err := tx.Log("log")
		if err != nil {
			return err
		}
		e, err := commitlog.Check(l, c)
		var ce *commitlog.CommitError
		if errors.As(err, &ce) {
			refused = err
			return nil
		}
		if err != nil {
			return err
		}
		w.size = l.Size() + 1
		return l.Append(c, make([][]byte, len(c.Changes)), e, 1)
	})
	if refused == nil {
		a := w.authors[name]
		a.seq, a.prev = c.Header.Seq, c.Leaf()
	}
	return refused
}

func (w *world) append(name string, tag keys.Tag, kind commitlog.Kind, changes ...commitlog.Change) error {
	w.t.Helper()
	return w.try(name, w.build(name, w.header(name, tag, kind), changes...))
}

// data appends changes to namespace A and returns the commit's ID.
func (w *world) data(name string, changes ...commitlog.Change) uint64 {
	w.t.Helper()
	fatal(w.t, w.append(name, tagA, commitlog.KindData, changes...))
	return w.size
}

// live returns the live changes of namespace A.
func (w *world) live() (out []commitlog.ChangeID) {
	w.t.Helper()
	fatal(w.t, w.db.View(func(tx *store.Tx) error {
		l, err := tx.Log("log")
		if err != nil {
			return err
		}
		return l.EachLive(tagA, func(id commitlog.ChangeID) error {
			out = append(out, id)
			return nil
		})
	}))
	return out
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
