package secondary

import (
	"sync"

	"github.com/kistvault/kist/keys"
)

// Hub carries the news that a log has grown to the sessions that follow it. It
// is a hint: a session that hears of it reads the log.
type Hub interface {
	// Publish says that the vault's log has at least size commits.
	Publish(vault keys.VaultID, size uint64)
	// Subscribe has fn called for each Publish until cancel has returned. fn
	// must not wait for anything.
	Subscribe(vault keys.VaultID, fn func(size uint64)) (cancel func())
}

// hub is a Hub within one process.
type hub struct {
	mu   sync.Mutex
	subs map[keys.VaultID]map[*subscription]struct{}
}

type subscription struct{ fn func(size uint64) }

func newHub() *hub { return &hub{subs: make(map[keys.VaultID]map[*subscription]struct{})} }

func (h *hub) Publish(vault keys.VaultID, size uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs[vault] {
		s.fn(size)
	}
}

func (h *hub) Subscribe(vault keys.VaultID, fn func(size uint64)) (cancel func()) {
	s := &subscription{fn}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs[vault] == nil {
		h.subs[vault] = make(map[*subscription]struct{})
	}
	h.subs[vault][s] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs[vault], s)
		if len(h.subs[vault]) == 0 {
			delete(h.subs, vault)
		}
	}
}
