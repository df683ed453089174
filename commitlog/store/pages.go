package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"
)

// bbolt trusts its file: a page number that points in a circle, or a count that
// is far too large, ends the process or never ends at all, and what a flipped bit
// makes of an older state is read like any other. So a file is looked through
// before bbolt opens it, with plain reads and every bound checked: both meta
// pages, the list of free pages, all branch pages, and that no page is used twice
// or used and free. That is a small part of the file; the leaves are looked at
// when they are read (see Bucket.Scan), and all of them by [DB.Check].

// Layout of a bbolt file, version 2. Numbers are in the machine's byte order.
const (
	pageHeader  = 16 // page number u64 ‖ flags u16 ‖ count u16 ‖ overflow u32
	pageElement = 16 // branch: pos u32 ‖ key size u32 ‖ page number u64; leaf: flags u32 ‖ pos u32 ‖ key size u32 ‖ value size u32

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSize    = 64 // magic u32 ‖ version u32 ‖ page size u32 ‖ flags u32 ‖ root u64 ‖ sequence u64 ‖ freelist u64 ‖ pages u64 ‖ txid u64 ‖ checksum u64

	bucketHeader = 16 // root u64 ‖ sequence u64; a page follows where root is 0

	noFreelist = ^uint64(0)
	maxDepth   = 64
	maxPage    = 256 << 20 // bytes of a page with what overflows from it
)

var ne = binary.NativeEndian

// pageMeta is what a meta page says.
type pageMeta struct {
	pageSize                    int64
	root, freelist, pages, txid uint64
}

// pageFile reads the pages of a store's file.
type pageFile struct {
	r    io.ReaderAt
	size int64
	pageMeta
}

func damagedPage(id uint64, format string, args ...any) error {
	return fmt.Errorf("%w: page %d: %s", ErrDamaged, id, fmt.Sprintf(format, args...))
}

// parseMeta decodes a meta page that stands at offset at.
func parseMeta(r io.ReaderAt, at int64) (m pageMeta, ok bool) {
	var b [pageHeader + metaSize]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return m, false
	}
	p := b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(p[:metaSize-8])
	if ne.Uint32(p) != metaMagic || ne.Uint32(p[4:]) != metaVersion || ne.Uint64(p[metaSize-8:]) != sum.Sum64() {
		return m, false
	}
	m = pageMeta{int64(ne.Uint32(p[8:])), ne.Uint64(p[16:]), ne.Uint64(p[32:]), ne.Uint64(p[40:]), ne.Uint64(p[48:])}
	return m, m.pageSize >= 1024 && m.pageSize <= 1<<24 && m.pageSize&(m.pageSize-1) == 0
}

// openPages finds the meta page in force. The error says what is wrong with the
// file as a whole; f is not nil where something can be read all the same.
func openPages(r io.ReaderAt, size int64) (f *pageFile, err error) {
	f = &pageFile{r: r, size: size}
	first, ok0 := parseMeta(r, 0)
	second, ok1 := parseMeta(r, first.pageSize)
	for at := int64(1024); !ok0 && !ok1 && at <= 1<<16; at *= 2 {
		second, ok1 = parseMeta(r, at)
		ok1 = ok1 && second.pageSize == at
	}
	switch {
	case !ok0 && !ok1:
		return nil, fmt.Errorf("%w: it has no page that says what is in it", ErrDamaged)
	case !ok0:
		f.pageMeta, err = second, damagedPage(0, "not what was written")
	case !ok1:
		// What it says may be newer, and be what was made durable last.
		f.pageMeta, err = first, damagedPage(1, "not what was written")
	default:
		if f.pageMeta = first; second.txid > first.txid {
			f.pageMeta = second
		}
		if d := int64(first.txid - second.txid); d != 1 && d != -1 || first.pageSize != second.pageSize {
			err = damagedPage(0, "it does not go with page 1")
		}
	}
	if have := uint64(size / f.pageSize); f.pages > have || f.pages < 2 {
		err = errors.Join(err, fmt.Errorf("%w: it has %d pages of %d", ErrDamaged, have, f.pages))
		f.pages = min(f.pages, have)
	}
	return f, err
}

// A page is a page with what overflows from it.
type page struct {
	id       uint64
	flags    uint16
	count    int
	overflow uint64
	b        []byte
}

// header reads the head of a page.
func (f *pageFile) header(id uint64) (p page, err error) {
	if id < 2 || id >= f.pages {
		return p, damagedPage(id, "there is no such page")
	}
	var b [pageHeader]byte
	if _, err := f.r.ReadAt(b[:], int64(id)*f.pageSize); err != nil {
		return p, damagedPage(id, "%v", err)
	}
	p = page{id: id, flags: ne.Uint16(b[8:]), count: int(ne.Uint16(b[10:])), overflow: uint64(ne.Uint32(b[12:]))}
	if own := ne.Uint64(b[:]); own != id {
		return p, damagedPage(id, "it says that it is page %d", own)
	}
	if p.overflow >= f.pages-id || int64(p.overflow)*f.pageSize > maxPage {
		return p, damagedPage(id, "it goes on for %d pages", p.overflow)
	}
	return p, nil
}

// read reads a page that is to have one of the flags.
func (f *pageFile) read(id uint64, flags ...uint16) (*page, error) {
	p, err := f.header(id)
	if err != nil {
		return nil, err
	}
	known := false
	for _, flag := range flags {
		known = known || p.flags == flag
	}
	if !known {
		return nil, damagedPage(id, "it is of kind %#x", p.flags)
	}
	p.b = make([]byte, f.pageSize*int64(p.overflow+1))
	if _, err := f.r.ReadAt(p.b, int64(id)*f.pageSize); err != nil {
		return nil, damagedPage(id, "%v", err)
	}
	return &p, nil
}

// An element is one of a page. Of a branch, child is the page that it points to.
type element struct {
	key, value []byte
	child      uint64
	bucket     bool
	at         int // of the key in the page; the next one's follows the value
}

func (p *page) element(i int) (e element, err error) {
	bad := damagedPage(p.id, "element %d of %d", i, p.count)
	at := pageHeader + i*pageElement
	if at+pageElement > len(p.b) {
		return e, bad
	}
	h := p.b[at:]
	var pos, ksize, vsize uint64
	if p.flags == flagBranch {
		pos, ksize, e.child = uint64(ne.Uint32(h)), uint64(ne.Uint32(h[4:])), ne.Uint64(h[8:])
	} else {
		e.bucket = ne.Uint32(h) == flagBucket
		pos, ksize, vsize = uint64(ne.Uint32(h[4:])), uint64(ne.Uint32(h[8:])), uint64(ne.Uint32(h[12:]))
		if flags := ne.Uint32(h); flags > flagBucket {
			return e, bad
		}
	}
	if pos < pageElement || pos+ksize+vsize > uint64(len(h)) {
		return e, bad
	}
	e.at = at + int(pos)
	e.key, e.value = h[pos:pos+ksize], h[pos+ksize:pos+ksize+vsize]
	return e, nil
}

// A walk goes through the pages that are reached from the file's root.
type walk struct {
	f     *pageFile
	deep  bool                                   // read all leaves; otherwise only those that hold buckets
	fault func(error) error                      // what to do about a fault: nil goes on without that page
	leaf  func(path []string, key, value []byte) // may be nil
	open  func(path []string, sequence uint64)   // a bucket; may be nil
	used  []bool                                 // by page number
	path  []string                               // of the bucket
}

func (w *walk) use(id, overflow uint64) error {
	for i := id; i <= id+overflow; i++ {
		if i >= uint64(len(w.used)) {
			return damagedPage(id, "there is no such page")
		}
		if w.used[i] {
			return damagedPage(i, "it has two uses")
		}
		w.used[i] = true
	}
	return nil
}

// run goes through all of the file.
func (w *walk) run() error {
	w.used = make([]bool, w.f.pages)
	return w.tree(w.f.root, nil, nil, 0)
}

// tree goes through a page and all below it, whose keys are from low on and below
// high (nil: no bound).
func (w *walk) tree(id uint64, low, high []byte, depth int) error {
	p, err := w.f.read(id, flagBranch, flagLeaf)
	if err == nil && depth > maxDepth {
		err = damagedPage(id, "it is %d pages deep", depth)
	}
	if err == nil {
		err = w.use(id, p.overflow)
	}
	if err != nil {
		return w.fault(err)
	}
	if p.count == 0 && (p.flags == flagBranch || len(w.path)+depth > 0) { // an empty bucket stands in the page above
		err = w.fault(damagedPage(id, "it is empty"))
	}
	if err != nil || p.count == 0 {
		return err
	}
	if p.flags == flagLeaf {
		return w.elements(p, low, high)
	}
	// All leaves of a tree are equally deep, so the first child tells for all.
	leaves := false
	for i := range p.count {
		e, err := p.element(i)
		if err == nil {
			err = within(p, e.key, low, high)
		}
		if err != nil {
			return w.fault(err)
		}
		low = e.key
		below := high
		if i+1 < p.count {
			next, err := p.element(i + 1)
			if err != nil {
				return w.fault(err)
			}
			if below = next.key; bytes.Compare(e.key, below) >= 0 {
				return w.fault(damagedPage(id, "key %d is out of order", i+1))
			}
		}
		if i == 0 && !w.deep {
			if leaves, err = w.plain(e.child); err != nil {
				return w.fault(err)
			}
		}
		leaf := leaves
		if leaf && below == nil { // the last of its bucket
			if leaf, err = w.plain(e.child); err != nil {
				return w.fault(err)
			}
		}
		if leaf {
			err = w.use(e.child, 0)
			if err != nil {
				err = w.fault(err)
			}
		} else {
			err = w.tree(e.child, e.key, below, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// plain reports whether a page is a leaf that holds no buckets. Where a bucket holds both
// values and buckets, those come last.
func (w *walk) plain(id uint64) (bool, error) {
	h, err := w.f.header(id)
	if err != nil || h.flags != flagLeaf || h.count == 0 {
		return false, err
	}
	p, err := w.f.read(id, flagLeaf)
	if err != nil {
		return false, err
	}
	first, err := p.element(0)
	if err != nil {
		return false, err
	}
	last, err := p.element(p.count - 1)
	return !first.bucket && !last.bucket, err
}

func within(p *page, key, low, high []byte) error {
	if bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 {
		return damagedPage(p.id, "a key is out of order")
	}
	return nil
}

// elements goes through a leaf.
func (w *walk) elements(p *page, low, high []byte) error {
	end := pageHeader + pageElement*p.count
	for i := range p.count {
		e, err := p.element(i)
		if err == nil && e.at != end {
			err = damagedPage(p.id, "element %d of %d is not where it should be", i, p.count)
		}
		end = e.at + len(e.key) + len(e.value)
		if err == nil {
			err = within(p, e.key, low, high)
		}
		if err == nil && i > 0 && bytes.Equal(low, e.key) {
			err = damagedPage(p.id, "a key is there twice")
		}
		if err != nil {
			if err = w.fault(err); err != nil {
				return err
			}
			continue
		}
		low = e.key
		if e.bucket {
			if err := w.bucket(p, e); err != nil {
				return err
			}
		} else if w.leaf != nil {
			w.leaf(w.path, e.key, e.value)
		}
	}
	return nil
}

// bucket goes through a bucket within the present one.
func (w *walk) bucket(p *page, e element) error {
	if len(e.value) < bucketHeader || len(w.path) > 8 {
		return w.fault(damagedPage(p.id, "bucket %q", e.key))
	}
	w.path = append(w.path, string(e.key))
	defer func() { w.path = w.path[:len(w.path)-1] }()
	if w.open != nil {
		w.open(w.path, ne.Uint64(e.value[8:]))
	}
	if root := ne.Uint64(e.value); root != 0 {
		return w.tree(root, nil, nil, 0)
	}
	in := e.value[bucketHeader:]
	if len(in) < pageHeader || ne.Uint16(in[8:]) != flagLeaf {
		return w.fault(damagedPage(p.id, "bucket %q", e.key))
	}
	inside := &page{id: p.id, flags: flagLeaf, count: int(ne.Uint16(in[10:])), b: in}
	if inside.count == 0 && len(in) > pageHeader {
		return w.fault(damagedPage(p.id, "bucket %q is empty", e.key))
	}
	return w.elements(inside, nil, nil)
}

// free returns the numbers of the pages that are free.
func (f *pageFile) free() (ids []uint64, p *page, err error) {
	if f.freelist == noFreelist {
		return nil, nil, nil
	}
	if p, err = f.read(f.freelist, flagFreelist); err != nil {
		return nil, nil, err
	}
	n, b := uint64(p.count), p.b[pageHeader:]
	if n == 0xFFFF {
		n, b = ne.Uint64(b), b[8:]
	}
	if n > uint64(len(b)/8) {
		return nil, nil, damagedPage(p.id, "%d free pages", n)
	}
	last := uint64(1)
	for ; n > 0; n, b = n-1, b[8:] {
		id := ne.Uint64(b)
		if id <= last || id >= f.pages {
			return nil, nil, damagedPage(p.id, "page %d is free after %d", id, last)
		}
		last = id
		ids = append(ids, id)
	}
	return ids, p, nil
}

// A depth is how much of a file is looked through.
type depth uint8

const (
	depthEnds     depth = iota // meta pages and the list of free pages
	depthBranches              // … and all branches
	depthLeaves                // … and all else
)

// checkPages looks through a store's file.
func checkPages(r io.ReaderAt, size int64, d depth) error {
	f, err := openPages(r, size)
	if err != nil {
		return err
	}
	ids, list, err := f.free()
	if err != nil || d == depthEnds {
		return err
	}
	w := &walk{f: f, deep: d == depthLeaves, fault: func(err error) error { return err }}
	if err := w.run(); err != nil {
		return err
	}
	if list != nil {
		if err := w.use(list.id, list.overflow); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := w.use(id, 0); err != nil {
			return err
		}
	}
	for id := 2; w.deep && id < len(w.used); id++ {
		if !w.used[id] {
			return damagedPage(uint64(id), "it has no use")
		}
	}
	return nil
}

// A Salvage is what can still be read of a damaged file.
type Salvage struct {
	Faults []error // what cannot be read, at most some
	Old    bool    // what nothing points to may be of pages that were free, and so old
}

// maxFaults bounds the faults that are told one by one.
const maxFaults = 16

func (s *Salvage) note(err error) error {
	if err != nil && len(s.Faults) < maxFaults {
		s.Faults = append(s.Faults, err)
	}
	return nil
}

// Read reads what can be read of a store's file, however damaged, without
// opening it as a store: bucket is called with each bucket's path and sequence,
// leaf with each element that is reached from the root, lost with each element
// of a leaf that nothing points to any more, which may be of any bucket. Keys and
// values are valid until the call returns. It returns [ErrInUse] where somebody
// has the store open.
func Read(path string, bucket func(path []string, sequence uint64), leaf func(path []string, key, value []byte), lost func(key, value []byte)) (*Salvage, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil {
		err = lock(file, 2*time.Second)
	}
	if err != nil {
		return nil, err
	}
	s := &Salvage{}
	f, ferr := openPages(file, info.Size())
	s.note(ferr)
	if f == nil {
		f = &pageFile{r: file, size: info.Size(), pageMeta: pageMeta{pageSize: int64(os.Getpagesize()), freelist: noFreelist}}
		f.pages = uint64(f.size / f.pageSize)
	}
	w := &walk{f: f, deep: true, fault: s.note, leaf: leaf, open: bucket}
	if err := w.run(); err != nil {
		return nil, err
	}
	missed := len(s.Faults) > 0
	ids, _, err := f.free()
	s.note(err)
	switch {
	case ferr != nil:
		// It may be an older page that says what is free: what was made durable last
		// may stand there.
		s.Old = true
	case err != nil:
		s.Old = true
		if !missed {
			return s, nil
		}
	default:
		for _, id := range ids {
			w.used[id] = true
		}
	}
	f.pages = uint64(f.size / f.pageSize)
	for id := uint64(2); id < f.pages; id++ {
		if id < uint64(len(w.used)) && w.used[id] {
			continue
		}
		p, err := f.read(id, flagLeaf)
		if err != nil {
			continue
		}
		for i := range p.count {
			if e, err := p.element(i); err == nil && !e.bucket {
				lost(e.key, e.value)
			}
		}
	}
	return s, nil
}
