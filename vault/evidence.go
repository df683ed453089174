package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// evidence is what Evidence writes. Everything in it is known to the secondary, or
// was said by it, but for the times.
type evidence struct {
	Format   string         `json:"format"` // evidenceFormat
	Made     time.Time      `json:"made"`
	Vault    keys.VaultID   `json:"vault"`
	SignKey  keys.VerifyKey `json:"authority_sign_key"`
	AuthKey  keys.VerifyKey `json:"authority_auth_key"`
	Device   keys.DeviceID  `json:"device"`
	Size     uint64         `json:"size"`
	Root     hexBytes       `json:"root"`
	Alarms   []*alarmJSON   `json:"alarms"`
	Authors  []authorJSON   `json:"authors"`
	Roots    []rootJSON     `json:"roots"`
	Verified []headerJSON   `json:"verified_headers"`
}

type authorJSON struct {
	Device  keys.DeviceID  `json:"device"`
	SignKey keys.VerifyKey `json:"sign_key"`
	Revoked uint64         `json:"revoked_at,omitempty"`
	Seq     uint64         `json:"last_sequence"`
	Leaf    hexBytes       `json:"last_leaf"`
}

type rootJSON struct {
	Size uint64   `json:"size"`
	Root hexBytes `json:"root"`
}

type headerJSON struct {
	Commit uint64   `json:"commit"`
	Header hexBytes `json:"header"`
}

const (
	evidenceFormat = "kist-evidence v1"
	// evidenceLast and evidenceAround bound the headers: the newest, and those
	// before and after each place that an alarm is about.
	evidenceLast   = 64
	evidenceAround = 2
)

// Evidence returns, as JSON, what shows others what the secondary was caught at:
// the alarms of this device with what the secondary had said, the headers that
// this device has verified around them, roots of its log, public keys and times.
// Names, values and secrets are not in it, and nothing that opens any. Headers tell
// who wrote when in the log, how much, and to which namespace by its tag, which is
// what the secondary knows.
func (v *Vault) Evidence(ctx context.Context) (out []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = v.view(func(s *state) error {
		authority := s.log.Authority()
		e := &evidence{
			Format: evidenceFormat, Made: v.conf.Now().UTC(), Vault: v.keys.vault, Device: v.keys.device,
			SignKey: authority.Sign, AuthKey: authority.Auth, Size: s.log.Size(), Alarms: []*alarmJSON{}, Authors: []authorJSON{},
		}
		alarms, err := s.allAlarms()
		if err != nil {
			return err
		}
		sizes, places := []uint64{e.Size}, []uint64{}
		around := func(id uint64) {
			for i := max(id, evidenceAround+1) - evidenceAround; i <= id+evidenceAround; i++ {
				places = append(places, i)
			}
		}
		for i := max(e.Size, evidenceLast) - evidenceLast; i < e.Size; i++ {
			places = append(places, i+1)
		}
		for _, a := range alarms {
			j := a.json()
			j.Reason = "" // nobody vouches for what words are in it
			e.Alarms = append(e.Alarms, j)
			sizes = append(sizes, a.Size)
			around(uint64(a.Commit))
			if a.Said.Bound {
				sizes = append(sizes, a.Said.Size)
				around(a.Said.Size)
			}
		}
		err = s.log.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
			e.Authors = append(e.Authors, authorJSON{Device: id, SignKey: a.Sign, Revoked: uint64(a.Revoked), Seq: a.LastSeq, Leaf: a.LastLeaf[:]})
			return nil
		})
		if err != nil {
			return err
		}
		root, err := s.log.RootAt(e.Size)
		if err != nil {
			return err
		}
		e.Root, e.Roots, e.Verified = root[:], s.roots(sizes), s.headers(places)
		out, err = json.MarshalIndent(e, "", "  ")
		out = append(out, '\n')
		return err
	})
	return out, err
}

// roots returns the roots of the log at those of the sizes that it has reached,
// each once, rising. What cannot be read is left out, so that there is evidence at
// all.
func (s *state) roots(sizes []uint64) (out []rootJSON) {
	slices.Sort(sizes)
	for _, size := range slices.Compact(sizes) {
		if size > s.log.Size() {
			break
		}
		if root, err := s.log.RootAt(size); err == nil {
			out = append(out, rootJSON{size, root[:]})
		}
	}
	return out
}

// headers returns the headers at those of the places that the log has, each
// once, rising, as far as they can be read.
func (s *state) headers(places []uint64) (out []headerJSON) {
	slices.Sort(places)
	for _, id := range slices.Compact(places) {
		if id == 0 || id > s.log.Size() {
			continue
		}
		if header, err := s.log.Header(commitlog.CommitID(id)); err == nil {
			out = append(out, headerJSON{id, slices.Clone(header)})
		}
	}
	return out
}

// RootAt returns the root of the log that this device has verified, when it had
// that many commits. [ErrNotFound] if it has not come to that size.
func (v *Vault) RootAt(ctx context.Context, size uint64) (root commitlog.Hash, err error) {
	if err := ctx.Err(); err != nil {
		return root, err
	}
	err = v.view(func(s *state) error {
		if size > s.log.Size() {
			return ErrNotFound
		}
		root, err = s.log.RootAt(size)
		if errors.Is(err, store.ErrNotFound) {
			err = &Error{Op: "compare", Hint: "kist sync --full", Err: fmt.Errorf("%w: the history up to commit %d has not been verified on this device yet", ErrNotHere, s.log.Base())}
		}
		return err
	})
	return root, err
}
