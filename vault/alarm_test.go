package vault_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
	"github.com/kistvault/kist/vault/vaulttest"
)

// another is a secondary that names another root than this device's.
func another(m wire.Message) []wire.Message {
	if b, ok := m.(*wire.Bound); ok {
		b.Root[0] ^= 1
	}
	return []wire.Message{m}
}

// B5, F42: an alarm stops every way to sync, over a restart too, and the secondary
// hears no more than the position of a device that looks for a reset; the vault itself
// goes on. It ends when the person says so, and is remembered.
func TestAlarmStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		put(t, a.Vault, "theirs", "1")
		vaulttest.Sync(t, a)
		before, err := b.Status(t.Context())
		fatal(t, err)
		if _, err := b.Sync(t.Context(), via(b, another)); !errors.Is(err, commitlog.ErrFork) {
			t.Fatalf("got %v, want ErrFork", err)
		}
		seen := time.Now()
		time.Sleep(time.Minute)
		for range 2 {
			b.Network.Reset()
			put(t, b.Vault, "own", "1")
			if get(t, b.Vault, "own") != "1" {
				t.Error("it cannot be used any more")
			}
			for name, try := range map[string]func() error{
				"Sync":            func() error { _, err := b.Sync(t.Context(), vault.SyncOptions{}); return err },
				"Run":             func() error { return b.Run(t.Context(), vault.SyncOptions{}) },
				"WaitForUpload":   func() error { return b.WaitForUpload(t.Context()) },
				"WaitForDownload": func() error { return b.WaitForDownload(t.Context()) },
				"Fetch": func() error {
					r, err := b.Sync(t.Context(), vault.SyncOptions{Mode: vault.PullOnly})
					if r == nil {
						t.Error("no report")
					}
					return err
				},
				"Transact": func() error {
					return b.Transact(t.Context(), "notes", func(tx *vault.Tx) error { t.Error("it ran"); return nil })
				},
			} {
				err := try()
				var e *vault.Error
				if !errors.Is(err, commitlog.ErrFork) || !vault.IsAlarm(err) || !errors.As(err, &e) || e.Hint == "" {
					t.Errorf("%s: %v, want ErrFork with a hint", name, err)
				}
			}
			k := keep(t, b, nil)
			<-k.done
			wantStates(t, k, "connecting", "signing in", "downloading", vault.StateAlarm)
			for _, f := range b.Network.Frames() {
				if f.Dir == vaulttest.Up && !slices.Contains([]wire.Type{vaulttest.Handshake, wire.TypeHello, wire.TypeAuth, wire.TypeBind}, f.Type) {
					t.Errorf("it was sent %v", f)
				}
			}
			b.Reopen()
		}
		alarm, err := b.Alarm(t.Context())
		fatal(t, err)
		st, err := b.Status(t.Context())
		fatal(t, err)
		if st.Alarm == "" || st.Commits != before.Commits || st.Root != before.Root {
			t.Errorf("%+v, was %+v", st, before)
		}
		server := b.Servers()[0]
		if alarm == nil || alarm.Kind != commitlog.ErrFork || !alarm.Time.Equal(seen) || alarm.Size != st.Commits || alarm.Root != st.Root ||
			alarm.Secondary != server.URL || alarm.Key != server.Key || !alarm.Said.Bound || alarm.Said.Size != st.Commits+1 ||
			alarm.Said.Root == st.Root || !alarm.Tried.IsZero() {
			t.Errorf("%+v", alarm)
		}

		fatal(t, b.TryAgain(t.Context()))
		fatal(t, b.TryAgain(t.Context()))
		vaulttest.Sync(t, b, a)
		vaulttest.InStep(t, a, b)
		all, err := b.Alarms(t.Context())
		fatal(t, err)
		if len(all) != 1 || all[0].Tried.IsZero() || all[0].Said.Root != alarm.Said.Root {
			t.Errorf("%+v", all)
		}
	})
}

// Whoever waits when an alarm comes is told, also one that waits for a Run, and a
// Run that rests.
func TestAlarmEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b := pair(t)
		b.Pause()
		k := keep(t, b, nil)
		waits := make(chan error, 1)
		go func() { waits <- b.WaitForDownload(t.Context()) }()
		synctest.Wait()
		_, err := b.Sync(t.Context(), via(b, another))
		for _, err := range []error{err, <-waits} {
			if !errors.Is(err, commitlog.ErrFork) {
				t.Errorf("%v, want ErrFork", err)
			}
		}
		<-k.done
		if !errors.Is(k.err, commitlog.ErrFork) {
			t.Errorf("%v, want ErrFork", k.err)
		}
	})
}

// Trouble is no alarm: it leaves nothing behind.
func TestTroubleIsNoAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		put(t, a.Vault, "x", "1")
		vaulttest.Sync(t, a)
		for name, pass := range map[string]func(wire.Message) []wire.Message{
			"broken order": func(m wire.Message) []wire.Message {
				return []wire.Message{m, &wire.Unbound{}}
			},
			"an error": func(m wire.Message) []wire.Message {
				return []wire.Message{&wire.Error{Code: wire.CodeInternal, Action: wire.ActionStop}}
			},
			"silence": func(m wire.Message) []wire.Message { return nil },
		} {
			if _, err := b.Sync(t.Context(), via(b, pass)); err == nil || vault.IsAlarm(err) {
				t.Errorf("%s: %v", name, err)
			}
			if a, err := b.Alarm(t.Context()); a != nil || err != nil {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
		}
		vaulttest.Sync(t, b)
	})
}

// An alarm is one secondary's, and of all the newest 32 are kept.
func TestAlarmsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b := pair(t)
		const n = 40
		for range n {
			fatal(t, b.TryAgain(t.Context()))
			if _, err := b.Sync(t.Context(), via(b, another)); !errors.Is(err, commitlog.ErrFork) {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		all, err := b.Alarms(t.Context())
		fatal(t, err)
		if len(all) != 32 || all[31].Time.Sub(all[0].Time) != 31*time.Minute || !all[31].Tried.IsZero() {
			t.Errorf("%d alarms are kept: %v", len(all), all)
		}
		servers := b.Servers()
		other := servers[0]
		other.Key[0] ^= 1
		fatal(t, b.SetServers([]keyfile.Server{other}))
		if a, err := b.Alarm(t.Context()); a != nil || err != nil {
			t.Errorf("%+v, %v: that was another secondary", a, err)
		}
		fatal(t, b.SetServers(servers))
		if a, err := b.Alarm(t.Context()); a == nil || err != nil {
			t.Errorf("the alarm is gone: %v", err)
		}
	})
}

// Each error of package commitlog but the one about versions has a name, and is
// the same after a restart.
func TestAlarmNames(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../commitlog/errors.go", nil, 0)
	fatal(t, err)
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Err") {
			n++
		}
		return true
	})
	if names := vault.AlarmNames(); len(names) != n-1 {
		t.Errorf("%d names of alarms, and commitlog has %d errors", len(names), n)
	}
	key := keys.GenerateRoot().Authority().Public().Sign
	for name, kind := range vault.AlarmNames() {
		a := vault.Reread(&vault.Alarm{Key: key, Kind: kind, Commit: 7, Reason: "why"})
		if a.Kind != kind || a.Name() != name || !errors.Is(a.Err(), kind) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := vault.Reread(&vault.Alarm{Key: key, Kind: errors.New("of a newer program")}); !vault.IsAlarm(a.Err()) {
		t.Errorf("%v is no alarm", a.Err())
	}
}

// Evidence has what was seen, and nothing that is not the secondary's to know.
func TestEvidence(t *testing.T) {
	p := newPerson(t)
	a := p.device(vault.Config{})
	dir := t.TempDir() + "/vault"
	b, _ := p.deviceIn(dir, vault.Config{})
	const name, value, ns = "PLANTEDNAME", "PLANTEDVALUE", "plantednamespace"
	for i := range 3 {
		_, err := a.Namespace(ns).Put(t.Context(), name, []byte(value+strings.Repeat("x", i)))
		fatal(t, err)
		sync(t, a)
	}
	gone := false // the first commit that is new to b
	_, o := over(func(m wire.Message) wire.Message {
		if d, ok := m.(*wire.Download); ok && !gone && len(d.Items) > 1 {
			gone = true
			d.Items = d.Items[1:]
		}
		return m
	}, 0)
	if _, err := b.Sync(t.Context(), o); !errors.Is(err, commitlog.ErrOmission) {
		t.Fatal(err)
	}
	raw, err := b.Evidence(t.Context())
	fatal(t, err)

	var e struct {
		Format string
		Size   uint64
		Root   string
		Alarms []struct {
			Kind          string
			Header        string                `json:"refused_header"`
			SecondarySaid struct{ Size uint64 } `json:"secondary_said"`
		}
		Headers []struct{ Commit uint64 } `json:"verified_headers"`
		Roots   []struct{ Size uint64 }
	}
	fatal(t, json.Unmarshal(raw, &e))
	st, err := b.Status(t.Context())
	fatal(t, err)
	if e.Format != "kist-evidence v1" || e.Size != st.Commits || e.Root != st.Root.String() || len(e.Headers) != int(st.Commits) ||
		len(e.Alarms) != 1 || e.Alarms[0].Kind != "omission" || len(e.Alarms[0].Header) != 2*commitlog.HeaderSize ||
		e.Alarms[0].SecondarySaid.Size <= e.Size || len(e.Roots) == 0 {
		t.Errorf("%s", raw)
	}

	device, err := os.ReadFile(filepath.Join(dir, "device.key"))
	fatal(t, err)
	marks := [][]byte{[]byte(name), []byte(value), []byte(ns), []byte("device 1"), []byte("device 2")}
	for line := range strings.Lines(string(device)) {
		label, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		_, epoch, _ := strings.Cut(text, " ")
		switch label {
		case "epoch":
			text = epoch
		case "seed", "tag-secret":
		default:
			continue
		}
		secret, err := base64.RawURLEncoding.DecodeString(text)
		fatal(t, err)
		marks = append(marks, []byte(text), secret)
	}
	if len(marks) != 5+2*3 {
		t.Fatalf("%d marks", len(marks))
	}
	for _, m := range marks {
		if bytes.Contains(raw, m) || bytes.Contains(raw, []byte(hex.EncodeToString(m))) {
			t.Errorf("evidence holds %q", m)
		}
	}
}

// An alarm that no reset can explain keeps a device from dialling at all.
func TestAlarmWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		put(t, a.Vault, "theirs", "1")
		vaulttest.Sync(t, a)
		left := func(m wire.Message) []wire.Message {
			if d, ok := m.(*wire.Download); ok && len(d.Items) > 0 {
				d.Items = append(d.Items, d.Items[0])
				return []wire.Message{d}
			}
			return []wire.Message{m}
		}
		if _, err := b.Sync(t.Context(), via(b, left)); !errors.Is(err, commitlog.ErrOmission) {
			t.Fatalf("got %v, want ErrOmission", err)
		}
		b.Network.Reset()
		if _, err := b.Sync(t.Context(), vault.SyncOptions{}); !errors.Is(err, commitlog.ErrOmission) {
			t.Errorf("got %v, want ErrOmission", err)
		}
		k := keep(t, b, nil)
		<-k.done
		wantStates(t, k, vault.StateAlarm)
		if n := len(b.Network.Frames()); n != 0 {
			t.Errorf("%d frames went over the network", n)
		}
	})
}
