package vault_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

var (
	partings     = flag.Uint64("partings", 12, "how many seeds of TestMergeRandom")
	firstParting = flag.Uint64("partings.first", 1, "the first of them")
)

// Whatever devices write, and whenever the secondary is set back to a backup: when the
// owner has brought all histories together, every record has those versions that nobody
// has written over, or removed, who knew of them. That is all there is to say about
// it: in which log something once was does not matter.
//
// But where a log is lost that has come of a merge, a removal may be lost that had been
// carried out in it by leaving out what was removed: then who brings in another part of
// the history that had been merged brings that back. Nothing else is lost then, either.
func TestMergeRandom(t *testing.T) {
	for seed := *firstParting; seed < *firstParting+*partings; seed += uint64(sample) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { mergeRandom(t, seed) })
		})
	}
}

// causal is what must be: what everybody knew when they wrote, and who knows what.
type causal struct {
	t       *testing.T
	r       *rand.Rand
	s       *vaulttest.Secondary
	vault   *vaulttest.Vault
	devices []*causalDevice
	writes  []*causalWrite
	at      map[int]bool // that the secondary has
	backup  func()
	then    map[int]bool // that the backup has
	merges  int          // since the backup
	nested  bool         // a merge has been lost
}

type causalDevice struct {
	*vaulttest.Device
	name  string
	knows map[int]bool
}

type causalWrite struct {
	name   string
	value  string // "": a removal
	author string
	knew   map[int]bool
}

func mergeRandom(t *testing.T, seed uint64) {
	c := &causal{t: t, r: rand.New(rand.NewPCG(seed, 14)), s: vaulttest.NewSecondary(t), at: make(map[int]bool)}
	c.vault = c.s.NewVault(t)
	for i := range 3 + c.r.IntN(3) {
		name := string(rune('a' + i))
		conf := vault.Config{KeepEach: c.r.IntN(3) == 0}
		c.devices = append(c.devices, &causalDevice{Device: c.vault.Device(t, name, conf), name: name, knows: make(map[int]bool)})
	}
	for range 60 + c.r.IntN(120) {
		d := c.devices[c.r.IntN(len(c.devices))]
		if seed%2 == 0 { // else all that is written has the same time, which is harder
			time.Sleep(time.Duration(c.r.IntN(5)) * time.Millisecond) // of the bubble's
		}
		switch k := c.r.IntN(100); {
		case k < 45:
			c.write(d)
		case k < 85:
			c.sync(d)
		case k < 88:
			c.sendUnseen(d)
		case k < 91:
			d.Reopen()
		case k < 95:
			c.backup, c.then, c.merges = backup(t, c.s), maps.Clone(c.at), 0
		case k < 98:
			if c.backup != nil {
				c.logf("the secondary is set back")
				c.backup()
				c.at = maps.Clone(c.then)
				c.nested = c.nested || c.merges > 0
			}
		default:
			c.merge(d)
		}
		if t.Failed() {
			return
		}
	}
	for range 2 {
		for _, d := range c.devices {
			if !c.sync(d) {
				c.merge(d)
			}
		}
	}
	for range 2 {
		for _, d := range c.devices {
			if !c.sync(d) {
				t.Fatalf("%s is left behind", d.name)
			}
		}
	}
	c.look()
}

func (c *causal) logf(format string, args ...any) { c.t.Logf(format, args...) }

func (c *causal) write(d *causalDevice) {
	w := &causalWrite{name: string(rune('u' + c.r.IntN(5))), author: d.name, knew: maps.Clone(d.knows)}
	there := len(c.live(w.name, d.knows)) > 0
	if c.r.IntN(3) == 0 {
		fatal(c.t, d.Namespace("notes").Delete(c.t.Context(), w.name))
		if !there {
			return
		}
	} else {
		w.value = fmt.Sprintf("%d by %s", len(c.writes), d.name)
		put(c.t, d.Vault, w.name, w.value)
	}
	c.logf("%s writes %d: %s %q", d.name, len(c.writes), w.name, w.value)
	d.knows[len(c.writes)] = true
	c.writes = append(c.writes, w)
}

// live returns the values of a record, as somebody sees it who knows of these writes.
func (c *causal) live(name string, of map[int]bool) (out []string) {
	for i := range of {
		w := c.writes[i]
		over := false
		for j := range of {
			over = over || c.writes[j].name == name && c.writes[j].knew[i]
		}
		if w.name == name && w.value != "" && !over {
			out = append(out, w.value)
		}
	}
	slices.Sort(out)
	return out
}

// sync reports whether a device came in step.
func (c *causal) sync(d *causalDevice) bool {
	_, err := d.Sync(c.t.Context(), vault.SyncOptions{})
	c.logf("%s syncs: %v", d.name, err)
	switch {
	case vault.IsAlarm(err):
		return false
	case err != nil:
		c.t.Fatalf("%s: %v", d.name, err)
	}
	maps.Copy(c.at, d.knows)
	maps.Copy(d.knows, c.at)
	c.shows(d)
	return true
}

// sendUnseen has a device send what it has, where it is in step, and not see it back.
func (c *causal) sendUnseen(d *causalDevice) {
	if !c.sync(d) {
		return
	}
	c.write(d)
	end := lying.HangUp(wire.TypeUploaded, 1)
	if c.r.IntN(2) == 0 {
		end = lying.Frames("", wire.TypeUploaded, 1, func(frame []byte) [][]byte { return [][]byte{frame, nil} })
	}
	liar := c.s.Lie(lying.Both("", lying.Drop(wire.TypeDownload, lying.All), end))
	_, err := d.Sync(c.t.Context(), vault.SyncOptions{})
	liar.Tell(lying.Mutation{})
	c.logf("%s sends, and is cut: %v", d.name, err)
	if vault.IsAlarm(err) {
		c.t.Fatalf("%s: %v", d.name, err)
	}
	maps.Copy(c.at, d.knows)
}

// merge has the owner bring the history of a device and the secondary's together.
func (c *causal) merge(d *causalDevice) {
	_, err := d.Merge(c.t.Context(), c.vault.Root.Authority(), vault.SyncOptions{})
	c.logf("%s merges: %v", d.name, err)
	switch {
	case err == nil:
		c.merges++
	case errors.Is(err, vault.ErrNoMerge):
		lost, err := d.Refill(c.t.Context(), c.vault.Root.Authority(), nil, vault.SyncOptions{})
		c.logf("%s fills the secondary again: %d, %v", d.name, lost, err)
		fatal(c.t, err)
	case errors.Is(err, commitlog.ErrFork):
		return
	default:
		c.t.Fatalf("%s: %v", d.name, err)
	}
	fatal(c.t, d.TryAgain(c.t.Context()))
	c.sync(d)
}

// shows compares what a device shows with what it must.
func (c *causal) shows(d *causalDevice) {
	c.t.Helper()
	got := make(map[string][]string)
	for x, err := range d.Conflicts(c.t.Context()) {
		fatal(c.t, err)
		for _, r := range x.Versions {
			if !r.Deleted {
				got[x.Name] = append(got[x.Name], string(r.Value))
			}
		}
		slices.Sort(got[x.Name])
	}
	for i := range 5 {
		name := string(rune('u' + i))
		want := c.live(name, d.knows)
		if v := get(c.t, d.Vault, name); got[name] == nil && v != "-" {
			got[name] = []string{v}
		}
		lacks := slices.ContainsFunc(want, func(v string) bool { return !slices.Contains(got[name], v) })
		if lacks || !c.nested && !slices.Equal(got[name], want) {
			c.t.Errorf("%s shows %s as %q, want %q", d.name, name, got[name], want)
		}
	}
}

// look compares all devices in the end.
func (c *causal) look() {
	var all []*vaulttest.Device
	for i := range c.writes {
		if !c.at[i] {
			c.t.Errorf("write %d is nowhere", i)
		}
	}
	for _, d := range c.devices {
		c.shows(d)
		_, err := d.Check(c.t.Context(), nil)
		fatal(c.t, err)
		all = append(all, d.Device)
	}
	vaulttest.InStep(c.t, all...)
}
