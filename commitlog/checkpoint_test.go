package commitlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/golden"
	"github.com/kistvault/kist/keys"
)

func goldenDevice(t testing.TB) *keys.DeviceKeys {
	t.Helper()
	d, err := keys.NewDeviceSeed([32]byte{0xdd}).Keys()
	fatal(t, err)
	return d
}

// goldenCheckpoint returns a checkpoint of a log of 11 commits that is not signed.
func goldenCheckpoint(t testing.TB) *commitlog.Checkpoint {
	t.Helper()
	root, d := goldenRoot(t), goldenDevice(t)
	c := &commitlog.Checkpoint{
		Vault: root.VaultID(), Device: d.ID(), Size: 11, Resets: 1, Time: 1_763_650_740_000,
		Control: commitlog.ControlHead{Number: 3, Hash: commitlog.Hash{0xc0}},
		Peaks:   []commitlog.Hash{{0x08}, {0x02}, {0x01}},
		Authors: []commitlog.AuthorEnd{
			{Seq: 2, Leaf: commitlog.Hash{0xa0}},
			{Device: d.ID(), Seq: 99, Leaf: commitlog.Hash{0xa1}, Seen: 10},
			{Device: keys.DeviceID{0xff}, Seq: 1, Leaf: commitlog.Hash{0xa2}, Seen: 4},
		},
		Namespaces: []commitlog.NamespaceState{
			{Tag: root.TagSecret().Tag("_ctl"), Count: 3, Bytes: 3 * commitlog.MaxControlBlob, Hash: commitlog.Hash{0xb0}},
			{Tag: root.TagSecret().Tag("notes"), Count: 2, Bytes: 2 * commitlog.MinBlob, Hash: commitlog.Hash{0xb1}},
			{Tag: keys.Tag{0xff, 0xff}, Count: 1, Bytes: 1000, Hash: commitlog.Hash{0xb2}},
		},
	}
	slices.SortFunc(c.Namespaces, func(a, b commitlog.NamespaceState) int { return bytes.Compare(a.Tag[:], b.Tag[:]) })
	return c
}

func signer(t testing.TB) func(m []byte) [64]byte {
	root, d := goldenRoot(t), goldenDevice(t)
	return func(m []byte) [64]byte { return d.Sign.Sign(keys.PurposeCheckpoint, root.VaultID(), m) }
}

// anyCheckpoint encodes and signs a checkpoint as the specification says it,
// whether it is one or not.
func anyCheckpoint(c *commitlog.Checkpoint, sign func([]byte) [64]byte) []byte {
	be := binary.BigEndian
	b := append([]byte{1}, c.Vault[:]...)
	b = append(b, c.Device[:]...)
	for _, n := range []uint64{c.Size, c.Resets, c.Time, c.Control.Number} {
		b = be.AppendUint64(b, n)
	}
	b = append(append(b, c.Control.Hash[:]...), byte(len(c.Peaks)))
	for _, p := range c.Peaks {
		b = append(b, p[:]...)
	}
	b = be.AppendUint16(b, uint16(len(c.Authors)))
	for _, a := range c.Authors {
		b = be.AppendUint64(append(b, a.Device[:]...), a.Seq)
		b = be.AppendUint64(append(b, a.Leaf[:]...), a.Seen)
	}
	b = be.AppendUint32(b, uint32(len(c.Namespaces)))
	for _, n := range c.Namespaces {
		b = be.AppendUint64(append(b, n.Tag[:]...), n.Count)
		b = be.AppendUint64(b, n.Bytes)
		b = append(b, n.Hash[:]...)
	}
	signature := sign(b)
	return append(b, signature[:]...)
}

// Where the fields of goldenCheckpoint stand.
const (
	offSize    = 33
	offPeaks   = 97 // their number
	offAuthors = offPeaks + 1 + 3*32
	offTags    = offAuthors + 2 + 3*64
)

type checkpointVectors struct {
	Comment    string             `json:"comment"`
	Root       string             `json:"root"`
	DeviceSeed string             `json:"device_seed"`
	SignKey    golden.Hex         `json:"signing_key"`
	Valid      []checkpointVector `json:"valid"`
	Invalid    []checkpointBroken `json:"invalid"`
}

type checkpointVector struct {
	Name       string     `json:"name"`
	Size       uint64     `json:"size"`
	Peaks      int        `json:"peaks"`
	Authors    int        `json:"authors"`
	Namespaces int        `json:"namespaces"`
	TreeRoot   golden.Hex `json:"tree_root"`
	Checkpoint golden.Hex `json:"checkpoint"`
}

type checkpointBroken struct {
	Name       string     `json:"name"`
	Checkpoint golden.Hex `json:"checkpoint"`
	Expect     string     `json:"expect"`
}

// brokenCheckpoints breaks each rule of the form, one at a time.
func brokenCheckpoints(t testing.TB) (out []checkpointBroken) {
	broken := func(name, expect string, change func(c *commitlog.Checkpoint)) {
		c := goldenCheckpoint(t)
		change(c)
		out = append(out, checkpointBroken{name, anyCheckpoint(c, signer(t)), expect})
	}
	bytesOf := func(name, expect string, change func(b []byte) []byte) {
		out = append(out, checkpointBroken{name, change(anyCheckpoint(goldenCheckpoint(t), signer(t))), expect})
	}
	bytesOf("empty", "malformed", func([]byte) []byte { return nil })
	bytesOf("version 2", "version", func(b []byte) []byte { b[0] = 2; return b })
	bytesOf("version 0", "version", func(b []byte) []byte { b[0] = 0; return b })
	broken("device id of zeros", "malformed", func(c *commitlog.Checkpoint) { c.Device = keys.DeviceID{} })
	broken("size 0", "malformed", func(c *commitlog.Checkpoint) {
		c.Size, c.Resets, c.Peaks = 0, 0, nil
	})
	broken("size 2⁴⁰", "malformed", func(c *commitlog.Checkpoint) { c.Size, c.Peaks = 1<<40, c.Peaks[:1] })
	broken("as many resets as commits", "malformed", func(c *commitlog.Checkpoint) { c.Resets = 11 })
	broken("time 2⁴⁸", "malformed", func(c *commitlog.Checkpoint) { c.Time = 1 << 48 })
	broken("no control statement", "malformed", func(c *commitlog.Checkpoint) { c.Control.Number = 0 })
	broken("a peak too few", "malformed", func(c *commitlog.Checkpoint) { c.Peaks = c.Peaks[:2] })
	broken("a peak too many", "malformed", func(c *commitlog.Checkpoint) { c.Peaks = append(c.Peaks, commitlog.Hash{}) })
	broken("no peaks", "malformed", func(c *commitlog.Checkpoint) { c.Peaks = nil })
	broken("no authors", "malformed", func(c *commitlog.Checkpoint) { c.Authors = nil })
	broken("no authority", "malformed", func(c *commitlog.Checkpoint) { c.Authors = c.Authors[1:] })
	broken("authors descend", "malformed", func(c *commitlog.Checkpoint) { c.Authors[1], c.Authors[2] = c.Authors[2], c.Authors[1] })
	broken("an author twice", "malformed", func(c *commitlog.Checkpoint) { c.Authors[2].Device = c.Authors[1].Device })
	broken("the authority twice", "malformed", func(c *commitlog.Checkpoint) { c.Authors[1].Device = keys.DeviceID{} })
	broken("sequence number 0", "malformed", func(c *commitlog.Checkpoint) { c.Authors[1].Seq = 0 })
	broken("sequence number 2⁶³", "malformed", func(c *commitlog.Checkpoint) { c.Authors[1].Seq = 1 << 63 })
	broken("seen size of the log's", "malformed", func(c *commitlog.Checkpoint) { c.Authors[2].Seen = 11 })
	broken("the authority's seen size of the log's", "malformed", func(c *commitlog.Checkpoint) { c.Authors[0].Seen = 11 })
	broken("a device that saw nothing", "malformed", func(c *commitlog.Checkpoint) { c.Authors[1].Seen = 0 })
	broken("no namespaces", "malformed", func(c *commitlog.Checkpoint) { c.Namespaces = nil })
	broken("tags descend", "malformed", func(c *commitlog.Checkpoint) {
		c.Namespaces[0], c.Namespaces[1] = c.Namespaces[1], c.Namespaces[0]
	})
	broken("a tag twice", "malformed", func(c *commitlog.Checkpoint) { c.Namespaces[1].Tag = c.Namespaces[0].Tag })
	broken("no live changes", "malformed", func(c *commitlog.Checkpoint) { c.Namespaces[2].Count = 0 })
	broken("no live changes and no bytes", "malformed", func(c *commitlog.Checkpoint) { c.Namespaces[2].Count, c.Namespaces[2].Bytes = 0, 0 })
	broken("no bytes", "malformed", func(c *commitlog.Checkpoint) { c.Namespaces[2].Bytes = 0 })
	broken("2⁵⁶ live changes", "malformed", func(c *commitlog.Checkpoint) { c.Namespaces[2].Count, c.Namespaces[2].Bytes = 1<<56, 1<<62-1 })
	broken("too few bytes", "malformed", func(c *commitlog.Checkpoint) {
		c.Namespaces[2].Count, c.Namespaces[2].Bytes = 5, 5*commitlog.MinBlob-1
	})
	broken("too many bytes", "malformed", func(c *commitlog.Checkpoint) {
		c.Namespaces[2].Count, c.Namespaces[2].Bytes = 5, 5*commitlog.MaxControlBlob+1
	})
	broken("2⁶² bytes in all", "malformed", func(c *commitlog.Checkpoint) {
		for i := range c.Namespaces {
			c.Namespaces[i].Count, c.Namespaces[i].Bytes = 1<<42, 1<<62/3+1
		}
	})
	bytesOf("ends after the first byte", "malformed", func(b []byte) []byte { return b[:1] })
	bytesOf("ends within the peaks", "malformed", func(b []byte) []byte { return b[:offPeaks+40] })
	bytesOf("ends within the authors", "malformed", func(b []byte) []byte { return b[:offAuthors+40] })
	bytesOf("ends within the namespaces", "malformed", func(b []byte) []byte { return b[:offTags+40] })
	bytesOf("without signature", "malformed", func(b []byte) []byte { return b[:len(b)-64] })
	bytesOf("ends within the signature", "malformed", func(b []byte) []byte { return b[:len(b)-1] })
	bytesOf("a byte behind the signature", "malformed", func(b []byte) []byte { return append(b, 0) })
	bytesOf("an author more than are there", "malformed", func(b []byte) []byte { b[offAuthors+1]++; return b })
	bytesOf("an author fewer than are there", "malformed", func(b []byte) []byte { b[offAuthors+1]--; return b })
	bytesOf("a namespace more than are there", "malformed", func(b []byte) []byte { b[offTags+3]++; return b })
	bytesOf("a namespace fewer than are there", "malformed", func(b []byte) []byte { b[offTags+3]--; return b })
	bytesOf("2³² − 1 namespaces", "malformed", func(b []byte) []byte {
		copy(b[offTags:], "\xff\xff\xff\xff")
		return b
	})
	bytesOf("65,535 authors", "malformed", func(b []byte) []byte { copy(b[offAuthors:], "\xff\xff"); return b })
	bytesOf("255 peaks", "malformed", func(b []byte) []byte { b[offPeaks] = 255; return b })

	other := func(name string, change func(c *commitlog.Checkpoint) func([]byte) [64]byte) {
		c := goldenCheckpoint(t)
		out = append(out, checkpointBroken{name, anyCheckpoint(c, change(c)), "signature"})
	}
	root, d := goldenRoot(t), goldenDevice(t)
	other("signed by another key", func(*commitlog.Checkpoint) func([]byte) [64]byte {
		return func(m []byte) [64]byte {
			return keys.NewSigningKey([32]byte{1}).Sign(keys.PurposeCheckpoint, root.VaultID(), m)
		}
	})
	other("signed as a commit", func(*commitlog.Checkpoint) func([]byte) [64]byte {
		return func(m []byte) [64]byte { return d.Sign.Sign(keys.PurposeCommit, root.VaultID(), m) }
	})
	other("signed for another vault", func(*commitlog.Checkpoint) func([]byte) [64]byte {
		return func(m []byte) [64]byte { return d.Sign.Sign(keys.PurposeCheckpoint, keys.VaultID{1}, m) }
	})
	bytesOf("another time than was signed", "signature", func(b []byte) []byte { b[offSize+8+8+7]++; return b })
	return out
}

// TestGoldenCheckpoint pins the form, and that each rule is one.
func TestGoldenCheckpoint(t *testing.T) {
	d := goldenDevice(t)
	public := d.Sign.Public()
	v := checkpointVectors{
		Comment: "SPEC.md, Checkpoints. expect is malformed or version where it does not decode, and signature where it does.",
		Root:    goldenRootText, DeviceSeed: "dd then 31 zero bytes", SignKey: golden.Hex(public[:]),
	}
	valid := func(name string, change func(c *commitlog.Checkpoint)) {
		c := goldenCheckpoint(t)
		change(c)
		want := anyCheckpoint(c, signer(t))
		fatal(t, c.Sign(signer(t)))
		if !bytes.Equal(c.Raw, want) {
			t.Errorf("%s: encodes to %x, want %x", name, c.Raw, want)
		}
		root := c.Root()
		v.Valid = append(v.Valid, checkpointVector{name, c.Size, len(c.Peaks), len(c.Authors), len(c.Namespaces), golden.Hex(root[:]), golden.Hex(c.Raw)})
	}
	valid("eleven commits", func(*commitlog.Checkpoint) {})
	valid("one commit, of the authority alone", func(c *commitlog.Checkpoint) {
		c.Size, c.Resets, c.Control.Number = 1, 0, 1
		c.Peaks, c.Authors, c.Namespaces = c.Peaks[:1], c.Authors[:1], c.Namespaces[:1]
	})
	valid("the largest numbers", func(c *commitlog.Checkpoint) {
		c.Size, c.Resets, c.Time, c.Control.Number = 1<<40-1, 1<<40-2, 1<<48-1, math.MaxUint64
		c.Peaks = make([]commitlog.Hash, 40)
		c.Authors[2].Seq, c.Authors[2].Seen = 1<<63-1, 1<<40-2
		c.Namespaces = c.Namespaces[:1]
		c.Namespaces[0].Count, c.Namespaces[0].Bytes = 1<<53, 1<<62-1
	})
	v.Invalid = brokenCheckpoints(t)

	golden.Check(t, "commitlog/checkpoint.json", v)
	v = checkpointVectors{}
	golden.Load(t, "commitlog/checkpoint.json", &v)
	for _, g := range v.Valid {
		c, err := commitlog.ParseCheckpoint(g.Checkpoint)
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		root := c.Root()
		if c.Size != g.Size || len(c.Peaks) != g.Peaks || len(c.Authors) != g.Authors || len(c.Namespaces) != g.Namespaces || !bytes.Equal(root[:], g.TreeRoot) {
			t.Errorf("%s: %+v", g.Name, c)
		}
		if !c.Verify(public) || c.Verify(keys.NewSigningKey([32]byte{1}).Public()) {
			t.Errorf("%s: Verify", g.Name)
		}
	}
	class := map[string]error{"malformed": commitlog.ErrMalformed, "version": commitlog.ErrVersion}
	for _, g := range v.Invalid {
		c, err := commitlog.ParseCheckpoint(g.Checkpoint)
		if !errors.Is(err, class[g.Expect]) || err != nil && c != nil {
			t.Errorf("%s: %v, want %s", g.Name, err, g.Expect)
		}
		if g.Expect == "signature" && c.Verify(public) {
			t.Errorf("%s: verifies", g.Name)
		}
	}
}

// What no decoder takes is not signed.
func TestCheckpointSignRefuses(t *testing.T) {
	c := goldenCheckpoint(t)
	c.Authors = c.Authors[1:]
	if err := c.Sign(signer(t)); !errors.Is(err, commitlog.ErrMalformed) {
		t.Errorf("without the authority: %v, want ErrMalformed", err)
	}
	// The largest that fits, and one namespace more.
	fixed := len(anyCheckpoint(goldenCheckpoint(t), signer(t))) - 3*64
	most := (commitlog.MaxCheckpoint - fixed) / 64
	for n, want := range map[int]error{most: nil, most + 1: commitlog.ErrLimit} {
		c := goldenCheckpoint(t)
		c.Namespaces = make([]commitlog.NamespaceState, n)
		for i := range c.Namespaces {
			c.Namespaces[i] = commitlog.NamespaceState{Count: 1, Bytes: commitlog.MinBlob}
			binary.BigEndian.PutUint32(c.Namespaces[i].Tag[:], uint32(i))
		}
		if err := c.Sign(signer(t)); !errors.Is(err, want) {
			t.Errorf("%d namespaces: %v, want %v", n, err, want)
		}
		if changes, size := c.Live(); changes != uint64(n) || size != uint64(n)*commitlog.MinBlob {
			t.Errorf("%d namespaces: %d live changes of %d bytes", n, changes, size)
		}
	}
	c = goldenCheckpoint(t)
	c.Authors = append(c.Authors, make([]commitlog.AuthorEnd, 1<<16)...)
	if err := c.Sign(signer(t)); !errors.Is(err, commitlog.ErrLimit) {
		t.Errorf("65,539 authors: %v, want ErrLimit", err)
	}
}

func TestCheckpointAuthor(t *testing.T) {
	c := goldenCheckpoint(t)
	for _, want := range c.Authors {
		if got, ok := c.Author(want.Device); !ok || got != want {
			t.Errorf("author %s: %+v, %v", want.Device, got, ok)
		}
	}
	if got, ok := c.Author(keys.DeviceID{7}); ok || got != (commitlog.AuthorEnd{}) {
		t.Errorf("one that has no commit: %+v, %v", got, ok)
	}
}

func TestCheckpointSame(t *testing.T) {
	tests := []struct {
		name   string
		want   error
		change func(c *commitlog.Checkpoint)
	}{
		{"itself", nil, func(*commitlog.Checkpoint) {}},
		{"another signer", nil, func(c *commitlog.Checkpoint) { c.Device[0]++ }},
		{"another time", nil, func(c *commitlog.Checkpoint) { c.Time++ }},
		{"another signature", nil, func(c *commitlog.Checkpoint) { c.Signature[0]++ }},
		{"another size", commitlog.ErrFork, func(c *commitlog.Checkpoint) { c.Size++ }},
		{"another peak", commitlog.ErrFork, func(c *commitlog.Checkpoint) { c.Peaks[2][0]++ }},
		{"another peak and other authors", commitlog.ErrFork, func(c *commitlog.Checkpoint) { c.Peaks[0][0]++; c.Authors = nil }},
		{"resets", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Resets++ }},
		{"control number", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Control.Number++ }},
		{"control hash", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Control.Hash[0]++ }},
		{"an author's number", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Authors[1].Seq++ }},
		{"an author's leaf", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Authors[1].Leaf[0]++ }},
		{"an author's seen size", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Authors[1].Seen++ }},
		{"an author fewer", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Authors = c.Authors[:2] }},
		{"a count", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Namespaces[0].Count++ }},
		{"bytes", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Namespaces[1].Bytes++ }},
		{"a state hash", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Namespaces[2].Hash[0]++ }},
		{"a tag", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Namespaces[2].Tag[5]++ }},
		{"a namespace fewer", commitlog.ErrCheckpoint, func(c *commitlog.Checkpoint) { c.Namespaces = c.Namespaces[:2] }},
	}
	for _, tt := range tests {
		a, b := goldenCheckpoint(t), goldenCheckpoint(t)
		tt.change(b)
		for _, err := range []error{a.Same(b), b.Same(a)} {
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
	}
}

// The root follows from the peaks, at every size.
func TestCheckpointRoot(t *testing.T) {
	var hashes hashes
	for size := uint64(1); size <= 70; size++ {
		leaf := commitlog.Hash(sha256.Sum256(binary.BigEndian.AppendUint64(nil, size)))
		more, err := commitlog.GrowTree(hashes, size-1, leaf)
		fatal(t, err)
		hashes = append(hashes, more...)
		want, err := commitlog.TreeRoot(hashes, size)
		fatal(t, err)
		c := &commitlog.Checkpoint{Size: size}
		for _, index := range commitlog.Peaks(size) {
			h, err := hashes.ReadHash(index)
			fatal(t, err)
			c.Peaks = append(c.Peaks, h)
		}
		if got := c.Root(); got != want {
			t.Errorf("size %d: root %s, want %s", size, got, want)
		}
	}
	if got := commitlog.Peaks(0); len(got) != 0 {
		t.Errorf("peaks of the empty log: %v", got)
	}
}

// A state hash goes on from what it has written of itself.
func TestStateHashGoesOn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := goldenCommit(t)
	whole, cut := commitlog.NewStateHash(), commitlog.NewStateHash()
	for i := range 50 {
		if rng.IntN(3) == 0 {
			b, err := cut.AppendBinary([]byte("before"))
			fatal(t, err)
			cut = new(commitlog.StateHash)
			fatal(t, cut.UnmarshalBinary(b[len("before"):]))
		}
		entry := c.Changes[rng.IntN(len(c.Changes))].Entry
		for _, s := range []*commitlog.StateHash{whole, cut} {
			s.Add(commitlog.ChangeID{Commit: commitlog.CommitID(i + 1), Index: uint16(i)}, commitlog.Hash{byte(i)}, entry)
		}
		if whole.Sum() != cut.Sum() || whole.Count != cut.Count || whole.Bytes != cut.Bytes || whole.Count != uint64(i+1) || whole.Bytes != uint64(i+1)*commitlog.MinBlob {
			t.Fatalf("after %d: %d changes of %d bytes, and %d of %d, or another sum", i+1, whole.Count, whole.Bytes, cut.Count, cut.Bytes)
		}
	}
	b, err := whole.AppendBinary(nil)
	fatal(t, err)
	for n := range b {
		if err := new(commitlog.StateHash).UnmarshalBinary(b[:n]); err == nil {
			t.Errorf("%d bytes of %d are taken", n, len(b))
		}
	}
}

// FuzzParseCheckpoint: what parses as a checkpoint encodes to the same bytes, and
// is bounded by them.
func FuzzParseCheckpoint(f *testing.F) {
	f.Add(anyCheckpoint(goldenCheckpoint(f), signer(f)))
	for _, b := range brokenCheckpoints(f) {
		f.Add([]byte(b.Checkpoint))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := commitlog.ParseCheckpoint(data)
		if err != nil {
			return
		}
		again := anyCheckpoint(c, func([]byte) [64]byte { return c.Signature })
		if !bytes.Equal(again, data) || !bytes.Equal(c.Raw, data) {
			t.Errorf("encodes to %x", again)
		}
		c.Root()
		c.Verify(keys.VerifyKey{})
		changes, size := c.Live()
		if changes == 0 || size/commitlog.MinBlob < changes || size >= 1<<62 {
			t.Errorf("%d live changes of %d bytes", changes, size)
		}
		if err := c.Same(c); err != nil {
			t.Error(err)
		}
		other := *c
		if err := other.Sign(func([]byte) [64]byte { return c.Signature }); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(c, &other); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCheckpointSize(t *testing.T) {
	c := goldenCheckpoint(t)
	data := anyCheckpoint(c, signer(t))
	if n, err := commitlog.CheckpointSize(data); n != c.Size || err != nil {
		t.Errorf("size %d, %v; want %d", n, err, c.Size)
	}
	if _, err := commitlog.CheckpointSize(data[:40]); !errors.Is(err, commitlog.ErrMalformed) {
		t.Errorf("cut off: %v, want ErrMalformed", err)
	}
}
