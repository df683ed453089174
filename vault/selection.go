package vault

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/wire"
)

// A Selection says what of the vault is kept on this device. The log itself
// always is, and is verified whole: what is left out is content, and none of it
// can be hidden from the device unseen. The zero value keeps everything.
//
// By namespace, values do not come to the device at all. By name and by size,
// values over 64 KiB stay at the secondary until they are read; the secondary
// knows no names and can leave out nothing else, so every record of a namespace
// that is kept is listed here, and its value is here up to 64 KiB.
type Selection struct {
	// Namespaces are those that are kept. None: all.
	Namespaces []string
	// Filters choose, in a namespace that has any, the records whose values
	// over 64 KiB are kept: those that one of its filters matches.
	Filters []Filter
	// Lazy is the size in bytes above which no value is kept: it is fetched
	// when it is read. It has no effect on values up to 64 KiB. 0: no limit.
	Lazy int64
}

// A Filter matches names of one namespace. Exactly one of Pattern and Prefix is
// set.
type Filter struct {
	Namespace string
	// Pattern is a regular expression (RE2, as package regexp has it) that
	// matches anywhere in the name, unless it says ^ and $.
	Pattern string
	// Prefix is what the name begins with.
	Prefix string
}

// All reports whether everything is kept.
func (s *Selection) All() bool {
	return len(s.Namespaces) == 0 && len(s.Filters) == 0 && s.Lazy == 0
}

func (s Selection) clone() Selection {
	s.Namespaces, s.Filters = slices.Clone(s.Namespaces), slices.Clone(s.Filters)
	return s
}

// Keeps reports whether the namespace is kept.
func (s *Selection) Keeps(namespace string) bool {
	return len(s.Namespaces) == 0 || slices.Contains(s.Namespaces, namespace)
}

// Limits of a selection.
const (
	maxFilters = 1024
	maxPattern = 4096 // bytes of a pattern
)

// normal returns the selection in its one form, sorted and each thing once, or
// [ErrInvalid] with what is wrong.
func (s Selection) normal() (Selection, error) {
	invalid := func(format string, args ...any) (Selection, error) {
		return Selection{}, fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	s.Namespaces = slices.Compact(slices.Sorted(slices.Values(s.Namespaces)))
	if len(s.Namespaces) > wire.MaxTags {
		return invalid("a selection has at most %d namespaces", wire.MaxTags)
	}
	for _, n := range s.Namespaces {
		if err := keys.ValidNamespace(n); err != nil {
			return invalid("namespace %q: %v", n, err)
		}
	}
	if s.Lazy < 0 {
		return invalid("a size of %d bytes", s.Lazy)
	}
	s.Filters = slices.SortedFunc(slices.Values(s.Filters), Filter.compare)
	s.Filters = slices.Compact(s.Filters)
	if len(s.Filters) > maxFilters {
		return invalid("a selection has at most %d patterns and prefixes", maxFilters)
	}
	for _, f := range s.Filters {
		switch err := keys.ValidNamespace(f.Namespace); {
		case err != nil:
			return invalid("namespace %q: %v", f.Namespace, err)
		case !s.Keeps(f.Namespace):
			return invalid("a filter for namespace %q, which is not among those that are kept", f.Namespace)
		case (f.Pattern == "") == (f.Prefix == ""):
			return invalid("a filter for namespace %q needs a pattern or a prefix, and not both", f.Namespace)
		case len(f.Pattern) > maxPattern:
			return invalid("a pattern has at most %d bytes", maxPattern)
		case len(f.Prefix) > seal.MaxName:
			return invalid("prefix %q is longer than any name", f.Prefix)
		}
		if _, err := f.compile(); err != nil {
			return Selection{}, err
		}
	}
	return s, nil
}

func (f Filter) compare(g Filter) int {
	return cmp.Or(strings.Compare(f.Namespace, g.Namespace), strings.Compare(f.Pattern, g.Pattern), strings.Compare(f.Prefix, g.Prefix))
}

// compile returns the filter's pattern; nil if it has none.
func (f Filter) compile() (*regexp.Regexp, error) {
	if f.Pattern == "" {
		return nil, nil
	}
	if !utf8.ValidString(f.Pattern) {
		return nil, fmt.Errorf("%w: pattern %q: it is not UTF-8", ErrInvalid, f.Pattern)
	}
	re, err := regexp.Compile(f.Pattern)
	var serr *syntax.Error
	if errors.As(err, &serr) {
		return nil, fmt.Errorf("%w: pattern %q: %s: %q", ErrInvalid, f.Pattern, serr.Code, serr.Expr)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: pattern %q: %v", ErrInvalid, f.Pattern, err)
	}
	return re, nil
}

// SetSelection changes what is kept on this device; see [Selection]. It is
// durable when SetSelection returns, and carried out by the next sync, or by a
// session that runs: what is new comes, what is no longer kept is forgotten here
// and stays at the secondary. A change that was made here and is not in the log
// yet is never forgotten. Until then reads give what is here.
//
// A selection that cannot be is [ErrInvalid], and nothing changes.
func (v *Vault) SetSelection(ctx context.Context, sel Selection) error {
	sel, err := sel.normal()
	if err != nil {
		return opError("select", "", "", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.update(func(s *state) error {
		k, err := s.keeping()
		if err != nil {
			return err
		}
		encoded := sel.encode()
		if bytes.Equal(encoded, k.Selection.encode()) {
			return nil
		}
		if sel.All() {
			err = s.meta.Delete(metaSelection)
		} else {
			err = s.meta.Put(metaSelection, v.keys.local.Seal(nil, encoded, metaSelection))
		}
		if err != nil {
			return err
		}
		s.kept = nil
		s.queued = true // wakes a session
		return s.setSweep(logStart)
	})
}

// Selection returns what is kept on this device, and whether that has been
// carried out: whether what is new has come, and what is not kept is forgotten.
func (v *Vault) Selection(ctx context.Context) (sel Selection, done bool, err error) {
	if err := ctx.Err(); err != nil {
		return Selection{}, false, err
	}
	err = v.view(func(s *state) error {
		k, err := s.keeping()
		if err != nil {
			return err
		}
		sel, done = k.clone(), s.meta.Get(metaSweep) == nil
		return nil
	})
	return sel, done, err
}

// encode returns the selection as it is stored, sealed, under the key
// "selection" of the bucket meta; nothing is stored for the zero value.
//
//	version u8 = 1 ‖ lazy u64 ‖ n u16 ‖ n × lp8 namespace ‖
//	m u16 ‖ m × (lp8 namespace ‖ lp16 pattern ‖ lp16 prefix)
func (s *Selection) encode() []byte {
	b := be.AppendUint64([]byte{selectionVersion}, uint64(s.Lazy))
	b = be.AppendUint16(b, uint16(len(s.Namespaces)))
	for _, n := range s.Namespaces {
		b = append(append(b, byte(len(n))), n...)
	}
	b = be.AppendUint16(b, uint16(len(s.Filters)))
	for _, f := range s.Filters {
		b = append(append(b, byte(len(f.Namespace))), f.Namespace...)
		b = append(be.AppendUint16(b, uint16(len(f.Pattern))), f.Pattern...)
		b = append(be.AppendUint16(b, uint16(len(f.Prefix))), f.Prefix...)
	}
	return b
}

const selectionVersion = 1

func parseSelection(b []byte) (s Selection, err error) {
	damaged := fmt.Errorf("%w: selection", ErrDamaged)
	bad := len(b) < 1 || b[0] != selectionVersion
	number := func(bytes int) (n int) {
		if bad = bad || len(b) < bytes; bad {
			return 0
		}
		for _, x := range b[:bytes] {
			n = n<<8 | int(x)
		}
		b = b[bytes:]
		return n
	}
	text := func(bytes int) string {
		n := number(bytes)
		if bad = bad || len(b) < n; bad {
			return ""
		}
		t := string(b[:n])
		b = b[n:]
		return t
	}
	number(1)
	s.Lazy = int64(number(8))
	for range number(2) {
		s.Namespaces = append(s.Namespaces, text(1))
	}
	for range number(2) {
		s.Filters = append(s.Filters, Filter{Namespace: text(1), Pattern: text(2), Prefix: text(2)})
	}
	if bad || len(b) > 0 {
		return Selection{}, damaged
	}
	return s, nil
}

// keeping is a selection made ready for use.
type keeping struct {
	Selection
	raw     []byte            // as stored, to see whether it is still the one in force
	tags    map[keys.Tag]bool // nil: all
	filters map[keys.Tag][]matcher
}

type matcher struct {
	re     *regexp.Regexp // nil: prefix counts
	prefix string
}

// keeping returns the selection in force.
func (s *state) keeping() (*keeping, error) {
	if s.kept != nil {
		return s.kept, nil
	}
	raw := s.meta.Get(metaSelection)
	if k := s.v.kept.Load(); k != nil && bytes.Equal(k.raw, raw) {
		s.kept = k
		return k, nil
	}
	k := &keeping{raw: bytes.Clone(raw)}
	if raw != nil {
		plain, err := s.v.keys.local.Open(nil, raw, metaSelection)
		if err != nil {
			return nil, fmt.Errorf("%w: selection does not open", ErrDamaged)
		}
		if k.Selection, err = parseSelection(plain); err != nil {
			return nil, err
		}
	}
	if len(k.Namespaces) > 0 {
		k.tags = make(map[keys.Tag]bool, len(k.Namespaces))
		for _, n := range k.Namespaces {
			k.tags[s.v.keys.tag(n)] = true
		}
	}
	k.filters = make(map[keys.Tag][]matcher)
	for _, f := range k.Filters {
		re, err := f.compile()
		if err != nil {
			return nil, err
		}
		tag := s.v.keys.tag(f.Namespace)
		k.filters[tag] = append(k.filters[tag], matcher{re, f.Prefix})
	}
	s.v.kept.Store(k)
	s.kept = k
	return k, nil
}

// has reports whether the namespace is kept.
func (k *keeping) has(tag keys.Tag) bool { return k.tags == nil || k.tags[tag] }

// bindTags returns the namespaces that BIND asks for; nil: all.
func (k *keeping) bindTags() wire.Tags {
	if k.tags == nil {
		return nil
	}
	tags := make(wire.Tags, 0, len(k.tags))
	for t := range k.tags {
		tags = append(tags, t)
	}
	slices.SortFunc(tags, func(a, b keys.Tag) int { return bytes.Compare(a[:], b[:]) })
	return tags
}

// long reports whether a value over 64 KiB, of that many bytes, is kept of a
// record in a namespace that is.
func (k *keeping) long(tag keys.Tag, name string, size uint64) bool {
	if k.Lazy > 0 && size > uint64(k.Lazy) {
		return false
	}
	matchers := k.filters[tag]
	return len(matchers) == 0 || slices.ContainsFunc(matchers, func(m matcher) bool {
		if m.re != nil {
			return m.re.MatchString(name)
		}
		return strings.HasPrefix(name, m.prefix)
	})
}

// filtered reports whether that depends on the record.
func (k *keeping) filtered(tag keys.Tag) bool { return k.Lazy > 0 || len(k.filters[tag]) > 0 }
