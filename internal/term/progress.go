package term

import (
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A Progress is one line on a terminal that is written over and over, and goes
// when it is done. Nothing shows in the first second. The zero value shows
// nothing ever. It is safe for concurrent use.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	begin time.Time
	last  time.Time
	shown bool
}

const (
	progressAfter = time.Second
	progressEvery = 100 * time.Millisecond
)

// NewProgress returns a line on w, which shows nothing if w is no terminal.
func NewProgress(w io.Writer) *Progress {
	if !IsTerminal(w) {
		w = nil
	}
	return &Progress{w: w, begin: time.Now()}
}

// Set shows text, if it is time to.
func (p *Progress) Set(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.w == nil || now.Sub(p.begin) < progressAfter || now.Sub(p.last) < progressEvery {
		return
	}
	p.last, p.shown = now, true
	text = Clean(text)
	for width := Width(p.w) - 1; utf8.RuneCountInString(text) > width; {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	io.WriteString(p.w, "\r\x1b[K"+text)
}

// Clear takes the line away. A later Set shows it again.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// Bar returns a bar for n of total, such as "[=====>    ]".
func Bar(n, total uint64) string {
	const width = 20
	if total == 0 {
		total = 1
	}
	full := int(min(n, total) * width / total)
	head := ""
	if full > 0 && full < width {
		full--
		head = ">"
	}
	return "[" + strings.Repeat("=", full) + head + strings.Repeat(" ", width-full-len(head)) + "]"
}
