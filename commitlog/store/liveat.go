package store

import (
	"bytes"
	"errors"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// LiveAt reads what was live at an earlier size of a log: what is live now and
// was there then, and what later commits have ended. It may be used over several
// transactions, while the log grows; it holds what was ended since, some 40 bytes a change.
type LiveAt struct {
	size  uint64
	upTo  uint64                            // commits that it knows of
	ended map[keys.Tag][]commitlog.ChangeID // ascending
}

// NewLiveAt returns a reader of what was live when the log had size commits.
func NewLiveAt(size uint64) *LiveAt {
	return &LiveAt{size: size, upTo: size, ended: make(map[keys.Tag][]commitlog.ChangeID)}
}

// catchUp learns what the commits have ended that came since.
func (a *LiveAt) catchUp(l *Log) error {
	if l.size <= a.upTo {
		return nil
	}
	more := make(map[keys.Tag]bool)
	err := l.all.ScanPrefix([]byte{kindRetired}, retiredPrefix(commitlog.CommitID(a.upTo+1)), func(k, _ []byte) (bool, error) {
		_, id := parseRetired(k)
		if uint64(id.Commit) > a.size {
			return true, nil
		}
		header, err := l.Header(id.Commit)
		if err != nil {
			return false, err
		}
		tag := keys.Tag(header[6:22])
		a.ended[tag], more[tag] = append(a.ended[tag], id), true
		return true, nil
	})
	for tag := range more {
		slices.SortFunc(a.ended[tag], commitlog.ChangeID.Compare)
	}
	a.upTo = l.size
	return err
}

// Tags returns the namespaces that had live changes then, the control log's first
// and the others ascending.
func (a *LiveAt) Tags(l *Log) (tags []keys.Tag, err error) {
	if err := a.catchUp(l); err != nil {
		return nil, err
	}
	any := make(map[keys.Tag]bool)
	for tag := range a.ended {
		any[tag] = true
	}
	err = l.Namespaces(func(tag keys.Tag) error {
		return l.own.ScanPrefix(livePrefix(tag), nil, func(k, _ []byte) (bool, error) {
			_, id := parseLive(k)
			any[tag] = any[tag] || uint64(id.Commit) <= a.size
			return false, nil
		})
	})
	for tag := range any {
		if any[tag] && tag != l.control {
			tags = append(tags, tag)
		}
	}
	slices.SortFunc(tags, func(x, y keys.Tag) int { return bytes.Compare(x[:], y[:]) })
	if any[l.control] {
		tags = slices.Insert(tags, 0, l.control)
	}
	return tags, err
}

// Each calls fn for what was live in a namespace, after a change (zeros: from the
// first on), in the order of the log, until fn says that it is enough.
func (a *LiveAt) Each(l *Log, tag keys.Tag, after commitlog.ChangeID, fn func(id commitlog.ChangeID) (more bool, err error)) error {
	if err := a.catchUp(l); err != nil {
		return err
	}
	ended := a.ended[tag]
	i, found := slices.BinarySearchFunc(ended, after, commitlog.ChangeID.Compare)
	if found {
		i++
	}
	more := true
	var err error
	give := func(id commitlog.ChangeID) bool {
		more, err = fn(id)
		return more && err == nil
	}
	serr := l.own.ScanPrefix(livePrefix(tag), liveKey(tag, after), func(k, _ []byte) (bool, error) {
		_, id := parseLive(k)
		if uint64(id.Commit) > a.size {
			return false, nil
		}
		if id.Compare(after) <= 0 {
			return true, nil
		}
		for ; i < len(ended) && ended[i].Compare(id) < 0; i++ {
			if !give(ended[i]) {
				return false, nil
			}
		}
		return give(id), nil
	})
	if err != nil || serr != nil || !more {
		return errors.Join(err, serr)
	}
	for ; i < len(ended); i++ {
		if !give(ended[i]) {
			return err
		}
	}
	return nil
}

// Comes returns what the log comes to at a size, as a checkpoint of nobody: with
// peaks, authors and namespaces. It reads every live change.
func (l *Log) Comes(size uint64) (*commitlog.Checkpoint, error) {
	c := &commitlog.Checkpoint{Vault: l.vault, Size: size}
	for _, index := range commitlog.Peaks(size) {
		h, err := l.ReadHash(index)
		if err != nil {
			return nil, err
		}
		c.Peaks = append(c.Peaks, h)
	}
	err := l.Authors(func(id keys.DeviceID, _ *commitlog.Author) error {
		end, err := l.endAt(id, size)
		if end != nil {
			c.Authors = append(c.Authors, *end)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	at := NewLiveAt(size)
	tags, err := at.Tags(l)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(tags, func(x, y keys.Tag) int { return bytes.Compare(x[:], y[:]) })
	for _, tag := range tags {
		s := commitlog.NewStateHash()
		if err := at.Each(l, tag, commitlog.ChangeID{}, l.hasher(s)); err != nil {
			return nil, err
		}
		c.Namespaces = append(c.Namespaces, commitlog.NamespaceState{Tag: tag, Count: s.Count, Bytes: s.Bytes, Hash: s.Sum()})
	}
	return c, nil
}

// endAt returns the newest commit of an author among the first size, nil if it
// has none.
func (l *Log) endAt(id keys.DeviceID, size uint64) (end *commitlog.AuthorEnd, err error) {
	err = l.all.ScanBack(authorPrefix(id), func(k, v []byte) (bool, error) {
		if len(k) != sizeSequence { // the author itself
			return true, nil
		}
		at := be.Uint64(v)
		if at > size {
			return true, nil
		}
		raw, err := l.Header(commitlog.CommitID(at))
		if err != nil {
			return false, err
		}
		h, err := commitlog.ParseHeader(raw)
		end = &commitlog.AuthorEnd{Device: id, Seq: h.Seq, Leaf: commitlog.LeafHash(raw), Seen: h.SeenSize}
		return false, err
	})
	return end, err
}

// hasher returns a function that adds the changes of a namespace to a state hash.
func (l *Log) hasher(s *commitlog.StateHash) func(id commitlog.ChangeID) (bool, error) {
	var last commitlog.CommitID
	var leaf commitlog.Hash
	return func(id commitlog.ChangeID) (bool, error) {
		if id.Commit != last {
			header, err := l.Header(id.Commit)
			if err != nil {
				return false, err
			}
			last, leaf = id.Commit, commitlog.LeafHash(header)
		}
		ch, _, err := l.Entry(id)
		if err == nil {
			s.Add(id, leaf, ch.Entry)
		}
		return true, err
	}
}
