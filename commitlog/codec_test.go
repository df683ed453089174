package commitlog_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/golden"
	"github.com/kistvault/kist/keys"
)

// FuzzParseCommit: what parses as a commit is its own canonical form.
func FuzzParseCommit(f *testing.F) {
	c := goldenCommit(f)
	f.Add(append(bytes.Clone(c.Raw), c.List...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < commitlog.HeaderSize {
			return
		}
		h, err := commitlog.ParseHeader(data[:commitlog.HeaderSize])
		if err != nil {
			return
		}
		if raw, _ := h.AppendBinary(nil); !bytes.Equal(raw, data[:commitlog.HeaderSize]) {
			t.Errorf("header encodes to %x", raw)
		}
		changes, err := commitlog.ParseChanges(data[commitlog.HeaderSize:], int(h.Changes))
		if err != nil {
			return
		}
		var list []byte
		for i := range changes {
			if len(changes[i].Entry) != changes[i].EntrySize() {
				t.Errorf("change %d: entry of %d bytes, size says %d", i, len(changes[i].Entry), changes[i].EntrySize())
			}
			list = append(list, changes[i].Entry...)
		}
		if !bytes.Equal(list, data[commitlog.HeaderSize:]) {
			t.Error("entries are not the list")
		}
	})
}

// FuzzParseStatement: what parses as a statement encodes to the same bytes.
func FuzzParseStatement(f *testing.F) {
	for _, s := range goldenStatements(f) {
		b, err := s.AppendBinary(nil)
		fatal(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := commitlog.ParseStatement(data)
		if err != nil {
			return
		}
		b, err := s.AppendBinary(nil)
		if err != nil || !bytes.Equal(b, data) {
			t.Errorf("encodes to %x, %v", b, err)
		}
	})
}

// FuzzParseBundle: what parses as a bundle encodes to the same bytes.
func FuzzParseBundle(f *testing.F) {
	c := goldenCommit(f)
	for _, b := range [][][]byte{{blob("first"), blob("second"), nil}, {nil, nil, nil}} {
		data, _ := (&commitlog.Bundle{ID: 7, Commit: c, Blobs: b}).AppendBinary(nil)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := commitlog.ParseBundle(data)
		if err != nil {
			return
		}
		got, _ := b.AppendBinary(nil)
		if !bytes.Equal(got, data) || len(got) != b.EncodedSize() {
			t.Errorf("encodes to %x", got)
		}
	})
}

func goldenRoot(t testing.TB) keys.Root {
	t.Helper()
	root, err := keys.ParseRoot(goldenRootText)
	fatal(t, err)
	return root
}

// goldenRootText is a root of bytes 1, 2, …, 32.
const goldenRootText = "KIST-ROOT-1QYPQXPQ9QCRSSZG2PVXQ6RS0ZQG3YYC5Z5TPWXQERGD3C8G7RUSQA33HU8"

func goldenCommit(t testing.TB) *commitlog.Commit {
	t.Helper()
	root := goldenRoot(t)
	d, err := keys.NewDeviceSeed([32]byte{0xdd}).Keys()
	fatal(t, err)
	object := put("second", at(2, 1), own(3, 0))
	object.ObjectHash, object.ObjectSize = commitlog.Hash{0x0b}, 70_000
	c, err := commitlog.Build(commitlog.Header{
		Kind: commitlog.KindData, Epoch: 1, Tag: root.TagSecret().Tag("notes"), Device: d.ID(), Seq: 5,
		PrevLeaf: commitlog.Hash{0x1e, 0xaf}, SeenSize: 3, SeenRoot: commitlog.Hash{0x80, 0x07},
	}, []commitlog.Change{put("first"), object, restate(at(3, 0))}, func(m []byte) [64]byte {
		return d.Sign.Sign(keys.PurposeCommit, root.VaultID(), m)
	})
	fatal(t, err)
	return c
}

func goldenStatements(t testing.TB) []*commitlog.Statement {
	t.Helper()
	root := goldenRoot(t)
	prev := commitlog.Hash{0x93}
	return []*commitlog.Statement{
		{Number: 1, Genesis: &commitlog.Genesis{Vault: root.VaultID(), Authority: root.Authority().Public(), Created: 1_763_650_740_000}},
		{Number: 3, Previous: prev, Revoke: &commitlog.Revoke{Device: keys.DeviceID{1}, Reason: 2, Time: 1_763_650_740_000}},
		{Number: 4, Previous: prev, Rotate: &commitlog.Rotate{Epoch: 2, Grants: []commitlog.DeviceGrant{{Device: keys.DeviceID{1}, Grant: []byte("grant one")}, {Device: keys.DeviceID{2}, Grant: []byte("two")}}}},
		{Number: 5, Previous: prev, Policy: &commitlog.Policy{RetentionDays: 30, MinimumVersion: 1}},
		{Number: 6, Previous: prev, Move: &commitlog.Move{ServerKey: keys.VerifyKey{7}, URL: "wss://vault.example.net/", Binding: 1}},
		{Number: 7, Previous: prev, Reset: &commitlog.Reset{Kept: 10, More: true, Leaves: []commitlog.Hash{{1}, {2}}}},
	}
}

// TestGolden pins the formats: a vector that changes is a format that changes.
func TestGolden(t *testing.T) {
	c := goldenCommit(t)
	bundle, _ := (&commitlog.Bundle{ID: 7, Commit: c, Blobs: [][]byte{blob("first"), nil, blob("r")}}).AppendBinary(nil)
	leaf := c.Leaf()
	golden.Check(t, "commitlog/commit.json", map[string]any{
		"root": goldenRootText, "device_seed": "dd then 31 zero bytes", "namespace": "notes",
		"header": golden.Hex(c.Raw), "list": golden.Hex(c.List), "leaf": golden.Hex(leaf[:]), "bundle": golden.Hex(bundle),
	})
	statements := map[string]any{}
	for _, s := range goldenStatements(t) {
		b, err := s.AppendBinary(nil)
		fatal(t, err)
		statements[map[commitlog.StatementKind]string{1: "genesis", 3: "revoke", 4: "rotate", 5: "policy", 6: "move", 7: "reset"}[s.Kind()]] = golden.Hex(b)
	}
	golden.Check(t, "commitlog/statements.json", statements)

	state := commitlog.NewStateHash()
	state.Add(commitlog.ChangeID{Commit: 2, Index: 0}, leaf, c.Changes[0].Entry)
	state.Add(commitlog.ChangeID{Commit: 2, Index: 1}, leaf, c.Changes[1].Entry)
	sum := state.Sum()
	digest := commitlog.NewDigest()
	digest.Add(keys.Tag{1}, state)
	digest.Add(keys.Tag{2}, commitlog.NewStateHash())
	dsum := digest.Sum()
	golden.Check(t, "commitlog/digest.json", map[string]any{
		"leaf": golden.Hex(leaf[:]), "entries": []golden.Hex{c.Changes[0].Entry, c.Changes[1].Entry}, "changes": []string{"2.0", "2.1"},
		"state_hash": golden.Hex(sum[:]), "tag": golden.Hex(append([]byte{1}, make([]byte, 15)...)), "digest": golden.Hex(dsum[:]),
	})
	if hex.EncodeToString(commitlog.EmptyRoot[:]) != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Error("the root of an empty log is SHA-256 of nothing")
	}
}
