package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/entries"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
	"github.com/kistvault/kist/vault"
)

func newImport(a *app) *cobra.Command {
	var namespace string
	var opt entries.Options
	cmd := &cobra.Command{
		Use:   "import FILE… [--namespace NS] [--name-column COLUMN]",
		Short: "bring contacts, calendars, notes and files in",
		Long: `Store what is in files as records: vCard (.vcf) into contacts, iCalendar (.ics)
into calendar, and JSON, NDJSON, CSV and any other file into files, unless
--namespace says otherwise. A directory is imported with all that is in it; one
that "kist export" wrote comes back as it was.

Every entry keeps its original bytes. Importing the same again changes nothing.
An entry that cannot be read is reported, and the others come in (exit status 3).`,
		Example: `  kist import contacts.vcf calendar.ics
  kist import ~/Notes --namespace notes
  kist import expenses.csv --name-column id`,
		Args: between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("namespace") {
				if err := keys.ValidNamespace(namespace); err != nil {
					return usageError{fmt.Errorf("--namespace %q: %w", namespace, err)}
				}
			}
			for _, file := range args {
				if err := a.reachable(file, "cmd > FILE, then kist import FILE"); err != nil {
					return err
				}
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				i := &importer{
					app: a, ctx: cmd.Context(), vault: v, namespace: namespace, opt: opt,
					batches: make(map[string]*batch), counts: make(map[string]*importCount),
				}
				i.work = a.work("importing", "entry", "entries")
				defer i.work.end()
				if i.work.shows() {
					for _, file := range args {
						i.work.BytesTotal += sizeOf(a.at(file))
					}
				}
				return i.run(args)
			})
		},
	}
	cmd.Flags().StringVar(&namespace, "namespace", "", "put everything into namespace `NS`")
	cmd.Flags().StringVar(&opt.NameColumn, "name-column", "", "the CSV `COLUMN` that names the rows")
	return cmd
}

// Bounds of a batch, which is one commit.
const (
	batchEntries = 1000
	batchBytes   = 4 << 20
)

// A batch is entries of one namespace that are written in one transaction.
type batch struct {
	entries []entries.Entry
	bytes   int
}

// importCount counts what became of the entries of one namespace.
type importCount struct{ added, changed, same int }

type importer struct {
	*app
	ctx       context.Context
	vault     *vault.Vault
	namespace string // empty: the entry's own
	opt       entries.Options
	batches   map[string]*batch
	counts    map[string]*importCount
	problems  []entries.Problem
	file      string // that is read
	work      *work
}

func (i *importer) run(files []string) error {
	var first error
	for _, file := range files {
		i.file = file
		err := entries.Read(i.at(file), i.opt, i.take, i.bad)
		if i.ctx.Err() != nil {
			err = context.Cause(i.ctx)
		}
		var stop *stopError
		if errors.As(err, &stop) || i.ctx.Err() != nil {
			return err
		}
		if err != nil {
			if first == nil {
				first = err
			}
			i.bad(entries.Problem{Source: file, Err: err})
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(i.batches)) {
		if err := i.flush(namespace); err != nil {
			return err
		}
	}
	i.work.end()
	total := 0
	for _, namespace := range slices.Sorted(maps.Keys(i.counts)) {
		c := i.counts[namespace]
		total += c.added + c.changed + c.same
		if err := i.report(namespace, c); err != nil {
			return err
		}
	}
	switch {
	case len(i.problems) == 0:
		if total == 0 {
			i.say("nothing to import")
		}
		return nil
	case len(files) == 1 && first != nil && total == 0:
		return first
	}
	f := &failure{code: exitPartly, text: term.Plural(len(i.problems), "entry was", "entries were") + " not imported; all others were",
		hint: "mend what is listed, and import the same again"}
	if total == 0 {
		f.code, f.text = exitFailed, "nothing could be imported"
	}
	for _, p := range i.problems[:min(len(i.problems), maxListed)] {
		f.detail("-", p.Source+": "+p.Err.Error())
	}
	if more := len(i.problems) - maxListed; more > 0 {
		f.detail("-", fmt.Sprintf("and %d more", more))
	}
	return f
}

func (i *importer) report(namespace string, c *importCount) error {
	if i.json {
		return i.printJSON(struct {
			Version   int    `json:"version"`
			Type      string `json:"type"`
			Namespace string `json:"namespace"`
			Added     int    `json:"added"`
			Changed   int    `json:"changed"`
			Same      int    `json:"same"`
		}{jsonVersion, "imported", namespace, c.added, c.changed, c.same})
	}
	if i.quiet {
		return nil
	}
	_, err := fmt.Fprintf(i.stdout, "%s: %d new, %d changed, %d as before\n", namespace, c.added, c.changed, c.same)
	return err
}

func (i *importer) bad(p entries.Problem) {
	p.Source = i.given(p.Source)
	if i.dir != "" && !filepath.IsAbs(i.file) { // below a directory, whose name was made clean
		p.Source = strings.TrimPrefix(p.Source, i.dir+string(filepath.Separator))
	}
	i.problems = append(i.problems, p)
}

// A stopError is one that no other entry can be imported after.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// refused reports whether an error is about one entry alone.
func refused(err error) bool {
	for _, target := range []error{vault.ErrTooLarge, vault.ErrInvalid, vault.ErrNotUnderstood} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// take takes one entry from a file.
func (i *importer) take(e entries.Entry) error {
	if err := i.ctx.Err(); err != nil {
		return &stopError{err}
	}
	if i.namespace != "" {
		e.Namespace = i.namespace
	}
	if i.counts[e.Namespace] == nil {
		i.counts[e.Namespace] = &importCount{}
		i.batches[e.Namespace] = &batch{}
	}
	i.work.add(max(e.Size, int64(len(e.Value))))
	if e.Open == nil && len(e.Value) > seal.MaxInline || e.Open != nil && e.Size > seal.MaxInline {
		return i.long(e)
	}
	if e.Open != nil {
		r, _, err := e.Reader()
		if err == nil {
			e.Value, err = io.ReadAll(r)
			r.Close()
		}
		if err != nil {
			i.bad(entries.Problem{Source: e.Source, Err: err})
			return nil
		}
		e.Open = nil
	}
	b := i.batches[e.Namespace]
	b.entries = append(b.entries, e)
	b.bytes += len(e.Value)
	if len(b.entries) >= batchEntries || b.bytes >= batchBytes {
		return i.flush(e.Namespace)
	}
	return nil
}

// flush writes what is waiting for a namespace.
func (i *importer) flush(namespace string) error {
	b := i.batches[namespace]
	if len(b.entries) == 0 {
		return nil
	}
	var count importCount
	var problems []entries.Problem
	err := i.vault.Update(i.ctx, namespace, func(tx *vault.Tx) error {
		count, problems = importCount{}, nil // it may run again
		for _, e := range b.entries {
			n := &count.added
			rec, err := tx.Get(e.Name)
			switch {
			case err == nil && rec.Value != nil && rec.ContentType == e.ContentType && bytes.Equal(rec.Value, e.Value):
				count.same++
				continue
			case err == nil:
				n = &count.changed
			}
			if err == nil || errors.Is(err, vault.ErrNotFound) {
				_, err = tx.Put(e.Name, e.Value, vault.ContentType(e.ContentType))
			}
			switch {
			case err == nil:
				*n++
			case refused(err):
				problems = append(problems, entries.Problem{Source: e.Source, Err: err})
			default:
				return err
			}
		}
		return nil
	})
	*b = batch{}
	if err != nil {
		return &stopError{err}
	}
	i.add(namespace, count)
	i.problems = append(i.problems, problems...)
	return nil
}

func (i *importer) add(namespace string, c importCount) {
	to := i.counts[namespace]
	to.added += c.added
	to.changed += c.changed
	to.same += c.same
}

// long writes an entry that is too long for a transaction.
func (i *importer) long(e entries.Entry) error {
	// What waits comes first, so that the order of the file is kept.
	if err := i.flush(e.Namespace); err != nil {
		return err
	}
	ns := i.vault.Namespace(e.Namespace)
	had, same, err := i.same(ns, e)
	var r io.ReadCloser
	if err == nil && !same {
		if r, _, err = e.Reader(); err == nil {
			_, err = ns.PutFrom(i.ctx, e.Name, r, vault.ContentType(e.ContentType))
			r.Close()
		}
	}
	switch {
	case i.ctx.Err() != nil:
		return &stopError{i.ctx.Err()}
	case errors.Is(err, vault.ErrDamaged):
		return &stopError{err}
	case err != nil:
		i.bad(entries.Problem{Source: e.Source, Err: err})
	case same:
		i.add(e.Namespace, importCount{same: 1})
	case had:
		i.add(e.Namespace, importCount{changed: 1})
	default:
		i.add(e.Namespace, importCount{added: 1})
	}
	return nil
}

// same reports whether the vault has the record, and whether just so.
func (i *importer) same(ns *vault.Namespace, e entries.Entry) (had, same bool, err error) {
	rec, have, err := ns.Open(i.ctx, e.Name)
	if errors.Is(err, vault.ErrNotHere) {
		if err = i.fetch(i.ctx, i.vault, ns, e.Name); err == nil {
			rec, have, err = ns.Open(i.ctx, e.Name)
		}
	}
	if errors.Is(err, vault.ErrNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer have.Close()
	r, size, err := e.Reader()
	if err != nil {
		return true, false, err
	}
	defer r.Close()
	if rec.ContentType != e.ContentType || rec.Size != size {
		return true, false, nil
	}
	same, err = equal(have, r)
	return true, same, err
}

// equal reports whether two readers give the same bytes.
func equal(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return false, err
		}
		m, berr := io.ReadFull(b, y)
		if berr != nil && berr != io.EOF && berr != io.ErrUnexpectedEOF {
			return false, berr
		}
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err != nil || berr != nil {
			return true, nil
		}
	}
}
