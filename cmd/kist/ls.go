package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/vault"
)

func newLs(a *app) *cobra.Command {
	var long, null bool
	cmd := &cobra.Command{
		Use:   "ls [NAMESPACE/][PREFIX]",
		Short: "list records",
		Long: `List the records whose address begins with the argument: "notes/" for a namespace,
"notes/jour" for a part of it, nothing for all. On a terminal each line also tells
size, time and device; elsewhere it is one NAMESPACE/NAME a line.`,
		Example: `  kist ls
  kist ls notes/journal/
  kist ls -0 | xargs -0 -n1 kist get`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			long := (long || term.IsTerminal(a.stdout)) && !null
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				w := bufio.NewWriter(a.stdout)
				err := a.list(cmd.Context(), v, args, w, long, null)
				return errors.Join(err, w.Flush())
			})
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "with size, time and device")
	cmd.Flags().BoolVarP(&null, "null", "0", false, "end each name with a zero byte instead of a new line")
	return cmd
}

func (a *app) list(ctx context.Context, v *vault.Vault, args []string, w io.Writer, long, null bool) error {
	namespaces, prefix, err := chosen(ctx, v, args)
	if err != nil {
		return err
	}
	end := "\n"
	if null {
		end = "\x00"
	}
	var named []string
	if len(args) > 0 {
		namespace, _, _ := strings.Cut(args[0], "/")
		named = []string{namespace}
	}
	n := 0
	defer func() {
		if n == 0 && long && !a.json {
			a.say("no records")
		}
	}()
	for _, namespace := range namespaces {
		ns := v.Namespace(namespace)
		for rec, err := range ns.List(ctx, vault.Prefix(prefix), vault.NamesOnly()) {
			if errors.Is(err, vault.ErrNotSelected) && !slices.Contains(named, namespace) {
				continue // it was not asked for by name
			}
			if err != nil {
				return err
			}
			n++
			if !long && !a.json {
				if _, err := io.WriteString(w, namespace+"/"+a.show(rec.Name)+end); err != nil {
					return err
				}
				continue
			}
			if err := a.listOne(ctx, ns, rec.Name, w, len(v.Servers()) > 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// listOne prints a line about a record; remote says that there is a secondary
// which it may have been sent to.
func (a *app) listOne(ctx context.Context, ns *vault.Namespace, name string, w io.Writer, remote bool) error {
	rec, r, err := ns.Open(ctx, name)
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return nil // it went meanwhile
	case err != nil && ctx.Err() != nil:
		return err
	case errors.Is(err, vault.ErrNotHere) && rec != nil:
		err = nil
	case err != nil:
		// One bad record does not hide the others.
		rec = &vault.Record{Namespace: ns.Name(), Name: name}
	default:
		r.Close()
	}
	if a.json {
		return encodeLine(w, recordJSON("record", rec))
	}
	marks := ""
	if rec.Pending && remote {
		marks += " (not sent)"
	}
	if rec.Away {
		marks += " (at the secondary)"
	}
	if rec.Siblings > 0 {
		marks += fmt.Sprintf(" (%s)", term.Plural(rec.Siblings+1, "version", "versions"))
	}
	if rec.Unread.Commit != 0 {
		marks += " (not the newest version: that cannot be read)"
	}
	if rec.Ahead {
		marks += " (dated in the future)"
	}
	if !rec.Expires.IsZero() {
		marks += " (until " + a.timeText(rec.Expires) + ")"
	}
	if err != nil {
		marks += " (cannot be read: " + a.show(errors.Unwrap(err).Error()) + ")"
	}
	_, err = fmt.Fprintf(w, "%9s  %-19s  %s  %s%s\n", bytesText(rec.Size), a.timeText(rec.Time), pad(a.show(rec.Device), 12),
		a.out.Bold(ns.Name()+"/"+a.show(name)), a.out.Dim(marks))
	return err
}

// chosen returns the namespaces and the prefix of names that an argument means.
func chosen(ctx context.Context, v *vault.Vault, args []string) (namespaces []string, prefix string, err error) {
	all, err := v.Namespaces(ctx)
	if err != nil || len(args) == 0 {
		return all, "", err
	}
	namespace, prefix, ok := strings.Cut(args[0], "/")
	if ok {
		if err := keys.ValidNamespace(namespace); err != nil {
			return nil, "", usageError{fmt.Errorf("namespace %q: %w", namespace, err)}
		}
		return []string{namespace}, prefix, nil
	}
	if slices.Contains(all, namespace) {
		return []string{namespace}, "", nil
	}
	return slices.DeleteFunc(all, func(n string) bool { return !strings.HasPrefix(n, namespace) }), "", nil
}
