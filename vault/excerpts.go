package vault

import (
	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/secondary/wire"
)

// A parsedState is a STATE whose excerpts were decoded before the engine's step, and
// their blobs compared with the changes.
type parsedState struct {
	*wire.State
	excerpts []*commitlog.Excerpt
	err      error
}

// parsing decodes what a message holds, if that takes long and needs nothing of the
// store. It may be called beside a step of the engine.
func (v *Vault) parsing(m wire.Message) wire.Message {
	if s, ok := m.(*wire.State); ok {
		p := &parsedState{State: s}
		p.excerpts, p.err = parseExcerpts(s.Items)
		return p
	}
	return m
}

// parseExcerpts decodes excerpts on all cores.
func parseExcerpts(items []wire.Item) ([]*commitlog.Excerpt, error) {
	out := make([]*commitlog.Excerpt, len(items))
	errs := make([]error, len(items))
	onAllCores(len(items), func(i int) { out[i], errs[i] = commitlog.ParseExcerpt(items[i].Data) })
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
