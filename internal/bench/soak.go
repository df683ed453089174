package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// soak has a secondary serve clients of all kinds for long, those too that come and
// go or speak no protocol, and looks whether it keeps what it took: memory and open
// files must stay as they are. The log of each vault grows meanwhile.
func (b *bench) soak(ctx context.Context) (err error) {
	if b.soakFor == 0 {
		row("not asked for: -soak 30m", "")
		return nil
	}
	dir, err := b.sub("soak")
	if err != nil {
		return err
	}
	place, err := newAway(filepath.Join(dir, "secondary"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.stop()) }()
	invite, err := place.ask("invites")
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	var l loaded
	go func() {
		var stop func() error
		var err error
		l, stop, err = clientsAway(loadOrder{Invite: invite, Vaults: 8, Writers: 8, Pause: 20 * time.Millisecond, Readers: 16, Restores: 2, Churn: 4, Garbage: 2, For: b.soakFor})
		if err == nil {
			err = stop()
		}
		ended <- err
	}()
	const samples = 20
	var memory, files [samples]int64
	for i := range samples {
		select {
		case err := <-ended:
			return fmt.Errorf("the clients have ended early: %w", err)
		case <-time.After(b.soakFor / (samples + 1)):
		}
		memory[i], files[i] = rssAnon(place.cmd.Process.Pid), openFiles(place.cmd.Process.Pid)
	}
	if err := <-ended; err != nil {
		return err
	}
	row(fmt.Sprintf("%s: commits written, read, restored", b.soakFor), fmt.Sprintf("%d, %d, %d", l.Commits, l.Read, l.Restored))
	row("sessions that came and went, connections with garbage", fmt.Sprintf("%d, %d", l.Churned, l.Refused))
	early, late := highest(memory[samples/4:samples/2]), highest(memory[samples*3/4:])
	b.mark("RssAnon in the second quarter, in the last", mib(early)+", "+mib(late), "flat: within a quarter and 8 MiB", late < early+early/4+8<<20)
	early, late = highest(files[samples/4:samples/2]), highest(files[samples*3/4:])
	b.mark("open files in the second quarter, in the last", fmt.Sprintf("%d, %d", early, late), "flat: within 16", late <= early+16)
	return nil
}

func highest(of []int64) (m int64) {
	for _, n := range of {
		m = max(m, n)
	}
	return m
}

// openFiles returns how many files a process has open, 0 where the system does not
// tell.
func openFiles(pid int) int64 {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return int64(len(entries))
}

// churn signs in, follows the log for a moment, and leaves, again and again.
func (c *clients) churn(ctx context.Context, d *loadDevice) error {
	for ctx.Err() == nil {
		conn, err := d.session(ctx, c.server, true)
		if err == nil {
			_, err = conn.Receive(ctx)
			conn.Close()
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		c.churned.Add(1)
		sleep(ctx, 50*time.Millisecond)
	}
	return nil
}

// garbage connects and sends what is no protocol.
func (c *clients) garbage(ctx context.Context) error {
	u, err := url.Parse(c.server.URL)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) // it says nothing that matters
		if err == nil {
			b := make([]byte, 4096)
			rand.Read(b)
			conn.Write(b)
			conn.SetReadDeadline(time.Now().Add(time.Second))
			conn.Read(b)
			conn.Close()
		}
		c.refused.Add(1)
		sleep(ctx, 50*time.Millisecond)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
