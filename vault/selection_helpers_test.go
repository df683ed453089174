package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// A line is a session's connection that counts what comes, and may change it.
type line struct {
	client.Messenger
	mu       gosync.Mutex   // Send and Receive run at the same time
	blobs    map[string]int // blobs that came, by namespace tag
	commits  int            // bundles that came
	fetched  int            // BLOBS that came
	objects  int            // … of them, bytes of objects
	binds    []wire.Tags    // what was asked for
	asked    map[uint32]bool
	change   func(m wire.Message) wire.Message // may be nil
	cutAfter int                               // BLOBS after which the line is cut; 0: never
}

var errCut = fmt.Errorf("%w: cut", wire.ErrUnreachable)

// over returns options that sync over a line, and the line.
func over(change func(wire.Message) wire.Message, cutAfter int) (*line, vault.SyncOptions) {
	l := &line{blobs: make(map[string]int), asked: make(map[uint32]bool), change: change, cutAfter: cutAfter}
	return l, vault.SyncOptions{Dial: func(ctx context.Context, s client.Server, id client.Identity) (client.Messenger, error) {
		c, err := client.Dial(ctx, s, id)
		l.Messenger = c
		return l, err
	}}
}

func (l *line) Send(ctx context.Context, m wire.Message) error {
	l.mu.Lock()
	switch m := m.(type) {
	case *wire.Bind:
		l.binds = append(l.binds, m.Tags)
	case *wire.Fetch:
		l.asked[m.Request] = m.Object
	}
	l.mu.Unlock()
	return l.Messenger.Send(ctx, m)
}

func (l *line) Receive(ctx context.Context) (wire.Message, error) {
	m, err := l.Messenger.Receive(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change != nil {
		m = l.change(m)
	}
	switch m := m.(type) {
	case *wire.Download:
		for _, item := range m.Items {
			if item.Kind != wire.ItemBundle {
				continue
			}
			b, err := commitlog.ParseBundle(item.Data)
			if err != nil {
				return nil, err
			}
			l.commits++
			for _, blob := range b.Blobs {
				if blob != nil {
					l.blobs[b.Commit.Header.Tag.String()]++
				}
			}
		}
	case *wire.Commits:
		l.commits += len(m.Items)
	case *wire.State:
		for _, item := range m.Items {
			x, err := commitlog.ParseExcerpt(item.Data)
			if err != nil {
				return nil, err
			}
			for _, c := range x.Changes {
				if c.Blob != nil {
					l.blobs[x.Header.Tag.String()]++
				}
			}
		}
	case *wire.Blobs:
		l.fetched++
		if l.cutAfter > 0 && l.fetched > l.cutAfter {
			return nil, errCut
		}
		if l.asked[m.Request] {
			l.objects += len(m.Data)
		}
	}
	return m, nil
}

// A world is a vault with three namespaces of so many records on a device that
// keeps everything.
func newWorld(t *testing.T, records int) (*person, *vault.Vault) {
	t.Helper()
	p := newPerson(t)
	a := p.device(vault.Config{})
	for _, ns := range []string{"contacts", "calendar", "notes"} {
		for i := range records {
			write(t, a, ns, fmt.Sprintf("%s %03d", ns, i), "value")
		}
		sync(t, a)
	}
	return p, a
}

func write(t testing.TB, v *vault.Vault, ns, name, value string) {
	t.Helper()
	_, err := v.Namespace(ns).Put(t.Context(), name, []byte(value))
	fatal(t, err)
}

// xs is a value that is kept as an object.
func xs(n int) string { return strings.Repeat("x", n) }

// selecting returns another device, which has pulled everything, with a selection that
// its next sync carries out.
func (p *person) selecting(sel vault.Selection) *vault.Vault {
	p.t.Helper()
	v := p.device(vault.Config{})
	choose(p.t, v, sel)
	return v
}

func choose(t testing.TB, v *vault.Vault, sel vault.Selection) {
	t.Helper()
	fatal(t, v.SetSelection(t.Context(), sel))
}

func only(namespaces ...string) vault.Selection { return vault.Selection{Namespaces: namespaces} }

// listed lists a namespace; "not selected" stands for that error.
func listed(t testing.TB, v *vault.Vault, ns string) (out []string) {
	t.Helper()
	for rec, err := range v.Namespace(ns).List(t.Context()) {
		if errors.Is(err, vault.ErrNotSelected) {
			out = append(out, "not selected")
			continue
		}
		fatal(t, err)
		out = append(out, rec.Name)
	}
	return out
}

// inStep fails unless the selection is carried out and nothing is wanting.
func inStep(t testing.TB, v *vault.Vault) *vault.Status {
	t.Helper()
	st, err := v.Status(t.Context())
	fatal(t, err)
	problems, err := v.Problems(t.Context(), 10)
	fatal(t, err)
	if st.Selecting || st.Missing != 0 || st.Quarantine != 0 || len(problems) != 0 {
		t.Errorf("not in step: %+v, problems %v", st, problems)
	}
	return st
}

func tagOf(t testing.TB, v *vault.Vault, ns string) string {
	t.Helper()
	st, err := v.Status(t.Context())
	fatal(t, err)
	for _, n := range st.Namespaces {
		if n.Name == ns {
			return n.Tag.String()
		}
	}
	t.Fatalf("no namespace %q", ns)
	return ""
}

// valueIn returns a value; "away" and "not selected" stand for these errors.
func valueIn(t testing.TB, v *vault.Vault, ns, name string) string {
	t.Helper()
	rec, err := v.Namespace(ns).Get(t.Context(), name)
	switch {
	case errors.Is(err, vault.ErrNotHere):
		return "away"
	case errors.Is(err, vault.ErrNotSelected):
		return "not selected"
	case errors.Is(err, vault.ErrNotFound):
		return "-"
	}
	fatal(t, err)
	return string(rec.Value)
}

func selecting(t testing.TB, v *vault.Vault) bool {
	t.Helper()
	_, done, err := v.Selection(t.Context())
	fatal(t, err)
	return !done
}

// unenrolled returns a device that has not synced yet.
func (p *person) unenrolled(dir string) *vault.Vault {
	p.t.Helper()
	d := newDevice(p.t, p.root)
	d.Servers = []keyfile.Server{{URL: p.invite.URL, Key: p.invite.Server, Binding: keyfile.Binding(p.invite.Binding.String())}}
	p.devices++
	fatal(p.t, vault.Create(dir, d, fmt.Sprintf("device %d", p.devices)))
	return openVault(p.t, dir, vault.Config{})
}

// filesIn returns all files below a directory.
func filesIn(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	fatal(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out[path], err = os.ReadFile(path)
		}
		return err
	}))
	return out
}

// dirSize returns how many bytes of objects a vault of a test holds.
func dirSize(t testing.TB, v *vault.Vault) (n int) {
	t.Helper()
	for _, b := range filesIn(t, filepath.Join(vault.Dir(v), "objects")) {
		n += len(b)
	}
	return n
}
