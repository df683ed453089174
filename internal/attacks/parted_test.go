package attacks_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// parted is a scene in which the vault had two histories, and its owner has brought
// them together. The log of the scene is the one that goes on.
type parted struct {
	*scene
	reset commitlog.CommitID // the newest in the log
	kept  uint64             // commits that both logs have

	lostLog   lying.Log           // that the owner ended: it admits a device, and a record was removed in it
	beyondLog lying.Log           // that went on after it
	floor     *keyfile.Checkpoint // of the lost log's end

	began     *vaulttest.Device // has the beginning that both logs have
	lost      *vaulttest.Device // has the lost log
	beyond    *vaulttest.Device // has it, and one commit more, of its own
	surviving *vaulttest.Device // has the log that goes on, as it was before the reset
	acked     *vaulttest.Device // has the beginning, and an answer for a commit that is in the lost log
	merged    *vaulttest.Device // has all
	late      *vaulttest.Device // was admitted in the lost log
}

// newParted makes a scene; with a second reset, if twice.
func newParted(t testing.TB, twice bool) *parted {
	p := &parted{scene: &scene{secondary: vaulttest.NewSecondary(t)}}
	p.vault = p.secondary.NewVault(t)
	device := func(name string) *vaulttest.Device { return p.vault.Device(t, name, vault.Config{}) }
	p.a, p.b = device("laptop"), device("phone")
	p.began, p.lost, p.beyond = device("began"), device("lost"), device("beyond")
	p.surviving, p.acked, p.merged = device("surviving"), device("acked"), device("merged")
	for _, name := range []string{"x", "y", "removed"} {
		write(t, p.a, "notes", name, "first")
	}
	vaulttest.Sync(t, p.a, p.b, p.began, p.lost, p.beyond, p.surviving, p.acked, p.merged)
	p.kept = size(t, p.a)
	restore := p.backup(t)

	write(t, p.acked, "notes", "acknowledged", "1")
	liar := p.secondary.Lie(lying.Both("it is acknowledged, and does not come back", lying.Drop(wire.TypeDownload, lying.All),
		lying.Frames("", wire.TypeUploaded, 1, func(frame []byte) [][]byte { return [][]byte{frame, nil} })))
	if _, err := p.acked.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, wire.ErrUnreachable) {
		t.Fatal(err)
	}
	liar.Tell(lying.Mutation{})
	write(t, p.a, "notes", "x", "lost")
	fatal(t, p.a.Namespace("notes").Delete(t.Context(), "removed"))
	write(t, p.a, "notes", "big", strings.Repeat("big ", 30<<10)) // an object
	vaulttest.Sync(t, p.a)
	p.late = device("late")
	write(t, p.late, "tasks", "t", "late")
	write(t, p.a, "notes", "again", "1")
	vaulttest.Sync(t, p.late, p.a)
	fatal(t, p.a.Namespace("notes").Delete(t.Context(), "again"))
	vaulttest.Sync(t, p.a, p.lost)
	p.lostLog = pull(t, p.secondary, p.vault)
	var err error
	p.floor, err = p.a.Floor(t.Context())
	fatal(t, err)
	write(t, p.beyond, "notes", "beyond", "1")
	vaulttest.Sync(t, p.beyond)
	p.beyondLog = pull(t, p.secondary, p.vault)

	restore()
	write(t, p.b, "notes", "y", "second")
	vaulttest.Sync(t, p.b, p.surviving)
	p.merge(t)
	if twice {
		restore = p.backup(t)
		write(t, p.a, "notes", "x", "lost again")
		vaulttest.Sync(t, p.a)
		restore()
		write(t, p.b, "notes", "y", "third")
		vaulttest.Sync(t, p.b)
		p.merge(t)
	}
	write(t, p.b, "notes", "x", "after")
	vaulttest.Sync(t, p.b, p.a, p.merged)
	p.read(t)
	return p
}

// merge brings the histories together, from a's device.
func (p *parted) merge(t testing.TB) {
	t.Helper()
	_, err := p.a.Merge(t.Context(), p.vault.Root.Authority(), vault.SyncOptions{})
	fatal(t, err)
	p.reset = commitlog.CommitID(size(t, p.a))
	vaulttest.Sync(t, p.a, p.b)
}

// backup returns a function that sets the secondary back to what it is now.
func (p *parted) backup(t testing.TB) (restore func()) {
	t.Helper()
	p.secondary.Stop()
	old := t.TempDir()
	fatal(t, os.CopyFS(old, os.DirFS(p.secondary.Dir)))
	p.secondary.Start()
	return func() {
		t.Helper()
		p.secondary.Stop()
		fatal(t, os.RemoveAll(p.secondary.Dir))
		fatal(t, os.CopyFS(p.secondary.Dir, os.DirFS(old)))
		p.secondary.Start()
	}
}

// size returns the number of commits that a device has verified.
func size(t testing.TB, d *vaulttest.Device) uint64 {
	t.Helper()
	st, err := d.Status(t.Context())
	fatal(t, err)
	return st.Commits
}

// serves is a lie: another log, and one of its commits named as the newest reset.
func serves(name string, l lying.Log, reset commitlog.CommitID) lying.Mutation {
	return lying.Served{Log: l, Reset: reset, Silent: true}.As(name)
}

// of returns the victim that is a copy of a device, and syncs.
func of(d *vaulttest.Device) victim {
	return func(t *testing.T, _ *scene, at *vaulttest.Secondary) (*vaulttest.Device, func(context.Context, vault.SyncOptions) (*vault.Report, error)) {
		c := d.Copy(t, at)
		return c, c.Sync
	}
}

// restoringWith is a new device with a floor, which takes the whole log, or begins with
// a checkpoint.
func restoringWith(floor keyfile.Checkpoint, whole bool) victim {
	return func(t *testing.T, s *scene, at *vaulttest.Secondary) (*vaulttest.Device, func(context.Context, vault.SyncOptions) (*vault.Report, error)) {
		d := s.vault.New(t, "new", vault.Config{}, at)
		return d, func(ctx context.Context, o vault.SyncOptions) (*vault.Report, error) {
			o.Whole, o.Floor = whole, &floor
			return d.Enrol(ctx, s.vault.Root.Authority(), nil, o)
		}
	}
}

// asks are what a device may say that looks for the owner's word: nothing of it tells
// what the device has, or thinks of what it was told.
var asks = []wire.Type{
	wire.TypeHello, wire.TypeAuth, wire.TypeBind, wire.TypeUnbind, wire.TypeRead, wire.TypeMark, wire.TypeFetch,
}

// refuses has a victim meet lies that it has to refuse, each with its error: the device
// stays what it was, and has only asked. The truth comes first.
func (p *parted) refuses(t *testing.T, who victim, attacks ...attack) {
	t.Helper()
	t.Run("truth", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if o := p.meet(t, who, lying.Mutation{}); o.err != nil || o.status.Alarm != "" || o.status.Pending+o.status.Missing > 0 {
				t.Fatalf("not in step: %v, %+v", o.err, o.status)
			}
		})
	})
	for _, a := range attacks {
		p.refusesOne(t, who, a)
	}
}

// refusesOne is refuses without the truth.
func (p *parted) refusesOne(t *testing.T, who victim, a attack) {
	t.Helper()
	t.Run(a.lie.Name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := p.meet(t, who, a.lie)
			if o.told == 0 {
				t.Fatal("nobody lied")
			}
			if !errors.Is(o.err, a.want) {
				t.Errorf("%v, want %v", o.err, a.want)
			}
			before, after := o.before, o.after
			maps.DeleteFunc(after, func(path, _ string) bool { // an object that nobody names only takes room
				return strings.HasPrefix(path, "objects/") && before[path] == ""
			})
			if !vault.IsAlarm(o.err) { // it goes on where it was cut
				before, after = before.Without("other"), after.Without("other")
			}
			if changed := before.Changed(after); len(changed) > 0 {
				t.Errorf("what is stored has changed: %q", changed)
			}
			for _, said := range o.heard {
				if !slices.Contains(asks, said) {
					t.Errorf("the secondary was told something afterwards: %v", o.heard)
					break
				}
			}
			o.alarmed(t)
		})
	})
}

// shown is a victim that is a copy of a device, and that has been shown another log.
func (p *parted) shown(d *vaulttest.Device, l lying.Log) victim {
	return func(t *testing.T, _ *scene, at *vaulttest.Secondary) (*vaulttest.Device, func(context.Context, vault.SyncOptions) (*vault.Report, error)) {
		c := d.Copy(t, at)
		at.Lie(serves("", l, 0))
		if _, err := c.Sync(t.Context(), vault.SyncOptions{Mode: vault.PullOnly}); err != nil {
			t.Fatal(err)
		}
		return c, c.Sync
	}
}

// opens returns the statements of a control commit.
func (a *author) opens(t testing.TB, bundle []byte) (out []*commitlog.Statement) {
	t.Helper()
	for _, blob := range parse(t, bundle).Blobs {
		payload, err := a.sealer(keys.ControlNamespace).Open(blob)
		fatal(t, err)
		st, err := commitlog.ParseStatement(payload.Value)
		fatal(t, err)
		out = append(out, st)
	}
	return out
}

// states is the author's commit of control statements that follow on from those of a
// log, numbered anew.
func (a *author) states(t testing.TB, over lying.Log, statements ...*commitlog.Statement) []byte {
	t.Helper()
	head := a.controlHead(t, over)
	var out []*commitlog.Statement
	for _, st := range statements {
		st := *st
		st.Number, st.Previous = head.Number+1, head.Hash
		value, err := st.AppendBinary(nil)
		fatal(t, err)
		head = head.Next(value)
		out = append(out, &st)
	}
	return a.statement(t, over, func(h *commitlog.Header) { h.Kind = commitlog.KindControl }, out...)
}
