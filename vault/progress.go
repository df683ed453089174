package vault

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Progress is where a sync is.
type Progress struct {
	State     State
	Err       error         // why it is offline, refused or in alarm; nil otherwise
	Retry     time.Duration // offline: until it tries again; 0: it does not
	Commits   uint64        // of the verified log
	Announced uint64        // commits that the secondary has
	Down, Up  Transfer
	End       bool // the last one: nothing comes after it
}

// A Transfer counts one direction of a sync. Left is what is known to be there
// now; it grows while others, or the person, go on writing. In one session Up.Bytes
// never goes back, and but for such writing its sum with Up.BytesLeft stays.
type Transfer struct {
	Changes     int    // that have come in, or were found in the log, so far
	ChangesLeft int    // Up only: of what is still to come, only commits are known
	Bytes       uint64 // of these; Up: and of objects that are ahead of their commits
	BytesLeft   uint64
}

// State is what a sync is doing. A listener sees the states in order; "live" is
// only ever said while a session is bound and in step.
type State string

const (
	StateOffline     State = "offline"
	StateConnecting  State = "connecting"
	StateSigningIn   State = "signing in"
	StateDownloading State = "downloading"
	StateUploading   State = "uploading"
	StateLive        State = "live"
	StatePaused      State = "paused"
	StateRefused     State = "refused" // trying again cannot help; Err says why
	StateAlarm       State = "alarm"   // the secondary was caught at something; Err says at what
)

// A notifier passes progress on to a listener that may be slow, from a goroutine
// of its own, so that no listener holds up a sync. Progress comes in order; of
// what a listener has not taken yet, only the newest in each run of one state is
// kept, and of the states only the newest maxUntold.
type notifier struct {
	mu    sync.Mutex
	queue []Progress
	last  Progress
	wake  chan struct{} // holds one
	ended chan struct{} // closed when the last one was delivered
}

const (
	maxUntold = 64
	// listenerTime is how long the end of a sync waits for its listener.
	listenerTime = time.Second
)

// notify starts a notifier; nil for no listener, on which all methods do nothing.
func notify(listener func(Progress)) *notifier {
	if listener == nil {
		return nil
	}
	n := &notifier{wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		for range n.wake {
			for {
				p, ok := n.next()
				if !ok {
					break
				}
				listener(p)
				if p.End {
					return
				}
			}
		}
	}()
	return n
}

func (n *notifier) next() (Progress, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return pop(&n.queue)
}

func pop[T any](q *[]T) (first T, ok bool) {
	if len(*q) == 0 {
		return first, false
	}
	first = (*q)[0]
	*q = (*q)[1:]
	return first, true
}

// tell queues a progress that differs from the one before it. After the end it
// does nothing: a Run may still have a waiter whose caller has left.
func (n *notifier) tell(p Progress) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last.End || n.last.Err == nil && p.Err == nil && p == n.last {
		return
	}
	n.last = p
	if i := len(n.queue); i > 0 && n.queue[i-1].State == p.State {
		n.queue[i-1] = p
	} else {
		n.queue = append(n.queue, p)
	}
	if len(n.queue) > maxUntold {
		n.queue = n.queue[1:]
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// keep is told what the end is to say, where nothing of it is told before.
func (n *notifier) keep(p Progress) {
	if n != nil {
		n.mu.Lock()
		n.last = p
		n.mu.Unlock()
	}
}

// end tells that the sync has ended, and why, and waits for the listener to have
// taken it, but not for ever: one that blocks keeps its goroutine, and not the
// sync.
func (n *notifier) end(err error) {
	if n == nil {
		return
	}
	n.mu.Lock()
	p := n.last
	n.mu.Unlock()
	p.State, p.Err, p.Retry, p.End = StateOffline, err, 0, true
	if _, again := retry(err); err != nil && !again && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed) {
		p.State = StateRefused
	}
	if IsAlarm(err) {
		p.State = StateAlarm
	}
	n.tell(p)
	timer := time.NewTimer(listenerTime)
	defer timer.Stop()
	select {
	case <-n.ended:
	case <-timer.C:
	}
}

// progress says where the session is.
func (e *engine) progress(st State) Progress {
	p := Progress{
		State: st, Commits: e.size, Announced: max(e.announced, e.size),
		Down: Transfer{Changes: e.report.Pulled, Bytes: e.pulledBytes, BytesLeft: e.left + e.missingBytes},
		Up:   Transfer{Changes: e.report.Pushed, ChangesLeft: e.pending.changes, Bytes: e.up.bytes, BytesLeft: e.up.left},
	}
	if e.wanting == 0 { // what was still to be fetched may have been superseded
		p.Down.BytesLeft = e.left
	}
	return p
}

// state returns what the session is doing, done saying that it is in step.
func (e *engine) state(done bool) State {
	switch {
	case done:
		return StateLive
	case e.pulled():
		return StateUploading
	}
	return StateDownloading
}
