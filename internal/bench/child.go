package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"

	"github.com/kistvault/kist/internal/ballast"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// childEnv makes this program one process of a measure of memory, which has to
// hold nothing else: its value is the role.
const childEnv = "KIST_BENCH_CHILD"

const (
	roleSecondary = "secondary" // runs one until its standard input ends
	roleDevice    = "device"    // syncs the vault in a directory, once
	roleRestore   = "restore"   // restores a vault into a directory
	roleClients   = "clients"   // many clients of one secondary
)

func child(role string) {
	var err error
	switch role {
	case roleSecondary:
		err = childSecondary(os.Args[1], os.Stdin, os.Stdout)
	case roleRestore:
		err = childRestore(os.Args[1], os.Stdin, os.Stdout)
	case roleClients:
		err = childClients(os.Stdin, os.Stdout)
	case roleDevice:
		err = childDevice(os.Args[1], os.Stdout)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", role+":", err)
		os.Exit(1)
	}
}

// childSecondary answers each line: "invite" with a new one, "invites" with one for
// any number of vaults, "heap" with the bytes of what is alive in memory.
func childSecondary(dir string, in io.Reader, out io.Writer) (err error) {
	defer ballast.Hold(ballast.Server)() // as kistd does
	p, err := newPlace(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		switch lines.Text() {
		case "invite":
			i, err := p.invite(context.Background())
			if err != nil {
				return err
			}
			fmt.Fprintln(out, i)
		case "invites":
			i, err := p.inviteOf(context.Background(), 100_000)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, i)
		case "heap":
			debug.FreeOSMemory()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Fprintln(out, m.HeapAlloc-ballast.Server)
		}
	}
	return lines.Err()
}

// A result is what a device's process says in the end.
type result struct {
	Before, Peak, Heap int64 // RssAnon before and in the sync, heap in the sync
	Changes            int
}

func childDevice(dir string, out io.Writer) error {
	v, err := vault.Open(context.Background(), dir, vault.Config{})
	if err != nil {
		return err
	}
	defer v.Close()
	debug.FreeOSMemory()
	r := result{Before: rssAnon(0)}
	peak := watchMemory(0)
	report, err := v.Sync(context.Background(), vault.SyncOptions{})
	u := peak()
	if err != nil {
		return err
	}
	r.Peak, r.Heap, r.Changes = u.anon, u.heap, report.Pulled+report.Pushed
	return json.NewEncoder(out).Encode(r)
}

// device syncs a vault in a process of its own.
func device(dir string) (r result, err error) {
	cmd, err := self(roleDevice, dir)
	if err != nil {
		return r, err
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	return r, err
}

func self(role, dir string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, dir)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	return cmd, nil
}

// away is a secondary in a process of its own.
type away struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newAway(dir string) (*away, error) {
	cmd, err := self(roleSecondary, dir)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &away{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

func (a *away) ask(question string) (string, error) {
	if _, err := fmt.Fprintln(a.in, question); err != nil {
		return "", err
	}
	line, err := a.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("asking the secondary for %s: %w", question, err)
	}
	return line[:len(line)-1], nil
}

func (a *away) person(dir string) (*person, error) {
	text, err := a.ask("invite")
	if err != nil {
		return nil, err
	}
	i, err := wire.ParseInvite(text)
	return newPerson(dir, i), err
}

// heap returns the bytes of what is alive in the secondary's memory.
func (a *away) heap() (n int64, err error) {
	text, err := a.ask("heap")
	if err == nil {
		_, err = fmt.Sscan(text, &n)
	}
	return n, err
}

func (a *away) stop() error {
	a.in.Close()
	return a.cmd.Wait()
}
