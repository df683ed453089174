package vault

import (
	"fmt"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// aboutName is the name of a namespace's own record, which says what the
// namespace is called and how its conflicts are settled (SPEC.md, "Namespaces").
const aboutName = "\x00about"

// An about is the value of a namespace's own record:
//
//	version u8 = 1 ‖ strategy u8 ‖ padding u8 ‖ lp8 namespace name
type about struct {
	strategy uint8
	padding  uint8
	name     string
}

// The numbers are stored.
const (
	aboutVersion = 1
	paddingPadme = 1
)

func (a *about) encode() []byte {
	b := []byte{aboutVersion, a.strategy, a.padding, byte(len(a.name))}
	return append(b, a.name...)
}

func parseAbout(b []byte) (*about, error) {
	if len(b) < 4 || len(b) != 4+int(b[3]) {
		return nil, fmt.Errorf("%w: namespace record", commitlog.ErrMalformed)
	}
	if b[0] != aboutVersion {
		return nil, ErrNotUnderstood
	}
	return &about{strategy: b[1], padding: b[2], name: string(b[4:])}, nil
}

// ensureAbout queues the automatic record of a namespace whose verified log
// shows none, and returns its change; nil if it is not needed. It has clock 0,
// so that it loses to every deliberate one.
func (s *state) ensureAbout(tag keys.Tag, epoch uint32) (*pendingChange, error) {
	name := s.namespaceName(tag)
	key := s.v.keys.recordKey(tag, aboutName)
	e, err := s.record(key)
	if err != nil || name == "" || e != nil && len(e.live)+len(e.pending) > 0 {
		return nil, err
	}
	if k, err := s.keeping(); err != nil {
		return nil, err
	} else if !k.has(tag) || s.meta.Get(metaSweep) != nil || !s.missing.Empty() {
		// It may be that it is only not here: whoever wrote first has put one.
		if any, err := s.log.AnyLive(tag); err != nil || any {
			return nil, err
		}
	}
	if e == nil {
		e = &entry{key: key, name: aboutName}
	}
	a := about{strategy: uint8(StrategyTimestamp), padding: paddingPadme, name: name}
	p := &pendingChange{alone: true, epoch: epoch, key: key, op: commitlog.OpPut}
	payload := seal.Payload{Form: seal.FormInline, Name: aboutName, Value: a.encode()}
	if err := s.enqueue(&txn{alone: true}, e, p, &payload); err != nil {
		return nil, err
	}
	return p, s.setRecord(key, e)
}

// learnNamespace takes the name of a namespace out of its own record. Only the
// name that belongs to the tag is believed.
func (s *state) learnNamespace(tag keys.Tag, value []byte) error {
	a, err := parseAbout(value)
	if err != nil || keys.ValidNamespace(a.name) != nil || s.v.keys.tag(a.name) != tag {
		return nil // the defaults hold, and the namespace has no name here
	}
	return s.nameNamespace(tag, a.name)
}
