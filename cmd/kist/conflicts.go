package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

func newConflicts(a *app) *cobra.Command {
	var keep int
	var both, edit bool
	cmd := &cobra.Command{
		Use:   "conflicts [NAMESPACE/NAME [--keep N | --both | --edit]]",
		Short: "list and settle what was written on several devices at once",
		Long: `List the records of which several devices wrote versions that did not know of each
other, the version that shows first. With the name of one: settle it. On a terminal
you are asked how; elsewhere say it:

  --keep N   the version with this number in the list; one that is a removal removes
  --both     keep all: the others get names of their own, such as "todo (phone, 2026-11-20)"
  --edit     write a new version, with $VISUAL or $EDITOR

Whatever you choose, the versions stay in the history.`,
		Example: `  kist conflicts
  kist conflicts notes/todo
  kist conflicts notes/todo --keep 2`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			given := 0
			for _, f := range []string{"keep", "both", "edit"} {
				if cmd.Flags().Changed(f) {
					given++
				}
			}
			if given > 1 || given == 1 && len(args) == 0 {
				return usageError{errors.New("name one record, and one of --keep, --both and --edit")}
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				if len(args) == 0 {
					return a.listConflicts(cmd.Context(), v)
				}
				c, err := a.conflict(cmd.Context(), v, args[0])
				if err != nil {
					return err
				}
				s := settling{a, v.Namespace(c.Namespace), c, args[0]}
				switch {
				case both:
					return s.keepBoth(cmd.Context())
				case edit:
					return s.edit(cmd.Context())
				case given == 1:
					return s.keep(cmd.Context(), keep)
				}
				return s.askHow(cmd.Context())
			})
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().IntVar(&keep, "keep", 0, "keep the version with the number `N`")
	cmd.Flags().BoolVar(&both, "both", false, "keep all versions, under names of their own")
	cmd.Flags().BoolVar(&edit, "edit", false, "write a new version in an editor")
	return cmd
}

// jsonConflict is a conflict, the version shown first.
type jsonConflict struct {
	Version int    `json:"version"`
	Type    string `json:"type"`
	jsonAddress
	Versions []jsonRecord `json:"versions"`
	Ancestor *jsonRecord  `json:"ancestor"`
}

func (a *app) listConflicts(ctx context.Context, v *vault.Vault) error {
	n, bad := 0, 0
	for c, err := range v.Conflicts(ctx) {
		if err != nil {
			if c == nil {
				return err
			}
			bad++
			a.warn("%v", err)
			continue
		}
		n++
		if a.json {
			j := jsonConflict{Version: jsonVersion, Type: "conflict", jsonAddress: jsonName(c.Namespace, c.Name)}
			for _, r := range c.Versions {
				j.Versions = append(j.Versions, recordJSON("version", r))
			}
			if c.Ancestor != nil {
				r := recordJSON("version", c.Ancestor)
				j.Ancestor = &r
			}
			err = a.printJSON(j)
		} else {
			err = a.printConflict(a.stdout, c)
		}
		if err != nil {
			return err
		}
	}
	if bad > 0 {
		return &failure{code: exitPartly, text: term.Plural(bad, "conflict", "conflicts") + " cannot be read", hint: "kist status"}
	}
	if !a.json && term.IsTerminal(a.stdout) {
		if n == 0 {
			a.say("no conflicts")
		} else {
			a.say("Settle one with: kist conflicts NAMESPACE/NAME")
		}
	}
	return nil
}

// printConflict prints a conflict: its name, and a numbered line a version.
func (a *app) printConflict(w io.Writer, c *vault.Conflict) error {
	clean := func(text string) string {
		if term.IsTerminal(w) {
			return term.Clean(text)
		}
		return text
	}
	var b strings.Builder
	fmt.Fprintln(&b, a.out.Bold(c.Namespace+"/"+clean(c.Name)))
	line := func(number, state string, r *vault.Record) {
		size := bytesText(r.Size)
		if r.Deleted {
			size = "removed"
		}
		if r.Pending {
			state = strings.TrimLeft(state+", not sent", ", ")
		}
		text := fmt.Sprintf("%4s  %-19s  %s  %9s  %s", number, a.timeText(r.Time), pad(clean(r.Device), 16), size, state)
		fmt.Fprintln(&b, strings.TrimRight(text, " "))
	}
	for i, r := range c.Versions {
		state := ""
		if i == 0 {
			state = "shows"
		}
		line(strconv.Itoa(i+1), state, r)
	}
	if c.Ancestor != nil {
		line("", "before", c.Ancestor)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) conflict(ctx context.Context, v *vault.Vault, arg string) (*vault.Conflict, error) {
	namespace, name, err := address(arg)
	if err != nil {
		return nil, err
	}
	c, err := v.Namespace(namespace).Conflict(ctx, name)
	if errors.Is(err, vault.ErrNotFound) {
		return nil, &failure{code: exitNotFound, text: fmt.Sprintf("%q has no conflict", arg), err: err, hint: "kist conflicts"}
	}
	return c, err
}

// settling is one conflict that a person settles. What they have not seen they
// do not decide on: every answer is for the record as it was listed.
type settling struct {
	*app
	ns  *vault.Namespace
	c   *vault.Conflict
	arg string
}

func (s *settling) unchanged() vault.Option { return vault.IfRevision(s.c.Versions[0].Revision) }

// done says what became of the conflict.
func (s *settling) done(rev vault.Revision, err error, text string) error {
	switch {
	case errors.Is(err, vault.ErrCondition):
		return &failure{code: exitConflict, text: fmt.Sprintf("%q has changed meanwhile: nothing was settled", s.arg), err: err,
			hint: "kist conflicts " + quote(s.arg) + ", to see what it is now"}
	case err != nil:
		return err
	case s.json:
		return s.printJSON(jsonChange{jsonVersion, "settle", jsonName(s.c.Namespace, s.c.Name), uint64(rev)})
	}
	s.say("%s: %s", s.clean(s.arg), s.clean(text))
	return nil
}

func (s *settling) keep(ctx context.Context, n int) error {
	if n < 1 || n > len(s.c.Versions) {
		return usageError{fmt.Errorf("%q has the versions 1 to %d", s.arg, len(s.c.Versions))}
	}
	r := s.c.Versions[n-1]
	rev, err := s.ns.Settle(ctx, s.c.Name, vault.Resolution{Keep: r}, s.unchanged())
	text := "kept the version by " + r.Device
	if r.Deleted {
		text = "removed, as " + r.Device + " had it"
	}
	return s.done(rev, err, text)
}

func (s *settling) keepBoth(ctx context.Context) error {
	live := 0
	for _, r := range s.c.Versions {
		if !r.Deleted {
			live++
		}
	}
	if live < 2 {
		return &failure{code: exitConflict, text: fmt.Sprintf("of %q there is one version beside a removal: there are not two to keep", s.arg),
			hint: "kist conflicts " + quote(s.arg) + " --keep 1"}
	}
	names, err := s.ns.SettleBoth(ctx, s.c.Name, s.unchanged())
	text := "kept, and beside it"
	for _, name := range names {
		text += fmt.Sprintf(" %q", s.c.Namespace+"/"+name)
	}
	return s.done(0, err, text)
}

// askHow asks the person how the conflict is to be settled.
func (s *settling) askHow(ctx context.Context) error {
	if !term.IsTerminal(s.stdin) || s.noInput || s.json {
		return &failure{code: exitUsage, text: "there is nobody to ask how to settle " + strconv.Quote(s.arg),
			hint: fmt.Sprintf("kist conflicts %s with --keep N (1 to %d), --both or --edit", quote(s.arg), len(s.c.Versions))}
	}
	if err := s.printConflict(s.stderr, s.c); err != nil {
		return err
	}
	for i, r := range s.c.Versions {
		if text, ok := s.preview(ctx, r); ok {
			fmt.Fprintf(s.stderr, "\n%s\n%s", s.note.Bold(fmt.Sprintf("%d, by %s:", i+1, term.Clean(r.Device))), text)
		}
	}
	s.hasRead = true
	in := bufio.NewReader(&patient{ctx: ctx, r: s.stdin})
	for {
		fmt.Fprintf(s.stderr, "\nKeep which? 1 to %d, b for both, e to edit, q to leave it: ", len(s.c.Versions))
		answer, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		answer = strings.TrimSpace(answer)
		switch n, nerr := strconv.Atoi(answer); {
		case nerr == nil && n >= 1 && n <= len(s.c.Versions):
			return s.keep(ctx, n)
		case answer == "b" || answer == "both":
			return s.keepBoth(ctx)
		case answer == "e" || answer == "edit":
			return s.edit(ctx)
		case answer == "q" || answer == "":
			s.say("left as it is")
			return nil
		}
	}
}

// preview returns the beginning of a version for the terminal, if it is text.
func (s *settling) preview(ctx context.Context, r *vault.Record) (string, bool) {
	const lines, most = 8, 2 << 10
	value, err := s.c.Open(ctx, r)
	if err != nil || r.Deleted {
		return "", false
	}
	defer value.Close()
	begin, err := io.ReadAll(io.LimitReader(value, most))
	if err != nil || len(begin) == 0 || term.Binary(begin) {
		return "", false
	}
	var b strings.Builder
	for i, l := range bytes.Split(bytes.TrimSuffix(begin, []byte("\n")), []byte("\n")) {
		if i == lines || b.Len() > most/2 {
			fmt.Fprintln(&b, "    …")
			break
		}
		fmt.Fprintf(&b, "    %s\n", term.Clean(string(l)))
	}
	return b.String(), true
}
