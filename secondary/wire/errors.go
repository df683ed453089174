package wire

import (
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog"
)

// What a secondary answers, as errors. The secondary maps them to codes and the
// client maps codes back, so that both sides test the same words. What a commit
// is refused for has its words in package commitlog.
var (
	// ErrInternal: the secondary could not, for reasons of its own. Whether it
	// did what was asked is unknown; asking again is safe.
	ErrInternal = errors.New("the secondary has a problem")
	// ErrProtocol: a message that is malformed, unknown or out of order.
	ErrProtocol = errors.New("protocol error")
	// ErrVersion: the other side speaks another version of the protocol.
	ErrVersion = errors.New("another protocol version")
	// ErrAudience: the secondary is not known by the address it was asked for.
	ErrAudience = errors.New("the secondary is not known by that address")
	// ErrDenied: sign-in refused. It never says whether the vault exists.
	ErrDenied = errors.New("sign-in refused")
	// ErrInvite: no such invite, or it is used up or out of date.
	ErrInvite = errors.New("the invite is not valid: unknown, used or expired")
	// ErrTooLarge: more than the secondary takes.
	ErrTooLarge = errors.New("too large")
	// ErrCondition: the log's size is not the one that was asked for.
	ErrCondition = errors.New("the log has another size")
	// ErrAfterRefused: an earlier commit that this one follows was refused.
	ErrAfterRefused = errors.New("an earlier commit was refused")
	// ErrObjectMissing: an object that the commit names is not here yet.
	ErrObjectMissing = errors.New("an object is missing")
	// ErrNotFound: there is no such commit, change or object.
	ErrNotFound = errors.New("not found")
	// ErrReplaced: a newer session of the same device took over.
	ErrReplaced = errors.New("a newer session of this device took over")
	// ErrShutdown: the secondary stops or restarts.
	ErrShutdown = errors.New("the secondary is stopping")
	// ErrBusy: the secondary takes no more at the moment.
	ErrBusy = errors.New("the secondary asks to come back later")
	// ErrTimeout: the peer was silent for too long.
	ErrTimeout = errors.New("timed out")
	// ErrSuspended: whoever runs the secondary has suspended the vault. Who is
	// told has proved to be one of its devices.
	ErrSuspended = errors.New("the secondary has suspended this vault, or is about to delete it")
	// ErrQuota: it is more than the secondary keeps for the vault.
	ErrQuota = errors.New("the vault has no more room at the secondary")
	// ErrReadOnly: the secondary can store nothing now, as where its disk is full, and
	// can be read.
	ErrReadOnly = errors.New("the secondary can store nothing at the moment")
	// ErrRegistration: what came with a control commit does not fit it or the log.
	ErrRegistration = errors.New("bad device registration")
	// ErrMoved: the vault is at another secondary now. Which, its log says.
	ErrMoved = errors.New("the vault was moved to another secondary")
)

// What only a client finds. These have no codes.
var (
	// ErrUnreachable: no connection, or it broke. Trying again may help.
	ErrUnreachable = errors.New("the secondary cannot be reached")
	// ErrServerIdentity: whoever answered is not the secondary whose key is
	// pinned, at the address that was dialled.
	ErrServerIdentity = errors.New("this is not the expected secondary")
)

// Code is an error on the wire. The numbers are sent; 0 is no error.
type Code uint16

// Action is what a client should do about an error. The numbers are sent.
type Action uint8

const (
	ActionRetry      Action = 1 // connect and ask again
	ActionRetryAfter Action = 2 // the same, not before RetryAfter
	ActionSignIn     Action = 3 // sign in again
	ActionUpgrade    Action = 4 // a newer program is needed
	ActionStop       Action = 5 // do not ask again by itself
	ActionOwner      Action = 6 // the vault's owner has to act
)

const (
	CodeInternal      Code = 1
	CodeProtocol      Code = 2
	CodeVersion       Code = 3
	CodeAudience      Code = 4
	CodeDenied        Code = 5
	CodeInvite        Code = 6
	CodeTooLarge      Code = 7
	CodeCondition     Code = 8
	CodeAfterRefused  Code = 9
	CodeObjectMissing Code = 10
	CodeNotFound      Code = 11
	CodeReplaced      Code = 12
	CodeShutdown      Code = 13
	CodeBusy          Code = 14
	CodeTimeout       Code = 15
	CodeRegistration  Code = 16
	CodeSuspended     Code = 17 // of sign-in too, once the device has proved itself
	CodeQuota         Code = 18 // of commits, objects, and devices
	CodeMoved         Code = 19 // of commits
	CodeReadOnly      Code = 20

	// Refusals of commits, 100 and up.
	CodeMalformed     Code = 101
	CodeCommitVersion Code = 102
	CodeLimit         Code = 103
	CodeUnknownSigner Code = 104
	CodeRevoked       Code = 105 // of sign-in too, once the device has proved itself
	CodeScope         Code = 106
	CodeSignature     Code = 107
	CodeEquivocation  Code = 108
	CodeOmission      Code = 109
	CodeOrder         Code = 110
	CodeFork          Code = 111
	CodeEpoch         Code = 112
	CodeBlob          Code = 113
	CodeNoGenesis     Code = 114
	CodeVaultID       Code = 115
)

// codes is the one table between errors, codes and actions.
var codes = []struct {
	code   Code
	err    error
	action Action
}{
	{CodeInternal, ErrInternal, ActionRetry},
	{CodeProtocol, ErrProtocol, ActionStop},
	{CodeVersion, ErrVersion, ActionUpgrade},
	{CodeAudience, ErrAudience, ActionStop},
	{CodeDenied, ErrDenied, ActionSignIn},
	{CodeInvite, ErrInvite, ActionStop},
	{CodeTooLarge, ErrTooLarge, ActionStop},
	{CodeCondition, ErrCondition, ActionRetry},
	{CodeAfterRefused, ErrAfterRefused, ActionRetry},
	{CodeObjectMissing, ErrObjectMissing, ActionRetry},
	{CodeNotFound, ErrNotFound, ActionStop},
	{CodeReplaced, ErrReplaced, ActionStop},
	{CodeShutdown, ErrShutdown, ActionRetryAfter},
	{CodeBusy, ErrBusy, ActionRetryAfter},
	{CodeTimeout, ErrTimeout, ActionRetry},
	{CodeRegistration, ErrRegistration, ActionStop},
	{CodeSuspended, ErrSuspended, ActionRetryAfter},
	{CodeQuota, ErrQuota, ActionRetryAfter},
	{CodeMoved, ErrMoved, ActionRetry},
	{CodeReadOnly, ErrReadOnly, ActionRetryAfter},
	{CodeMalformed, commitlog.ErrMalformed, ActionStop},
	{CodeCommitVersion, commitlog.ErrVersion, ActionUpgrade},
	{CodeLimit, commitlog.ErrLimit, ActionStop},
	{CodeUnknownSigner, commitlog.ErrUnknownSigner, ActionOwner},
	{CodeRevoked, commitlog.ErrRevoked, ActionOwner},
	{CodeScope, commitlog.ErrScope, ActionOwner},
	{CodeSignature, commitlog.ErrSignature, ActionStop},
	{CodeEquivocation, commitlog.ErrEquivocation, ActionStop},
	{CodeOmission, commitlog.ErrOmission, ActionStop},
	{CodeOrder, commitlog.ErrOrder, ActionRetry},
	{CodeFork, commitlog.ErrFork, ActionStop},
	{CodeEpoch, commitlog.ErrEpoch, ActionRetry},
	{CodeBlob, commitlog.ErrBlob, ActionStop},
	{CodeNoGenesis, commitlog.ErrNoGenesis, ActionStop},
	{CodeVaultID, commitlog.ErrVaultIDMismatch, ActionStop},
}

// CodeOf returns the code of an error that has one, 0 for any other.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return 0
}

// Err returns the sentinel that the code stands for, nil for 0 and for a code
// that this program does not know.
func (c Code) Err() error {
	for _, e := range codes {
		if e.code == c {
			return e.err
		}
	}
	return nil
}

// Action returns what a client should do about the code: [ActionStop] for one
// that this program does not know.
func (c Code) Action() Action {
	for _, e := range codes {
		if e.code == c {
			return e.action
		}
	}
	return ActionStop
}

// Error is the message ERROR: an error of the secondary. It answers the FETCH
// with the number Request, or, where that is 0, it is the last message of the
// session. As an error it is the sentinel of its code.
type Error struct {
	_          struct{} `cbor:",toarray"`
	Code       Code
	Text       string // for a person; printable ASCII
	Action     Action
	RetryAfter uint64 // ms; 0: as the client sees fit
	Request    uint32 // 0: the session is over
}

// NewError returns the message for a code, with a text for a person that is cut
// and cleaned as need be.
func NewError(code Code, text string) *Error {
	return &Error{Code: code, Text: CleanText(text), Action: code.Action()}
}

func (*Error) Type() Type { return TypeError }

func (e *Error) check() error {
	if e.Code == 0 || e.Action < ActionRetry || e.Action > ActionOwner {
		return malformed("code %d, action %d", e.Code, e.Action)
	}
	return checkText(e.Text)
}

func (e *Error) Error() string { return errorText(e.Code, e.Text) }

// Unwrap returns the sentinel of the error's code.
func (e *Error) Unwrap() error { return e.Code.Err() }

func errorText(c Code, text string) string {
	err := c.Err()
	switch {
	case err == nil:
		return fmt.Sprintf("the secondary says: %q (code %d)", text, c)
	case text == "":
		return err.Error()
	}
	return err.Error() + ": " + text
}

// CleanText returns text as it may be sent: printable ASCII, at most [MaxText]
// bytes.
func CleanText(text string) string {
	b := []byte(text)
	if len(b) > MaxText {
		b = b[:MaxText]
	}
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

func checkText(text string) error {
	if CleanText(text) != text {
		return malformed("text of %d bytes, or not printable", len(text))
	}
	return nil
}
