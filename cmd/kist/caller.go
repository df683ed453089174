package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A caller is whom a command is run for: the person at this process, or a client
// of the agent that this process is. A command asks it, and not the process, for
// everything that differs between the two.
type caller struct {
	args           []string                         // the command line
	dir            string                           // where relative paths begin; empty: where the process is
	env            func(name string) (string, bool) // the environment
	zone           func() *time.Location            // where the person is
	stdin          io.Reader                        // nothing is read that is not used
	stdout, stderr io.Writer
	held           *held                                                               // what the agent holds; nil: this is none
	ask            func(ctx context.Context, what string, with []byte) ([]byte, error) // the agent's client; nil: the person is here
}

// here is the person at this process.
func here() caller {
	return caller{
		args: os.Args[1:], env: os.LookupEnv, zone: func() *time.Location { return time.Local },
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}
}

func (c *caller) getenv(name string) string {
	value, _ := c.env(name)
	return value
}

// hereMark joins a client's directory with a relative path: it says where in an
// error's text the path begins that the person gave.
const hereMark = "/./"

// at returns a path as this process finds it. given takes the addition out of
// a text again.
func (c *caller) at(path string) string {
	if c.dir == "" || path == "" || filepath.IsAbs(path) {
		return path
	}
	return c.dir + hereMark + path
}

func (c *caller) given(text string) string {
	if c.dir == "" {
		return text
	}
	add := c.dir + hereMark
	quoted := strconv.Quote(add)
	return strings.NewReplacer(add, "", quoted[1:len(quoted)-1], "").Replace(text)
}

// abs returns an absolute path.
func (c *caller) abs(path string) (string, error) {
	if c.dir == "" || filepath.IsAbs(path) {
		return filepath.Abs(path)
	}
	return filepath.Join(c.dir, path), nil
}

// reachable returns an error for a path that means another file to the agent,
// which opens it, than to its client: one of the process itself, such as what a
// shell puts for <(cmd).
func (c *caller) reachable(path, hint string) error {
	if c.held == nil {
		return nil
	}
	whole, err := c.abs(path)
	if err != nil {
		return err
	}
	for _, own := range []string{"/dev/fd/", "/dev/std", "/proc/self/", "/proc/thread-self/"} {
		if strings.HasPrefix(filepath.ToSlash(whole), own) {
			return &failure{code: exitUsage, hint: hint,
				text: path + " is a file of this process alone, and kist run, which works for it, cannot open it"}
		}
	}
	return nil
}

// timeText returns a time for a person, in their time zone.
func (c *caller) timeText(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return t.In(c.zone()).Format("2006-01-02 15:04:05")
}

// localZone is the file that says where a machine is.
const localZone = "/etc/localtime"

// zoneOf returns the time zone that a process with this environment would have,
// as package time finds its own: this one may have begun elsewhere.
func zoneOf(env func(string) (string, bool)) *time.Location {
	name, set := env("TZ")
	name = strings.TrimPrefix(name, ":")
	if set && !filepath.IsAbs(name) {
		if l, err := time.LoadLocation(name); err == nil { // "" is UTC
			return l
		}
		return time.UTC
	}
	if b, err := os.ReadFile(cmp.Or(name, localZone)); err == nil {
		if l, err := time.LoadLocationFromTZData("Local", b); err == nil {
			return l
		}
	}
	return time.Local
}
