package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

func newGet(a *app) *cobra.Command {
	var force bool
	var at string
	cmd := &cobra.Command{
		Use:   "get NAMESPACE/NAME",
		Short: "write a record's value to standard output",
		Long: `Write exactly the bytes of a record's value. With --json: what is known of the
record, and the value in base64. A value that was left at the secondary is fetched,
but not that of an earlier version.

What could harm a terminal is not written to one, unless with --force.`,
		Example: `  kist get notes/todo
  kist get files/photo.jpg > photo.jpg
  kist get notes/todo --at 12.0     # as it was
  kist get contacts/ada --json | jq -r .device`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, name, err := address(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				ns := v.Namespace(namespace)
				rec, r, err := a.openAt(cmd.Context(), ns, name, at)
				if errors.Is(err, vault.ErrNotHere) && at == "" {
					if err = a.fetch(cmd.Context(), v, ns, name); err == nil {
						rec, r, err = ns.Open(cmd.Context(), name)
					}
				}
				if err != nil {
					return err
				}
				defer r.Close()
				if rec.Siblings > 0 && at == "" {
					a.warn("%q was written on several devices at once; this is one of the versions: kist conflicts %s settles it", args[0], quote(args[0]))
				}
				a.warnOf(args[0], rec)
				switch {
				case a.json:
					return a.getJSON(rec, r)
				case term.IsTerminal(a.stdout) && !force:
					return a.getText(args[0], r)
				}
				if _, err := io.Copy(a.stdout, r); err != nil {
					return fmt.Errorf("get %q: %w", args[0], err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "an earlier `VERSION`: the first column of kist history")
	cmd.Flags().BoolVar(&force, "force", false, "write it to a terminal whatever it is")
	return cmd
}

// openAt opens a record's value, or that of one of its versions.
func (a *app) openAt(ctx context.Context, ns *vault.Namespace, name, at string) (*vault.Record, io.ReadCloser, error) {
	if at == "" {
		return ns.Open(ctx, name)
	}
	place, err := parsePlace(at)
	if err != nil {
		return nil, nil, err
	}
	id, err := place.find(ctx, ns, name)
	if err != nil {
		return nil, nil, err
	}
	rec, r, err := ns.OpenVersion(ctx, name, id)
	switch {
	case errors.Is(err, vault.ErrNotHere): // only what is live is fetched
		err = &failure{code: exitNotFound, err: err, text: fmt.Sprintf("the value of version %s is not on this device, and earlier versions are not fetched", at)}
	case errors.Is(err, vault.ErrNotFound):
		err = &failure{code: exitNotFound, err: err, text: err.Error()}
	default:
		return rec, r, err
	}
	err.(*failure).hint = "kist history " + quote(ns.Name()+"/"+name) + ", which says what is here"
	return nil, nil, err
}

// warnOf says what a person should know of a version that is shown.
func (a *app) warnOf(arg string, rec *vault.Record) {
	if rec.Unread.Commit != 0 {
		a.warn("%q has a newer version (%v) that this program cannot read: this is the one before it. What you write takes the place of both", arg, rec.Unread)
	}
	if rec.Ahead {
		a.warn("%q is dated %s by %s, which is not yet: a clock is wrong there or here", arg, a.timeText(rec.Time), rec.Device)
	}
}

// getText writes a value to a terminal as long as it is harmless.
func (a *app) getText(arg string, r io.Reader) error {
	b := make([]byte, 64<<10)
	last := byte('\n')
	for {
		n, err := io.ReadFull(r, b)
		if term.Binary(b[:n]) {
			return &failure{code: exitUsage, text: "the value is not text that a terminal can show",
				hint: "kist get " + quote(arg) + " > FILE, or with --force"}
		}
		if n > 0 {
			last = b[n-1]
		}
		if _, werr := a.stdout.Write(b[:n]); werr != nil {
			return werr
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if last != '\n' {
				fmt.Fprintln(a.stderr) // the prompt begins on a line of its own
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// getJSON writes a record with its value, which is not held whole.
func (a *app) getJSON(rec *vault.Record, r io.Reader) error {
	head, err := json.Marshal(recordJSON("record", rec))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.stdout, "%s,\"value\":\"", head[:len(head)-1]); err != nil {
		return err
	}
	w := base64.NewEncoder(base64.StdEncoding, a.stdout)
	if _, err := io.Copy(w, r); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err = io.WriteString(a.stdout, "\"}\n")
	return err
}
