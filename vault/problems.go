package vault

import (
	"context"
	"errors"
	"fmt"

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
			id := parseChangeKey(k)
			p := Problem{Kind: ProblemQuarantine, Change: id, Reason: string(reason)}
			u, err := s.unreadable(id)
			if err != nil {
				return false, err
			}
			if u != nil {
				if p.Record, err = s.recordName(u.key); err != nil {
					return false, err
				}
				switch {
				case u.show != (commitlog.ChangeID{}):
					p.Reason += fmt.Sprintf("; version %v is shown instead", u.show)
				case p.Record != "":
					p.Reason += "; no version before it is here"
				}
			}
			return add(p)
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

// Ahead lists the records that Status counts as Ahead, without their values, at most
// limit. It goes through all records. They are shown as they are: causality decides
// before clocks, and the next edit is later.
func (v *Vault) Ahead(ctx context.Context, limit int) (out []*Record, err error) {
	now := v.conf.Now()
	err = v.view(func(s *state) error {
		return s.records.Scan(nil, func(k, b []byte) (bool, error) {
			e, err := v.keys.parseEntry(recordKey(k), b)
			if err != nil || !ahead(e.clock, now) || e.name == aboutName || e.hidden(millis(now)) {
				return ctx.Err() == nil, errors.Join(err, ctx.Err())
			}
			heads, err := s.heads(e)
			if err == nil && len(heads) > 0 {
				if rec := s.toRecord(s.namespaceName(e.key.tag()), e, &heads[0]); rec.Ahead {
					out = append(out, rec)
				}
			}
			return len(out) < limit, err
		})
	})
	return out, err
}

// recordName returns namespace/name of a record in the index, "" if it is not.
func (s *state) recordName(key recordKey) (string, error) {
	e, err := s.record(key)
	if err != nil || e == nil {
		return "", err
	}
	return s.namespaceName(key.tag()) + "/" + e.name, nil
}

func parseChangeKey(k []byte) commitlog.ChangeID {
	return commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(k)), Index: be.Uint16(k[8:])}
}
