package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kistvault/kist/vault"
)

// deviceCommand is the first argument of a child that is a device.
const deviceCommand = "device"

// A device is the child process that uses a vault: it syncs all the time, and
// writes until it is told to stop, or killed.
type device struct {
	v      *vault.Vault
	number int
	count  int // of devices
	rate   int // writes a second of each writer; 0: no bound

	outMu sync.Mutex // one line at a time
	out   io.Writer
}

// deviceMain runs a device and returns its exit status.
func deviceMain(args []string) int {
	f := flag.NewFlagSet(deviceCommand, flag.ExitOnError)
	dir := f.String("vault", "", "vault's directory")
	number := f.Int("number", 0, "of this device")
	count := f.Int("devices", 0, "number of devices")
	rate := f.Int("rate", 0, "writes a second; 0: as many as it can")
	seed := f.Uint64("seed", 0, "of what is written")
	keep := f.Bool("keep-each", false, "send every change")
	last := f.String("last", "", "number of each writer's last write")
	f.Parse(args)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d := &device{number: *number, count: *count, rate: *rate / writers, out: os.Stdout}
	fail := func(err error) int {
		fmt.Fprintf(os.Stderr, "device %d: %v\n", d.number, err)
		return 1
	}
	var from []uint64
	for s := range strings.SplitSeq(*last, ",") {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return fail(err)
		}
		from = append(from, n)
	}
	var err error
	d.v, err = vault.Open(ctx, *dir, vault.Config{
		KeepEach: *keep, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return fail(err)
	}

	// The parent says when to stop, or is gone.
	writing, stop := context.WithCancel(ctx)
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		stop()
	}()
	var synced, written sync.WaitGroup
	synced.Go(func() { d.sync(ctx) })
	errs := make([]error, len(from))
	for i := range from {
		written.Go(func() {
			r := rand.New(rand.NewPCG(*seed, uint64(i)))
			if errs[i] = d.write(writing, r, writer{d.number, i}, from[i]); errs[i] != nil {
				stop()
			}
		})
	}
	written.Wait()
	cancel()
	synced.Wait()
	if err := errors.Join(errors.Join(errs...), d.v.Close()); err != nil {
		return fail(err)
	}
	return 0
}

// say prints a line with one write, so that it is in the pipe when say returns.
func (d *device) say(format string, args ...any) {
	d.outMu.Lock()
	defer d.outMu.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}

// sync keeps the vault in step until ctx ends. What ends it otherwise must not
// happen: a secondary that is killed is one that cannot be reached.
func (d *device) sync(ctx context.Context) {
	err := d.v.Run(ctx, vault.SyncOptions{Progress: func(p vault.Progress) {
		if vault.IsAlarm(p.Err) {
			d.say("bad alarm: %v", p.Err)
		}
	}})
	if !errors.Is(err, context.Canceled) {
		d.say("bad end of sync: %v", err)
	}
}

// write makes writes after the n-th until ctx ends.
func (d *device) write(ctx context.Context, r *rand.Rand, w writer, n uint64) error {
	for burst := 0; ctx.Err() == nil; burst-- {
		n++
		o := nextOp(r, w, n)
		d.say("%s", o.try())
		if err := d.do(&o); err != nil {
			return fmt.Errorf("%s: %w", o.try(), err)
		}
		d.say("%s", o.ack())
		switch {
		case burst > 0 || d.rate == 0:
		case r.IntN(100) == 0:
			burst = 50 // as fast as it goes
		default:
			// The load, not a way to wait for anything.
			time.Sleep(time.Duration(r.Int64N(2 * int64(time.Second) / int64(d.rate))))
		}
		if r.IntN(20) == 0 {
			if err := d.look(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// do makes a write. It ignores ctx: a write that was begun is finished.
func (d *device) do(o *op) error {
	ctx := context.Background()
	n := d.v.Namespace(o.cell.namespace)
	names := o.cell.names()
	switch {
	case o.cell.namespace == groupNamespace:
		return d.v.Update(ctx, groupNamespace, func(tx *vault.Tx) error {
			for i, name := range names {
				if !o.has(i) {
					if err := tx.Delete(name); err != nil {
						return err
					}
				} else if _, err := tx.Put(name, o.value(i)); err != nil {
					return err
				}
			}
			return nil
		})
	case o.delete:
		return n.Delete(ctx, names[0])
	}
	_, err := n.Put(ctx, names[0], o.value(0))
	return err
}

// look reads a group of another device in one transaction: it must be whole,
// whatever is coming in.
func (d *device) look(r *rand.Rand) error {
	c := cell{writer{r.IntN(d.count), r.IntN(writers)}, groupNamespace, r.IntN(groupCells)}
	var found []foundValue
	err := d.v.Update(context.Background(), groupNamespace, func(tx *vault.Tx) error {
		found = found[:0] // it may run again
		for _, name := range c.names() {
			rec, err := tx.Get(name)
			switch {
			case errors.Is(err, vault.ErrNotFound):
				found = append(found, foundValue{})
			case err != nil:
				return err
			default:
				found = append(found, foundValue{there: true, value: rec.Value})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := c.whole(found); err != nil {
		d.say("bad group: %v: %v", c, err)
	}
	return nil
}
