package vaulttest_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

func put(t testing.TB, d *vaulttest.Device, name, value string) {
	t.Helper()
	_, err := d.Namespace("notes").Put(t.Context(), name, []byte(value))
	fatal(t, err)
}

func get(t testing.TB, d *vaulttest.Device, name string) string {
	t.Helper()
	rec, err := d.Namespace("notes").Get(t.Context(), name)
	fatal(t, err)
	return string(rec.Value)
}

// two returns a secondary and two devices of one vault, in step.
func two(t testing.TB, change ...func(*secondary.Config)) (s *vaulttest.Secondary, a, b *vaulttest.Device) {
	t.Helper()
	s = vaulttest.NewSecondary(t, change...)
	v := s.NewVault(t)
	return s, v.Device(t, "a", vault.Config{}), v.Device(t, "b", vault.Config{})
}

// sync syncs once and returns the error and how long it took.
func sync(t testing.TB, d *vaulttest.Device) (time.Duration, error) {
	t.Helper()
	start := time.Now()
	_, err := d.Sync(t.Context(), vault.SyncOptions{})
	return time.Since(start), err
}

// The example of the documentation works.
func TestExample(t *testing.T) { testNotes(t) }

// It works outside a bubble, too.
func TestRealTime(t *testing.T) {
	_, a, b := two(t)
	put(t, a, "x", "1")
	vaulttest.Sync(t, a, b)
	if got := get(t, b, "x"); got != "1" {
		t.Errorf("%q", got)
	}
	vaulttest.InStep(t, a, b)
}

// A perfect network takes no time, and the frames are those of the protocol.
func TestFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		vaulttest.Sync(t, a)
		a.Network.Reset()
		put(t, a, "x", "1")
		if took, err := sync(t, a); err != nil || took != 0 {
			t.Errorf("%v, %v", took, err)
		}
		vaulttest.Sync(t, b)
		vaulttest.InStep(t, a, b)
		var types [2][]wire.Type
		var sizes [2]int64
		for _, f := range a.Network.Frames() {
			types[f.Dir] = append(types[f.Dir], f.Type)
			sizes[f.Dir] += int64(f.Size)
			if f.N != len(types[f.Dir]) || f.Conn != 1 {
				t.Errorf("out of order: %v", f)
			}
		}
		want := []wire.Type{vaulttest.Handshake, wire.TypeHello, wire.TypeAuth, wire.TypeBind, wire.TypeUpload}
		for i, w := range want {
			if i >= len(types[0]) || types[0][i] != w {
				t.Fatalf("up: %v, want %v", types[0], want)
			}
		}
		for _, dir := range []vaulttest.Direction{vaulttest.Up, vaulttest.Down} {
			// What is in no frame is WebSocket's goodbye.
			tr := a.Network.Traffic(dir)
			if tr.Frames != len(types[dir]) || tr.Bytes < sizes[dir] || tr.Bytes > sizes[dir]+16 {
				t.Errorf("%v: %+v, frames of %d bytes", dir, tr, sizes[dir])
			}
		}
	})
}

// Latency counts once for each way; a slow line is slow, and not dead.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := two(t)
		vaulttest.Sync(t, a)
		a.Network.SetLatency(time.Second)
		// TCP, HTTP, HELLO, AUTH and BIND are answered, each after two seconds.
		if took, err := sync(t, a); err != nil || took != 10*time.Second {
			t.Errorf("%v, %v", took, err)
		}
		a.Network.SetLatency(0)
		a.Network.SetBandwidth(8 << 10)
		_, err := a.Namespace("notes").Put(t.Context(), "big", make([]byte, 1<<20))
		fatal(t, err)
		// 1 MiB and Padmé's 3 % take over two minutes, without an answer.
		if took, err := sync(t, a); err != nil || took < 128*time.Second || took > 136*time.Second {
			t.Errorf("%v, %v", took, err)
		}
	})
}

// A reader that takes nothing holds up the sender, and costs no memory.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, b := two(t)
		for range 8 {
			_, err := a.Namespace("notes").Put(t.Context(), time.Now().String(), make([]byte, 60<<10))
			fatal(t, err)
			time.Sleep(time.Second)
		}
		vaulttest.Sync(t, a)
		b.Network.SetBandwidth(1)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := b.Sync(ctx, vault.SyncOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at one byte a second: %v", err)
		}
		if got := b.Network.Traffic(vaulttest.Down).Bytes; got > 40 {
			t.Errorf("%d bytes in 20 seconds", got)
		}
		b.Network.SetBandwidth(0)
		b.Network.Break()
		time.Sleep(5 * time.Minute)
		if n := s.Conns(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		vaulttest.Sync(t, b)
		vaulttest.InStep(t, a, b)
	})
}

// Each fault does what it says, and the next session is whole.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		faults func(vaulttest.Frame) vaulttest.Fault
		took   time.Duration
		want   error // nil: none
		up     int   // frames that arrived; 0: unchecked
		bytes  int64 // that arrived on the way up; 0: unchecked
	}{
		{"cut before the first", vaulttest.CutInside(vaulttest.Up, 1, 0), 0, wire.ErrUnreachable, 0, 0},
		{"cut after the second", vaulttest.CutAfter(vaulttest.Up, 2), 0, wire.ErrUnreachable, 2, 0},
		{"cut inside the first", vaulttest.CutInside(vaulttest.Up, 1, 17), 0, wire.ErrUnreachable, 0, 17},
		{"cut after the answer", vaulttest.CutAfter(vaulttest.Down, 2), 0, wire.ErrUnreachable, 2, 0},
		{"cut at UPLOADED", vaulttest.First(vaulttest.Down, wire.TypeUploaded, vaulttest.Fault{Cut: true}), 0, wire.ErrUnreachable, 5, 0},
		{"stall in sign-in", vaulttest.StallAfter(vaulttest.Up, 2), 30 * time.Second, wire.ErrUnreachable, 2, 0},
		{"stall in session", vaulttest.StallAfter(vaulttest.Up, 5), time.Minute, wire.ErrUnreachable, 0, 0},
		{"delay", vaulttest.First(vaulttest.Up, wire.TypeBind, vaulttest.Fault{Delay: time.Second}), time.Second, nil, 5, 0},
		{"duplicate", vaulttest.Duplicate(vaulttest.Up, 2), 0, wire.ErrProtocol, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a, b := two(t)
				vaulttest.Sync(t, a)
				a.Network.Reset()
				put(t, a, "x", "1")
				a.Network.SetFaults(tt.faults)
				took, err := sync(t, a)
				if !errors.Is(err, tt.want) || tt.want == nil && err != nil || took != tt.took {
					t.Errorf("after %v: %v", took, err)
				}
				up := a.Network.Traffic(vaulttest.Up)
				if tt.up != 0 && up.Frames != tt.up || tt.bytes != 0 && up.Bytes != tt.bytes {
					t.Errorf("%+v arrived", up)
				}
				a.Network.SetFaults(nil)
				time.Sleep(5 * time.Minute) // until the secondary has given up, too
				if n := s.Conns(); n != 0 {
					t.Errorf("%d connections are left", n)
				}
				if n := a.Network.Conns(); n != 0 {
					t.Errorf("%d links are left", n)
				}
				vaulttest.Sync(t, a, b)
				vaulttest.InStep(t, a, b)
				if got := get(t, b, "x"); got != "1" {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, b := two(t)
		offline := func(why string) {
			t.Helper()
			if took, err := sync(t, a); !errors.Is(err, wire.ErrUnreachable) || took != 0 {
				t.Errorf("%s: after %v: %v", why, took, err)
			}
		}
		a.Network.Disconnect()
		offline("without a network")
		a.Network.Connect()
		vaulttest.Sync(t, a)
		put(t, a, "x", "1")
		s.Stop()
		offline("with the secondary stopped")
		s.Start()
		vaulttest.Sync(t, a)
		s.Kill()
		s.Kill()
		offline("with the secondary killed")
		s.Start()
		vaulttest.Sync(t, b)
		vaulttest.InStep(t, a, b)
	})
}

// A crash ends what runs, and keeps what was written.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(t)
		ended := make(chan error, 1)
		v := a.Vault
		go func() { ended <- v.Run(t.Context(), vault.SyncOptions{}) }()
		synctest.Wait()
		put(t, a, "x", "1")
		a.Crash()
		if err := <-ended; !errors.Is(err, vault.ErrClosed) {
			t.Errorf("Run ended with %v", err)
		}
		if got := get(t, a, "x"); got != "1" {
			t.Errorf("%q", got)
		}
		vaulttest.Sync(t, a, b)
		vaulttest.InStep(t, a, b)
	})
}

// The secondary is the real one, with the options that it has.
func TestConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int64
		conns := 100
		s, a, _ := two(t, func(c *secondary.Config) {
			c.Tap = func([]byte) { seen.Add(1) }
			c.MaxConns = conns
		})
		if seen.Load() == 0 {
			t.Error("the tap saw nothing")
		}
		s.Stop()
		conns = 1
		s.Start()
		other, err := a.Network.NetDial(t.Context(), "", "")
		fatal(t, err)
		defer other.Close()
		_, err = other.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n\r\n"))
		fatal(t, err)
		synctest.Wait()
		if n := s.Conns(); n != 1 {
			t.Fatalf("%d connections", n)
		}
		// One connection more than there may be: who has not signed in gives way.
		if _, err := sync(t, a); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := io.Copy(io.Discard, other); err != nil || s.Conns() > 1 {
			t.Errorf("%d connections, %v", s.Conns(), err)
		}
	})
}
