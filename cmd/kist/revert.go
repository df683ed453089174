package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/vault"
)

func newRevert(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revert NAMESPACE/NAME@VERSION",
		Short: "make an earlier version of a record its present one",
		Long: `Make an earlier version of a record its present one, as a new change: what is there
now stays in the history. VERSION is the first column of "kist history", or the
part of it before the point. An expiry that has passed is not taken over.`,
		Example: `  kist history notes/todo
  kist revert notes/todo@12.0
  kist revert notes/todo@12`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			arg, text, place, err := atPlace(args[0])
			if err != nil {
				return err
			}
			namespace, name, err := address(arg)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				ns := v.Namespace(namespace)
				id, err := place.find(cmd.Context(), ns, name)
				if err != nil {
					return err
				}
				rev, err := ns.Revert(cmd.Context(), name, id)
				if errors.Is(err, vault.ErrInvalid) {
					return &failure{code: exitUsage, text: fmt.Sprintf("%q was removed by version %s", arg, text), err: err, hint: "kist rm " + quote(arg)}
				}
				if err == nil && a.json {
					err = a.printJSON(jsonChange{jsonVersion, "put", jsonName(namespace, name), uint64(rev)})
				} else if err == nil {
					a.say("%s is again what it was at %s", a.clean(arg), text)
				}
				return err
			})
		},
	}
}

// A place is where a version stands in the log, as a person writes it.
type place struct {
	commit  commitlog.CommitID
	index   uint16
	indexed bool // the index was given
}

// parsePlace parses COMMIT or COMMIT.INDEX.
func parsePlace(text string) (p place, err error) {
	commit, index, indexed := strings.Cut(text, ".")
	n, err := strconv.ParseUint(commit, 10, 40)
	p.commit, p.indexed = commitlog.CommitID(n), indexed
	if indexed && err == nil {
		n, err = strconv.ParseUint(index, 10, 16)
		p.index = uint16(n)
	}
	if err != nil || p.commit == 0 {
		return place{}, usageError{fmt.Errorf("%q is no version: want one such as 12.0, the first column of kist history", text)}
	}
	return p, nil
}

// atPlace takes NAMESPACE/NAME@VERSION apart. A name may have an @ of its own.
func atPlace(arg string) (record, text string, p place, err error) {
	i := strings.LastIndexByte(arg, '@')
	if i < 0 {
		return "", "", p, usageError{fmt.Errorf("say which version: %s@VERSION, with the first column of kist history", arg)}
	}
	p, err = parsePlace(arg[i+1:])
	return arg[:i], arg[i+1:], p, err
}

// find returns the version of a record at a place.
func (p place) find(ctx context.Context, ns *vault.Namespace, name string) (commitlog.ChangeID, error) {
	var found []commitlog.ChangeID
	for rec, err := range ns.History(ctx, name) {
		if err != nil {
			return commitlog.ChangeID{}, err
		}
		if rec.Commit.Commit == p.commit && (!p.indexed || rec.Commit.Index == p.index) {
			found = append(found, rec.Commit)
		}
	}
	arg := quote(ns.Name() + "/" + name)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		id := commitlog.ChangeID{Commit: p.commit, Index: p.index}
		_, r, err := ns.OpenVersion(ctx, name, id)
		if err == nil { // it came this moment
			return id, r.Close()
		}
		if errors.Is(err, vault.ErrCompacted) {
			return commitlog.ChangeID{}, err
		}
		text := fmt.Sprint(p.commit)
		if p.indexed {
			text = commitlog.ChangeID{Commit: p.commit, Index: p.index}.String()
		}
		return commitlog.ChangeID{}, &failure{code: exitNotFound, text: fmt.Sprintf("%s has no version %s", arg, text), hint: "kist history " + arg}
	}
	return commitlog.ChangeID{}, usageError{fmt.Errorf("commit %d has several versions of %s: name one, such as %v", p.commit, arg, found[0])}
}
