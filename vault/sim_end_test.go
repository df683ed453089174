package vault

import (
	"errors"
	"time"

	"github.com/kistvault/kist/commitlog"
)

// settle lets all frames move until nothing does, and brings devices back whose
// session has ended. It fails where that does not come to an end.
func (w *simWorld) settle() {
	frames, sessions := 0, 0
	for moved := true; moved; {
		moved = false
		for _, d := range w.devices {
			if w.healing && d.v != nil && d.link == nil {
				if sessions++; sessions > 4*len(w.devices) {
					w.fail("hang", "%s connects again and again", d.name())
				}
				d.connect(simWish{live: true})
				moved = true
			}
			// The owner has one session at a time, which is let come to its end.
			for l, again := d.link, true; again && l != nil; again = again && l.owner {
				again = false
				for l == d.link && l.deliverUp() {
					again = true
					frames++
				}
				for l == d.link && l.deliverDown() {
					again = true
					frames++
				}
				moved = moved || again
			}
			if frames > 1000+40*len(w.devices)*(w.model.written+10) {
				w.fail("hang", "it does not come to an end: %d frames", frames)
			}
		}
	}
}

// end heals everything, waits until nothing moves, and looks at all there is.
func (w *simWorld) end() {
	w.tracef("everything is healed")
	w.time = w.time.Add(time.Minute)
	w.crashing, w.refusing = 0, nil
	w.healing = true
	for _, d := range w.devices {
		d.away, d.armed = false, nil
		d.leave()
		d.choose(Selection{})
	}
	for _, l := range w.left {
		l.session.Close()
	}
	w.left = nil
	for _, d := range w.devices {
		if d.v != nil {
			d.connect(simWish{live: true})
			if !w.plan.together {
				w.settle()
			}
		}
	}
	w.settle()
	if w.plan.restore {
		d := &simDevice{w: w, slot: len(w.devices)}
		w.devices = append(w.devices, d)
		d.join()
		w.settle()
	}
	var digest *commitlog.Hash
	for _, d := range w.devices {
		if d.v == nil {
			continue
		}
		if !d.link.inStep() {
			w.fail("hang", "%s is not in step: %v", d.name(), d.link)
		}
		if d.trans != nil {
			w.fail("hang", "%s: transaction %d does not come to an end", d.name(), d.trans.call)
		}
		r := d.link.report()
		// What was refused is decided when the log grows again.
		if r.Undecided > 0 && !d.identity.refused || r.Missing+r.Quarantine+r.Aside > 0 || d.size != uint64(len(w.model.commits)) {
			w.fail("report", "%s: %+v at %d of %d commits", d.name(), *r, d.size, len(w.model.commits))
		}
		d.everything(r)
		got, _, err := d.v.Digest(w.ctx)
		w.must(err)
		if digest == nil {
			digest = &got
			d.histories()
		}
		if got != *digest {
			w.fail("digest", "%s has another digest than the others", d.name())
		}
		if _, err := d.v.Check(w.ctx, nil); err != nil {
			w.fail("damage", "%s: %v", d.name(), err)
		}
		d.look()
	}
}

// histories checks that a device shows all versions of all records, the losers
// of conflicts among them. What it did not keep for a while, and is not live, does
// not come back. Neither does what it replaced after a refusal, if it came into the
// log all the same, when the frame came again.
func (d *simDevice) histories() {
	gaps := d.w.model.compacted || d.identity.chose || d.identity.refused && d.identity.repeated
	for r, list := range d.w.model.records {
		if r.name == aboutName {
			continue
		}
		want := 0
		for _, w := range list {
			if w.at.Commit != 0 && (w.live(d.size) || !gaps) {
				want++
			}
		}
		got := 0
		for rec, err := range d.v.Namespace(r.namespace).History(d.w.ctx, r.name) {
			if errors.Is(err, ErrNotFound) {
				break
			}
			d.w.must(err)
			w := d.w.model.changes[rec.Commit]
			if w == nil && !rec.Deleted || w != nil && rec.Live != w.live(d.size) {
				d.w.fail("shown", "%s, history of %v: %+v is not %v", d.name(), r, rec, w)
			}
			if rec.Live || !gaps {
				got++
			}
		}
		if got != want {
			d.w.fail("shown", "%s, history of %v: %d versions, want %d", d.name(), r, got, want)
		}
	}
}
