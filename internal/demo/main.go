// Command demo does kist's main job for real, with the real programs, and says
// what happens: a person puts their data in a vault on a laptop, it goes
// encrypted to a secondary, a phone has it too, the laptop is lost, and the key
// file alone brings everything back.
//
//	go run ./internal/demo [-keep]
//
// Everything happens in a temporary directory, which is removed at the end, also
// after a failure or an interrupt; -keep leaves it there to be looked at. The
// exit status is 0 only if every comparison came out as it should.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxTime bounds the whole run, so that it ends by itself whatever happens.
const maxTime = 10 * time.Minute

func main() {
	os.Setenv("KISTD_CONFIG", os.DevNull) // not the one of a kistd that is at home here
	keep := flag.Bool("keep", false, "leave the demonstration's directory")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "demo: it takes no arguments")
		os.Exit(2)
	}
	// A broken pipe is a signal like the others: what was started has to end.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	err := run(ctx, os.Stdout, *keep)
	interrupted := ctx.Err() != nil
	cancel()
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Fprintf(os.Stderr, "\ndemo: stopped before the end: %v\n", err)
		os.Exit(130)
	default:
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
}

// demo is one demonstration.
type demo struct {
	ctx       context.Context
	out       io.Writer
	dir       string // all that it makes
	repo      string // the module
	step      int
	blank     bool       // the last line was empty
	secondary *secondary // nil: none runs
	started   time.Time
}

func run(ctx context.Context, out io.Writer, keep bool) (err error) {
	d := &demo{ctx: ctx, out: out}
	if d.repo, err = repository(ctx); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "kist-demo-"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.stopSecondary())
		if keep {
			d.say("")
			d.say("Left for you to look at: %s", d.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(d.dir))
	}()
	return d.story()
}

// repository returns the directory of this module.
func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\n{{.Dir}}").Output()
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || path != "github.com/kistvault/kist" {
		return "", errors.Join(errors.New("run it in a clone of kist, with go in the PATH"), err)
	}
	return dir, nil
}

// say prints a line. There are no two empty ones in a row.
func (d *demo) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if line == "" && d.blank {
		return
	}
	d.blank = line == ""
	fmt.Fprintln(d.out, line)
}

// begin prints the heading of the next step.
func (d *demo) begin(title string) {
	d.step++
	heading := fmt.Sprintf("%d. %s", d.step, title)
	d.say("")
	d.say("%s", heading)
	d.say("%s", strings.Repeat("─", len([]rune(heading))))
}

// explain prints a paragraph.
func (d *demo) explain(text string) {
	d.say("")
	defer d.say("")
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > 78 {
			d.say("%s", line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	d.say("%s", line)
}

// quoteOutput prints what a program printed, indented.
func (d *demo) quoteOutput(text []byte) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\n"); line == "" {
			d.say("")
		} else {
			d.say("    %s", line)
		}
	}
}

// build builds both programs into bin/, from which they run.
func (d *demo) build() error {
	d.say("$ go build -o bin/ ./cmd/kist ./cmd/kistd")
	start := time.Now()
	// Version control has no part in this, and may distrust the clone's owner.
	cmd := d.command(d.repo, "go", "build", "-trimpath", "-buildvcs=false", "-o", "bin"+string(filepath.Separator), "./cmd/kist", "./cmd/kistd")
	if out, err := cmd.CombinedOutput(); d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	} else if err != nil {
		return fmt.Errorf("building: %w\n%s\nThe first build fetches modules: is there a network, or a proxy in GOPROXY?", err, bytes.TrimSpace(out))
	}
	d.say("    done in %.1f s", time.Since(start).Seconds())
	return nil
}

// command prepares a program that ends, gently at first, when the demo does.
func (d *demo) command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.ctx, name, args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return terminate(cmd.Process) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func terminate(p *os.Process) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return p.Kill()
	}
	return nil
}

// A device is a person's device: a directory with its files, and in it the
// vault's directory.
type device struct {
	*demo
	prompt string // what it is called here
	name   string // what kist calls it
	dir    string
}

// newDevice makes the directory of a device.
func (d *demo) newDevice(prompt, name string) (*device, error) {
	v := &device{demo: d, prompt: prompt, name: name, dir: filepath.Join(d.dir, prompt)}
	return v, os.Mkdir(v.dir, 0o700)
}

// kist runs kist on the device, prints the command and what it says, and
// returns its standard output. It fails if the exit status is not want.
func (v *device) kist(want int, stdin string, args ...string) ([]byte, error) {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = shellQuote(a)
	}
	line := "kist " + strings.Join(shown, " ")
	if stdin != "" {
		line = "echo " + shellQuote(strings.TrimSuffix(stdin, "\n")) + " | " + line
	}
	v.say("%s$ %s", v.prompt, line)
	stdout, stderr, err := v.quiet(want, stdin, args...)
	v.quoteOutput(stdout)
	v.quoteOutput(stderr)
	return stdout, err
}

// quiet is kist without printing anything.
func (v *device) quiet(want int, stdin string, args ...string) (stdout, stderr []byte, err error) {
	cmd := v.command(v.dir, v.program("kist"), args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "KIST_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "KIST_VAULT=vault", "KIST_PASSPHRASE_FILE="+filepath.Join(v.demo.dir, "passphrase"), "KIST_NO_INPUT=true")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if v.ctx.Err() != nil {
		return nil, nil, context.Cause(v.ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, nil, err
	}
	if code := cmd.ProcessState.ExitCode(); code != want {
		return out.Bytes(), errs.Bytes(), fmt.Errorf("kist %s ended with exit status %d, and not %d: %s", args[0], code, want, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), errs.Bytes(), nil
}

// program returns the path of a built program.
func (d *demo) program(name string) string { return filepath.Join(d.repo, "bin", name) }

// shellQuote quotes an argument as a shell would want it, where it has to. The
// invite is long and is shown as the variable that it would be in.
func shellQuote(arg string) string {
	if strings.HasPrefix(arg, "kistinvite1") {
		return "$INVITE"
	}
	plain := arg != "" && strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:") == ""
	if plain {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
