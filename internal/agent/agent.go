// Package agent lets one process, the agent, run the commands of others of the
// same user over a Unix socket: because the agent holds something that only one
// process can hold, here the store of a vault.
//
// The command line itself is what is sent, so the agent runs a command with the
// very code that the client would have run, and there is one protocol for all
// commands. The client is a remote control: it sends arguments, directory and
// environment ([Call]), gives its standard input as far as it is asked for, and
// writes what comes for its standard output and error. What needs the person's
// own terminal, such as a prompt without echo, the agent has the client do
// ([Caller.Ask]). The end of a client cancels its command.
//
// [Listen] makes the socket, [Server.Serve] runs commands; [Dial] finds the
// agent of a directory, [Conn.Run] has it run a command.
//
// # Where the socket is
//
// In a directory of the user's own: $XDG_RUNTIME_DIR/kist, or kist-UID in the
// directory for temporary files, where the first is not to be had. Its name is a
// hash of the served directory and the process id, so that it is short however
// long the directory's name is. The file "agent" in the served directory says
// where it is, since a client's environment may differ from the agent's.
//
// The socket's directory must be a real one that belongs to the user and has mode
// 0700. On Linux both sides also ask the kernel who the other is; elsewhere the
// mode of the directory is what keeps others out.
//
// # What is said
//
// The agent begins with 8 bytes of magic, of which the last is the version of this
// protocol. Then there are frames in both directions:
//
//	type u8 ‖ length u32, big endian ‖ payload
//
//	hello  ←  JSON: the program's version, the process id
//	call   →  JSON: a Call
//	want   ←  u32: so many bytes of standard input, at most
//	input  →  some of it
//	end    →  there is no more of it, and why: nothing for its end, or a failure
//	out    ←  for standard output
//	err    ←  for standard error
//	wrote  →  the last of these two is written: nothing, or a failure
//	ask    ←  JSON: what is wanted of the client
//	told   →  JSON: the client's answer
//	cancel →  u8: why
//	exit   ←  u32: the exit status; nothing follows
//
// A failure is an errno (u32, 0 for none) and a text. There is one frame under way
// for each stream at most: the agent waits for wrote, and sends want for each read.
// So neither side holds more than a frame for the other, however slow that is, and
// a write fails in the command when it fails in the client.
package agent

import (
	"errors"
	"time"
)

// FileName is the name of the file in the served directory that says where the
// agent is; FileName with ".tmp" is what it is called while it is written.
const FileName = "agent"

// greeting is what an agent begins with: seven bytes of magic and the version of
// the protocol.
const greeting = "kistagt\x01"

// patience is how long a client waits for the agent to answer at all, and an
// agent that ends for a client to take what is left.
const patience = 5 * time.Second

// maxClients bounds how many commands run at once; others wait until one ends, or
// their clients have no patience left.
const maxClients = 256

var (
	// ErrNone: no agent serves the directory.
	ErrNone = errors.New("no agent")
	// ErrSilent: the agent is there and does not answer.
	ErrSilent = errors.New("the agent does not answer")
	// ErrVersion: the agent is of another version than the client.
	ErrVersion = errors.New("the agent is of another version")
	// ErrLost: the connection ended before the command did.
	ErrLost = errors.New("the agent ended before the command did")
	// ErrUnsafe: the socket's directory is not the user's own.
	ErrUnsafe = errors.New("not a directory of the user's own")

	// ErrInterrupted and ErrTerminated are causes of a context that ends a
	// command: a client sends them on. The end of a client is ErrInterrupted.
	ErrInterrupted = errors.New("interrupted")
	ErrTerminated  = errors.New("terminated")
	// ErrEnded is the cause that ends a command when the agent ends.
	ErrEnded = errors.New("the agent ends")
)

// A Call is a command as a client asks for it. Strings may hold any bytes.
type Call struct {
	Args     []string
	Dir      string   // where relative paths begin
	Env      []string // NAME=VALUE: what the command may need of the environment
	Terminal [3]bool  // whether standard input, output and error are terminals
	Width    int      // columns of the terminal; 0: not known
}

// An Info says which process an agent is.
type Info struct {
	PID     int
	Program string // its version
}
