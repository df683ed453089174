package vaulttest_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// A world is two devices that write in both directions, and have to come to the
// same end whatever befalls them.
type world struct {
	t       *testing.T
	s       *vaulttest.Secondary
	devices [2]*vaulttest.Device
	writes  map[string]int    // versions of each record
	values  map[string][]byte // what it holds in the end; nil: deleted
}

var names = [2]string{"a", "b"}

// newWorld returns a world with both devices in step.
func newWorld(t *testing.T) *world {
	w := &world{t: t, s: vaulttest.NewSecondary(t), writes: make(map[string]int), values: make(map[string][]byte)}
	v := w.s.NewVault(t)
	for i, name := range names {
		w.devices[i] = v.Device(t, name, vault.Config{KeepEach: true}) // so that each write is a version
	}
	w.put(0, "shared", []byte("first"))
	w.put(0, "old", []byte("old"))
	vaulttest.Sync(t, w.devices[:]...)
	for _, d := range w.devices {
		d.Network.Reset()
	}
	return w
}

func (w *world) put(device int, name string, value []byte) {
	w.t.Helper()
	_, err := w.devices[device].Namespace("notes").Put(w.t.Context(), name, value)
	fatal(w.t, err)
	w.writes[name]++
	w.values[name] = value
}

// putAll puts records in one transaction.
func (w *world) putAll(device int, value []byte, names ...string) {
	w.t.Helper()
	fatal(w.t, w.devices[device].Update(w.t.Context(), "notes", func(tx *vault.Tx) error {
		for _, name := range names {
			if _, err := tx.Put(name, value); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, name := range names {
		w.writes[name]++
		w.values[name] = value
	}
}

// write makes writes of both devices: a value that is an object, a transaction, an
// update, a delete.
func (w *world) write() {
	w.t.Helper()
	w.put(0, "x", []byte("x"))
	w.put(0, "big", bytes.Repeat([]byte("big "), 50<<10))
	w.putAll(0, []byte("together"), "t1", "t2", "t3")
	w.put(1, "y", []byte("y"))
	w.put(1, "shared", []byte("second"))
	fatal(w.t, w.devices[1].Namespace("notes").Delete(w.t.Context(), "old"))
	w.writes["old"]++
	w.values["old"] = nil
}

// writeSeries makes more writes than a frame takes.
func (w *world) writeSeries() {
	w.t.Helper()
	for i := range 4 {
		n := strconv.Itoa(i)
		w.putAll(0, bytes.Repeat([]byte(n), 60<<10), n+"v", n+"w", n+"x", n+"y", n+"z")
	}
}

// check checks that both devices hold everything, once.
func (w *world) check() {
	w.t.Helper()
	vaulttest.InStep(w.t, w.devices[:]...)
	for i, d := range w.devices {
		ns := d.Namespace("notes")
		for name, want := range w.values {
			rec, err := ns.Get(w.t.Context(), name)
			switch {
			case errors.Is(err, vault.ErrNotFound):
				rec = &vault.Record{}
			case err != nil:
				w.t.Errorf("%s: %q: %v", names[i], name, err)
				continue
			}
			got := rec.Value
			if name == "big" {
				got = read(w.t, ns, name)
			}
			if !bytes.Equal(got, want) || rec.Siblings != 0 {
				w.t.Errorf("%s: %q has %d bytes and %d siblings, want %d bytes", names[i], name, len(got), rec.Siblings, len(want))
			}
			versions := 0
			for _, err := range ns.History(w.t.Context(), name) {
				fatal(w.t, err)
				versions++
			}
			if versions != w.writes[name] {
				w.t.Errorf("%s: %q has %d versions, want %d", names[i], name, versions, w.writes[name])
			}
		}
		count := 0
		for _, err := range ns.List(w.t.Context()) {
			fatal(w.t, err)
			count++
		}
		if want := len(slices.DeleteFunc(slices.Collect(maps.Values(w.values)), func(v []byte) bool { return v == nil })); count != want {
			w.t.Errorf("%s: %d records, want %d", names[i], count, want)
		}
		st, err := d.Status(w.t.Context())
		fatal(w.t, err)
		if st.Alarm != "" || st.Pending+st.Aside+st.Missing+st.Quarantine+st.Conflicts != 0 {
			w.t.Errorf("%s: %+v", names[i], st)
		}
	}
}

func read(t *testing.T, ns *vault.Namespace, name string) []byte {
	t.Helper()
	_, r, err := ns.Open(t.Context(), name)
	fatal(t, err)
	defer r.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	fatal(t, err)
	return b.Bytes()
}

// log returns the authors of all commits, in order.
func (w *world) log() string {
	w.t.Helper()
	var b bytes.Buffer
	commits, err := w.devices[0].Log(w.t.Context(), 0, 1000)
	fatal(w.t, err)
	for _, c := range commits {
		if c.Kind == commitlog.KindControl {
			b.WriteByte('-')
		} else {
			b.WriteString(c.Device)
		}
	}
	return b.String()
}

// inTurn syncs the devices in turn, a, b, a, and calls after for each sync that
// fails. Then it is tried once more.
func (w *world) inTurn(after func(device int, err error)) {
	w.t.Helper()
	for _, device := range []int{0, 1, 0} {
		for try := 0; ; try++ {
			d := w.devices[device]
			_, err := d.Sync(w.t.Context(), vault.SyncOptions{})
			if err == nil {
				break
			}
			if try == 1 {
				w.t.Fatalf("%s does not come in step: %v", names[device], err)
			}
			after(device, err)
		}
	}
}
