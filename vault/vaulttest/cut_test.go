package vaulttest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// B16: a session cut after every frame, and in the middle of every frame, in both
// directions. A scenario runs once without faults, which shows its frames, and
// then once for each of them.

// baseline is what a scenario comes to without faults.
type baseline struct {
	frames [2][]vaulttest.Frame // of each device's network
	log    string
}

func newBaseline(t *testing.T, scenario func(w *world)) (b baseline) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		scenario(w)
		w.check()
		b.log = w.log()
		for i, d := range w.devices {
			b.frames[i] = d.Network.Frames()
		}
	})
	return b
}

// A fault is what befalls one frame.
type fault struct {
	name string
	of   func(f vaulttest.Frame) vaulttest.Fault
}

var (
	after  = fault{"cut after", func(vaulttest.Frame) vaulttest.Fault { return vaulttest.Fault{Cut: true, Bytes: vaulttest.Whole} }}
	within = fault{"cut within", func(f vaulttest.Frame) vaulttest.Fault { return vaulttest.Fault{Cut: true, Bytes: f.Size / 2} }}
	stall  = fault{"stall within", func(f vaulttest.Frame) vaulttest.Fault { return vaulttest.Fault{Stall: true, Bytes: f.Size / 2} }}
	twice  = fault{"twice", func(f vaulttest.Frame) vaulttest.Fault { return vaulttest.Fault{Duplicate: true} }}
)

// sample is of how many frames one is tried.
var sample = 1

// every is all frames.
func every(vaulttest.Frame) bool { return true }

// each runs the scenario once for each fault of each of its frames of some kind.
// Where exact is set, the log has to be the same, commit by commit, as without
// faults.
func each(t *testing.T, kind func(vaulttest.Frame) bool, scenario func(w *world), exact bool, faults ...fault) {
	t.Helper()
	base := newBaseline(t, scenario)
	for i := range names {
		for _, frame := range base.frames[i] {
			if !kind(frame) || frame.N%sample != 0 {
				continue
			}
			for _, fault := range faults {
				name := "handshake"
				if frame.Type != vaulttest.Handshake {
					name = frame.Type.String()
				}
				t.Run(fmt.Sprintf("%s/%v %d/%s %s", names[i], frame.Dir, frame.N, fault.name, name), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.devices[i].Network.SetFaults(func(f vaulttest.Frame) vaulttest.Fault {
							if f.Dir == frame.Dir && f.N == frame.N {
								return fault.of(frame)
							}
							return vaulttest.Fault{}
						})
						scenario(w)
						w.check()
						if log := w.log(); exact && log != base.log {
							t.Errorf("the log is %s, without faults %s", log, base.log)
						}
						if t.Failed() {
							for _, f := range w.devices[i].Network.Frames() {
								t.Log(f)
							}
						}
					})
				})
			}
		}
	}
}

// honest fails the test where a device accuses the secondary: a bad line is no
// reason to.
func (w *world) honest(device int, err error) {
	w.t.Helper()
	if vault.IsAlarm(err) {
		w.t.Errorf("%s accuses an honest secondary: %v", names[device], err)
	}
}

// With one sync after the other everything arrives, in the very commits that are
// made without faults: none is signed anew, none is there twice.
func TestCut(t *testing.T) {
	each(t, every, func(w *world) {
		w.write()
		w.inTurn(w.honest)
	}, true, after, within)
}

// The same for the frames of a series that takes several.
func TestCutSeries(t *testing.T) {
	series := func(f vaulttest.Frame) bool {
		return f.Type == wire.TypeUpload || f.Type == wire.TypeUploaded || f.Type == wire.TypeDownload
	}
	each(t, series, func(w *world) {
		w.write()
		w.writeSeries()
		w.inTurn(w.honest)
	}, true, after, within)
}

// A line that goes dead without a word is noticed, and no more is lost.
func TestStall(t *testing.T) {
	each(t, every, func(w *world) {
		w.write()
		w.inTurn(func(device int, err error) {
			if !errors.Is(err, wire.ErrUnreachable) {
				w.t.Errorf("%s: %v", names[device], err)
			}
		})
	}, true, stall)
}

// B15: both programs die at each point, and are started again. What the secondary
// appended and could not answer is sent again, and is not there twice.
func TestCutAndCrash(t *testing.T) {
	each(t, every, func(w *world) {
		w.write()
		w.inTurn(func(device int, err error) {
			w.honest(device, err)
			w.s.Kill()
			w.devices[device].Crash()
			w.s.Start()
		})
	}, true, after)
}

// A frame that comes twice, which TCP rules out, does no harm. It may end the
// session with a protocol error or, since a commit comes again in the place of
// another, with an alarm, after which it is tried again.
func TestDuplicate(t *testing.T) {
	each(t, every, func(w *world) {
		w.write()
		w.inTurn(func(device int, err error) {
			if !errors.Is(err, wire.ErrProtocol) && !errors.Is(err, wire.ErrUnreachable) && !errors.Is(err, commitlog.ErrOmission) {
				w.t.Errorf("%s: %v", names[device], err)
			}
			fatal(w.t, w.devices[device].TryAgain(w.t.Context()))
		})
	}, true, twice)
}

// Run comes back by itself, and what is written meanwhile goes up: both devices
// write while they are connected, faster than answers come.
func TestCutLive(t *testing.T) {
	each(t, every, func(w *world) {
		w.write()
		ctx, stop := context.WithCancel(w.t.Context())
		ended := make(chan error, 2)
		for _, d := range w.devices {
			d.Network.SetLatency(20 * time.Millisecond)
			go func() { ended <- d.Run(ctx, vault.SyncOptions{}) }()
		}
		for i := range 8 {
			time.Sleep(10 * time.Millisecond)
			w.put(0, "series", []byte{byte(i)})
			if i%2 == 0 {
				w.put(1, "other series", []byte{byte(i)})
			}
		}
		time.Sleep(15 * time.Second) // and no ping yet
		stop()
		for range w.devices {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				w.t.Errorf("Run ended with %v", err)
			}
		}
	}, false, after, within)
}
