package wire_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// update has the vectors written anew. They are for other implementations too:
// look at the difference.
var update = flag.Bool("update", false, "write testdata/vectors.json")

type vectors struct {
	Comment string `json:"comment"`
	Invite  struct {
		ServerKey string `json:"server_key"`
		Token     string `json:"token"`
		Expires   int64  `json:"expires"`
		Binding   int    `json:"binding"`
		URL       string `json:"url"`
		Text      string `json:"text"`
	} `json:"invite"`
	SignIn struct {
		ServerSeed string   `json:"server_seed"`
		DeviceSeed string   `json:"device_auth_seed"`
		OwnerSeed  string   `json:"authority_auth_seed"`
		Exporter   string   `json:"exporter"`
		T1         string   `json:"t1"`
		Frames     []vector `json:"frames"`
	} `json:"sign_in"`
	Frames []vector `json:"frames"`
}

type vector struct {
	Message string `json:"message"`
	Frame   string `json:"frame"`
}

func makeVectors(t *testing.T) *vectors {
	v := &vectors{Comment: "All binary values are in hexadecimal. docs/SPEC.md, section Wire."}
	frame := func(m wire.Message) vector {
		return vector{m.Type().String(), hex.EncodeToString(encode(t, m))}
	}
	seed := func(b byte) [32]byte { return [32]byte(bytes.Repeat([]byte{b}, 32)) }
	half := func(b byte) [16]byte { return [16]byte(bytes.Repeat([]byte{b}, 16)) }
	server, device, owner, sign := seed(0x11), seed(0x22), seed(0x33), seed(0x44)
	serverKey, deviceKey, ownerKey := keys.NewSigningKey(server), keys.NewSigningKey(device), keys.NewSigningKey(owner)
	signKey := keys.NewSigningKey(sign)

	i := wire.Invite{
		Server: serverKey.Public(), Token: half(0x55), Expires: time.UnixMilli(1795280000000).UTC(),
		Binding: wire.BindingExporter, URL: "wss://vault.example.org/",
	}
	v.Invite.ServerKey = hex.EncodeToString(i.Server[:])
	v.Invite.Token = hex.EncodeToString(i.Token[:])
	v.Invite.Expires, v.Invite.Binding, v.Invite.URL = i.Expires.UnixMilli(), int(i.Binding), i.URL
	v.Invite.Text = i.String()

	tr := wire.Transcript{
		Audience: i.URL, Proto: wire.Proto, ClientNonce: seed(0x66), ServerNonce: seed(0x77), Server: i.Server,
		Binding: i.Binding, Exporter: bytes.Repeat([]byte{0x88}, 32), Time: 1795270000000,
	}
	vault := keys.AuthorityKeys{Sign: signKey.Public(), Auth: ownerKey.Public()}.VaultID()
	id := keys.DeviceID(half(0x99))
	s := &v.SignIn
	s.ServerSeed, s.DeviceSeed, s.OwnerSeed = hex.EncodeToString(server[:]), hex.EncodeToString(device[:]), hex.EncodeToString(owner[:])
	s.Exporter, s.T1 = hex.EncodeToString(tr.Exporter), hex.EncodeToString(tr.Bytes())
	s.Frames = []vector{
		frame(&wire.Hello{Proto: tr.Proto, Nonce: tr.ClientNonce, Audience: tr.Audience}),
		frame(&wire.SHello{Server: tr.Server, Nonce: tr.ServerNonce, Binding: tr.Binding, Time: tr.Time,
			Signature: serverKey.Sign(keys.PurposeServerHello, keys.VaultID{}, tr.Bytes())}),
		frame(&wire.Auth{Vault: vault, Role: wire.RoleDevice, Device: id,
			Signature: deviceKey.Sign(keys.PurposeClientAuth, vault, tr.ClientBytes(wire.RoleDevice, id))}),
		frame(&wire.Auth{Vault: vault, Role: wire.RoleOwner,
			Signature: ownerKey.Sign(keys.PurposeClientAuth, vault, tr.ClientBytes(wire.RoleOwner, [16]byte{}))}),
		frame(&wire.Create{Token: i.Token, Sign: signKey.Public(), Auth: ownerKey.Public(),
			Signature: ownerKey.Sign(keys.PurposeClientAuth, vault, tr.ClientBytes(wire.RoleCreate, i.Token))}),
		frame(&wire.OK{}),
		frame(&wire.Fail{Code: wire.CodeDenied}),
	}

	size := uint64(4711)
	tag := keys.Tag(half(0xaa))
	r := wire.Registration{Sign: signKey.Public(), Auth: deviceKey.Public(), KEMHash: seed(0xbb), Tags: wire.Tags{tag}}
	r.Device = r.ID()
	last := wire.Item{Kind: wire.ItemLast, Data: []byte{1, 2, 3}}
	for _, m := range []wire.Message{
		&wire.Bind{Size: 4711, Root: seed(0xcc), Flags: wire.BindLive | wire.BindStubs},
		&wire.Bind{Size: 0, Root: seed(0xcc), Tags: wire.Tags{tag}},
		&wire.Bound{Size: 4712, Root: seed(0xcc), MaxObject: 68 << 20, Retention: 30},
		&wire.Bound{Size: 4712, Root: seed(0xcc), Reset: 4710, MaxObject: 68 << 20, Retention: 30},
		&wire.Download{Size: 4712, Left: 300, Items: []wire.Item{last, wire.NewStub(4711, 99), {Kind: wire.ItemPart, Data: []byte{4, 5}}}},
		&wire.Upload{Items: []wire.Item{last}},
		&wire.Upload{Condition: &size, Control: &wire.Control{Epoch: 1, Devices: []wire.Registration{r}, Resets: 1}, Items: []wire.Item{last}},
		&wire.Upload{Condition: &size, Control: &wire.Control{Epoch: 1, Moved: wire.MovedAway}, Items: []wire.Item{last}},
		&wire.Uploaded{Results: []wire.Result{{Seq: 99, ID: 4712}, {Seq: 100, Code: wire.CodeEpoch, Text: "epoch 1, in force was 2"}}},
		&wire.Object{Hash: seed(0xdd), Size: 100000, Offset: 70000, Data: []byte{1, 2, 3}},
		&wire.Have{Hash: seed(0xdd), Bytes: 70003}, &wire.Have{Hash: seed(0xdd), Bytes: 70003, Code: wire.CodeQuota}, &wire.Fail{Code: wire.CodeSuspended},
		&wire.Fetch{Request: 7, Commit: 4712, Index: 3, Object: true, Offset: 70000, Length: 1 << 20},
		&wire.Blobs{Request: 7, Size: 70003, Data: []byte{1, 2, 3}},
		&wire.Mark{Token: 5}, &wire.Marked{Token: 5, Size: 4712}, &wire.Ping{Token: 1}, &wire.Pong{Token: 1},
		&wire.Unbind{}, &wire.Unbound{},
		&wire.Error{Code: wire.CodeShutdown, Action: wire.ActionRetryAfter, RetryAfter: 2500},
		&wire.Refill{Items: []wire.Item{last}}, &wire.Refill{Control: &wire.Control{Epoch: 1, Moved: wire.MovedHere}, Items: []wire.Item{last}}, &wire.Refilled{Size: 4712}, &wire.Refilled{Size: 4711, Code: wire.CodeFork, Text: "another commit is there"},
		&wire.Proof{Request: 8, From: 4711, To: 4712}, &wire.Proof{Request: 8, From: 4711, To: 4712, Hashes: []commitlog.Hash{seed(0xee), seed(0xff)}},
		&wire.Snapshot{Request: 9, Size: 4712}, &wire.Snapshot{Request: 9, Size: 4712, Tag: tag, Commit: 4711, Index: 3, Tags: wire.Tags{tag}},
		&wire.State{Request: 9, Items: []wire.Item{excerptOf(deviceKey, vault, id, tag)}}, &wire.State{Request: 9, Done: true},
		&wire.Checkpoint{Request: 10}, &wire.Checkpoint{Request: 10, Size: 4712, Device: id, Data: []byte{1, 2, 3}},
		&wire.Read{Request: 11, After: 4710, To: 4712}, &wire.Read{Request: 11, To: 4712, Tags: wire.Tags{tag}},
		&wire.Commits{Request: 11, Items: []wire.Item{{Kind: wire.ItemPart, Data: []byte{4, 5}}}}, &wire.Commits{Request: 11, Items: []wire.Item{last}},
	} {
		v.Frames = append(v.Frames, frame(m))
	}
	return v
}

// excerptOf returns an excerpt of commit 4711: its second change with the blob, and
// its third one without.
func excerptOf(key keys.SigningKey, vault keys.VaultID, device keys.DeviceID, tag keys.Tag) wire.Item {
	blob := bytes.Repeat([]byte{0x42}, commitlog.MinBlob)
	put := commitlog.Change{Op: commitlog.OpPut, BlobHash: sha256.Sum256(blob), BlobSize: uint32(len(blob))}
	h := commitlog.Header{Kind: commitlog.KindData, Epoch: 1, Tag: tag, Device: device, Seq: 99, PrevLeaf: commitlog.Hash{0x1e, 0xaf}, SeenSize: 4710, SeenRoot: commitlog.Hash{0x80, 0x07}}
	c, err := commitlog.Build(h, []commitlog.Change{put, put, put}, func(m []byte) [64]byte { return key.Sign(keys.PurposeCommit, vault, m) })
	if err != nil {
		panic(err)
	}
	data := commitlog.AppendExcerpt(nil, 4711, c.Raw, 2)
	data = commitlog.AppendExcerptChange(data, 1, c.Changes[1].Entry, blob)
	return wire.Item{Kind: wire.ItemExcerpt, Data: commitlog.AppendExcerptChange(data, 2, c.Changes[2].Entry, nil)}
}

func TestVectors(t *testing.T) {
	const path = "testdata/vectors.json"
	v := makeVectors(t)
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the encoding has changed; %s has another. Other implementations depend on it", path)
	}
	for _, f := range append(v.SignIn.Frames, v.Frames...) {
		frame, err := hex.DecodeString(f.Frame)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := wire.Parse(frame); err != nil || m.Type().String() != f.Message {
			t.Errorf("%s: %v", f.Message, err)
		}
	}
	if _, err := wire.ParseInvite(v.Invite.Text); err != nil {
		t.Error(err)
	}
}
