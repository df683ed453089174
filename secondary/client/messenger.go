package client

import (
	"context"

	"github.com/kistvault/kist/secondary/wire"
)

// Messenger carries messages of a session that is signed in. Send and Receive
// may be called at the same time, each by one goroutine.
type Messenger interface {
	// Send takes a message to send. It waits while the line is slower than
	// the caller, and returns before the message has left.
	Send(ctx context.Context, m wire.Message) error
	// Receive returns the next message. After an error that is not ctx's own
	// the session is over.
	Receive(ctx context.Context) (wire.Message, error)
	// Close ends the session; what has not been sent is dropped.
	Close() error
}

var _ Messenger = (*Conn)(nil)
