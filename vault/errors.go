package vault

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. Others are explained by their text alone.
// Errors of the log itself (a fork, a rollback, …) are those of package
// commitlog; errors of a session are those of package wire.
var (
	// ErrNoVault: the directory holds no vault.
	ErrNoVault = errors.New("no vault here")
	// ErrExists: the directory holds a vault, or something else, already.
	ErrExists = errors.New("the directory is not empty")
	// ErrInUse: another program has the vault open.
	ErrInUse = errors.New("the vault is in use by another program")
	// ErrDamaged: the vault's store cannot be read.
	ErrDamaged = errors.New("the vault's store is damaged")
	// ErrReadOnly: this device's disk did not take a write, being full for example, and
	// takes none yet. Whether that write is in the vault nobody knows, unless it was
	// refused with this error to begin with; what was durable is there, and reading goes
	// on. Each write tries again, and so does Run: nothing has to be opened anew.
	ErrReadOnly = errors.New("this device's disk takes no writes")
	// ErrNotFound: there is no such record, version or namespace.
	ErrNotFound = errors.New("not found")
	// ErrNotSelected: the namespace is not kept on this device, so what is in it
	// is not known; see Selection.
	ErrNotSelected = errors.New("the namespace is not selected for this device")
	// ErrIncomplete: this has not come from the secondary yet, since the vault's store
	// was made anew (see Rebuild), or its history begins at a checkpoint; a sync gets
	// it. Before a device that begins there is admitted (see Enrol), that is everything.
	ErrIncomplete = errors.New("the vault is being restored, and this is not here yet")
	// ErrNotHere: the value is at the secondary and not on this device; see
	// Namespace.Fetch.
	ErrNotHere = errors.New("the value is not on this device")
	// ErrValueDamaged: the file of a long value is not what was written. The rest
	// of the vault is not concerned; a full sync gets the value of a live version
	// again, if it was sent.
	ErrValueDamaged = errors.New("the value's file is damaged on this device")
	// ErrCompacted: the content of a version that was superseded or removed is not
	// kept any more: here, see Retention, or at the secondary before it came here. It
	// comes with ErrNotFound. Another device may have it.
	ErrCompacted = errors.New("the content is no longer kept here")
	// ErrCondition: the record is not as IfAbsent or IfRevision asked.
	ErrCondition = errors.New("the record has changed")
	// ErrInvalid: a name, namespace or option that cannot be.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: a name, value or transaction beyond its limit.
	ErrTooLarge = errors.New("too large")
	// ErrNotUnderstood: the record was written by a newer version.
	ErrNotUnderstood = errors.New("written by a newer version")
	// ErrNoSecondary: the vault has no secondary to sync with.
	ErrNoSecondary = errors.New("the vault has no secondary")
	// ErrNotEnrolled: the device is not in its vault's device list yet.
	ErrNotEnrolled = errors.New("this device is not admitted to its vault yet")
	// ErrRevoked: this device was shut out of the vault.
	ErrRevoked = errors.New("this device was revoked")
	// ErrRunning: the vault has a Run already.
	ErrRunning = errors.New("the vault is kept in step already")
	// ErrStopped: the Run that was to do it has ended.
	ErrStopped = errors.New("the sync was stopped")
	// ErrResolver: a resolver failed, and gave no answer.
	ErrResolver = errors.New("the resolver failed")
	// ErrOffline: the secondary cannot be reached, and this needs it.
	ErrOffline = errors.New("the secondary cannot be reached, and this needs it")
	// ErrContention: other devices were faster, again and again.
	ErrContention = errors.New("other devices were faster each time")
	// ErrOutcomeUnknown: whether a transaction is in the log is not known yet.
	ErrOutcomeUnknown = errors.New("the transaction may have happened or not")
	// ErrClosed: the vault was closed.
	ErrClosed = errors.New("the vault is closed")
)

// An Error says which operation failed, on what, and what may help.
type Error struct {
	Op   string // "put", "get", …
	Name string // namespace/name, or empty
	Hint string // what to do next; may be empty
	Err  error
}

func (e *Error) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s %q: %v", e.Op, e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

func opError(op, ns, name string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	if ns != "" {
		name = ns + "/" + name
	}
	return &Error{Op: op, Name: name, Err: err}
}
