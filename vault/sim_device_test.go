package vault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kistvault/kist/secondary/wire"
)

// A simDevice is a place for a device: at most one vault at a time.
type simDevice struct {
	w        *simWorld
	slot     int
	conf     simDeviceConf
	identity *simIdentity
	many     int // identities so far
	v        *Vault
	dir      string
	size     uint64 // commits that it has verified
	link     *simLink
	away     bool // out of reach
	jumped   time.Duration
	trans    *simTransact // under way
	selected Selection
	sweeping bool // it was not carried out yet
	widening bool // … and there is more in it than before

	revisions map[simRecord]simRevision // when the device was looked at last

	armed  *simArm
	shots  int  // an image is made when the clock has been read so often
	imaged bool // an image is there
}

// A simArm is a crash to come: after so many steps, at a place in the next.
type simArm struct {
	steps int
	at    int // -2: after it and what it sent; -1: after it; 0: before it; n: when it reads the clock for the n-th time
}

func (d *simDevice) name() string { return d.identity.name }

// now is the device's clock. It is read within store transactions, which makes
// it a place to crash at, too.
func (d *simDevice) now() time.Time {
	if d.shots > 0 {
		if d.shots--; d.shots == 0 {
			d.image()
		}
	}
	return d.w.time.Add(time.Duration(d.conf.skew)*time.Millisecond + d.jumped)
}

func (d *simDevice) open() {
	var err error
	d.v, err = Open(d.w.ctx, d.dir, Config{Now: d.now, NoSync: true, KeepEach: d.conf.keepEach})
	d.w.must(err)
	d.revisions = make(map[simRecord]simRevision) // it may know less than before
}

// join makes a new device. It is admitted by its first session.
func (d *simDevice) join() {
	name := fmt.Sprintf("device %d", d.slot)
	if d.many > 0 {
		name += fmt.Sprintf(" (number %d)", d.many+1)
	}
	d.many++
	file := d.w.deviceFile(name)
	d.identity = &simIdentity{name: name, id: file.ID, keepEach: d.conf.keepEach}
	d.w.model.devices[file.ID] = d.identity
	d.dir = filepath.Join(d.w.dir, name)
	d.w.must(Create(d.dir, file, name))
	d.open()
	d.size = 0
	d.selected, d.sweeping, d.widening = Selection{}, false, false
}

// lose ends a device and all that it did not send.
func (d *simDevice) lose() {
	if d.v == nil {
		return
	}
	d.leave()
	d.w.must(d.v.Close())
	d.w.must(os.RemoveAll(d.dir))
	d.v, d.armed, d.trans = nil, nil, nil
	d.identity.lost = true
}

// step runs something that changes the device's store, and reports whether the
// device has come through it.
func (d *simDevice) step(fn func() error) bool {
	d.imaged = false
	arm := d.armed
	if arm != nil && arm.steps > 0 {
		arm.steps--
		arm = nil
	}
	if arm != nil {
		d.armed = nil
		if d.shots = max(arm.at, 0); arm.at == 0 {
			d.image()
		}
	}
	d.w.must(fn())
	d.shots = 0
	if d.link != nil && (arm == nil || arm.at == -2) {
		d.link.send()
	}
	if arm == nil {
		d.check()
		return true
	}
	d.w.tracef("%s crashes", d.name())
	d.leave()
	d.trans = nil
	d.w.must(d.v.Close())
	if d.imaged {
		d.w.must(os.RemoveAll(d.dir))
		d.w.must(os.Rename(d.dir+".image", d.dir))
	}
	d.open()
	d.size = 0
	d.check()
	return false
}

func (d *simDevice) image() {
	d.imaged = true
	d.w.must(simCopy(d.dir+".image", d.dir))
}

// simCopy copies a directory.
func simCopy(to, from string) error {
	entries, err := os.ReadDir(from)
	if err == nil {
		err = os.Mkdir(to, 0o700)
	}
	for _, e := range entries {
		if err != nil {
			break
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			err = simCopy(dst, src)
			continue
		}
		var b []byte
		if b, err = os.ReadFile(src); err == nil {
			err = os.WriteFile(dst, b, 0o600)
		}
	}
	return err
}

// leave gives the connection up. The secondary does not know, and gets what is
// on the line if there is a [simLate] before the device's next session.
func (d *simDevice) leave() {
	l := d.link
	if l == nil {
		return
	}
	d.link, l.stage = nil, nil
	d.w.left = append(d.w.left, l)
}

// cut breaks the connection.
func (d *simDevice) cut(how int) {
	l := d.link
	switch {
	case l == nil:
		return
	case how == 1:
		for d.link == l && !l.over && l.deliverUp() {
		}
	case how == 2:
		for d.link == l && len(l.down) > 0 {
			l.deliverDown()
		}
	case how == 3:
		d.leave()
		return
	}
	l.session.Close()
	if d.link == l {
		d.link = nil
	}
}

// repeat delivers the next frame of a direction twice.
func (l *simLink) repeat(up bool) {
	d := l.d
	if up && len(l.up) > 0 {
		l.twice, d.identity.repeated = true, true
		frame := l.up[0]
		l.deliverUp()
		if d.link == l {
			d.w.handle(l, frame)
		}
	} else if !up && (len(l.down) > 0 || l.serve()) {
		l.twice = true
		frame := l.down[0]
		l.deliverDown()
		if d.link == l {
			l.receive(frame)
		}
	}
}

// sessionFailed ends a session that failed. An honest secondary on a line that
// does not repeat itself never makes a device give up.
func (d *simDevice) sessionFailed(l *simLink, err error) {
	d.w.tracef("%s: the session ends: %v", d.name(), err)
	d.leave()
	if l.twice || l.owner && errors.Is(err, wire.ErrReplaced) { // the owner has one session, whichever device it is on
		return
	}
	_, again := retry(err)
	switch {
	case IsAlarm(err):
		d.w.fail("alarm", "%s: %v", d.name(), err)
	case d.w.healing || !again || errors.Is(err, errUnknownStub):
		d.w.fail("session", "%s: %v", d.name(), err)
	}
}

// finished ends a session that has done what it was for.
func (d *simDevice) finished(l *simLink) {
	r := l.report()
	r.BytesIn, r.BytesOut = 0, 0
	d.w.tracef("%s is done: %+v", d.name(), *r)
	l.session.Close()
	d.link = nil
	if r.Missing > 0 || r.Quarantine > 0 || r.Aside > 0 && !d.identity.refused || r.Commits != d.size {
		d.w.fail("report", "%s, which has %d commits: %+v", d.name(), d.size, *r)
	}
	if !l.owner && l.engine.mode != PullOnly && r.Aside == 0 {
		d.everything(r)
	}
}

// everything checks that nothing of the device is left to be sent.
func (d *simDevice) everything(r *Report) {
	if r.Pending > 0 {
		d.w.fail("report", "%s has sent everything, and has %d changes pending", d.name(), r.Pending)
	}
	if err := d.w.model.everything(d.identity, d.size); err != nil {
		d.w.fail("lost", "%s: %v", d.name(), err)
	}
}
