package vault

import (
	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/secondary/wire"
)

// An openedExcerpt is an excerpt with what its blobs say.
type openedExcerpt struct {
	commitlog.Excerpt
	opened []opened // one a change; nothing for control commits
}

// leaveOut takes the content out of an excerpt whose namespace is not kept.
func (x *openedExcerpt) leaveOut() {
	for i := range x.Changes {
		x.Changes[i].Blob, x.opened[i] = nil, opened{}
	}
}

// An openedState is a STATE whose excerpts were opened before the engine's step.
type openedState struct {
	*wire.State
	excerpts []*openedExcerpt
	err      error
}

// opening opens what a message holds, if that takes long and needs nothing of the
// store. It may be called beside a step of the engine.
func (v *Vault) opening(m wire.Message) wire.Message {
	if s, ok := m.(*wire.State); ok {
		o := &openedState{State: s}
		o.excerpts, o.err = v.openExcerpts(s.Items)
		return o
	}
	return m
}

// openExcerpts decodes excerpts and opens their blobs, on all cores.
func (v *Vault) openExcerpts(items []wire.Item) ([]*openedExcerpt, error) {
	out := make([]*openedExcerpt, len(items))
	errs := make([]error, len(items))
	const chunk = 64
	onAllCores((len(items)+chunk-1)/chunk, func(n int) {
		var p seal.Payload
		var buf []byte
		for i := n * chunk; i < min(len(items), (n+1)*chunk); i++ {
			x, err := commitlog.ParseExcerpt(items[i].Data)
			if err != nil {
				errs[i] = err
				return
			}
			out[i] = &openedExcerpt{Excerpt: *x, opened: make([]opened, len(x.Changes))}
			if x.Header.Kind != commitlog.KindControl {
				buf = v.openExcerpt(out[i], &p, buf)
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (v *Vault) openExcerpt(x *openedExcerpt, p *seal.Payload, buf []byte) []byte {
	sealer, err := v.keys.sealer(x.Header.Tag, x.Header.Epoch)
	for i := range x.Changes {
		c := &x.Changes[i]
		switch {
		case c.Blob == nil:
		case err != nil:
			x.opened[i].reason = err.Error()
		default:
			buf = v.openOne(&x.opened[i], sealer, x.Header.Tag, &c.Change, c.Blob, p, buf)
		}
	}
	return buf
}
