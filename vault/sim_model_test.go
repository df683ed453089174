package vault

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A simModel is what must be, in plain Go: every write that was acknowledged,
// with what its device knew when it was made. It works out twice which versions
// are live, from what was known and from the refs in the log; they must agree.
type simModel struct {
	compacted bool     // the secondary has dropped content
	ring      *keyring // opens all that is in the log
	records   map[simRecord][]*simWrite
	commits   []commitlog.Hash // root after each commit
	leaves    map[commitlog.Hash]bool
	written   int
	txns      map[int][]*simWrite

	devices map[keys.DeviceID]*simIdentity
	seqs    map[simSeq]commitlog.CommitID
	changes map[commitlog.ChangeID]*simWrite // puts; nil for what is not a write of ours

	attempts map[simSeq]*simAttempt // by the commits that they are, if they are any
}

func newSimModel(ring *keyring) *simModel {
	return &simModel{
		ring: ring, leaves: make(map[commitlog.Hash]bool), records: make(map[simRecord][]*simWrite), txns: make(map[int][]*simWrite),
		devices: make(map[keys.DeviceID]*simIdentity), seqs: make(map[simSeq]commitlog.CommitID), changes: make(map[commitlog.ChangeID]*simWrite),
		attempts: make(map[simSeq]*simAttempt),
	}
}

type simRecord struct{ namespace, name string }

type simSeq struct {
	device keys.DeviceID
	seq    uint64
}

// A simIdentity is a device; one that takes the place of a lost one is another.
type simIdentity struct {
	name     string
	id       keys.DeviceID
	keepEach bool
	lost     bool
	refused  bool   // the secondary refused a commit of it
	chose    bool   // it has not kept everything all the time
	base     uint64 // size of the checkpoint that it began with: what was dead there it did not know
	repeated bool   // a frame of it came to the secondary twice
}

// A simWrite is a write that was acknowledged, or is being made.
type simWrite struct {
	number int
	by     *simIdentity
	record simRecord
	delete bool
	size   int
	seen   uint64 // commits that its device had
	clock  clock
	txn    int
	last   bool // of its record in its transaction
	serial bool // by Transact: it follows on from the log alone

	expires, available uint64
	strategy           Strategy // of a namespace's own record

	at    commitlog.ChangeID // zero: not in the log
	ended commitlog.CommitID // by which commit that knew of it; 0: none
	named commitlog.CommitID // by which commit that names it
}

// value is what a write stores.
func (w *simWrite) value() []byte {
	if w.strategy != 0 {
		a := about{strategy: uint8(w.strategy), padding: paddingPadme, name: w.record.namespace}
		return a.encode()
	}
	label := fmt.Sprintf("%s, write %d. ", w.by.name, w.number)
	n := max(w.size, len(label))
	return bytes.Repeat([]byte(label), n/len(label)+1)[:n]
}

func (w *simWrite) String() string {
	what := "put"
	if w.strategy != 0 {
		return fmt.Sprintf("strategy %v of %s (%s, write %d)", w.strategy, w.record.namespace, w.by.name, w.number)
	}
	if w.delete {
		what = "delete"
	}
	return fmt.Sprintf("%s %s/%s (%s, write %d)", what, w.record.namespace, w.record.name, w.by.name, w.number)
}

// in reports whether it is among the first n commits.
func (w *simWrite) in(n uint64) bool { return w.at.Commit != 0 && uint64(w.at.Commit) <= n }

// live reports whether it is a live version after n commits.
func (w *simWrite) live(n uint64) bool {
	return w.in(n) && !w.delete && (w.ended == 0 || uint64(w.ended) > n)
}

// knew reports whether the author of a write knew of another write of the
// record: it was in the part of the log that the device had, or is its own.
func (w *simWrite) knew(o *simWrite) bool {
	switch {
	case w == o:
		return false
	case o.in(w.seen):
		return true
	case w.serial || o.serial:
		return o.txn == w.txn && o.number < w.number
	}
	return o.by == w.by && o.number < w.number
}

// simStrategies say, for each strategy of settling conflicts, whether of two
// live versions the first is shown. A resolver that does not answer leaves things
// as timestamp does.
var simStrategies = map[Strategy]func(a, b *simWrite) bool{
	StrategyTimestamp: (*simWrite).later,
	StrategyResolver:  (*simWrite).later,
	StrategyFirst:     func(a, b *simWrite) bool { return !a.behind(b) },
	StrategyLast:      (*simWrite).behind,
}

func (w *simWrite) later(o *simWrite) bool {
	if w.clock != o.clock {
		return w.clock > o.clock
	}
	if c := bytes.Compare(w.by.id[:], o.by.id[:]); c != 0 {
		return c > 0
	}
	return w.behind(o)
}

// behind reports whether it stands behind another in the log, or will.
func (w *simWrite) behind(o *simWrite) bool {
	if w.at.Commit == 0 || o.at.Commit == 0 {
		return w.at.Commit == 0
	}
	return w.at.Compare(o.at) > 0
}

// strategy returns the strategy of a namespace as a device knows it that has the
// first n commits: it is a record of the namespace.
func (m *simModel) strategy(d *simIdentity, namespace string, n uint64) Strategy {
	shown, _ := m.view(d, simRecord{namespace, aboutName}, n)
	if len(shown) == 0 {
		return StrategyTimestamp
	}
	return shown[0].strategy
}

// view returns the versions that a device which has the first n commits shows of
// a record, the best first; and its writes that are not among those commits.
func (m *simModel) view(d *simIdentity, r simRecord, n uint64) (shown, pending []*simWrite) {
	list := m.records[r]
	for _, w := range list {
		if w.by == d && !w.serial {
			if w.in(n) {
				pending = nil // what came before it is in the log, or it took its place
			} else {
				pending = append(pending, w)
			}
		}
	}
	return m.over(d, r, n, pending), pending
}

// over returns the versions of the first n commits, the best first, with writes
// of the device over them.
func (m *simModel) over(d *simIdentity, r simRecord, n uint64, pending []*simWrite) (shown []*simWrite) {
	for _, w := range m.records[r] {
		if w.live(n) && !slices.ContainsFunc(pending, func(p *simWrite) bool { return p.knew(w) }) {
			shown = append(shown, w)
		}
	}
	if k := len(pending); k > 0 && !pending[k-1].delete {
		shown = append(shown, pending[k-1])
	}
	better := simStrategies[StrategyTimestamp]
	if r.name != aboutName {
		better = simStrategies[m.strategy(d, r.namespace, n)]
	}
	slices.SortFunc(shown, func(a, b *simWrite) int {
		if better(a, b) {
			return -1
		}
		return 1
	})
	return shown
}

// add notes a write that is being made.
func (m *simModel) add(w *simWrite) {
	for _, o := range m.txns[w.txn] {
		if o.record == w.record {
			o.last = false
		}
	}
	m.written++
	w.number, w.last = m.written, true
	m.txns[w.txn] = append(m.txns[w.txn], w)
	m.records[w.record] = append(m.records[w.record], w)
}

// undo takes the writes of a transaction that did not come about out again.
func (m *simModel) undo(txn int) {
	for _, w := range m.txns[txn] {
		m.records[w.record] = slices.DeleteFunc(m.records[w.record], func(o *simWrite) bool { return o == w })
	}
	delete(m.txns, txn)
}

// commit takes in the next commit of the log, and returns what is wrong with it.
func (m *simModel) commit(b *commitlog.Bundle, root commitlog.Hash) error {
	id, h := b.ID, &b.Commit.Header
	if id != commitlog.CommitID(len(m.commits)+1) {
		return fmt.Errorf("commit %d comes after commit %d", id, len(m.commits))
	}
	m.commits = append(m.commits, root)
	m.leaves[b.Commit.Leaf()] = true
	if h.Kind == commitlog.KindControl {
		return nil
	}
	m.seqs[simSeq{h.Device, h.Seq}] = id
	author := m.devices[h.Device]
	if author == nil {
		return fmt.Errorf("commit %d is by nobody", id)
	}
	sealer, err := m.ring.sealer(h.Tag, h.Epoch)
	if err != nil {
		return err
	}
	namespace := ""
	for _, n := range simNamespaces {
		if m.ring.tag(n) == h.Tag {
			namespace = n
		}
	}
	var attempt *simAttempt
	if h.Kind == commitlog.KindSerialised {
		if attempt, err = m.serialised(id, h); err != nil {
			return err
		}
	}
	touched := make(map[simRecord]bool)
	var news []*simWrite
	for i := range b.Commit.Changes {
		ch := &b.Commit.Changes[i]
		p, err := sealer.Open(b.Blobs[i])
		if err != nil {
			return fmt.Errorf("change %d.%d does not open: %v", id, i, err)
		}
		for _, r := range ch.Refs {
			named := commitlog.ChangeID{Commit: commitlog.CommitID(r.At), Index: r.Index}
			if r.Own {
				named.Commit = m.seqs[simSeq{h.Device, r.At}]
			}
			if w := m.changes[named]; w != nil {
				touched[w.record] = true
				if w.named == 0 {
					w.named = id
				}
			}
		}
		if p.Name == aboutName && p.HLC == 0 {
			continue // the automatic one, which loses to every deliberate one
		}
		r := simRecord{namespace, p.Name}
		w, err := m.find(author, attempt, r, p, ch)
		if err != nil {
			return fmt.Errorf("change %d.%d: %v", id, i, err)
		}
		w.at = commitlog.ChangeID{Commit: id, Index: uint16(i)}
		news = append(news, w)
		touched[r] = true
		if !w.delete {
			m.changes[w.at] = w
		}
	}
	for _, w := range news {
		if err := m.supersede(w); err != nil {
			return err
		}
	}
	for r := range touched {
		for _, w := range m.records[r] {
			if !w.delete && w.named != w.ended {
				return fmt.Errorf("commit %d: %v was known to its end in commit %d, and is named by commit %d (0: none)", id, w, w.ended, w.named)
			}
		}
	}
	return m.whole(id, news)
}

// find returns the write that a change of the log is, in an attempt or not.
func (m *simModel) find(author *simIdentity, attempt *simAttempt, r simRecord, p *seal.Payload, ch *commitlog.Change) (*simWrite, error) {
	for _, w := range m.records[r] {
		if attempt != nil && slices.Contains(attempt.writes, w) && w.last {
			w.clock = p.HLC // which was not to be seen before
		} else if attempt != nil || w.serial || w.by != author || w.clock != p.HLC || !w.last {
			continue
		}
		switch {
		case w.at.Commit != 0:
			return nil, fmt.Errorf("%v is in the log twice, first at %v", w, w.at)
		case w.delete != (ch.Op == commitlog.OpDelete):
			return nil, fmt.Errorf("%v is there as operation %d", w, ch.Op)
		case !w.delete && p.Object == nil && !bytes.Equal(p.Value, w.value()):
			return nil, fmt.Errorf("%v has another value", w)
		case p.Expires != w.expires || p.Available != w.available:
			return nil, fmt.Errorf("%v has other times", w)
		}
		return w, nil
	}
	return nil, fmt.Errorf("nobody wrote that %s/%s by %s at clock %d", r.namespace, r.name, author.name, p.HLC)
}

// supersede ends what the author of a write knew of.
func (m *simModel) supersede(w *simWrite) error {
	for _, o := range m.records[w.record] {
		if o.at.Commit == 0 || !w.knew(o) {
			continue
		}
		// A put names the put that it follows, and so stands in a later commit.
		if o.at.Compare(w.at) > 0 || o.at.Commit == w.at.Commit && !o.delete {
			return fmt.Errorf("%v stands at %v, and %v, which came before it, at %v", w, w.at, o, o.at)
		}
		// Where all of a record was forgotten, only what is live comes back, and with
		// a checkpoint only what was live there came. What is not live, the secondary may
		// have dropped.
		told := w.by.base == 0 || !o.in(w.by.base) || o.live(w.by.base)
		if o.clock >= w.clock && told && (!w.by.chose && !m.compacted || o.live(w.seen)) {
			return fmt.Errorf("%v has the clock %d, %v, which it knew, %d", w, w.clock, o, o.clock)
		}
		if o.ended == 0 && !o.delete {
			o.ended = w.at.Commit
		}
	}
	return nil
}

// whole checks that the commit has all of each transaction that it has any of.
func (m *simModel) whole(id commitlog.CommitID, news []*simWrite) error {
	for _, w := range news {
		for _, o := range m.txns[w.txn] {
			if o.last && !o.delete && o.at.Commit != id && !m.replaced(o) {
				return fmt.Errorf("commit %d has %v, and not %v of the same transaction", id, w, o)
			}
		}
	}
	return nil
}

// replaced reports whether a later write of the device stands for one that the
// secondary refused: the others go on, also those that followed it.
func (m *simModel) replaced(w *simWrite) bool {
	return w.by.refused && w.at.Commit == 0 && slices.ContainsFunc(m.records[w.record], func(o *simWrite) bool { return o.by == w.by && o.number > w.number })
}

// everything checks that each write of a device which has n commits and nothing
// more to send is in the log, or was replaced by a later one of the device.
func (m *simModel) everything(d *simIdentity, n uint64) error {
	for r, list := range m.records {
		_, pending := m.view(d, r, n)
		if len(pending) > 0 {
			newest := pending[len(pending)-1]
			// A delete that ends nothing is not sent, and neither is what it ended.
			if !newest.delete || slices.ContainsFunc(list, func(w *simWrite) bool { return w.live(n) && newest.knew(w) }) {
				return fmt.Errorf("%v is nowhere", newest)
			}
		}
		for _, w := range list {
			if d.keepEach && w.by == d && w.last && !w.delete && !w.in(n) && !m.replaced(w) {
				return fmt.Errorf("%v is nowhere, although each was to be kept", w)
			}
		}
	}
	return nil
}
