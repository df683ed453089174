package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/entries"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

func newExport(a *app) *cobra.Command {
	var chosen []string
	var overwrite bool
	cmd := &cobra.Command{
		Use:   "export DIR [--namespace NS]",
		Short: "write records as plain files",
		Long: `Write every record into a file of its own, below a directory for its namespace.
The files are not encrypted: they are readable for whoever can read DIR.

"kist import DIR" brings them back with the same names, types and bytes. DIR must
be new, empty or an earlier export; a file there that differs is not replaced
(exit status 3), unless with --overwrite. Histories are not exported.

A file is called like its record. What some system cannot have in a file name is
written in hex: "What?" becomes "What%3f". Of names that differ in case alone one is
written so that they are two files everywhere. A "%." goes before an extension that
the name does not have, as in "todo%.txt": it says the type, and that the record is
not "todo.txt".`,
		Example: `  kist export ~/kist-files
  kist export backup --namespace contacts --namespace calendar`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, n := range chosen {
				if err := keys.ValidNamespace(n); err != nil {
					return usageError{fmt.Errorf("--namespace %q: %w", n, err)}
				}
			}
			dir := a.at(args[0])
			whole, err := real(dir)
			if err != nil {
				return err
			}
			if vaultDir, err := real(a.vaultDir); err != nil || whole == vaultDir {
				return errors.Join(err, usageError{errors.New("DIR is the vault's own directory: choose another")})
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				return a.export(cmd.Context(), v, dir, chosen, overwrite)
			})
		},
	}
	cmd.Flags().StringSliceVar(&chosen, "namespace", nil, "only namespace `NS`; may be repeated")
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace files that differ")
	return cmd
}

func (a *app) export(ctx context.Context, v *vault.Vault, dir string, chosen []string, overwrite bool) (err error) {
	known, err := v.Namespaces(ctx)
	if err != nil {
		return err
	}
	for _, n := range chosen {
		if !slices.Contains(known, n) {
			return &failure{code: exitNotFound, text: fmt.Sprintf("there is no namespace %q", n), hint: "kist status, which lists them"}
		}
	}
	namespaces := chosen
	if len(namespaces) == 0 {
		namespaces = known
	}
	w, err := entries.NewDirWriter(dir, overwrite)
	switch {
	case errors.Is(err, entries.ErrNotExport):
		return &failure{code: exitConflict, text: err.Error(), hint: "kist export to a new directory, or with --overwrite", err: err}
	case err != nil:
		return &failure{code: exitFailed, text: err.Error(), hint: "kist export to another directory", err: err}
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	work := a.work("exporting", "record", "records")
	defer work.end()
	if work.shows() {
		if work.Total, err = countRecords(ctx, v, namespaces); err != nil {
			return err
		}
	}
	total, siblings, unread := 0, 0, 0
	var bad [][2]string
	var left []string // not kept on this device
	var offline error // why nothing can be fetched
	for _, namespace := range namespaces {
		n := 0
		ns := v.Namespace(namespace)
		for rec, err := range ns.List(ctx, vault.NamesOnly()) {
			if errors.Is(err, vault.ErrNotSelected) && !slices.Contains(chosen, namespace) {
				left = append(left, namespace)
				continue
			}
			if err != nil {
				return err
			}
			name := rec.Name
			rec, err := exportOne(ctx, w, ns, name)
			if errors.Is(err, vault.ErrNotHere) && offline == nil {
				work.line.Clear()
				if err = a.fetch(ctx, v, ns, name); err == nil {
					rec, err = exportOne(ctx, w, ns, name)
				} else if unreachable(err) {
					offline = err
				}
			}
			if err == nil {
				work.add(rec.Size)
			}
			switch {
			case err != nil && ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, vault.ErrNotFound): // it went meanwhile
			case err != nil:
				bad = append(bad, [2]string{"-", err.Error()})
			default:
				n++
				siblings += rec.Siblings
				if rec.Unread.Commit != 0 {
					unread++
				}
			}
		}
		total += n
		work.line.Clear()
		if n == 0 && !slices.Contains(chosen, namespace) {
			continue
		}
		if a.json {
			err = a.printJSON(struct {
				Version   int    `json:"version"`
				Type      string `json:"type"`
				Namespace string `json:"namespace"`
				Records   int    `json:"records"`
			}{jsonVersion, "exported", namespace, n})
		} else if !a.quiet {
			_, err = fmt.Fprintf(a.stdout, "%s: %s\n", namespace, term.Plural(n, "record", "records"))
		}
		if err != nil {
			return err
		}
	}
	if len(left) > 0 {
		a.warn("not exported, since this device does not keep them: %s", strings.Join(left, ", "))
	}
	if siblings > 0 {
		a.warn("%s written at the same time as what was exported: kist conflicts", term.Plural(siblings, "version was", "versions were"))
	}
	if unread > 0 {
		a.warn("%s exported as it was before, since its newest version cannot be read: kist status -v", term.Plural(unread, "record was", "records were"))
	}
	if len(bad) == 0 {
		return nil
	}
	f := &failure{code: exitPartly, text: term.Plural(len(bad), "record was", "records were") + " not exported; all others were",
		details: bad[:min(len(bad), maxListed)], hint: "kist export to a new directory"}
	if more := len(bad) - maxListed; more > 0 {
		f.detail("-", fmt.Sprintf("and %d more", more))
	}
	if offline != nil {
		f.hint = "kist export to a new directory, when the secondary can be reached"
	}
	return f
}

// unreachable reports whether an error is one of the connection, and not of what
// was asked for.
func unreachable(err error) bool {
	for _, e := range []error{wire.ErrUnreachable, wire.ErrBusy, wire.ErrSuspended, wire.ErrTimeout, wire.ErrShutdown, vault.ErrNoSecondary, errSilent, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func countRecords(ctx context.Context, v *vault.Vault, namespaces []string) (n int, err error) {
	for _, namespace := range namespaces {
		for _, err := range v.Namespace(namespace).List(ctx, vault.NamesOnly()) {
			switch {
			case errors.Is(err, vault.ErrNotSelected):
				continue // told later
			case err != nil:
				return 0, err
			}
			n++
		}
	}
	return n, nil
}

func exportOne(ctx context.Context, w *entries.DirWriter, ns *vault.Namespace, name string) (*vault.Record, error) {
	rec, r, err := ns.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	e := entries.Entry{Namespace: ns.Name(), Name: rec.Name, ContentType: rec.ContentType, Value: rec.Value}
	if rec.Value == nil {
		e.Size = rec.Size
		e.Open = func() (io.ReadCloser, error) {
			_, r, err := ns.Open(ctx, name)
			return r, err
		}
	}
	return rec, w.Write(ns.Name(), e)
}
