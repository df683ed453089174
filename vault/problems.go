package vault

import (
	"context"

	"github.com/kistvault/kist/commitlog"
)

// A Problem is a change that is not where it belongs.
type Problem struct {
	Kind   ProblemKind
	Record string             // namespace/name; empty where that is not known
	Change commitlog.ChangeID // its place in the log; zero for ProblemAside
	Reason string
}

// A ProblemKind says what a Problem is.
type ProblemKind string

const (
	// ProblemAside: a local change that the secondary refused. It is kept, and
	// tried again with the next sync.
	ProblemAside ProblemKind = "refused"
	// ProblemQuarantine: a change whose content cannot be used.
	ProblemQuarantine ProblemKind = "quarantined"
	// ProblemMissing: a change whose content has not come.
	ProblemMissing ProblemKind = "missing"
)

// Problems lists the changes that Status counts as Aside, Quarantine and
// Missing, at most limit of each kind.
func (v *Vault) Problems(ctx context.Context, limit int) (out []Problem, err error) {
	err = v.view(func(s *state) error {
		n := 0
		begin := func() { n = 0 }
		add := func(p Problem) (bool, error) {
			out = append(out, p)
			n++
			return n < limit, ctx.Err()
		}
		err := s.aside.Scan(nil, func(k, reason []byte) (bool, error) {
			p := Problem{Kind: ProblemAside, Reason: string(reason)}
			if c, err := s.pendingChange(be.Uint64(k)); err == nil {
				if h, err := s.openPending(c); err == nil {
					p.Record = s.namespaceName(c.key.tag()) + "/" + h.payload.Name
				}
			}
			return add(p)
		})
		if err != nil {
			return err
		}
		begin()
		err = s.quarantine.Scan(nil, func(k, reason []byte) (bool, error) {
			return add(Problem{Kind: ProblemQuarantine, Change: parseChangeKey(k), Reason: string(reason)})
		})
		if err != nil {
			return err
		}
		begin()
		return s.missing.Scan(nil, func(k, _ []byte) (bool, error) {
			return add(Problem{Kind: ProblemMissing, Change: parseChangeKey(k), Reason: "its content has not come yet"})
		})
	})
	return out, err
}

func parseChangeKey(k []byte) commitlog.ChangeID {
	return commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(k)), Index: be.Uint16(k[8:])}
}
