package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/agent"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// usesVault is the annotation of a command that says how it uses the vault.
// Without it the agent runs the command, if there is one.
const usesVault = "vault"

const (
	vaultNot   = "not"   // not at all
	vaultAlone = "alone" // it makes, replaces or holds it: not while an agent does
)

func annotate(how string) map[string]string { return map[string]string{usesVault: how} }

// handed is the error of a command that the agent has run: its exit status.
type handed int

func (h handed) Error() string { return "exit status " + strconv.Itoa(int(h)) }

// hand has the agent run the command, if there is an agent and it is a command
// for it. It returns nil where this process is to run it.
func (a *app) hand(cmd *cobra.Command) error {
	how := cmd.Annotations[usesVault]
	if how == vaultNot || strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd) {
		return nil
	}
	if a.held != nil {
		if how == vaultAlone {
			return a.taken(cmd, os.Getpid())
		}
		return nil
	}
	conn, info, err := agent.Dial(a.vaultDir, version())
	switch {
	case errors.Is(err, agent.ErrNone):
		return nil
	case err != nil:
		return a.noUse(info, err)
	case how == vaultAlone:
		return errors.Join(a.taken(cmd, info.PID), conn.Close())
	}
	call, err := a.call()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	code, err := conn.Run(cmd.Context(), call, agent.Streams{In: a.stdin, Out: a.stdout, Err: a.stderr, Answer: a.answer})
	if err != nil {
		f := &failure{code: exitTemporary, text: "kist run ended while it ran this command", err: err,
			hint: "kist status; what was confirmed is safe, and the rest can be done again"}
		f.detail("reason", err.Error())
		return f
	}
	return handed(code)
}

// call is this command line, for the agent.
func (a *app) call() (agent.Call, error) {
	c := agent.Call{
		Args:     a.args,
		Terminal: [3]bool{term.IsTerminal(a.stdin), term.IsTerminal(a.stdout), term.IsTerminal(a.stderr)},
	}
	for _, w := range []io.Writer{a.stderr, a.stdout} {
		if term.IsTerminal(w) {
			c.Width = term.Width(w)
		}
	}
	var err error
	if c.Dir, err = os.Getwd(); err != nil {
		// It may be gone. What its name was finds no files, and not the agent's.
		if c.Dir = os.Getenv("PWD"); !filepath.IsAbs(c.Dir) {
			return c, fmt.Errorf("the working directory: %w", err)
		}
	}
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); forwarded(name) {
			c.Env = append(c.Env, e)
		}
	}
	return c, nil
}

// forwarded reports whether a command may depend on a variable of the
// environment.
func forwarded(name string) bool {
	switch name {
	case "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "USERPROFILE", "AppData", "NO_COLOR", "TERM", "EDITOR", "VISUAL", "TZ":
		return true
	}
	return strings.HasPrefix(name, "KIST_")
}

// taken is the error of a command that cannot go on beside an agent.
func (a *app) taken(cmd *cobra.Command, pid int) *failure {
	f := &failure{code: exitInUse, text: fmt.Sprintf("kist run holds this vault: kist %s has to wait until it ends", cmd.Name()),
		hint: fmt.Sprintf("kill %d, then the same again", pid)}
	if cmd.Name() == "run" {
		f.text, f.hint = "kist run is running for this vault already", "kist status"
	}
	f.detail("vault", a.vaultDir)
	f.detail("held by", fmt.Sprintf("kist run (process %d)", pid))
	return f
}

// noUse is the error of an agent that is there and cannot be used.
func (a *app) noUse(info agent.Info, err error) *failure {
	f := &failure{code: exitInUse, text: "kist run holds this vault, and does not answer", err: err,
		hint: fmt.Sprintf("kill %d, then kist run again", info.PID)}
	f.detail("vault", a.vaultDir)
	f.detail("held by", fmt.Sprintf("kist run (process %d)", info.PID))
	switch {
	case errors.Is(err, agent.ErrVersion):
		f.text = "kist run is of another version than this program: it has to be started again"
		if info.Program != "" {
			f.detail("it is", info.Program)
		}
		f.detail("this is", version())
	case errors.Is(err, agent.ErrUnsafe):
		f.text = "the socket of kist run is not safe to use"
		f.detail("reason", err.Error())
	}
	return f
}

// held is what an agent holds for its clients.
type held struct {
	v      *vault.Vault
	dir    string
	states *states
	again  chan struct{} // holds one: an alarm no longer stops the sync
}

// goOn has the agent sync again after an alarm.
func (h *held) goOn() {
	select {
	case h.again <- struct{}{}:
	default:
	}
}

// client is a client of this agent.
func (h *held) client(c *agent.Caller) caller {
	vars := make(map[string]string, len(c.Env))
	for _, e := range c.Env {
		name, value, _ := strings.Cut(e, "=")
		vars[name] = value
	}
	env := func(name string) (string, bool) { value, ok := vars[name]; return value, ok }
	return caller{
		args: c.Args, dir: c.Dir, env: env, zone: func() *time.Location { return zoneOf(env) },
		stdin: c.Stdin, stdout: c.Stdout, stderr: c.Stderr, held: h, ask: c.Ask,
	}
}

// vault returns the agent's vault for a client that wants the one in dir.
func (h *held) vault(dir string) (*vault.Vault, error) {
	want, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	have, err := os.Stat(h.dir)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(want, have) {
		return nil, fmt.Errorf("this agent holds %s, not %s", h.dir, dir)
	}
	return h.v, nil
}

// What an agent asks its clients for: what needs the person's own terminal, files
// or descriptors.
const (
	askPassphrase = "passphrase"
	askEditor     = "editor"
)

type passphraseQuestion struct {
	Key     string
	Confirm bool
}

// An editorQuestion is for an editor to open a file, which the agent reads when
// that has ended.
type editorQuestion struct{ Path string }

// reply is an answer: bytes, or the failure that the agent's command ends with.
type reply struct {
	Bytes   []byte
	Failure *jsonFailure
}

type jsonFailure struct {
	Code    int
	Text    string
	Details [][2]string
	Hint    string
}

// remotely asks the agent's client.
func (a *app) remotely(ctx context.Context, what string, question any) ([]byte, error) {
	b, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	if b, err = a.ask(ctx, what, b); err != nil {
		return nil, err
	}
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	if f := r.Failure; f != nil {
		return nil, &failure{code: f.Code, text: f.Text, details: f.Details, hint: f.Hint}
	}
	return r.Bytes, nil
}

// answer does what an agent asks for.
func (a *app) answer(ctx context.Context, what string, question []byte) ([]byte, error) {
	var r reply
	var err error
	switch what {
	case askPassphrase:
		var q passphraseQuestion
		if err = json.Unmarshal(question, &q); err == nil {
			r.Bytes, err = a.passphrase(ctx, q.Key, q.Confirm)
		}
	case askEditor:
		var q editorQuestion
		if err = json.Unmarshal(question, &q); err == nil {
			err = a.runEditor(ctx, q.Path)
		}
	default:
		err = fmt.Errorf("this client knows no %q", what)
	}
	if err != nil {
		f := a.explain(err)
		r = reply{Failure: &jsonFailure{f.code, f.text, f.details, f.hint}}
	}
	return json.Marshal(r)
}
