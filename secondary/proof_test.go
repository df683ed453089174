package secondary_test

import (
	"testing"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// A device gets a proof between any two sizes of its log, bound or not.
func TestProof(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	p := f.device(v, devices[0])
	ask := func(from, to uint64) {
		t.Helper()
		p.send(&wire.Proof{Request: uint32(to), From: from, To: to})
		m := receive[*wire.Proof](p)
		if m.Request != uint32(to) || m.From != from || m.To != to {
			t.Errorf("answer %+v", m)
		}
		if err := commitlog.CheckTree(m.Hashes, from, v.Root(from), to, v.Root(to)); err != nil {
			t.Error(err)
		}
	}
	ask(1, 1)
	p.bind(v, 1, 0)
	for range 6 {
		p.append(v, devices[0].Commit(keys.Tag{1}, 1))
	}
	ask(1, 7)
	ask(3, 7)
	ask(4, 6)

	p.send(&wire.Proof{Request: 9, From: 1, To: 8}) // beyond the log
	if e := receive[*wire.Error](p); e.Request != 9 || e.Code != wire.CodeNotFound {
		t.Errorf("beyond the log: %+v", e)
	}
	ask(2, 5) // the session goes on
}

func TestProofRefuses(t *testing.T) {
	f := start(t, nil)
	v, devices := f.vault(1)
	p := f.device(v, devices[0])
	p.send(&wire.Proof{Request: 1, From: 1, To: 1, Hashes: []commitlog.Hash{{1}}})
	p.fails(wire.ErrProtocol)
}
