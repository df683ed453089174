package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// restore measures how long a new device takes from nothing to a vault that can be
// used, everything verified and durable, with a checkpoint and by the whole log,
// and what verifying the history below takes then. Device and secondary have a
// process each.
func (b *bench) restore(ctx context.Context) error {
	sizes := []int{b.large}
	if b.huge > 0 {
		sizes = append(sizes, b.huge)
	}
	var peaks []int64
	for _, n := range sizes {
		err := b.restoring(ctx, fmt.Sprintf("restore-%d", n), func(v *vault.Vault) error { return fill(ctx, v, n) }, func(run func(whole bool) (restored, error)) error {
			r, err := run(false)
			if err != nil {
				return err
			}
			speed := float64(r.Records) / r.Ready.Seconds()
			b.mark(fmt.Sprintf("restore of %d from a checkpoint, ready", n), fmt.Sprintf("%.0f/s  (%s)", speed, show(r.Ready)), "60,000/s", speed >= 60_000)
			b.mark("  peak RssAnon of the device", mib(r.Peak), "100 MiB", r.Peak < 100<<20)
			b.mark("  RssAnon of the secondary, at the peak over before", mib(r.Cost), "32 MiB", r.Cost < 32<<20)
			row("  history verified after", fmt.Sprintf("%s, %d commits", show(r.Whole), r.Commits))
			peaks = append(peaks, r.Peak)
			if n > b.large {
				return nil
			}
			if r, err = run(true); err != nil {
				return err
			}
			row("  the same by the whole log", fmt.Sprintf("%.0f/s  (%s)", float64(r.Records)/r.Ready.Seconds(), show(r.Ready)))
			b.mark("    RssAnon of the secondary", mib(r.Cost), "32 MiB", r.Cost < 32<<20)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(peaks) > 1 {
		ratio := float64(peaks[1]) / float64(peaks[0])
		b.mark("  peak, the larger beside the smaller", fmt.Sprintf("%.2f", ratio), "flat", ratio < 1.5)
	}
	return nil
}

// cost measures that a restore costs what is alive: so many records written once,
// and ten times each.
func (b *bench) cost(ctx context.Context) error {
	const records = 10_000
	var took [2]restored
	for i, rounds := range []int{1, 10} {
		write := func(v *vault.Vault) error {
			for range rounds {
				if err := fill(ctx, v, records); err != nil {
					return err
				}
				if err := sync(ctx, v); err != nil {
					return err
				}
			}
			return nil
		}
		err := b.restoring(ctx, fmt.Sprintf("cost-%d", rounds), write, func(run func(whole bool) (restored, error)) error {
			for range 5 { // the least of some: the first pays for a cold disk
				r, err := run(false)
				if err != nil {
					return err
				}
				if took[i].Ready == 0 || r.Ready < took[i].Ready {
					took[i] = r
				}
			}
			row(fmt.Sprintf("%d records written %d times: to restore", records, rounds), fmt.Sprintf("%s, %s, %d commits", show(took[i].Ready), mib(took[i].Bytes), took[i].Commits))
			return nil
		})
		if err != nil {
			return err
		}
	}
	times, bytes := float64(took[1].Ready)/float64(took[0].Ready), float64(took[1].Bytes)/float64(took[0].Bytes)
	b.mark("  time, ten times beside once", fmt.Sprintf("%.2f", times), "1.3", times <= 1.3)
	b.mark("  bytes, ten times beside once", fmt.Sprintf("%.2f", bytes), "1.3", bytes <= 1.3)
	return nil
}

// restoring has a device write, which then posts a checkpoint of all, and calls
// measure, which may have new devices restored, one after the other.
func (b *bench) restoring(ctx context.Context, name string, write func(v *vault.Vault) error, measure func(run func(whole bool) (restored, error)) error) (err error) {
	dir, err := b.sub(name)
	if err != nil {
		return err
	}
	place, err := newAway(filepath.Join(dir, "secondary"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.stop()) }()
	ada, err := place.person(dir)
	if err != nil {
		return err
	}
	skip := time.Duration(0)
	v, _, err := ada.device(ctx, vault.Config{Now: func() time.Time { return time.Now().Add(skip) }})
	if err != nil {
		return err
	}
	if err := errors.Join(write(v), sync(ctx, v)); err != nil {
		return err
	}
	skip = 23*time.Hour + 59*time.Minute // it posts one a day, whatever has grown
	if err := sync(ctx, v); err != nil {
		return err
	}
	if err := ada.close(); err != nil {
		return err
	}
	n := 0
	return measure(func(whole bool) (restored, error) {
		n++
		if _, err := place.heap(); err != nil { // what was garbage is gone
			return restored{}, err
		}
		to := filepath.Join(dir, fmt.Sprintf("restored-%d", n))
		defer os.RemoveAll(to)
		before := rssAnon(place.cmd.Process.Pid)
		peak := watchMemory(place.cmd.Process.Pid)
		r, err := restoreAway(to, restoreOrder{Root: ada.root.Text(), Invite: ada.invite.String(), Whole: whole, Name: fmt.Sprint("restored ", n)})
		r.Cost = peak().anon - before
		return r, err
	})
}

// A restoreOrder says to a process what to restore; restored is its answer.
type (
	restoreOrder struct {
		Root, Invite, Name string
		Whole              bool
	}
	restored struct {
		Ready, Whole time.Duration // until it can be used; from then on, until all is verified
		Records      int
		Commits      uint64
		Bytes        int64 // of the lines in both directions, until it can be used
		Peak         int64 // RssAnon until then
		Cost         int64 // RssAnon of the secondary, at the peak of all this over before
	}
)

// restoreAway restores in a process of its own.
func restoreAway(dir string, o restoreOrder) (r restored, err error) {
	cmd, err := self(roleRestore, dir)
	if err != nil {
		return r, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return r, err
	}
	cmd.Stderr = os.Stderr
	go func() {
		json.NewEncoder(in).Encode(o)
		in.Close()
	}()
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	return r, err
}

func childRestore(dir string, in io.Reader, out io.Writer) error {
	ctx := context.Background()
	var o restoreOrder
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return err
	}
	invite, err := wire.ParseInvite(o.Invite)
	if err != nil {
		return err
	}
	ada := newPerson(dir, invite)
	if ada.root, err = keys.ParseRoot(o.Root); err != nil {
		return err
	}
	ada.devices++ // it is not the first, which makes the vault
	defer ada.close()
	debug.FreeOSMemory()
	peak := watchMemory(0)
	begun := time.Now()
	v, report, err := ada.restored(ctx, o.Whole)
	if err != nil {
		return err
	}
	r := restored{Ready: time.Since(begun), Bytes: report.BytesIn + report.BytesOut, Peak: peak().anon}
	begun = time.Now()
	if _, err := v.Sync(ctx, vault.SyncOptions{Full: true}); err != nil {
		return err
	}
	r.Whole = time.Since(begun)
	st, err := v.Status(ctx)
	if err != nil {
		return err
	}
	if st.Base != 0 {
		return fmt.Errorf("the history is not whole")
	}
	r.Records, r.Commits = st.Records, st.Commits
	return json.NewEncoder(out).Encode(r)
}
