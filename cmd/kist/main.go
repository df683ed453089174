// Kist keeps personal data in an encrypted vault on this device, and in step
// with the person's other devices through a secondary that can read none of it.
//
// How it speaks: the result goes to stdout; reports of what was done, questions,
// progress and errors go to stderr. An error says what failed, then "try:" with
// what to do. The exit status is decided in run alone.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/kistvault/kist/internal/agent"
	"github.com/kistvault/kist/vault"
)

// Exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2  // usage, or input needed and none allowed
	exitPartly      = 3  // partly done, items listed
	exitLocked      = 4  // locked, or sign-in needed
	exitTemporary   = 5  // trying again may help
	exitNotFound    = 6  // no such record, file or vault at the secondary
	exitConflict    = 7  // conflict or failed precondition
	exitSize        = 8  // quota or size
	exitIntegrity   = 9  // fork, rollback, bad signature, damaged store
	exitNoVault     = 10 // no vault here
	exitInUse       = 11 // vault in use
	exitKey         = 12 // wrong passphrase or key
	exitRevoked     = 13 // this device is revoked
	exitInterrupted = 130
)

// What ended a context, as its cause. They are the agent's, which passes them on.
var (
	errInterrupted = agent.ErrInterrupted
	errTerminated  = agent.ErrTerminated
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	ignoreSignals()
	go func() {
		cause := errInterrupted
		if <-c == syscall.SIGTERM {
			cause = errTerminated
		}
		cancel(cause)
		<-c // the second one does not wait
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, here()))
}

// run runs one command and returns the exit status. The agent runs its clients'
// commands with it, several at a time.
func run(ctx context.Context, c caller) int {
	a := &app{caller: c}
	root := newRoot(a)
	root.SetArgs(c.args)
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if errors.Is(err, vault.ErrInUse) && !a.hasRead {
		// An agent may have begun since the command looked for one.
		if herr := a.hand(cmd); herr != nil {
			err = herr
		}
	}
	if err == nil {
		return exitOK
	}
	var h handed
	if errors.As(err, &h) {
		return int(h)
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	a.cmd = cmd
	if !a.started { // cobra found fault with the command line
		err = usageError{err}
	}
	p := a.explain(err)
	a.printProblem(p)
	return p.code
}
