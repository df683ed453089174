package embedded

import (
	"context"
	"sync"
)

// locks are mutexes by key. One is there while somebody has it or waits for it. The zero
// value is ready.
type locks[K comparable] struct {
	mu    sync.Mutex
	inUse map[K]*lock
}

type lock struct {
	held  chan struct{} // holds a token while somebody has it; who waits is served in turn
	users int           // who have it or wait for it
}

// lock waits for the lock of k, at most until ctx ends, and returns what gives it back.
func (l *locks[K]) lock(ctx context.Context, k K) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	x := l.enter(k)
	l.mu.Unlock()
	select {
	case x.held <- struct{}{}:
		return func() { l.unlock(k, x) }, nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leave(k, x)
		return nil, ctx.Err()
	}
}

// try is lock without waiting: false says that somebody has it.
func (l *locks[K]) try(k K) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inUse[k] != nil {
		return nil, false
	}
	x := l.enter(k)
	x.held <- struct{}{}
	return func() { l.unlock(k, x) }, true
}

func (l *locks[K]) unlock(k K, x *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	<-x.held
	l.leave(k, x)
}

// enter and leave count who uses a lock. mu is held.
func (l *locks[K]) enter(k K) *lock {
	x := l.inUse[k]
	if x == nil {
		if l.inUse == nil {
			l.inUse = make(map[K]*lock)
		}
		x = &lock{held: make(chan struct{}, 1)}
		l.inUse[k] = x
	}
	x.users++
	return x
}

func (l *locks[K]) leave(k K, x *lock) {
	if x.users--; x.users == 0 {
		delete(l.inUse, k)
	}
}
