package commitlog

import (
	"errors"
	"fmt"
)

// What a commit, or the log around it, can be refused for. A device that meets
// one of these in what a secondary serves stops and raises an alarm: an honest
// secondary has made the same checks before it appended.
var (
	// ErrMalformed: bytes that are not the canonical form of anything, or refs
	// that break a rule of the format.
	ErrMalformed = errors.New("malformed commit")
	// ErrVersion: a version, kind or control statement that this program does
	// not know. A newer program may.
	ErrVersion = errors.New("unknown version")
	// ErrLimit: more than the format allows.
	ErrLimit = errors.New("limit exceeded")
	// ErrUnknownSigner: no certificate of the authority names the author.
	ErrUnknownSigner = errors.New("unknown signer")
	// ErrRevoked: the author was revoked before this place in the log.
	ErrRevoked = errors.New("signer is revoked")
	// ErrScope: the author may not write to this namespace.
	ErrScope = errors.New("signer may not write here")
	// ErrSignature: the signature does not verify.
	ErrSignature = errors.New("bad signature")
	// ErrEquivocation: the author signed two commits for one place in its own
	// chain. Its state was copied, or restored from an old copy.
	ErrEquivocation = errors.New("author contradicts itself")
	// ErrOmission: something that must be there was left out.
	ErrOmission = errors.New("something was left out")
	// ErrOrder: a commit stands where it may not stand.
	ErrOrder = errors.New("commit out of order")
	// ErrFork: the author saw another history than ours.
	ErrFork = errors.New("history forks")
	// ErrRollback: the log is shorter than it was.
	ErrRollback = errors.New("history was rolled back")
	// ErrEpoch: the commit names another epoch than the one in force.
	ErrEpoch = errors.New("wrong epoch")
	// ErrBlob: a change list, blob or object is not the one that was signed.
	ErrBlob = errors.New("content differs from its signed hash")
	// ErrControlFork: a control statement does not continue the control log.
	ErrControlFork = errors.New("control log forks")
	// ErrNoGenesis: the log does not begin with a genesis statement.
	ErrNoGenesis = errors.New("no genesis statement")
	// ErrCheckpoint: a checkpoint draws something else from the log than is in it,
	// or the live changes that were served with it are not those that it names.
	ErrCheckpoint = errors.New("checkpoint and log do not agree")
	// ErrVaultIDMismatch: this belongs to another vault.
	ErrVaultIDMismatch = errors.New("this belongs to another vault")
	// ErrOwnCommitMissing: a commit of this device was acknowledged, and the
	// log does not hold it where it was acknowledged.
	ErrOwnCommitMissing = errors.New("an acknowledged commit is missing")
	// ErrDeviceStateRollback: the log holds commits of this device that the
	// device does not know: its state is an old copy, or was cloned.
	ErrDeviceStateRollback = errors.New("this device's state is an old copy")
)

// A CommitError says which commit was refused, and why.
type CommitError struct {
	ID     CommitID // the place in the log it was checked for; 0: it is about the whole log
	Err    error    // one of the sentinels of this package
	Reason string   // more, for a person; may be empty
}

func (e *CommitError) Error() string {
	text := e.Err.Error()
	if e.ID != 0 {
		text = fmt.Sprintf("commit %d: %s", e.ID, text)
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

func (e *CommitError) Unwrap() error { return e.Err }
