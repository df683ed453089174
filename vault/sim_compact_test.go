package vault

import "math/rand/v2"

// compactions puts compaction into the plan of every other seed: of the secondary,
// and of devices, which keep more or fewer versions. It has random numbers of its
// own, so that all else is as in the plan without.
func (p *simPlan) compactions() {
	r := rand.New(rand.NewPCG(p.seed, 0x636f6d70))
	if r.IntN(2) == 0 {
		return
	}
	secondary, devices := 1+r.IntN(150), 1+r.IntN(80)
	var events []simEvent
	for _, e := range p.events {
		if r.IntN(secondary) == 0 {
			events = append(events, simEvent{at: e.at, kind: simCompact})
		}
		if r.IntN(devices) == 0 {
			events = append(events, simEvent{at: e.at, kind: simRetain, dev: r.IntN(len(p.devices)), n: r.IntN(4), ns: r.IntN(4)})
		}
		events = append(events, e)
	}
	p.events = events
}

// newSimRetention returns what an event has a device keep.
func newSimRetention(e *simEvent) Retention { return Retention{Versions: e.n, Days: e.ns % 2} }

// compact stops the secondary, drops the content of all that was ended, and starts
// it again. So no session knows a shorter log than the one that was compacted, as
// none does that is shorter than a day.
func (w *simWorld) compact() {
	w.restart(true)
	done, err := w.engine.Compact(w.ctx, w.time)
	w.must(err)
	w.tracef("the secondary drops %d blobs, %d objects", done.Blobs, done.Objects)
	w.model.compacted = true
}

// retain changes which versions a device keeps, and mostly leaves it to the next
// session to carry that out.
func (d *simDevice) retain(r Retention, now bool) {
	if d.v == nil {
		return
	}
	survived := d.step(func() error { return d.v.SetRetention(d.w.ctx, r) })
	if now && survived {
		d.step(func() error {
			c, err := d.v.Compact(d.w.ctx)
			d.w.tracef("%s drops %d versions", d.name(), c.Versions)
			return err
		})
	}
	if d.link != nil {
		d.link.pump(nil)
	}
}

// waits reports whether a device lacks content that is live as far as it has the
// log, and which the secondary has dropped since: commits to come end it. Until then
// the vault is not in use (SPEC.md, "Starting from a checkpoint").
func (d *simDevice) waits() (waits bool) {
	if d.w.model.compacted {
		d.w.must(d.v.view(func(s *state) error {
			waits = !s.missing.Empty()
			return nil
		}))
	}
	return waits
}
