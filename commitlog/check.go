package commitlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kistvault/kist/keys"
)

// An Author is what the log knows of one that may sign commits: a device, or
// the authority (device id zero).
type Author struct {
	Sign    keys.VerifyKey    // signs its commits
	Auth    keys.VerifyKey    // signs in at the secondary; Check does not use it
	Scope   []keys.ScopeEntry // nil: everything
	Revoked CommitID          // the commit that revoked it; 0: not revoked

	// The author's newest commit in the log; zeros: none yet.
	LastSeq  uint64
	LastLeaf Hash
	LastSeen uint64 // its seen size
}

// MayWrite reports whether the author may write to the namespace.
func (a *Author) MayWrite(tag keys.Tag) bool {
	if a.Scope == nil {
		return true
	}
	for _, s := range a.Scope {
		if s.Tag == tag {
			return s.Write
		}
	}
	return false
}

// A ChangeInfo is what the log knows of one change in it.
type ChangeInfo struct {
	Tag  keys.Tag
	Op   Op
	Live bool
}

// State is the verified log that a commit is checked against: what [Check]
// reads. Errors are those of the storage; absence is not an error.
type State interface {
	Vault() keys.VaultID
	// Size is the number of commits in the log.
	Size() uint64
	// Base is the size that a checkpoint vouched for and whose commits are not
	// all here; 0: they are. Below it, Change and OwnCommit know what is live.
	Base() uint64
	// BaseSeq returns the author's last sequence number at the base, 0 for none.
	BaseSeq(id keys.DeviceID) uint64
	// RootAt returns the Merkle root of the first size commits; size ≤ Size. Below
	// the base it knows those that were proven.
	RootAt(size uint64) (Hash, error)
	// ControlTag is the tag of the control log, zero before commit 1.
	ControlTag() (keys.Tag, error)
	// Author returns nil for one that is not known. The authority is always known.
	Author(id keys.DeviceID) (*Author, error)
	// EpochAt returns the epoch in force after the first size commits, from 1.
	EpochAt(size uint64) (uint32, error)
	// NewestReset returns the newest commit with a reset statement, 0 for none.
	NewestReset() (CommitID, error)
	// OwnCommit returns the commit with the author's sequence number, 0 for none.
	OwnCommit(id keys.DeviceID, seq uint64) (CommitID, error)
	// OwnLeaf reports whether one of the author's commits has the leaf whose sequence
	// numbers are its last [RecentNumbers].
	OwnLeaf(id keys.DeviceID, leaf Hash) (bool, error)
	// Change reports false for a change that is not in the log.
	Change(id ChangeID) (ChangeInfo, bool, error)
	// Restates returns the live restates that name the change.
	Restates(named ChangeID) ([]ChangeID, error)
	// AnyRestate reports whether the namespace has a live restate.
	AnyRestate(tag keys.Tag) (bool, error)
	// Named returns the changes that a restate in the log names, by commit ID.
	Named(id ChangeID) ([]ChangeID, error)
}

// RecentNumbers is how far back Check looks, by sequence number, for an older commit
// that a new one may claim to follow: it tells an author that signed twice from one of
// whose commits one is missing. Two devices with the same key that have gone further
// apart show that by their numbers.
const RecentNumbers = 64

// ErrNeedsHistory: what a commit does to the log cannot be told before the log
// below the base is here. It says nothing about the commit.
var ErrNeedsHistory = errors.New("the history below the base is needed first")

// Effects is what appending a checked commit does to the log.
type Effects struct {
	ID         CommitID
	Leaf       Hash
	Void       []uint16     // restates of this commit that are void, ascending
	Superseded []ChangeID   // changes that are no longer live, distinct
	Named      [][]ChangeID // for each change: what it names, by commit ID, ascending
	Unresolved bool         // it names something that may be below the base and is not live
}

// IsVoid reports whether the commit's change at index is a void restate.
func (e *Effects) IsVoid(index int) bool {
	_, found := slices.BinarySearch(e.Void, uint16(index))
	return found
}

// Check decides whether the commit may be appended to the log, as commit ID
// s.Size()+1, and what that does. The secondary runs it in the transaction that
// appends; every device runs it on what it is served. It checks, in this order:
// author, signature, the author's own chain, what the author had seen, epoch,
// position, refs (SPEC.md, "What is checked"). [ParseCommit] has checked form
// and list; blobs are the caller's ([CheckBlob]).
//
// A refusal is a [*CommitError]; any other error comes from s and decides nothing.
func Check(s State, c *Commit) (*Effects, error) {
	h := &c.Header
	id := CommitID(s.Size() + 1)
	refuse := func(err error, format string, args ...any) (*Effects, error) {
		return nil, &CommitError{ID: id, Err: err, Reason: fmt.Sprintf(format, args...)}
	}
	if uint64(id) >= MaxLog {
		return refuse(ErrLimit, "the log is full")
	}

	// Author.
	ctl, err := s.ControlTag()
	if err != nil {
		return nil, err
	}
	if id == 1 {
		if h.Kind != KindControl {
			return refuse(ErrNoGenesis, "")
		}
	} else if (h.Kind == KindControl) != (h.Tag == ctl) {
		return refuse(ErrMalformed, "control commits, and only they, belong to the control log")
	}
	author, err := s.Author(h.Device)
	if err != nil {
		return nil, err
	}
	if author == nil {
		return refuse(ErrUnknownSigner, "device %s", h.Device)
	}
	if author.Revoked != 0 {
		return refuse(ErrRevoked, "device %s, by commit %d", h.Device, author.Revoked)
	}
	if !author.MayWrite(h.Tag) {
		return refuse(ErrScope, "device %s", h.Device)
	}

	// Signature.
	if !c.Verify(s.Vault(), author.Sign) {
		return refuse(ErrSignature, "device %s", h.Device)
	}

	// The author's own chain.
	if h.Seq <= author.LastSeq {
		return refuse(ErrEquivocation, "sequence number %d after %d", h.Seq, author.LastSeq)
	}
	if h.PrevLeaf != author.LastLeaf {
		// A recent leaf of its own that is not the newest: the author signed twice
		// for one place. Any other: a commit of the author was left out.
		own := h.PrevLeaf.IsZero()
		if !own {
			if own, err = s.OwnLeaf(h.Device, h.PrevLeaf); err != nil {
				return nil, err
			}
		}
		if own {
			return refuse(ErrEquivocation, "its previous commit is not the author's newest")
		}
		return refuse(ErrOmission, "the author's previous commit is not in the log")
	}

	// What the author had seen.
	if h.SeenSize >= uint64(id) {
		return refuse(ErrOrder, "seen size %d", h.SeenSize)
	}
	if h.SeenSize < author.LastSeen {
		return refuse(ErrOrder, "seen size %d after %d", h.SeenSize, author.LastSeen)
	}
	reset, err := s.NewestReset()
	if err != nil {
		return nil, err
	}
	if h.SeenSize < uint64(reset) {
		return refuse(ErrOrder, "seen size %d, before the reset in commit %d", h.SeenSize, reset)
	}
	if h.SeenSize == 0 && id != 1 {
		return refuse(ErrOrder, "seen size 0")
	}
	root, err := s.RootAt(h.SeenSize)
	if err != nil {
		return nil, err
	}
	if h.SeenRoot != root {
		return refuse(ErrFork, "its author saw another log of %d commits", h.SeenSize)
	}

	// Epoch and position.
	epoch, err := s.EpochAt(h.SeenSize)
	if err != nil {
		return nil, err
	}
	if h.Epoch != epoch {
		return refuse(ErrEpoch, "epoch %d, in force was %d", h.Epoch, epoch)
	}
	if h.Kind != KindData && h.SeenSize+1 != uint64(id) {
		return refuse(ErrOrder, "valid only as commit %d", h.SeenSize+1)
	}

	return checkRefs(s, c, id)
}

// checkRefs resolves what each change names and works out what is superseded.
func checkRefs(s State, c *Commit, id CommitID) (*Effects, error) {
	refuse := func(i int, err error, format string, args ...any) (*Effects, error) {
		return nil, &CommitError{ID: id, Err: err, Reason: fmt.Sprintf("change %d: ", i) + fmt.Sprintf(format, args...)}
	}
	e := &Effects{ID: id, Leaf: c.Leaf(), Named: make([][]ChangeID, len(c.Changes))}
	gone := make(map[ChangeID]bool)   // superseded by this commit
	edited := make(map[ChangeID]bool) // named by its puts and deletes
	var inOrder []ChangeID            // the keys of edited
	own := make(map[uint64]CommitID)  // own sequence numbers, resolved
	base := CommitID(s.Base())
	for i := range c.Changes {
		ch := &c.Changes[i]
		if len(ch.Refs) == 0 {
			continue
		}
		named := make([]ChangeID, 0, len(ch.Refs))
		allLive := true
		for _, r := range ch.Refs {
			at := CommitID(r.At)
			if r.Own {
				var known bool
				if at, known = own[r.At]; !known {
					var err error
					if at, err = s.OwnCommit(c.Header.Device, r.At); err != nil {
						return nil, err
					}
					own[r.At] = at
				}
				if c.Header.SeenSize < uint64(base) && r.At <= s.BaseSeq(c.Header.Device) {
					info, _, err := s.Change(ChangeID{at, r.Index})
					if err != nil {
						return nil, err
					}
					if !info.Live {
						// A restate's end may hang on which commit that is, and
						// what is there of the log below may not be true.
						restates, err := s.AnyRestate(c.Header.Tag)
						if err != nil {
							return nil, err
						}
						if restates {
							return nil, ErrNeedsHistory
						}
					}
					if at == 0 {
						e.Unresolved = true
						continue
					}
				}
				if at == 0 {
					return refuse(i, ErrMalformed, "names own sequence number %d, which is not in the log", r.At)
				}
				if uint64(at) <= c.Header.SeenSize {
					return refuse(i, ErrMalformed, "names own sequence number %d, which it had seen as commit %d", r.At, at)
				}
			}
			n := ChangeID{at, r.Index}
			named = append(named, n)
			info, ok, err := s.Change(n)
			if err != nil {
				return nil, err
			}
			switch {
			case !ok && at <= base:
				e.Unresolved = true
			case !ok:
				return refuse(i, ErrMalformed, "names %v, which is not in the log", n)
			case info.Tag != c.Header.Tag:
				return refuse(i, ErrScope, "names %v, of another namespace", n)
			case info.Op == OpDelete:
				return refuse(i, ErrMalformed, "names %v, a delete", n)
			}
			if !info.Live || gone[n] {
				allLive = false
			}
		}
		e.Named[i] = named
		if ch.Op == OpRestate && !allLive {
			e.Void = append(e.Void, uint16(i))
			continue
		}
		for _, n := range named {
			info, _, err := s.Change(n)
			if err != nil {
				return nil, err
			}
			if ch.Op != OpRestate && !edited[n] {
				edited[n] = true
				inOrder = append(inOrder, n)
			}
			if info.Live && !gone[n] {
				gone[n] = true
				e.Superseded = append(e.Superseded, n)
			}
		}
	}

	// A restate adds no edit, so an edit of everything that it restated
	// supersedes it too, even by an author that never saw it.
	judged := make(map[ChangeID]bool)
	for _, n := range inOrder {
		restates, err := s.Restates(n)
		if err != nil {
			return nil, err
		}
		for _, r := range restates {
			if gone[r] || judged[r] {
				continue
			}
			judged[r] = true
			if info, _, err := s.Change(r); err != nil {
				return nil, err
			} else if info.Tag != c.Header.Tag {
				continue // below the base its ref may name what this author may not write to
			}
			named, err := s.Named(r)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(named, func(m ChangeID) bool { return !edited[m] }) {
				gone[r] = true
				e.Superseded = append(e.Superseded, r)
			}
		}
	}
	return e, nil
}

// CheckBlob reports whether the blob is the one that the change names by hash
// and size; it returns [ErrBlob] if not.
func CheckBlob(ch *Change, blob []byte) error {
	if len(blob) != int(ch.BlobSize) || sha256Sum(blob) != ch.BlobHash {
		return fmt.Errorf("%w: blob", ErrBlob)
	}
	return nil
}
