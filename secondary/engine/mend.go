package engine

import "context"

// A Mender is an engine that writes nothing more after a write has failed, as on a
// disk that is full, and can begin again.
type Mender interface {
	// Mend has the engine write again, where it can. What it answers afterwards is
	// durable, be it from before the write that failed or after. The error says why
	// it cannot yet; the engine then stays as it is and can be read.
	Mend(ctx context.Context) error
}
