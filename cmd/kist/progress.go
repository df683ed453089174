package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// errSilent ends a sync whose secondary was silent for --timeout.
var errSilent = errors.New("the secondary does not answer")

// A meter shows how a sync goes, and ends it when nothing moves any more.
type meter struct {
	a      *app
	host   string
	line   *term.Progress
	cancel context.CancelCauseFunc
	timer  *time.Timer
	last   vault.Progress
	told   time.Time
}

// openTime is given to the opening of a key file, which is made to take long.
const openTime = 15 * time.Second

// meter returns a context for a sync with the secondary at url, which ends when
// it is silent for too long, and the meter, whose end must be called. before is
// the time that something else may take first.
func (a *app) meter(ctx context.Context, url string, before time.Duration) (context.Context, *meter) {
	ctx, cancel := context.WithCancelCause(ctx)
	m := &meter{a: a, host: url, cancel: cancel, line: &term.Progress{}}
	if secondary, err := wire.CanonicalURL(url); err == nil {
		m.host, _ = wire.SplitURL(secondary)
	}
	if !a.quiet && !a.json {
		m.line = term.NewProgress(a.stderr)
	}
	m.timer = time.AfterFunc(before+a.timeout, func() { cancel(errSilent) })
	return ctx, m
}

// options returns what Sync, Enrol and the onboarding are called with.
func (m *meter) options(mode vault.Mode) vault.SyncOptions {
	return vault.SyncOptions{Mode: mode, Progress: m.progress}
}

func (m *meter) progress(p vault.Progress) {
	m.timer.Reset(m.a.timeout)
	m.line.Set(m.text(p))
	if m.a.verbose && p.State != m.last.State {
		m.a.say("%s", m.text(p))
	}
	if m.a.json && (p.State != m.last.State || time.Since(m.told) > time.Second) {
		m.told = time.Now()
		j := progressJSON(p)
		j.Error = "" // whether it fails is told at the end: some attempts are expected to
		m.a.printJSON(j)
	}
	m.last = p
}

func (m *meter) text(p vault.Progress) string {
	if p.State == vault.StateDownloading && p.Announced <= p.Commits && p.Up.Changes > 0 {
		p.State = vault.StateUploading // what comes is the answer to what was sent
	}
	switch p.State {
	case vault.StateConnecting:
		return "connecting to " + m.host
	case vault.StateDownloading:
		if p.Announced <= p.Commits {
			return "receiving"
		}
		left := ""
		if p.Down.BytesLeft > 0 {
			left = ", " + bytesText(int64(p.Down.BytesLeft)) + " to come"
		}
		return fmt.Sprintf("receiving %s commit %d of %d%s", term.Bar(p.Commits, p.Announced), p.Commits, p.Announced, left)
	case vault.StateUploading:
		return "sending: " + plural(p.Up.Changes, "change", "changes") + " so far"
	case vault.StateLive:
		return fmt.Sprintf("in step with %s at commit %d", m.host, p.Commits)
	case vault.StateOffline:
		if p.Err != nil {
			return "offline: " + p.Err.Error()
		}
	}
	return string(p.State)
}

// end takes the line away and gives an error its true cause.
func (m *meter) end(ctx context.Context, err error) error {
	m.timer.Stop()
	m.line.Clear()
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		f := &failure{code: exitTemporary, text: errSilent.Error(), hint: "kist sync later, or with a longer --timeout", err: err}
		f.detail("secondary", m.host)
		f.detail("waited", m.a.timeout.String())
		err = f
	}
	m.cancel(nil)
	return err
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
	j := jsonProgress{
		Version: jsonVersion, Type: "progress", State: string(p.State), Commits: p.Commits, Announced: p.Announced,
		BytesLeft: p.Down.BytesLeft, Pulled: p.Down.Changes, Pushed: p.Up.Changes,
	}
	if p.Err != nil {
		j.Error = p.Err.Error()
	}
	return j
}
