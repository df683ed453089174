package term

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// A Line is one line on a terminal that is written over and over, and goes when it
// is done. Nothing shows in the first second, and it changes ten times a second at
// most. It reads no clock, and is not safe for concurrent use.
type Line struct {
	w     io.Writer // nil: shows nothing
	begin time.Time
	last  time.Time // when it was drawn
	text  string    // what stands there
}

const (
	lineAfter = time.Second
	// LineEvery is how often a line changes at most.
	LineEvery = 100 * time.Millisecond
)

// NewLine returns a line on w for what begins now. It shows nothing if w is no
// terminal.
func NewLine(w io.Writer, now time.Time) *Line {
	if !IsTerminal(w) {
		w = nil
	}
	return &Line{w: w, begin: now}
}

// Shows reports whether the line is ever to be seen.
func (l *Line) Shows() bool { return l.w != nil }

// Show draws v, if it is time to.
func (l *Line) Show(now time.Time, v View) {
	if l.w == nil || now.Sub(l.begin) < lineAfter || now.Sub(l.last) < LineEvery {
		return
	}
	// The last column stays free: some terminals would begin a new line.
	text := v.Text(Width(l.w) - 1)
	if text != l.text {
		l.last, l.text = now, text
		io.WriteString(l.w, "\r\x1b[K"+text)
	}
}

// Clear takes the line away. A later Show shows it again.
func (l *Line) Clear() {
	if l.text != "" {
		io.WriteString(l.w, "\r\x1b[K")
		l.text = ""
	}
}

// A View is what a line of progress tells.
type View struct {
	Label       string   // what is being done
	Done, Total int64    // what the bar shows; no bar if Total is 0
	Parts       []string // told behind it, the most important first
}

const (
	barMost  = 24 // columns between the brackets
	barLeast = 8
)

// Text returns the line in at most width columns. As it gets narrow the bar
// shrinks, then the parts go from the last to the first, then the bar.
func (v View) Text(width int) string {
	label := Clean(v.Label)
	percent := ""
	if v.Total > 0 {
		percent = fmt.Sprintf(" %3d %%", percentOf(v.Done, v.Total))
	}
	for n := len(v.Parts); n >= 0; n-- {
		tail := ""
		if n > 0 {
			tail = "  " + Clean(strings.Join(v.Parts[:n], ", "))
		}
		text := label + percent + tail
		room := width - utf8.RuneCountInString(text)
		if v.Total > 0 {
			// A space and two brackets.
			if bar := min(room-3, barMost); bar >= barLeast {
				return label + " " + Bar(bar, v.Done, v.Total) + percent + tail
			}
			if n > 0 {
				continue
			}
		}
		if room >= 0 {
			return text
		}
	}
	return string([]rune(label)[:max(min(width, utf8.RuneCountInString(label)), 0)])
}

// percentOf is 100 only when all is done.
func percentOf(done, total int64) int64 {
	return int64(100 * (float64(max(min(done, total), 0)) / float64(total)))
}

// Bar returns a bar of so many columns between its brackets for done of total,
// such as "[=====>    ]".
func Bar(width int, done, total int64) string {
	full := 0
	if total > 0 {
		full = int(float64(width) * (float64(max(min(done, total), 0)) / float64(total)))
	}
	head := ""
	if full > 0 && full < width {
		full--
		head = ">"
	}
	return "[" + strings.Repeat("=", full) + head + strings.Repeat(" ", width-full-len(head)) + "]"
}
