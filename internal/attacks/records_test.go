package attacks_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A place is one blob of the log.
type place struct {
	id    commitlog.CommitID
	index int
}

// B1: a blob is good at its own place alone: no two can be exchanged, within a
// commit, between commits, namespaces and vaults.
func TestB1BlobsSwapped(t *testing.T) {
	s, other := newScene(t), newScene(t)
	var places []place
	for id := s.known + 1; id <= s.last(); id++ {
		for i := range parse(t, s.log[id-1]).Blobs {
			places = append(places, place{id, i})
		}
	}
	put := func(name string, at place, blob []byte) attack {
		return attack{lying.Commit(name, at.id, func(data []byte) [][]byte {
			p := parse(t, data)
			p.Blobs[at.index] = blob
			return one(encode(p))
		}), nil}
	}
	blob := func(at place) []byte { return parse(t, s.log[at.id-1]).Blobs[at.index] }
	var attacks []attack
	for _, at := range places {
		for _, from := range places {
			if at == from {
				continue
			}
			a := put(fmt.Sprintf("%d.%d in the place of %d.%d, at", from.id, from.index, at.id, at.index), at, blob(from))
			if a.want = commitlog.ErrBlob; len(blob(from)) < len(blob(at)) && at.index == len(parse(t, s.log[at.id-1]).Blobs)-1 {
				a.want = commitlog.ErrMalformed // it ends too early
			}
			attacks = append(attacks, a)
		}
		same := parse(t, other.log[at.id-1]).Blobs[at.index]
		a := put(fmt.Sprintf("%d.%d of another vault, at", at.id, at.index), at, same)
		a.want = commitlog.ErrBlob
		attacks = append(attacks, a)
		a = put(fmt.Sprintf("nothing but zeros in %d.%d, at", at.id, at.index), at, make([]byte, len(blob(at))))
		a.want = commitlog.ErrBlob
		attacks = append(attacks, a)
	}
	for i, a := range attacks {
		if n := len(attacks); testing.Short() && i%7 != 0 || raceEnabled && i%(n/20) != 0 {
			continue
		}
		s.tryOne(t, known, a)
	}
	s.try(t, known, attack{lying.Commit("all in another order", 8, func(data []byte) [][]byte {
		p := parse(t, data)
		slices.Reverse(p.Blobs)
		return one(encode(p))
	}), commitlog.ErrBlob})
}

// B1: a long value is good as it was written: its parts are not cut, exchanged,
// repeated or extended.
func TestB1Objects(t *testing.T) {
	s := newScene(t)
	var truth []byte // of the object
	synctest.Test(t, func(t *testing.T) {
		at := s.secondary.Copy(t)
		liar := at.Lie(lying.Mutation{})
		vaulttest.Sync(t, s.victim.Copy(t, at))
		for _, f := range liar.Said() {
			if wire.Type(f[0]) == wire.TypeBlobs {
				m, err := wire.Parse(f)
				fatal(t, err)
				truth = append(truth, m.(*wire.Blobs).Data...)
			}
		}
	})
	const chunk = 64<<10 + 16
	if len(truth) < chunk+1 {
		t.Fatalf("an object of %d bytes", len(truth))
	}
	object := func(name string, f func(b *wire.Blobs)) attack {
		return attack{lying.Change(name, 1, f), commitlog.ErrBlob}
	}
	first, rest := truth[:chunk], truth[chunk:]
	whole := func(name string, data []byte) attack {
		return object(name, func(b *wire.Blobs) { b.Data, b.Size = data, max(b.Size, uint64(len(data))) })
	}
	s.tryPartly(t, known,
		whole("the chunks exchanged", slices.Concat(rest, first)),
		whole("the first chunk twice", slices.Concat(first, first)[:len(truth)]),
		whole("the last chunk at the beginning", slices.Concat(rest, truth[len(rest):])),
		whole("extended", slices.Concat(truth, []byte{0})),
		whole("the first byte changed", slices.Concat([]byte{truth[0] ^ 1}, truth[1:])),
		whole("a byte in the middle changed", slices.Concat(truth[:len(truth)/2], []byte{truth[len(truth)/2] ^ 1}, truth[len(truth)/2+1:])),
		whole("the last byte changed", slices.Concat(truth[:len(truth)-1], []byte{truth[len(truth)-1] ^ 1})),
		whole("zeros", make([]byte, len(truth))),
		object("called shorter", func(b *wire.Blobs) { b.Size, b.Data = uint64(chunk), first }),
		object("called empty", func(b *wire.Blobs) { b.Size, b.Data = 0, nil }),
		object("called longer", func(b *wire.Blobs) { b.Size++ }),
	)
	// Bytes that are cut off are asked for again, from where they end.
	s.try(t, known, attack{lying.Change("in pieces", 1, func(b *wire.Blobs) { b.Data = b.Data[:1000] }), nil})
}

// B2: every field of the signed header is what the author signed. That every byte of
// it is, TestA2EveryByte shows.
func TestB2Header(t *testing.T) {
	s := newScene(t)
	sig := []error{commitlog.ErrSignature}
	for _, field := range []struct {
		name      string
		from, end int
		want      []error // of which it is one, by the byte's place and value
	}{
		{"version", 0, 1, []error{commitlog.ErrVersion}},
		{"kind", 1, 2, []error{commitlog.ErrVersion}},
		{"epoch", 2, 6, []error{commitlog.ErrLimit, commitlog.ErrSignature}},
		{"tag", 6, 22, sig},
		{"device", 22, 38, []error{commitlog.ErrUnknownSigner}},
		{"sequence number", 38, 46, []error{commitlog.ErrLimit, commitlog.ErrSignature}},
		{"previous leaf", 46, 78, sig},
		{"seen size", 78, 86, []error{commitlog.ErrLimit, commitlog.ErrSignature}},
		{"seen root", 86, 118, sig},
		{"changes", 118, 120, []error{commitlog.ErrMalformed, commitlog.ErrBlob}},
		{"list hash", 120, 152, []error{commitlog.ErrBlob}},
		{"signature", 152, 216, sig},
	} {
		for _, id := range s.positions() {
			for _, i := range []int{field.from, (field.from + field.end) / 2, field.end - 1} {
				flip := lying.Commit(fmt.Sprintf("%s, byte %d", field.name, i), id, func(b []byte) [][]byte {
					b[8+i] ^= 1
					return one(b)
				})
				t.Run(flip.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						o := s.meet(t, known, flip)
						if !oneOf(o.err, field.want...) {
							t.Errorf("%v, want one of %v", o.err, field.want)
						}
						s.check(t, o, o.err)
					})
				})
			}
		}
	}
}

func oneOf(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(e error) bool { return errors.Is(err, e) })
}

// B2: the fields of the change list.
func TestB2List(t *testing.T) {
	s := newScene(t)
	const list = 8 + commitlog.HeaderSize + 4
	var attacks []attack
	for _, id := range s.positions() {
		for name, f := range map[string]func(b []byte){
			"the operation":   func(b []byte) { b[list] = 3 },
			"the blob's hash": func(b []byte) { b[list+1] ^= 1 },
			"the blob's size": func(b []byte) { b[list+36] ^= 1 },
			"an object":       func(b []byte) { b[list+37] ^= 1 },
			"the refs":        func(b []byte) { b[list+38] ^= 1 },
		} {
			attacks = append(attacks, attack{lying.Commit(name, id, func(b []byte) [][]byte { f(b); return one(b) }), commitlog.ErrBlob})
		}
		attacks = append(attacks,
			attack{lying.Commit("a longer list", id, func(b []byte) [][]byte {
				binary.BigEndian.PutUint32(b[8+commitlog.HeaderSize:], binary.BigEndian.Uint32(b[8+commitlog.HeaderSize:])+1)
				return one(b)
			}), commitlog.ErrBlob},
			attack{lying.Commit("a list without an end", id, func(b []byte) [][]byte {
				binary.BigEndian.PutUint32(b[8+commitlog.HeaderSize:], 1<<31)
				return one(b)
			}), commitlog.ErrMalformed},
			attack{lying.Commit("no list", id, func(b []byte) [][]byte {
				binary.BigEndian.PutUint32(b[8+commitlog.HeaderSize:], 0)
				return one(b)
			}), commitlog.ErrBlob},
			attack{lying.Commit("bytes at the end", id, func(b []byte) [][]byte { return one(append(b, 0)) }), commitlog.ErrMalformed},
			attack{lying.Commit("the number of the log's end", id, func(b []byte) [][]byte { return one(lying.SetID(b, commitlog.MaxLog)) }), commitlog.ErrLimit},
			attack{lying.Commit("no number", id, func(b []byte) [][]byte { return one(lying.SetID(b, 0)) }), commitlog.ErrOmission},
		)
	}
	s.try(t, known, attacks...)
}

// B3: what no device of the vault has written does not come in.
func TestB3Injected(t *testing.T) {
	s := newScene(t)
	junk := func(seed byte) []byte {
		b := slices.Clone(s.log[s.last()-1])
		for i := range b[8:] {
			b[8+i] = seed * byte(i)
		}
		return b
	}
	b := authorOf(t, s.b)
	good := b.write(t, s.log, "notes", "x", "4", nil)
	var attacks []attack
	for _, at := range s.positions() {
		attacks = append(attacks,
			attack{lying.Commit("junk before", at, func(b []byte) [][]byte { return [][]byte{lying.SetID(junk(7), at), b} }), commitlog.ErrMalformed},
			attack{lying.Commit("a stranger's commit before", at, func(data []byte) [][]byte {
				return [][]byte{stranger(b).write(t, s.log[:at-1], "notes", "x", "4", nil), data}
			}), commitlog.ErrUnknownSigner},
			attack{lying.Commit("a good commit that was written for elsewhere, before", at, func(data []byte) [][]byte {
				return [][]byte{lying.SetID(good, at), data}
			}), commitlog.ErrOmission},
		)
	}
	s.try(t, known, attacks...)
}

// B4: whatever was changed, and wherever: the device says the same, which is
// nothing, and does not come back to ask for something else.
func TestB4NoOracle(t *testing.T) {
	s := newScene(t)
	at := s.positions()[1]
	bundle := func(name string, f func(b []byte) []byte) lying.Mutation {
		return lying.Commit(name, at, func(b []byte) [][]byte { return one(f(b)) })
	}
	blobs := func(name string, f func(b *wire.Blobs)) lying.Mutation { return lying.Change(name, 1, f) }
	flip := func(i int) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[(i+len(b))%len(b)] ^= 1
			return b
		}
	}
	classes := map[string][]lying.Mutation{
		"commits": {
			bundle("the number", flip(7)), bundle("the epoch", flip(13)), bundle("the author", flip(8+30)), bundle("the sequence", flip(8+45)),
			bundle("the seen root", flip(8+100)), bundle("the signature", flip(8+200)), bundle("the list", flip(8+216+10)),
			bundle("the first byte of the blob", flip(8+216+4+39+1)), bundle("the last byte of the blob", flip(-1)),
			bundle("cut", func(b []byte) []byte { return b[:len(b)-20] }),
			bundle("junk", func(b []byte) []byte { return bytes.Repeat([]byte{0x41}, len(b)) }),
		},
		"objects": {
			blobs("the first byte", func(b *wire.Blobs) { flip(0)(b.Data) }), blobs("the last byte", func(b *wire.Blobs) { flip(-1)(b.Data) }),
			blobs("in the middle", func(b *wire.Blobs) { flip(len(b.Data) / 2)(b.Data) }), blobs("in the second chunk", func(b *wire.Blobs) { flip(70 << 10)(b.Data) }),
			blobs("zeros", func(b *wire.Blobs) { clear(b.Data) }), blobs("reversed", func(b *wire.Blobs) { slices.Reverse(b.Data) }),
			blobs("longer", func(b *wire.Blobs) { b.Size++ }), blobs("shorter", func(b *wire.Blobs) { b.Size--; b.Data = b.Data[:b.Size] }),
			blobs("empty", func(b *wire.Blobs) { b.Size, b.Data = 0, nil }), blobs("absent", func(b *wire.Blobs) { b.Size, b.Data, b.Absent = 0, nil, true }),
		},
	}
	for class, lies := range classes {
		for _, lie := range lies {
			t.Run(class+"/"+lie.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					at := s.secondary.Copy(t)
					d := s.victim.Copy(t, at)
					liar := at.Lie(lie)
					began := time.Now()
					err := d.Run(t.Context(), vault.SyncOptions{})
					if !vault.IsAlarm(err) || liar.Told() != 1 {
						t.Errorf("%v after %d lies", err, liar.Told())
					}
					if heard := liar.Heard(); len(heard) > 0 || liar.Begun() != 1 {
						t.Errorf("%d connections, and then %v", liar.Begun(), heard)
					}
					if took := time.Since(began); took != 0 {
						t.Errorf("it took %v", took) // of the bubble's time
					}
				})
			})
		}
	}
}

// B5: of a thousand records one is authentic and means nothing to this program. The
// others come, and everybody holds the same.
func TestB5Poison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := vaulttest.NewSecondary(t)
		v := at.NewVault(t)
		a, b, c := v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{}), v.Device(t, "c", vault.Config{})
		write(t, a, "notes", "kept", "1")
		vaulttest.Sync(t, a, b) // c gets it with the rest
		log := lying.Log(pull(t, at, v))
		hostile := authorOf(t, a)
		var changes []commitlog.Change
		var blobs [][]byte
		add := func(c commitlog.Change, blob []byte) { changes, blobs = append(changes, c), append(blobs, blob) }
		for i := range 1000 {
			add(hostile.put(t, "notes", fmt.Sprint("n", i), "value"))
		}
		poison := map[int]string{}
		spoil := func(what string, p *seal.Payload) {
			poison[len(changes)] = what
			add(hostile.payload(t, "notes", p))
		}
		spoil("a form of a later version", &seal.Payload{Form: 9, HLC: 1 << 40, Name: "later", Value: []byte("?")})
		spoil("a clock beyond all", &seal.Payload{Form: seal.FormInline, HLC: 1 << 63, Name: "beyond", Value: []byte("v")})
		spoil("a document", &seal.Payload{Form: seal.FormDocument, HLC: 1 << 40, Name: "document", Value: []byte("{}")})
		poison[len(changes)] = "a blob that does not open"
		junk := bytes.Repeat([]byte("junk"), 100)
		add(change(junk), junk)
		poison[len(changes)] = "a blob of another namespace"
		add(hostile.put(t, "tasks", "t", "v"))
		poison[len(changes)] = "a put that is a delete"
		add(hostile.payload(t, "notes", &seal.Payload{Form: seal.FormDelete, HLC: 1 << 40, Name: "kept"}))
		// These are good, and strange.
		add(hostile.payload(t, "notes", &seal.Payload{Form: seal.FormInline, HLC: 1<<63 - 1, Name: "far future", Value: []byte("v")}))
		add(hostile.payload(t, "notes", &seal.Payload{Form: seal.FormInline, Name: "\x1b[2J\x07\u202e", ContentType: "text/plain", Value: []byte("\x1b]0;x\x07")}))
		poisoned := hostile.commit(t, log, "notes", changes, blobs, nil)
		var digests []commitlog.Hash
		for _, d := range []*vaulttest.Device{b, c} {
			// An honest secondary would take it: it opens nothing.
			at.Lie(lying.ServeSilently("", with(log, poisoned)))
			_, err := d.Sync(t.Context(), vault.SyncOptions{})
			fatal(t, err)
			st, err := d.Status(t.Context())
			fatal(t, err)
			if st.Quarantine != len(poison) || st.Alarm != "" {
				t.Errorf("%d in quarantine, want %d; %q", st.Quarantine, len(poison), st.Alarm)
			}
			for i := range 1000 {
				if rec, err := d.Namespace("notes").Get(t.Context(), fmt.Sprint("n", i)); err != nil || string(rec.Value) != "value" {
					t.Fatalf("record %d: %v", i, err)
				}
			}
			if rec, err := d.Namespace("notes").Get(t.Context(), "kept"); err != nil || string(rec.Value) != "1" {
				t.Errorf("a change that means nothing has changed something: %v", err)
			}
			digest, _, err := d.Digest(t.Context())
			fatal(t, err)
			if digests = append(digests, digest); digest != digests[0] {
				t.Error("they hold different things")
			}
		}
	})
}

// B5: a clock that is far ahead infects nobody: what is written over such a record
// wins, and other records keep their clocks.
func TestB5FarFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := vaulttest.NewSecondary(t)
		v := at.NewVault(t)
		ahead := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		a, b := v.Device(t, "a", vault.Config{Now: func() time.Time { return ahead }}), v.Device(t, "b", vault.Config{})
		write(t, a, "notes", "x", "of the future")
		vaulttest.Sync(t, a, b)
		write(t, b, "notes", "x", "of now")
		write(t, b, "notes", "y", "of now")
		vaulttest.Sync(t, b, a)
		for _, d := range []*vaulttest.Device{a, b} {
			rec, err := d.Namespace("notes").Get(t.Context(), "x")
			fatal(t, err)
			if string(rec.Value) != "of now" || rec.Siblings != 0 {
				t.Errorf("shown is %q", rec.Value)
			}
			if rec, err = d.Namespace("notes").Get(t.Context(), "y"); err != nil || rec.Time.After(time.Now().Add(time.Hour)) {
				t.Errorf("the other record's time is %v, %v", rec.Time, err)
			}
		}
		vaulttest.InStep(t, a, b)
	})
}

// B6: a record is data. Nothing in it is followed, and the one address that is
// dialled is the secondary's.
func TestB6NothingIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := vaulttest.NewSecondary(t)
		v := at.NewVault(t)
		a, b := v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{})
		for i, value := range []string{
			"http://attacker.example/", "wss://attacker.example/", "file:///etc/passwd", "<img src=http://attacker.example/>",
			`{"$ref":"http://attacker.example/"}`, "include ../../secret", strings.Repeat("http://attacker.example/ ", 5000),
		} {
			write(t, a, "notes", fmt.Sprint("http://attacker.example/", i), value)
			write(t, a, "http-attacker", fmt.Sprint(i), value)
		}
		vaulttest.Sync(t, a)
		b.Network.Reset()
		vaulttest.Sync(t, b)
		// The device has no other way out than this network, which leads to the
		// secondary whatever the address is; so its connections are counted.
		if n := connections(b.Network); n != 1 {
			t.Errorf("%d connections", n)
		}
		for _, namespace := range []string{"notes", "http-attacker"} {
			for r, err := range b.Namespace(namespace).List(t.Context()) {
				fatal(t, err)
				_, err = b.Namespace(namespace).Get(t.Context(), r.Name)
				fatal(t, err)
			}
		}
		if n := connections(b.Network); n != 1 {
			t.Errorf("%d connections after reading", n)
		}
	})
}

func connections(n *vaulttest.Network) (most int) {
	for _, f := range n.Frames() {
		most = max(most, f.Conn)
	}
	return most
}
