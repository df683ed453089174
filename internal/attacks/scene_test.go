package attacks_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A scene is a vault with a log of all kinds of commits, and a victim that has
// verified a part of it. It is made once by honest devices; each attack works on
// copies.
type scene struct {
	secondary *vaulttest.Secondary
	vault     *vaulttest.Vault
	a, b      *vaulttest.Device // have written all of it
	victim    *vaulttest.Device // has verified the first known commits
	known     commitlog.CommitID
	log       lying.Log // the encoded bundles, with all blobs
	digest    commitlog.Hash
	values    map[string]map[string]bool // that records ever had
}

// last returns the ID of the last commit.
func (s *scene) last() commitlog.CommitID { return commitlog.CommitID(len(s.log)) }

// positions returns the first, a middle and the last commit that the victim has not
// seen.
func (s *scene) positions() []commitlog.CommitID {
	return []commitlog.CommitID{s.known + 1, (s.known + s.last() + 1) / 2, s.last()}
}

// newScene makes a scene.
func newScene(t testing.TB) *scene {
	s := &scene{secondary: vaulttest.NewSecondary(t)}
	s.vault = s.secondary.NewVault(t)
	s.a, s.b = s.vault.Device(t, "laptop", vault.Config{}), s.vault.Device(t, "phone", vault.Config{})
	s.victim = s.vault.Device(t, "victim", vault.Config{})
	write(t, s.a, "notes", "x", "1")
	vaulttest.Sync(t, s.a)
	write(t, s.victim, "notes", "own", "mine")
	vaulttest.Sync(t, s.victim, s.b)
	write(t, s.b, "tasks", "t", "1")
	vaulttest.Sync(t, s.b, s.victim, s.a)
	st, err := s.victim.Status(t.Context())
	fatal(t, err)
	s.known = commitlog.CommitID(st.Commits)

	write(t, s.a, "notes", "x", "2") // supersedes
	vaulttest.Sync(t, s.a)
	fatal(t, s.a.Update(t.Context(), "notes", func(tx *vault.Tx) error {
		for _, name := range []string{"y", "z", "w"} {
			if _, err := tx.Put(name, []byte("together")); err != nil {
				return err
			}
		}
		return nil
	}))
	vaulttest.Sync(t, s.a)
	write(t, s.a, "notes", "big", strings.Repeat("big ", 30<<10)) // an object
	vaulttest.Sync(t, s.a, s.b)
	write(t, s.b, "tasks", "t", "2")
	vaulttest.Sync(t, s.b)
	fatal(t, s.a.Namespace("notes").Delete(t.Context(), "y"))
	vaulttest.Sync(t, s.a)
	fatal(t, s.a.Transact(t.Context(), "notes", func(tx *vault.Tx) error {
		_, err := tx.Put("n", []byte("1"))
		return err
	}))
	late := s.vault.Device(t, "tablet", vault.Config{}) // a control commit
	write(t, late, "notes", "from the tablet", "1")
	vaulttest.Sync(t, late, s.b)
	write(t, s.b, "notes", "x", "3")
	vaulttest.Sync(t, s.b, s.a)
	s.read(t)
	return s
}

// newSmallScene makes a scene of few bytes: the victim lacks one commit.
func newSmallScene(t testing.TB) *scene {
	s := &scene{secondary: vaulttest.NewSecondary(t)}
	s.vault = s.secondary.NewVault(t)
	s.a, s.victim = s.vault.Device(t, "a", vault.Config{}), s.vault.Device(t, "b", vault.Config{})
	write(t, s.victim, "notes", "x", "1")
	vaulttest.Sync(t, s.victim, s.a)
	s.known = 3
	write(t, s.a, "notes", "x", "2")
	vaulttest.Sync(t, s.a)
	s.read(t)
	return s
}

// read reads the log and what it comes to.
func (s *scene) read(t testing.TB) {
	t.Helper()
	s.log = pull(t, s.secondary, s.vault)
	var err error
	s.digest, _, err = s.a.Digest(t.Context())
	fatal(t, err)
	s.values = make(map[string]map[string]bool)
	for _, namespace := range []string{"notes", "tasks"} {
		for r, err := range s.a.Namespace(namespace).List(t.Context()) {
			fatal(t, err)
			now, err := s.a.Namespace(namespace).Get(t.Context(), r.Name)
			fatal(t, err)
			had := map[string]bool{string(now.Value): true}
			for v, err := range s.a.Namespace(namespace).History(t.Context(), r.Name) {
				fatal(t, err)
				had[string(v.Value)] = true
			}
			s.values[namespace+"/"+r.Name] = had
		}
	}
}

func write(t testing.TB, d *vaulttest.Device, namespace, name, value string) {
	t.Helper()
	_, err := d.Namespace(namespace).Put(t.Context(), name, []byte(value))
	fatal(t, err)
}

// pull returns the encoded bundles of the whole log of a vault.
func pull(t testing.TB, s *vaulttest.Secondary, v *vaulttest.Vault) (log [][]byte) {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Server{
		URL: "ws://localhost/", Key: s.ServerKey().Public(), NetDial: s.Network(t).NetDial,
	}, client.Owner(v.Root.Authority()))
	fatal(t, err)
	defer c.Close()
	fatal(t, c.Send(t.Context(), &wire.Bind{Root: commitlog.EmptyRoot}))
	m, err := c.Receive(t.Context())
	fatal(t, err)
	for size := m.(*wire.Bound).Size; uint64(len(log)) < size; {
		m, err := c.Receive(t.Context())
		fatal(t, err)
		for _, i := range m.(*wire.Download).Items {
			log = append(log, i.Data)
		}
	}
	return log
}

// An outcome is what came of an attack.
type outcome struct {
	err    error
	report *vault.Report
	status *vault.Status
	told   int         // lies
	heard  []wire.Type // what the device said after the first
	states []vault.Progress
	before vaulttest.Dump
	after  vaulttest.Dump
	device *vaulttest.Device
	at     *vaulttest.Secondary
}

// A victim is a device that meets the liar: it returns the device, and what it does.
type victim func(t *testing.T, s *scene, at *vaulttest.Secondary) (d *vaulttest.Device, sync func(ctx context.Context, o vault.SyncOptions) (*vault.Report, error))

// known is a device that has verified a part of the log and syncs.
func known(t *testing.T, s *scene, at *vaulttest.Secondary) (*vaulttest.Device, func(context.Context, vault.SyncOptions) (*vault.Report, error)) {
	d := s.victim.Copy(t, at)
	return d, d.Sync
}

// restoring is a new device that has nothing but the root, and takes the whole log.
func restoring(t *testing.T, s *scene, at *vaulttest.Secondary) (*vaulttest.Device, func(context.Context, vault.SyncOptions) (*vault.Report, error)) {
	d := s.vault.New(t, "new", vault.Config{}, at)
	return d, func(ctx context.Context, o vault.SyncOptions) (*vault.Report, error) {
		o.Whole = true
		return d.Enrol(ctx, s.vault.Root.Authority(), nil, o)
	}
}

// selecting is a device that keeps one namespace.
func selecting(t *testing.T, s *scene, at *vaulttest.Secondary) (*vaulttest.Device, func(context.Context, vault.SyncOptions) (*vault.Report, error)) {
	d := s.victim.Copy(t, at)
	fatal(t, d.SetSelection(t.Context(), vault.Selection{Namespaces: []string{"notes"}}))
	return d, d.Sync
}

// long is more time than a device waits for anything.
const long = 24 * time.Hour

// meet has a victim meet the secondary as it lies. It is called in a bubble.
func (s *scene) meet(t *testing.T, who victim, lie lying.Mutation) *outcome {
	t.Helper()
	o := &outcome{at: s.secondary.Copy(t)}
	d, sync := who(t, s, o.at)
	o.device = d
	liar := o.at.Lie(lie)
	o.before = state(d)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	o.report, o.err = sync(ctx, vault.SyncOptions{Progress: func(p vault.Progress) { o.states = append(o.states, p) }})
	o.told, o.heard = liar.Told(), liar.Heard()
	o.after = state(d)
	var err error
	o.status, err = d.Status(t.Context())
	fatal(t, err)
	return o
}

// alarmPaths is where a device keeps what is known of an alarm.
var alarmPaths = []string{"meta/alarm", "alarms"}

// state is what a device has stored, without what it keeps of an alarm.
func state(d *vaulttest.Device) vaulttest.Dump { return d.Dump().Without(alarmPaths...) }

// An attack is a lie, and what becomes of it.
type attack struct {
	lie  lying.Mutation
	want error // nil: nothing, and the victim comes in step with the truth
}

// try runs attacks on copies of the scene, and the truth first: where that does not
// pass, the attacks prove nothing. What each attack must come to is in check.
func (s *scene) try(t *testing.T, who victim, attacks ...attack) {
	t.Helper()
	t.Run("truth", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { s.inStep(t, s.meet(t, who, lying.Mutation{})) })
	})
	names := make(map[string]bool)
	for _, a := range attacks {
		if names[a.lie.Name] {
			t.Errorf("two attacks are named %q", a.lie.Name)
		}
		names[a.lie.Name] = true
		t.Run(a.lie.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.check(t, s.meet(t, who, a.lie), a.want) })
		})
	}
}

// check checks what became of a lie: the error; nothing changed; the person is
// told; nothing said to the secondary from which it could learn why.
func (s *scene) check(t *testing.T, o *outcome, want error) {
	t.Helper()
	if o.told == 0 {
		t.Fatal("nobody lied")
	}
	if want == nil {
		s.inStep(t, o)
		return
	}
	if !errors.Is(o.err, want) {
		t.Errorf("%v, want %v", o.err, want)
	}
	if changed := o.before.Changed(o.after); len(changed) > 0 {
		t.Errorf("what is stored has changed: %q", changed)
	}
	if len(o.heard) > 0 {
		t.Errorf("the secondary was told something afterwards: %v", o.heard)
	}
	o.alarmed(t)
}

// alarmed checks that the person is told of an alarm, if it is one: the error says
// so, the last event does, and Status has a text.
func (o *outcome) alarmed(t *testing.T) {
	t.Helper()
	if o.err == nil {
		return
	}
	var end vault.Progress
	if len(o.states) > 0 {
		end = o.states[len(o.states)-1]
	}
	alarm := vault.IsAlarm(o.err)
	if !end.End || end.Err == nil || (end.State == vault.StateAlarm) != alarm {
		t.Errorf("the last event is %+v", end)
	}
	if alarm != (o.status.Alarm != "") {
		t.Errorf("Status has the alarm %q after %v", o.status.Alarm, o.err)
	}
	kept, err := o.device.Alarm(t.Context())
	fatal(t, err)
	if (kept != nil) != alarm {
		t.Errorf("kept is %v after %v", kept, o.err)
	}
	if alarm && (!errors.Is(o.err, kept.Kind) || kept.Time.IsZero() || !strings.Contains(o.status.Alarm, kept.Kind.Error())) {
		t.Errorf("kept is %+v, shown is %q", kept, o.status.Alarm)
	}
	if strings.Contains(o.status.Alarm, "%!") || strings.ContainsFunc(o.status.Alarm, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("the alarm is no text: %q", o.status.Alarm)
	}
}

// inStep checks that a victim came in step with the truth.
func (s *scene) inStep(t *testing.T, o *outcome) {
	t.Helper()
	if o.err != nil {
		t.Fatalf("not in step: %v", o.err)
	}
	if o.status.Alarm != "" || o.status.Missing+o.status.Quarantine+o.status.Pending != 0 {
		t.Errorf("not in step: %+v", o.status)
	}
	digest, _, err := o.device.Digest(t.Context())
	fatal(t, err)
	if digest != s.digest || o.status.Commits < uint64(s.last()) {
		t.Errorf("it holds something else, of %d commits", o.status.Commits)
	}
}

// device returns the keys of a device.
func device(t testing.TB, d *vaulttest.Device) *keyfile.Device {
	t.Helper()
	f, err := keyfile.ReadDevice(d.Dir + "/device.key")
	fatal(t, err)
	return f
}

// tryPartly is try for lies that are found out after a part of the truth was taken:
// what the victim has then is true, and a part of it.
func (s *scene) tryPartly(t *testing.T, who victim, attacks ...attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.lie.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := s.meet(t, who, a.lie)
				if o.told == 0 {
					t.Fatal("nobody lied")
				}
				if !errors.Is(o.err, a.want) {
					t.Errorf("%v, want %v", o.err, a.want)
				}
				o.alarmed(t)
				s.onlyTruth(t, o)
			})
		})
	}
}

// onlyTruth checks that a device holds a part of the truth and nothing else: its log
// is the beginning of the scene's, and its records have values that they had.
func (s *scene) onlyTruth(t *testing.T, o *outcome) {
	t.Helper()
	size := o.status.Commits
	if size > uint64(len(s.log)) || s.log.Root(size) != o.status.Root {
		t.Errorf("its log of %d commits is another", size)
	}
	if o.status.Quarantine != 0 {
		t.Errorf("%d in quarantine", o.status.Quarantine)
	}
	for _, namespace := range []string{"notes", "tasks"} {
		for r, err := range o.device.Namespace(namespace).List(t.Context()) {
			if errors.Is(err, vault.ErrNotFound) || errors.Is(err, vault.ErrNotSelected) {
				break
			}
			fatal(t, err)
			if rec, err := o.device.Namespace(namespace).Get(t.Context(), r.Name); err == nil && !s.values[namespace+"/"+r.Name][string(rec.Value)] {
				t.Errorf("%s/%s has a value that it never had", namespace, r.Name)
			}
		}
	}
}

// raceEnabled is set where the race detector runs.
var raceEnabled bool

// tryOne is try without the truth.
func (s *scene) tryOne(t *testing.T, who victim, a attack) {
	t.Helper()
	t.Run(a.lie.Name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { s.check(t, s.meet(t, who, a.lie), a.want) })
	})
}
