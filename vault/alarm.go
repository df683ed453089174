package vault

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// An Alarm is what a secondary was caught at: something that no honest one does.
// Nothing of it was taken over. It stops every sync with that secondary until
// [Vault.TryAgain], over restarts too; local reads and writes go on. But syncs look
// whether it has passed: see MayPass.
//
// What is an alarm goes by the error: a [commitlog.CommitError] is one, whatever it
// wraps, but for [commitlog.ErrVersion], which a newer program may understand.
// Trouble is none: a connection that breaks, a broken message, a timeout, a refusal,
// a disk that is full, the revocation of this device.
type Alarm struct {
	Kind   error // a sentinel of package commitlog, such as [commitlog.ErrFork]
	Commit commitlog.CommitID
	Reason string    // more, for a person; may be empty
	Time   time.Time // when it was seen, by this device's clock
	Tried  time.Time // when the sync went on, by TryAgain or by itself; zero: it stands

	// CaughtUp says that it went on by itself: the secondary had gone back, and was found
	// to have all again that this device had verified, and nothing else in its place.
	CaughtUp bool

	Secondary string         // its address …
	Key       keys.VerifyKey // … and the key that it had proved

	Size uint64 // of the log that this device had verified
	Root commitlog.Hash

	Said Said
}

// Said is what the secondary had said in the session that ended with an alarm.
type Said struct {
	Bound  bool           // it had said the next three
	Size   uint64         // commits in its log
	Root   commitlog.Hash // at the smaller of both sizes
	Last   []byte         // header of this device's last commit there; empty: none
	Header []byte         // header of the commit that it served and this device refused; empty: the alarm is not about one
}

// Err returns the error that a sync is refused with while the alarm stands. It
// matches Kind.
func (a *Alarm) Err() error {
	err := &commitlog.CommitError{ID: a.Commit, Err: a.Kind, Reason: a.Reason}
	return &Error{Op: "sync", Hint: "kist doctor", Err: fmt.Errorf("stopped by an alarm of %s: %w", a.Time.UTC().Format("2006-01-02 15:04 MST"), err)}
}

// String describes the alarm in a line.
func (a *Alarm) String() string {
	return (&commitlog.CommitError{ID: a.Commit, Err: a.Kind, Reason: a.Reason}).Error()
}

// alarmKinds are the names of alarms, in the store and in evidence.
var alarmKinds = []struct {
	name string
	err  error
}{
	{"malformed", commitlog.ErrMalformed},
	{"limit", commitlog.ErrLimit},
	{"unknown-signer", commitlog.ErrUnknownSigner},
	{"revoked-signer", commitlog.ErrRevoked},
	{"scope", commitlog.ErrScope},
	{"signature", commitlog.ErrSignature},
	{"equivocation", commitlog.ErrEquivocation},
	{"omission", commitlog.ErrOmission},
	{"order", commitlog.ErrOrder},
	{"fork", commitlog.ErrFork},
	{"rollback", commitlog.ErrRollback},
	{"epoch", commitlog.ErrEpoch},
	{"blob", commitlog.ErrBlob},
	{"control-fork", commitlog.ErrControlFork},
	{"no-genesis", commitlog.ErrNoGenesis},
	{"other-vault", commitlog.ErrVaultIDMismatch},
	{"checkpoint", commitlog.ErrCheckpoint},
	{"own-commit-missing", commitlog.ErrOwnCommitMissing},
	{"device-state-rollback", commitlog.ErrDeviceStateRollback},
}

// errOther is the kind of an alarm whose name this program does not know.
var errOther = errors.New("alarm of another kind")

// Name returns the name of the alarm's kind, such as "fork".
func (a *Alarm) Name() string {
	for _, k := range alarmKinds {
		if errors.Is(a.Kind, k.err) {
			return k.name
		}
	}
	return "other"
}

// IsAlarm reports whether the error says that a secondary was caught at
// something no honest one does: see [Alarm].
func IsAlarm(err error) bool {
	var c *commitlog.CommitError
	return errors.As(err, &c) && !errors.Is(err, commitlog.ErrVersion)
}

// maxAlarms bounds how many alarms are kept.
const maxAlarms = 32

// Alarm returns the alarm that stops the sync, nil if none does.
func (v *Vault) Alarm(ctx context.Context) (a *Alarm, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = v.view(func(s *state) error {
		a, err = s.alarm()
		return err
	})
	return a, err
}

// Alarms returns the alarms that this device has seen, the newest last, also those
// of other secondaries and those that it has tried again after. The oldest are
// dropped when there are more than 32.
func (v *Vault) Alarms(ctx context.Context) (out []*Alarm, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = v.view(func(s *state) error {
		out, err = s.allAlarms()
		return err
	})
	return out, err
}

// TryAgain lets the vault sync again after an alarm. It is durable when TryAgain
// returns. The alarm is kept, see Alarms; where the secondary does it again, there
// is a new one. What was verified of the log below a checkpoint that this device
// began with is verified anew. Without an alarm it does nothing.
func (v *Vault) TryAgain(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.goOn(false)
}

// goOn takes back the alarm that stands.
func (v *Vault) goOn(caughtUp bool) error {
	return v.update(func(s *state) error {
		a, err := s.alarm()
		if err != nil || a == nil {
			return err
		}
		a.Tried, a.CaughtUp = v.conf.Now(), caughtUp
		return errors.Join(s.dropPast(), s.putAlarm(s.meta.Get(metaAlarm), a), s.meta.Delete(metaAlarm))
	})
}

// alarm returns the alarm that stands against the present secondary, nil if there
// is none. The bucket meta has its key in the bucket "alarms" under "alarm".
func (s *state) alarm() (*Alarm, error) {
	servers := s.v.Servers()
	b := s.alarms.Get(s.meta.Get(metaAlarm))
	if b == nil || len(servers) == 0 {
		return nil, nil
	}
	a, err := parseAlarm(b)
	if err != nil || a.Key != servers[0].Key {
		return nil, err
	}
	return a, nil
}

func (s *state) allAlarms() (out []*Alarm, err error) {
	err = s.alarms.Scan(nil, func(_, b []byte) (bool, error) {
		a, err := parseAlarm(b)
		out = append(out, a)
		return true, err
	})
	return out, err
}

func (s *state) putAlarm(key []byte, a *Alarm) error {
	b, err := json.Marshal(a.json())
	if err != nil {
		return err
	}
	return s.alarms.Put(slices.Clone(key), b)
}

// alarmed returns the error of an alarm that stops the sync, nil if none does.
func (v *Vault) alarmed() error {
	a, err := v.Alarm(context.Background())
	if err != nil || a == nil {
		return err
	}
	return a.Err()
}

// explainable reports whether a reset by the owner may be what the alarm comes from.
func explainable(err error) bool {
	return errors.Is(err, commitlog.ErrRollback) || errors.Is(err, commitlog.ErrFork) || errors.Is(err, commitlog.ErrOwnCommitMissing)
}

// keepAlarm keeps the alarm that a session has ended with, if it has, and returns the
// session's error.
func (e *engine) keepAlarm(err error) error {
	var c *commitlog.CommitError
	v := e.v
	if v.main != nil {
		v = v.main
	}
	if err == e.standing || !IsAlarm(err) || !errors.As(err, &c) {
		return err
	}
	a := &Alarm{
		Kind: c.Err, Commit: c.ID, Reason: c.Reason, Time: v.conf.Now(),
		Secondary: e.at.URL, Key: e.at.Key, Said: e.said,
	}
	kerr := v.update(func(s *state) error {
		a.Size = s.log.Size()
		var err error
		if a.Root, err = s.log.RootAt(a.Size); err != nil {
			return err
		}
		n, err := s.alarms.Next()
		if err != nil {
			return err
		}
		key := localKey(n)
		if n > maxAlarms {
			if err := s.alarms.Delete(localKey(n - maxAlarms)); err != nil {
				return err
			}
		}
		return errors.Join(s.putAlarm(key, a), s.meta.Put(metaAlarm, key))
	})
	if kerr != nil {
		return fmt.Errorf("%w (and it could not be kept: %w)", err, kerr)
	}
	v.conf.Logger.Error("alarm: the sync is stopped", "err", err)
	v.setRun(func(s *runState) { s.alarms++ })
	return err
}

// alarmJSON is an alarm in the store and in evidence. Hashes and headers are in
// hex.
type alarmJSON struct {
	Kind      string         `json:"kind"`
	Commit    uint64         `json:"commit,omitempty"`
	Reason    string         `json:"reason,omitempty"`
	Time      time.Time      `json:"time"`
	Tried     *time.Time     `json:"tried_again,omitempty"`
	CaughtUp  bool           `json:"caught_up,omitempty"`
	Secondary string         `json:"secondary"`
	Key       keys.VerifyKey `json:"secondary_key"`
	Size      uint64         `json:"size"`
	Root      hexBytes       `json:"root"`
	Said      *saidJSON      `json:"secondary_said,omitempty"`
	Header    hexBytes       `json:"refused_header,omitempty"`
}

type saidJSON struct {
	Size uint64   `json:"size"`
	Root hexBytes `json:"root"`
	Last hexBytes `json:"own_last_header,omitempty"`
}

func (a *Alarm) json() *alarmJSON {
	j := &alarmJSON{
		Kind: a.Name(), Commit: uint64(a.Commit), Reason: a.Reason, Time: a.Time.UTC(), Secondary: a.Secondary, Key: a.Key,
		Size: a.Size, Root: a.Root[:], Header: a.Said.Header, CaughtUp: a.CaughtUp,
	}
	if !a.Tried.IsZero() {
		tried := a.Tried.UTC()
		j.Tried = &tried
	}
	if a.Said.Bound {
		j.Said = &saidJSON{Size: a.Said.Size, Root: a.Said.Root[:], Last: a.Said.Last}
	}
	return j
}

func parseAlarm(b []byte) (*Alarm, error) {
	var j alarmJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("%w: kept alarm: %v", ErrDamaged, err)
	}
	a := &Alarm{
		Kind: errOther, Commit: commitlog.CommitID(j.Commit), Reason: j.Reason, Time: j.Time, Secondary: j.Secondary, Key: j.Key,
		Size: j.Size, Said: Said{Header: j.Header}, CaughtUp: j.CaughtUp,
	}
	copy(a.Root[:], j.Root)
	for _, k := range alarmKinds {
		if k.name == j.Kind {
			a.Kind = k.err
		}
	}
	if j.Tried != nil {
		a.Tried = *j.Tried
	}
	if j.Said != nil {
		a.Said.Bound, a.Said.Size, a.Said.Last = true, j.Said.Size, j.Said.Last
		copy(a.Said.Root[:], j.Said.Root)
	}
	return a, nil
}

// hexBytes are bytes that JSON has in hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.AppendDecode(nil, b)
	return err
}
