package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// errSilent ends a sync in which nothing has moved for --timeout.
var errSilent = errors.New("the secondary does not answer")

// A meter shows how a sync goes, and ends it when nothing moves any more. The
// sync tells it and goes on; a goroutine of the meter's draws.
type meter struct {
	a      *app
	host   string
	cancel context.CancelCauseFunc
	timer  *time.Timer
	states states
	shown  chan struct{} // closed when nothing is drawn any more
}

// openTime is given to the opening of a key file, which is made to take long.
const openTime = 15 * time.Second

// meter returns a context for a sync with the secondary at url, which ends when
// nothing moves for too long, and the meter, whose end must be called. before is
// the time that something else may take first.
func (a *app) meter(ctx context.Context, url string, before time.Duration) (context.Context, *meter) {
	ctx, cancel := context.WithCancelCause(ctx)
	m := &meter{a: a, host: hostOf(url), cancel: cancel, shown: make(chan struct{})}
	m.timer = time.AfterFunc(before+a.timeout, func() { cancel(errSilent) })
	go m.show(m.states.listen())
	return ctx, m
}

// options returns what Sync, Enrol and the onboarding are called with.
func (m *meter) options(mode vault.Mode) vault.SyncOptions {
	return vault.SyncOptions{Mode: mode, Progress: m.progress}
}

func (m *meter) progress(p vault.Progress) {
	m.timer.Reset(m.a.timeout)
	if p.End && p.Err == nil {
		return // that it is offline again is no news: the report follows
	}
	m.states.tell(p)
}

// jsonEvery is how often progress is told with --json while the state is the same.
const jsonEvery = time.Second

// show draws until the meter ends.
func (m *meter) show(l *listener) {
	defer close(m.shown)
	a := m.a
	line := a.line()
	defer line.Clear()
	tick := time.NewTicker(term.LineEvery)
	defer tick.Stop()
	var last vault.Progress
	var told time.Time
	for {
		more := true
		select {
		case _, more = <-l.wake:
		case <-tick.C:
		}
		now := time.Now()
		for _, p := range l.take() {
			changed := p.State != last.State
			last = p
			if a.verbose && changed {
				line.Clear()
				a.say("%s", a.clean(transferOf(p).view(m.host).Text(term.Width(a.stderr))))
			}
			if a.json && (changed || now.Sub(told) >= jsonEvery) {
				told = now
				j := progressJSON(p)
				j.Error = "" // whether it fails is told at the end: some attempts are expected to
				a.printJSON(j)
			}
		}
		if !more {
			return
		}
		if last.State != "" {
			line.Show(now, transferOf(last).view(m.host))
		}
	}
}

// end takes the line away and gives an error its true cause.
func (m *meter) end(ctx context.Context, err error) error {
	m.timer.Stop()
	m.states.end()
	<-m.shown
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		f := &failure{code: exitTemporary, text: errSilent.Error(), hint: "kist sync later, or with a longer --timeout", err: fmt.Errorf("%w: %w", errSilent, err)}
		f.detail("secondary", m.host)
		f.detail("waited", m.a.timeout.String())
		err = f
	}
	m.cancel(nil)
	return err
}

// line returns a line of progress for what begins now, if the person wants one.
func (a *app) line() *term.Line {
	if a.quiet || a.json {
		return term.NewLine(nil, time.Time{})
	}
	return term.NewLine(a.stderr, time.Now())
}

// A passage is what has gone in one direction, and what is known to be left.
type passage struct {
	changes, changesLeft int
	bytes, bytesLeft     uint64 // bytesLeft: of the changes that are left
}

// A transfer is what is shown of a sync.
type transfer struct {
	state              vault.State
	err                error
	commits, announced uint64
	down, up           passage
}

// transferOf is the one place that knows what a vault tells.
func transferOf(p vault.Progress) transfer {
	return transfer{
		state: p.State, err: p.Err, commits: p.Commits, announced: p.Announced,
		down: passageOf(p.Down), up: passageOf(p.Up),
	}
}

func passageOf(t vault.Transfer) passage {
	return passage{changes: t.Changes, changesLeft: t.ChangesLeft, bytes: t.Bytes, bytesLeft: t.BytesLeft}
}

// parts tells a passage in words.
func (p passage) parts() (list []string) {
	if total := p.bytes + p.bytesLeft; total > 0 {
		list = append(list, bytesText(int64(p.bytes))+" of "+bytesText(int64(total)))
	}
	if p.changesLeft > 0 {
		return append(list, fmt.Sprintf("%d of %s", p.changes, term.Plural(p.changes+p.changesLeft, "change", "changes")))
	}
	if p.changes > 0 {
		list = append(list, term.Plural(p.changes, "change", "changes"))
	}
	return list
}

// view is what a line of progress tells of a transfer.
func (t transfer) view(host string) term.View {
	if t.state == vault.StateDownloading && t.announced <= t.commits && t.up.changes > 0 {
		t.state = vault.StateUploading // what comes is the answer to what was sent
	}
	switch t.state {
	case vault.StateConnecting:
		return term.View{Label: "connecting to " + host}
	case vault.StateDownloading:
		v := term.View{Label: "receiving", Parts: t.down.parts()}
		switch {
		case t.down.bytes+t.down.bytesLeft > 0:
			v.Done, v.Total = int64(t.down.bytes), int64(t.down.bytes+t.down.bytesLeft)
		case t.announced > t.commits:
			v.Done, v.Total = int64(t.commits), int64(t.announced)
			v.Parts = append(v.Parts, fmt.Sprintf("commit %d of %d", t.commits, t.announced))
		}
		return v
	case vault.StateUploading:
		v := term.View{Label: "sending", Parts: t.up.parts()}
		if t.up.bytes+t.up.bytesLeft > 0 {
			v.Done, v.Total = int64(t.up.bytes), int64(t.up.bytes+t.up.bytesLeft)
		}
		return v
	case vault.StateLive:
		return term.View{Label: fmt.Sprintf("in step with %s at commit %d", host, t.commits)}
	}
	if t.err != nil {
		return term.View{Label: string(t.state) + ": " + t.err.Error()}
	}
	return term.View{Label: string(t.state)}
}

type jsonProgress struct {
	Version   int    `json:"version"`
	Type      string `json:"type"`
	State     string `json:"state"`
	Commits   uint64 `json:"commits"`
	Announced uint64 `json:"announced"`
	BytesLeft uint64 `json:"bytes_left"`
	Pulled    int    `json:"pulled"`
	Pushed    int    `json:"pushed"`
	Error     string `json:"error,omitempty"`
}

func progressJSON(p vault.Progress) jsonProgress {
	t := transferOf(p)
	return jsonProgress{
		Version: jsonVersion, Type: "progress", State: string(t.state), Commits: t.commits, Announced: t.announced,
		BytesLeft: t.down.bytesLeft, Pulled: t.down.changes, Pushed: t.up.changes, Error: errorText(t.err),
	}
}
