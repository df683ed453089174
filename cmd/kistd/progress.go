package main

import (
	"io"
	"sync"
	"time"

	"github.com/kistvault/kist/internal/term"
)

// A progress shows on a terminal how far something has come.
type progress struct {
	what string // "exporting"

	mu   sync.Mutex
	line *term.Line // nil: it is over
}

func newProgress(w io.Writer, what string) *progress {
	return &progress{what: what, line: term.NewLine(w, time.Now())}
}

// tell shows bytes that are done, of about so many; total 0: not known.
func (p *progress) tell(done, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line != nil {
		p.line.Show(time.Now(), term.View{Label: p.what, Done: int64(done), Total: int64(total), Parts: []string{bytesText(done)}})
	}
}

// end takes the line away for good.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line != nil {
		p.line.Clear()
		p.line = nil
	}
}
