package vault

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A Strategy says which of several versions of a record is shown. It belongs to
// a namespace and is the same on all devices. The numbers are stored.
type Strategy uint8

const (
	// StrategyTimestamp shows the version that was written last, by the clocks
	// of the devices. It is what holds where nothing was set.
	StrategyTimestamp Strategy = 1
	// StrategyFirst shows the version that the secondary had first.
	StrategyFirst Strategy = 2
	// StrategyLast shows the version that the secondary had last. A change that
	// was not sent yet will be the last.
	StrategyLast Strategy = 3
	// StrategyResolver lets the app decide, see [Vault.SetResolver]. Until it
	// has, the version is shown that StrategyTimestamp shows.
	StrategyResolver Strategy = 5

	// 4 is reserved, for merging documents.
)

var strategyNames = map[Strategy]string{
	StrategyTimestamp: "timestamp", StrategyFirst: "first", StrategyLast: "last", StrategyResolver: "resolver",
}

// String returns the strategy's name.
func (s Strategy) String() string {
	if name, ok := strategyNames[s]; ok {
		return name
	}
	return fmt.Sprintf("strategy %d", uint8(s))
}

// ParseStrategy returns the strategy of that name, [ErrInvalid] if there is none.
func ParseStrategy(name string) (Strategy, error) {
	for s, n := range strategyNames {
		if n == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: there is no strategy %q: timestamp, first, last or resolver", ErrInvalid, name)
}

// SetStrategy says how conflicts in the namespace are settled, on all devices:
// it is a record of the namespace, durable here on return, and goes to the
// others with the next sync. What is shown of records with several versions
// follows at once. If two devices set it at the same time, the later one holds.
func (n *Namespace) SetStrategy(ctx context.Context, st Strategy) error {
	err := keys.ValidNamespace(n.name)
	if err != nil {
		err = fmt.Errorf("%w: %v", ErrInvalid, err)
	} else if _, ok := strategyNames[st]; !ok {
		err = fmt.Errorf("%w: %v cannot be set", ErrInvalid, st)
	} else if err = ctx.Err(); err == nil {
		err = n.v.update(func(s *state) error { return s.setStrategy(n.name, st) })
	}
	return opError("set strategy", n.name, "", err)
}

// Strategy returns how conflicts in the namespace are settled, as far as this
// device knows.
func (n *Namespace) Strategy(ctx context.Context) (st Strategy, err error) {
	if err := keys.ValidNamespace(n.name); err != nil {
		return 0, opError("strategy", n.name, "", fmt.Errorf("%w: %v", ErrInvalid, err))
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = n.v.view(func(s *state) error {
		st, err = s.strategy(n.v.keys.tag(n.name))
		return err
	})
	return st, opError("strategy", n.name, "", err)
}

func (s *state) setStrategy(namespace string, st Strategy) error {
	tag := s.v.keys.tag(namespace)
	a, h, err := s.about(tag)
	if err != nil {
		return err
	}
	if a == nil {
		a = &about{padding: paddingPadme}
	} else if a.strategy == uint8(st) && h.payload.HLC > 0 {
		return nil // it was said before, and not by the automatic record
	}
	a.strategy, a.name = uint8(st), namespace // whatever name another device has put there
	_, err = s.write(&txn{alone: true}, &change{namespace: namespace, name: aboutName, value: a.encode()})
	return err
}

// strategy returns the strategy of a namespace. One that this program does not
// know is taken for timestamp, and so is none.
func (s *state) strategy(tag keys.Tag) (Strategy, error) {
	if st, ok := s.strategies[tag]; ok {
		return st, nil
	}
	a, _, err := s.about(tag)
	if err != nil {
		return 0, err
	}
	st := StrategyTimestamp
	if a != nil && strategyNames[Strategy(a.strategy)] != "" {
		st = Strategy(a.strategy)
	}
	if s.strategies == nil {
		s.strategies = make(map[keys.Tag]Strategy)
	}
	s.strategies[tag] = st
	return st, nil
}

// about returns what the namespace's own record says, with the version that says
// so, nil if there is none that this program understands. Its siblings always
// stand in the order of the strategy timestamp.
func (s *state) about(tag keys.Tag) (*about, *head, error) {
	e, err := s.record(s.v.keys.recordKey(tag, aboutName))
	if err != nil || e == nil {
		return nil, nil, err
	}
	heads, err := s.heads(e)
	if err != nil {
		return nil, nil, err
	}
	for i := range heads {
		if a, err := parseAbout(heads[i].payload.Value); err == nil && heads[i].payload.Understood() {
			return a, &heads[i], nil
		}
	}
	return nil, nil, nil
}

// sort puts the heads of a record in the order of its namespace's strategy, the
// one to show first.
func (s *state) sort(e *entry, heads []head) error {
	if len(heads) < 2 {
		return nil
	}
	st := StrategyTimestamp
	if e.name != aboutName {
		var err error
		if st, err = s.strategy(e.key.tag()); err != nil {
			return err
		}
	}
	slices.SortFunc(heads, func(a, b head) int { return -a.compare(&b, st) })
	return nil
}

// compare orders heads; the greater one is shown. It is a total order: no two
// changes have one place, and only one pending change of a record is a head.
// What stands in for what cannot be used comes below all that can.
func (h *head) compare(g *head, st Strategy) int {
	if a, b := h.unread == (commitlog.ChangeID{}), g.unread == (commitlog.ChangeID{}); a != b {
		return order(a)
	}
	switch st {
	case StrategyFirst:
		return -h.place(g)
	case StrategyLast:
		return h.place(g)
	}
	switch {
	case h.payload.HLC != g.payload.HLC:
		return order(h.payload.HLC > g.payload.HLC)
	case h.device != g.device:
		return bytes.Compare(h.device[:], g.device[:])
	}
	return h.place(g)
}

// place orders heads as they stand in the log. What is pending will come last.
func (h *head) place(g *head) int {
	if a, b := h.local != 0, g.local != 0; a != b {
		return order(a)
	}
	return h.at().Compare(g.at())
}

// order is a comparison's result.
func order(greater bool) int {
	if greater {
		return 1
	}
	return -1
}

// distinct returns the heads without those whose content one before them has:
// versions that say the same are shown as one.
func distinct(heads []head) []head {
	if len(heads) < 2 {
		return heads
	}
	out := make([]head, 0, len(heads))
	for _, h := range heads {
		if !slices.ContainsFunc(out, func(g head) bool { return sameContent(g.payload, h.payload) }) {
			out = append(out, h)
		}
	}
	return out
}

// sameContent reports whether two payloads say the same: value, content type
// and times. Long values are the same if they are one object; two objects that
// hold the same bytes would have to be read to tell.
func sameContent(a, b *seal.Payload) bool {
	if a.Form != b.Form || a.ContentType != b.ContentType || a.Expires != b.Expires || a.Available != b.Available ||
		!a.Understood() || !b.Understood() || !bytes.Equal(a.Value, b.Value) {
		return false
	}
	return a.Object == nil || *a.Object == *b.Object
}

// rejoin works out anew what is shown of the records with several versions, in
// the namespaces whose strategy this transaction has changed. It runs at the
// end of a transaction, whoever made the change: this device, another, or one
// that was away for long.
func (s *state) rejoin() error {
	for len(s.resettled) > 0 {
		tag := s.resettled[0]
		s.resettled = s.resettled[1:]
		s.disputed = true // a resolver may have to be asked now
		var found []recordKey
		err := s.conflicts.ScanPrefix(tag[:], nil, func(k, _ []byte) (bool, error) {
			found = append(found, recordKey(k))
			return true, nil
		})
		if err != nil {
			return err
		}
		for _, key := range found {
			e, err := s.record(key)
			if err != nil {
				return err
			}
			if e == nil {
				continue
			}
			if err := s.join(e); err != nil {
				return err
			}
			if err := s.touch(key, e); err != nil {
				return err
			}
			s.fed = true
			if err := s.setRecord(key, e); err != nil {
				return err
			}
		}
	}
	return nil
}
