package wire

import (
	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// Checkpoint posts a checkpoint of the device that is signed in, asks for one, and
// answers both: CHECKPOINT. With data from the device it is posted, and an answer
// without data says that it is durable. Without data it asks for the last
// checkpoint before (Size, Device), zeros for the last of all; the answer has that,
// or zeros and no data where there is none.
type Checkpoint struct {
	_       struct{}      `cbor:",toarray"`
	Request uint32        // the client's number for it, from 1
	Size    uint64        // of the log
	Device  keys.DeviceID // who signed it
	Data    []byte        // encoded (package commitlog)
}

func (*Checkpoint) Type() Type { return TypeCheckpoint }

func (c *Checkpoint) check() error {
	if c.Request == 0 || c.Size >= commitlog.MaxLog || len(c.Data) > commitlog.MaxCheckpoint {
		return malformed("checkpoint %d of size %d, %d bytes", c.Request, c.Size, len(c.Data))
	}
	return nil
}

// Snapshot asks for what was live at a size of the log: SNAPSHOT. STATE brings it,
// namespace by namespace, the control log's first and the others ascending, each in
// the order of the log.
type Snapshot struct {
	_       struct{}           `cbor:",toarray"`
	Request uint32             // the client's number for it, from 1
	Size    uint64             // from 1
	Tag     keys.Tag           // the last change that the client has, zeros for none: its namespace, …
	Commit  commitlog.CommitID // … commit, …
	Index   uint16             // … and place in that
	Tags    Tags               // namespaces whose blobs are wanted; those of control commits always come
}

func (*Snapshot) Type() Type { return TypeSnapshot }

func (s *Snapshot) check() error {
	if s.Request == 0 || s.Size == 0 || s.Size >= commitlog.MaxLog || uint64(s.Commit) > s.Size || (s.Commit == 0) != (s.Tag == keys.Tag{}) || s.Commit == 0 && s.Index != 0 {
		return malformed("snapshot %d of size %d after %d", s.Request, s.Size, s.Commit)
	}
	return s.Tags.check()
}

// State carries live changes in excerpts (package commitlog): STATE.
type State struct {
	_       struct{} `cbor:",toarray"`
	Request uint32
	Done    bool   // it is the last of its request
	Items   []Item `cbor:"-"`
}

func (*State) Type() Type       { return TypeState }
func (s *State) items() *[]Item { return &s.Items }

func (s *State) check() error {
	if s.Request == 0 || len(s.Items) == 0 && !s.Done {
		return malformed("state without content")
	}
	for _, i := range s.Items {
		if i.Kind != ItemExcerpt {
			return malformed("item of kind %d in STATE", i.Kind)
		}
		if err := i.check(); err != nil {
			return err
		}
	}
	return nil
}

// Read asks for commits, wherever the session is bound: READ. Of what is live at
// the secondary no blobs come, since whoever asks has that.
type Read struct {
	_       struct{}           `cbor:",toarray"`
	Request uint32             // the client's number for it, from 1
	After   commitlog.CommitID // the first that is wanted comes after it
	To      commitlog.CommitID // the last that is wanted
	Tags    Tags               // namespaces whose blobs are wanted; those of control commits always come
}

func (*Read) Type() Type { return TypeRead }

func (r *Read) check() error {
	if r.Request == 0 || r.After >= r.To || r.To >= commitlog.MaxLog {
		return malformed("read %d of %d to %d", r.Request, r.After, r.To)
	}
	return r.Tags.check()
}

// Commits answers READ with at least one commit, or a part of one: then more
// follow under the same number until it is whole. COMMITS.
type Commits struct {
	_       struct{} `cbor:",toarray"`
	Request uint32
	Items   []Item `cbor:"-"`
}

func (*Commits) Type() Type       { return TypeCommits }
func (c *Commits) items() *[]Item { return &c.Items }

func (c *Commits) check() error {
	if c.Request == 0 {
		return malformed("commits of no request")
	}
	return checkItems(c.Items, false)
}
