package store

import (
	"bytes"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// Trust takes over from the log what its control statements say, for whoever cannot
// open those: which keys its authors have, what they may write to, when they were
// revoked, the epochs, and which commits have resets. All else is worked out. Authors count as admitted from the
// beginning. It is called before the first commit, after In.
func (r *Replay) Trust() (err error) {
	r.epochs = bytes.Clone(r.l.own.Get(keyEpochs))
	r.trusts = true
	return r.l.Authors(func(id keys.DeviceID, a *commitlog.Author) error {
		if !id.IsZero() {
			r.authors[id] = admitted(a)
		}
		return nil
	})
}

func admitted(a *commitlog.Author) *commitlog.Author {
	return &commitlog.Author{Sign: a.Sign, Auth: a.Auth, Scope: a.Scope}
}

// trustAt applies what a control commit that was trusted has done. The log may have
// grown since Trust, and admitted more.
func (r *Replay) trustAt(id commitlog.CommitID) error {
	if !r.trusts {
		return nil
	}
	if epochs := r.l.own.Get(keyEpochs); len(epochs) != len(r.epochs) {
		r.epochs = bytes.Clone(epochs)
	}
	for b := r.l.own.Get(keyResets); len(b) >= 8; b = b[8:] {
		if commitlog.CommitID(be.Uint64(b)) == id {
			r.resets = be.AppendUint64(r.resets, uint64(id))
		}
	}
	return r.l.Authors(func(device keys.DeviceID, a *commitlog.Author) error {
		if r.authors[device] == nil {
			r.authors[device] = admitted(a)
		}
		if a.Revoked == id {
			now := *r.authors[device]
			now.Revoked = id
			r.authors[device] = &now
		}
		return nil
	})
}
