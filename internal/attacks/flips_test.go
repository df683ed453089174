package attacks_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// sentinels are the errors that a lie may end in.
var sentinels = []error{
	commitlog.ErrMalformed, commitlog.ErrVersion, commitlog.ErrLimit, commitlog.ErrUnknownSigner, commitlog.ErrRevoked,
	commitlog.ErrScope, commitlog.ErrSignature, commitlog.ErrEquivocation, commitlog.ErrOmission, commitlog.ErrOrder,
	commitlog.ErrFork, commitlog.ErrRollback, commitlog.ErrEpoch, commitlog.ErrBlob, commitlog.ErrControlFork,
	commitlog.ErrCheckpoint, commitlog.ErrNoGenesis, commitlog.ErrVaultIDMismatch, commitlog.ErrOwnCommitMissing, commitlog.ErrDeviceStateRollback,
	wire.ErrProtocol, wire.ErrTimeout, wire.ErrUnreachable, wire.ErrServerIdentity, wire.ErrDenied, wire.ErrInvite, wire.ErrTooLarge,
	wire.ErrVersion, wire.ErrAudience, wire.ErrCondition, wire.ErrRegistration, wire.ErrNotFound,
}

// A story is what a device does at a liar; it returns when the device has ended.
type story func(t *testing.T, s *scene, at *vaulttest.Secondary, d *vaulttest.Device) error

// begin has a new device begin with a checkpoint.
func begin(t *testing.T, s *scene, at *vaulttest.Secondary, d *vaulttest.Device) error {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	_, err := d.Enrol(ctx, s.vault.Root.Authority(), nil, vault.SyncOptions{})
	return err
}

// below has a device that has begun keep itself in step, and verify what is below
// its checkpoint.
func below(t *testing.T, s *scene, at *vaulttest.Secondary, d *vaulttest.Device) error {
	return runs(t, d, func(context.Context) error { return nil })
}

// runs has a device keep itself in step while then is done, and returns the first
// trouble that the listener was told of.
func runs(t *testing.T, d *vaulttest.Device, then func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told error
	ended := make(chan error, 1)
	go func() {
		ended <- d.Run(ctx, vault.SyncOptions{Progress: func(p vault.Progress) {
			if p.Err != nil && told == nil && !errors.Is(p.Err, context.Canceled) {
				told = p.Err
				cancel() // it would try again
			}
		}})
	}()
	synctest.Wait()
	err := then(ctx)
	synctest.Wait()
	cancel()
	if rerr := <-ended; told == nil && !errors.Is(rerr, context.Canceled) {
		told = rerr
	}
	if told != nil {
		return told
	}
	return err
}

// restore has a new device admitted, over the whole log.
func restore(t *testing.T, s *scene, at *vaulttest.Secondary, d *vaulttest.Device) error {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	_, err := d.Enrol(ctx, s.vault.Root.Authority(), nil, vault.SyncOptions{Whole: true})
	return err
}

// live has a device that keeps itself in step, writes, and asks whether everything
// is there.
func live(t *testing.T, s *scene, at *vaulttest.Secondary, d *vaulttest.Device) error {
	return runs(t, d, func(ctx context.Context) error {
		write(t, d, "notes", "y", "of its own")
		write(t, d, "notes", "long", strings.Repeat("long", 17<<10)) // an object
		synctest.Wait()
		if ctx.Err() != nil {
			return nil
		}
		waiting, stop := context.WithTimeout(ctx, time.Hour)
		defer stop()
		return d.WaitForDownload(waiting)
	})
}

// full has a device look at everything anew, which it had begun to follow.
func full(t *testing.T, s *scene, at *vaulttest.Secondary, d *vaulttest.Device) error {
	return runs(t, d, func(ctx context.Context) error {
		_, err := d.Sync(ctx, vault.SyncOptions{Full: true}) // UNBIND, and from the beginning
		return err
	})
}

// stories are told to copies of a device, at copies of a secondary.
func (s *scene) stories(t *testing.T) map[string]told {
	fresh := s.vault.New(t, "new", vault.Config{}, s.secondary)
	later := s.secondary.Copy(t)
	begun := s.vault.New(t, "begun", vault.Config{}, later)
	fatal(t, begin(t, s, later, begun))
	return map[string]told{
		"begin":   {begin, fresh, s.secondary, 3},
		"below":   {below, begun, later, 11},
		"restore": {restore, fresh, s.secondary, 11},
		"live":    {live, s.victim, s.secondary, 1},
		"full":    {full, s.victim, s.secondary, 11},
	}
}

type told struct {
	story
	of *vaulttest.Device
	at *vaulttest.Secondary
	// Of the bytes that are served, each so many is changed. What other stories have
	// as well is a sample.
	step int
}

// frames returns what is served in a story that is true.
func (tell told) frames(t *testing.T, s *scene) (frames [][]byte) {
	synctest.Test(t, func(t *testing.T) {
		at := tell.at.Copy(t)
		liar := at.Lie(lying.Mutation{})
		fatal(t, tell.story(t, s, at, tell.of.Copy(t, at)))
		frames = liar.Said()
	})
	return frames
}

// Each message that is served, wherever it is, is left out, repeated, late, the last
// one, the end of the connection, or replaced by one from before: the device ends
// with an error that has a name, or it makes no difference.
func TestEveryMessage(t *testing.T) {
	s := newSmallScene(t)
	for name, tell := range s.stories(t) {
		t.Run(name, func(t *testing.T) {
			frames := tell.frames(t, s)
			var lies []lying.Mutation
			harmless := 0
			for n := range frames {
				lies = append(lies,
					lying.At("drop", n, func([]byte) [][]byte { return nil }),
					lying.At("repeat", n, func(f []byte) [][]byte { return [][]byte{f, f} }),
					lying.At("many times", n, func(f []byte) [][]byte { return slices.Repeat([][]byte{f}, 100) }),
					lying.At("hang up", n, func([]byte) [][]byte { return [][]byte{nil} }),
					late(n), silent(n))
				for old := range n {
					if bytes.Equal(frames[old], frames[n]) {
						continue
					}
					lies = append(lies, lying.At(fmt.Sprintf("frame %d instead", old), n, func([]byte) [][]byte { return [][]byte{frames[old]} }))
				}
			}
			for i, lie := range lies {
				if raceEnabled && i%5 != 0 {
					continue
				}
				t.Run(lie.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						if s.survives(t, tell, lie) {
							harmless++
						}
					})
				})
			}
			t.Logf("%d lies, %d of them without effect", len(lies), harmless)
			if harmless > len(lies)/2 {
				t.Errorf("%d of %d lies made no difference", harmless, len(lies))
			}
		})
	}
}

// late says a frame after the one that follows it.
func late(n int) lying.Mutation {
	return lying.Mutation{Name: fmt.Sprintf("late: frame %d", n), Begin: func() lying.Lie {
		count := 0
		var held []byte
		return lying.Lie{Down: func(frame []byte) [][]byte {
			count++
			switch count - 1 {
			case n:
				held = frame
				return nil
			case n + 1:
				return [][]byte{frame, held}
			}
			return [][]byte{frame}
		}}
	}}
}

// silent says nothing from a frame on.
func silent(n int) lying.Mutation {
	return lying.Mutation{Name: fmt.Sprintf("silence: frame %d", n), Begin: func() lying.Lie {
		count := 0
		return lying.Lie{Down: func(frame []byte) [][]byte {
			if count++; count > n {
				return nil
			}
			return [][]byte{frame}
		}}
	}}
}

var flipAll = flag.Bool("flips.all", false, "change every byte that is served, one after the other")

// A2: a byte of anything that is served is another. The device finds out, with an
// error that has a name, or it makes no difference; what it holds is the truth or a
// part of it. Every byte of every frame of a live session, every third of a restore, and
// a sample of the others; with -flips.all every byte of each.
func TestA2EveryByte(t *testing.T) {
	s := newSmallScene(t)
	for name, tell := range s.stories(t) {
		t.Run(name, func(t *testing.T) {
			var frames []int
			for _, f := range tell.frames(t, s) {
				frames = append(frames, len(f))
			}
			step := tell.step
			if *flipAll {
				step = 1
			} else if testing.Short() || raceEnabled {
				step *= 97
			}
			const shards = 4
			for shard := range shards {
				t.Run(fmt.Sprint(shard), func(t *testing.T) {
					t.Parallel()
					var lies []lying.Mutation
					all, harmless := 0, 0
					for n, size := range frames {
						for offset := range size {
							if all++; all%step == 0 && all/step%shards == shard {
								lies = append(lies, lying.Flip(n, offset, 1<<(offset%8)))
							}
						}
					}
					flips := len(lies)
					for len(lies) > 0 && !t.Failed() {
						synctest.Test(t, func(t *testing.T) { // a few with one secondary
							at := tell.at.Copy(t)
							for range min(20, len(lies)) {
								same, grown := s.survivesAt(t, at, tell, lies[0])
								if same {
									harmless++
								}
								if t.Failed() {
									t.Fatalf("%s, of frames of %v bytes", lies[0].Name, frames)
								}
								if lies = lies[1:]; grown {
									break
								}
							}
						})
					}
					t.Logf("frames of %v bytes: %d changes, %d of them without effect", frames, flips, harmless)
					if flips == 0 || flips > 100 && harmless > flips/4 {
						t.Errorf("%d of %d changes made no difference", harmless, flips)
					}
				})
			}
		})
	}
}

// survives tells a story with a lie, checks that what the device holds is the truth,
// and reports whether it made no difference.
func (s *scene) survives(t *testing.T, tell told, lie lying.Mutation) (harmless bool) {
	t.Helper()
	harmless, _ = s.survivesAt(t, tell.at.Copy(t), tell, lie)
	return harmless
}

// survivesAt is survives with a copy of the secondary that is there, and reports
// whether its log has grown, or a checkpoint was posted: then it has more to say.
func (s *scene) survivesAt(t *testing.T, at *vaulttest.Secondary, tell told, lie lying.Mutation) (harmless, grown bool) {
	t.Helper()
	before, err := at.Engine().Head(t.Context(), s.vault.Root.VaultID(), 0)
	fatal(t, err)
	d := tell.of.Copy(t, at)
	liar := at.Lie(lie)
	err = tell.story(t, s, at, d)
	if liar.Told() == 0 { // the frames are not the same ones each time
		fatal(t, err)
	}
	st, serr := d.Status(t.Context())
	fatal(t, serr)
	if err != nil && !oneOf(err, sentinels...) {
		t.Errorf("an error without a name: %v", err)
	}
	if vault.IsAlarm(err) != (st.Alarm != "") {
		t.Errorf("alarm %q after %v", st.Alarm, err)
	}
	// What it holds is the log of an honest secondary, which has it all.
	head, herr := at.Engine().Head(t.Context(), s.vault.Root.VaultID(), st.Commits)
	fatal(t, herr)
	if st.Commits > head.Size || head.Root != st.Root || st.Quarantine != 0 {
		t.Errorf("it holds something else: %+v", st)
	}
	if rec, err := d.Namespace("notes").Get(t.Context(), "x"); err == nil && !s.values["notes/x"][string(rec.Value)] {
		t.Errorf("a value that never was: %q", rec.Value)
	}
	fatal(t, d.Vault.Close()) // there may be many
	return err == nil, head.Size > before.Size || !st.Checkpoint.IsZero()
}
