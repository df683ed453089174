package crashtest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// Signed keeps every commit that devices send, and fails the test where a
// sequence number comes back with another commit, or the same commit with other
// blobs. It is safe for concurrent use.
type Signed struct {
	t testing.TB

	mu    sync.Mutex
	sent  map[signedKey][]byte
	parts wire.Assembler
}

type signedKey struct {
	device keys.DeviceID
	seq    uint64
}

// NewSigned returns an empty Signed.
func NewSigned(t testing.TB) *Signed { return &Signed{t: t, sent: make(map[signedKey][]byte)} }

// begin begins a session: what was half sent in the one before is no more.
func (s *Signed) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = wire.Assembler{}
}

// check takes a message that is sent.
func (s *Signed) check(m wire.Message) {
	u, ok := m.(*wire.Upload)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range u.Items {
		data, err := s.parts.Add(item)
		if err != nil {
			s.t.Errorf("parts of a commit: %v", err)
		}
		if data == nil {
			continue
		}
		b, err := commitlog.ParseBundle(data)
		if err != nil {
			s.t.Errorf("a commit that is sent: %v", err)
			continue
		}
		k := signedKey{b.Commit.Header.Device, b.Commit.Header.Seq}
		if before := s.sent[k]; before != nil && !bytes.Equal(before, data) {
			s.t.Errorf("sequence number %d of device %s is sent with two commits", k.seq, k.device)
		}
		s.sent[k] = bytes.Clone(data)
	}
}

// Count returns how many commits there are.
func (s *Signed) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}
