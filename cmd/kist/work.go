package main

import (
	"io/fs"
	"path/filepath"
	"time"

	"github.com/kistvault/kist/internal/term"
)

// A work shows how far something has come that this process does by itself. Its
// methods are called by the goroutine that does it.
type work struct {
	a          *app
	what       string // "importing"
	unit, many string // what is counted
	line       *term.Line
	begin      time.Time
	told       time.Time
	jsonWork
}

type jsonWork struct {
	Version    int    `json:"version"`
	Type       string `json:"type"`  // "progress"
	State      string `json:"state"` // "importing", "exporting"
	Done       int    `json:"done"`
	Total      int    `json:"total,omitempty"` // 0: not known
	Bytes      int64  `json:"bytes"`
	BytesTotal int64  `json:"bytes_total,omitempty"` // 0: not known
}

func (a *app) work(what, unit, many string) *work {
	return &work{
		a: a, what: what, unit: unit, many: many, line: a.line(), begin: time.Now(),
		jsonWork: jsonWork{Version: jsonVersion, Type: "progress", State: what},
	}
}

// shows reports whether anybody will see it: whether totals are worth finding.
func (w *work) shows() bool { return w.a.json || w.line.Shows() }

// add tells that one more is under way, with so many bytes.
func (w *work) add(bytes int64) {
	w.Done++
	w.Bytes += bytes
	now := time.Now()
	w.line.Show(now, w.view())
	if w.a.json && now.Sub(w.begin) >= jsonEvery && now.Sub(w.told) >= jsonEvery {
		w.told = now
		w.a.printJSON(w.jsonWork)
	}
}

func (w *work) view() term.View {
	v := term.View{Label: w.what, Parts: []string{term.Plural(w.Done, w.unit, w.many)}}
	switch {
	case w.Total > 0:
		v.Done, v.Total = int64(w.Done), int64(w.Total)
	case w.BytesTotal > 0:
		v.Done, v.Total = w.Bytes, w.BytesTotal
	}
	if w.Bytes > 0 {
		v.Parts = append(v.Parts, bytesText(w.Bytes))
	}
	return v
}

func (w *work) end() { w.line.Clear() }

// sizeOf returns how many bytes are in a file, or in all files below a
// directory; what cannot be seen does not count.
func sizeOf(path string) (total int64) {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
