package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A runner is one run of the program.
type runner struct {
	c      config
	dir    string
	self   string // this program
	rand   *rand.Rand
	model  *model
	checks *checks

	root    keys.Root
	server  *server
	devices []*deviceChild

	serverKills, deviceKills int
}

// A deviceChild is a device as the parent sees it.
type deviceChild struct {
	number int
	dir    string
	keep   bool // it sends every change
	p      *proc
}

func run(ctx context.Context, c config) (err error) {
	r := &runner{
		c: c, rand: rand.New(rand.NewPCG(c.seed, 0)), model: newModel(),
		checks: &checks{out: os.Stdout, since: time.Now()}, root: keys.GenerateRoot(),
	}
	fmt.Printf("crash: seed %d, %d devices, %d writes a second each, for %v\n", c.seed, c.devices, c.rate, c.time)
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if c.dir != "" {
		r.dir, err = filepath.Abs(c.dir)
		if err == nil {
			err = os.Mkdir(r.dir, 0o700)
		}
	} else {
		r.dir, err = os.MkdirTemp("", "kist-crash-")
	}
	if err != nil {
		return err
	}
	defer func() {
		r.killAll()
		switch {
		case c.dir == "" && (err == nil || errors.Is(err, context.Canceled)):
			err = errors.Join(err, os.RemoveAll(r.dir))
		case err != nil:
			fmt.Fprintf(os.Stderr, "crash: files are in %s\n", r.dir)
		}
	}()

	for _, step := range []func(context.Context) error{r.begin, r.loop, r.stop, r.compare} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("crash: %d passed, %d failed\n", r.checks.passed, r.checks.failed)
	if r.checks.failed > 0 {
		return fmt.Errorf("%d of %d comparisons failed", r.checks.failed, r.checks.passed+r.checks.failed)
	}
	return nil
}

// killAll ends the children, whatever happened.
func (r *runner) killAll() {
	if r.server != nil && r.server.p != nil {
		r.server.kill()
	}
	for _, d := range r.devices {
		if d.p != nil {
			d.p.kill()
		}
	}
}

// begin starts the server, makes the devices and starts them.
func (r *runner) begin(ctx context.Context) error {
	program, err := kistd(ctx, r.c.kistd, r.dir)
	if err != nil {
		return err
	}
	if r.server, err = newServer(program, r.dir); err != nil {
		return err
	}
	// Killed while it makes its data directory, it starts all the same.
	for range 5 {
		if err := r.server.startCut(time.Duration(r.rand.Int64N(int64(60 * time.Millisecond)))); err != nil {
			return err
		}
	}
	if err := r.server.start(ctx); err != nil {
		return err
	}
	invite, err := r.server.invite(ctx)
	if err != nil {
		return err
	}
	for i := range r.c.devices {
		d := &deviceChild{number: i, dir: filepath.Join(r.dir, fmt.Sprint("device", i)), keep: i%2 == 1}
		if err := r.enrol(ctx, d.dir, invite, i == 0); err != nil {
			return fmt.Errorf("making device %d: %w", i, err)
		}
		r.devices = append(r.devices, d)
	}
	for _, d := range r.devices {
		if err := r.startDevice(d); err != nil {
			return err
		}
	}
	return nil
}

// enrol makes a device's vault and has the device admitted; the first creates
// the vault at the secondary.
func (r *runner) enrol(ctx context.Context, dir string, invite wire.Invite, first bool) error {
	seed := keys.GenerateDeviceSeed()
	k, err := seed.Keys()
	if err != nil {
		return err
	}
	err = vault.Create(dir, &keyfile.Device{
		Vault: r.root.VaultID(), ID: k.ID(), Seed: seed, Authority: r.root.Authority().Public(),
		TagSecret: r.root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: r.root.Epoch(1)}},
		Servers: []keyfile.Server{{URL: invite.URL, Key: invite.Server, Binding: keyfile.Binding(invite.Binding.String())}},
	}, filepath.Base(dir))
	if err != nil {
		return err
	}
	v, err := vault.Open(ctx, dir, vault.Config{})
	if err != nil {
		return err
	}
	var token *wire.Token
	if first {
		token = &invite.Token
	}
	_, err = v.Enrol(ctx, r.root.Authority(), token, vault.SyncOptions{})
	return errors.Join(err, v.Close())
}

func (r *runner) startDevice(d *deviceChild) (err error) {
	var last []string
	for w := range writers {
		last = append(last, strconv.FormatUint(r.model.last(writer{d.number, w}), 10))
	}
	d.p, err = start(fmt.Sprint("device ", d.number), d.dir+".log", func(line string) { r.model.hear(d.number, line) },
		r.self, deviceCommand, "-vault", d.dir, "-number", fmt.Sprint(d.number), "-devices", fmt.Sprint(r.c.devices),
		"-rate", fmt.Sprint(r.c.rate), "-seed", fmt.Sprint(r.rand.Uint64()), fmt.Sprintf("-keep-each=%v", d.keep),
		"-last", strings.Join(last, ","))
	return err
}

// loop kills and restarts until the time is over.
func (r *runner) loop(ctx context.Context) error {
	end := time.After(r.c.time)
	tell := time.NewTicker(10 * time.Second)
	defer tell.Stop()
	for r.c.kills == 0 || r.serverKills+r.deviceKills < r.c.kills {
		// A moment after the last restart: while things start, or while they run.
		wait := time.Duration(r.rand.Int64N(int64(time.Second)))
		if r.rand.IntN(5) == 0 {
			wait = time.Duration(r.rand.Int64N(int64(30 * time.Millisecond)))
		}
		select {
		case <-time.After(wait):
		case <-tell.C:
			r.tell()
			continue
		case <-end:
			return r.trouble()
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := r.trouble(); err != nil {
			return err
		}
		d := r.devices[r.rand.IntN(len(r.devices))]
		what := r.rand.IntN(10)
		if what < 4 || what == 9 { // the server, alone or with a device
			if err := r.server.kill(); err != nil {
				return err
			}
			r.serverKills++
		}
		if what >= 4 {
			if err := r.killDevice(ctx, d); err != nil {
				return err
			}
		}
		if r.server.p == nil {
			time.Sleep(time.Duration(r.rand.Int64N(int64(400 * time.Millisecond)))) // it is away
			if err := r.server.start(ctx); err != nil {
				return err
			}
		}
		if d.p == nil {
			if err := r.startDevice(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) tell() {
	acknowledged, undone, done := r.model.counts()
	fmt.Printf("%6v  killed: server %d, devices %d times; writes: %d acknowledged, %d cut off (%d had happened); %d passed, %d failed\n",
		time.Since(r.checks.since).Round(time.Second), r.serverKills, r.deviceKills, acknowledged, undone+done, done, r.checks.passed, r.checks.failed)
}

// trouble returns an error if a child has ended by itself, and counts what
// devices complained of.
func (r *runner) trouble() error {
	for _, text := range r.model.complaints() {
		r.checks.that(false, "%s", text)
	}
	procs := []*proc{r.server.p}
	for _, d := range r.devices {
		procs = append(procs, d.p)
	}
	for _, p := range procs {
		if p != nil && p.ended() {
			r.checks.that(false, "%s ended by itself%s", p.name, p.last())
		}
	}
	if r.checks.failed > shownFailures {
		return errors.New("too much has failed to go on")
	}
	return nil
}

// killDevice kills a device and looks at what it left.
func (r *runner) killDevice(ctx context.Context, d *deviceChild) error {
	p := d.p
	d.p = nil
	if err := p.kill(); err != nil {
		return err
	}
	r.deviceKills++
	v, err := vault.Open(ctx, d.dir, vault.Config{KeepEach: d.keep})
	if err != nil {
		return fmt.Errorf("opening device %d after a kill: %w", d.number, err)
	}
	r.model.afterKill(d.number, len(r.devices), vaultView{ctx, v}, r.checks)
	return v.Close()
}

// endTime bounds how long the devices may take to end, and to come in step: what
// never comes is lost.
const endTime = 5 * time.Minute

// stop ends the writing: the devices end by themselves.
func (r *runner) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	for _, d := range r.devices {
		d.p.stdin.Close()
	}
	var errs []error
	for _, d := range r.devices {
		p := d.p
		d.p = nil
		errs = append(errs, p.wait(ctx))
	}
	return errors.Join(append(errs, r.trouble())...)
}

// compare lets all devices sync and compares everything with everything.
func (r *runner) compare(ctx context.Context) error {
	// The last device to send is in step at once, the others after one more
	// round. A fresh device pulls and verifies it all.
	var vaults []*vault.Vault
	var names []string
	var keep []bool
	open := func(dir string) (*vault.Vault, error) {
		v, err := vault.Open(ctx, dir, vault.Config{})
		if err == nil {
			vaults, names = append(vaults, v), append(names, filepath.Base(dir))
		}
		return v, err
	}
	defer func() {
		for _, v := range vaults {
			v.Close()
		}
	}()
	for _, d := range r.devices {
		keep = append(keep, d.keep)
		if _, err := open(d.dir); err != nil {
			return fmt.Errorf("opening device %d: %w", d.number, err)
		}
	}
	invite, err := r.server.invite(ctx)
	if err != nil {
		return err
	}
	restored := filepath.Join(r.dir, "restored")
	for range 2 {
		if err := r.sync(ctx, vaults, names); err != nil {
			return err
		}
	}
	if err := r.enrol(ctx, restored, invite, false); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	fresh, err := open(restored)
	if err != nil {
		return err
	}
	// It has begun with a checkpoint: the versions before come with the history.
	if _, err := fresh.Sync(ctx, vault.SyncOptions{Full: true}); err != nil {
		return fmt.Errorf("verifying the history: %w", err)
	}
	if err := r.sync(ctx, vaults, names); err != nil {
		return err
	}

	var first *vault.Status
	var firstDigest commitlog.Hash
	records := 0
	for i, v := range vaults {
		r.model.atEnd(names[i], keep, vaultView{ctx, v}, r.checks)
		st, err := v.Status(ctx)
		if err != nil {
			return err
		}
		digest, pending, err := v.Digest(ctx)
		if err != nil {
			return err
		}
		r.checks.that(st.Pending == 0 && pending == 0, "%s: %d changes pending", names[i], st.Pending)
		r.checks.that(st.Aside == 0 && st.Missing == 0 && st.Quarantine == 0, "%s: %d refused, %d missing, %d in quarantine", names[i], st.Aside, st.Missing, st.Quarantine)
		r.checks.that(st.Alarm == "", "%s: alarm: %s", names[i], st.Alarm)
		if first == nil {
			first, firstDigest, records = st, digest, st.Records
		}
		r.checks.that(st.Commits == first.Commits && st.Root == first.Root, "%s: %d commits, and %s has %d, or the roots differ", names[i], st.Commits, names[0], first.Commits)
		r.checks.that(digest == firstDigest && st.Records == records, "%s: digest and records differ from those of %s", names[i], names[0])
	}

	// The server's own files, after a last kill.
	logged, err := r.server.errorsLogged()
	if err != nil {
		return err
	}
	r.checks.that(len(logged) == 0, "the server's log: %q", logged)
	if err := r.server.kill(); err != nil {
		return err
	}
	log, err := readServer(ctx, r.server.dir, r.root.VaultID(), r.checks)
	if err != nil {
		return fmt.Errorf("the server's files: %w", err)
	}
	r.checks.that(log.size == first.Commits && log.root == first.Root, "the server has %d commits, and the devices %d, or the roots differ", log.size, first.Commits)
	r.tell()
	fmt.Printf("        %d records and %d versions of them in %d commits, %d objects\n", records, log.changes, log.size, log.objects)
	return nil
}

func (r *runner) sync(ctx context.Context, vaults []*vault.Vault, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	for i, v := range vaults {
		report, err := v.Sync(ctx, vault.SyncOptions{})
		if err != nil {
			return fmt.Errorf("syncing %s: %w", names[i], err)
		}
		r.checks.that(report.Pending == 0 && report.Aside == 0 && report.Missing == 0 && report.Quarantine == 0, "syncing %s: %+v", names[i], *report)
	}
	return nil
}
