package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/entries"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// typeUnknown is the type of what nothing is known about.
const typeUnknown = "application/octet-stream"

func newPut(a *app) *cobra.Command {
	var contentType, expires, available string
	var ifAbsent bool
	cmd := &cobra.Command{
		Use:   "put NAMESPACE/NAME [FILE|-]",
		Short: "store a value under a name",
		Long: `Store a file, or what comes on standard input, as a record. It is safe on this
device when the command ends, and goes to the others with the next sync. What the
record held before stays in its history, if it was ever sent to the secondary.

The content type follows from the extension of FILE, or else of NAME.`,
		Example: `  kist put notes/shopping list.txt
  echo "buy oats" | kist put notes/todo.md
  kist put secrets/door - --expires 30d --if-absent < code.txt`,
		Args:              between(1, 2),
		ValidArgsFunction: a.completeRecord,
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, name, err := address(args[0])
			if err != nil {
				return err
			}
			var opts []vault.Option
			for _, o := range []struct {
				flag, text string
				option     func(time.Time) vault.Option
			}{{"--expires", expires, vault.Expires}, {"--available", available, vault.Available}} {
				if o.text != "" {
					now := time.Now().In(a.zone())
					t, err := parseTime(o.text, now)
					if err == nil && o.flag == "--expires" && !t.After(now) {
						err = fmt.Errorf("%s is over, and the record would be gone at once", o.text)
					}
					if err != nil {
						return usageError{fmt.Errorf("%s: %w", o.flag, err)}
					}
					opts = append(opts, o.option(t))
				}
			}
			if ifAbsent {
				opts = append(opts, vault.IfAbsent())
			}
			in, guess, err := a.input(cmd.Context(), args[1:], name)
			if err != nil {
				return err
			}
			defer in.Close()
			if contentType == "" {
				contentType = guess
			}
			opts = append(opts, vault.ContentType(contentType))
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				rev, err := v.Namespace(namespace).PutFrom(cmd.Context(), name, in, opts...)
				if errors.Is(err, vault.ErrCondition) && ifAbsent {
					f := &failure{code: exitConflict, text: fmt.Sprintf("%q exists, and --if-absent forbids to replace it", args[0]), err: err,
						hint: "kist get " + quote(args[0]) + ", to see it"}
					return f
				}
				if err == nil && a.json {
					err = a.printJSON(jsonChange{jsonVersion, "put", jsonName(namespace, name), uint64(rev)})
				}
				return err
			})
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&contentType, "type", "", "the content `TYPE`, such as text/markdown")
	cmd.Flags().StringVar(&expires, "expires", "", "let it vanish at `TIME`: 2026-12-31, 2026-12-31T18:00:00Z, 90m, 30d")
	cmd.Flags().StringVar(&available, "available", "", "hide it until `TIME`")
	cmd.Flags().BoolVar(&ifAbsent, "if-absent", false, "fail if the record exists")
	return cmd
}

// input opens what is to be stored, and guesses its type.
func (a *app) input(ctx context.Context, args []string, name string) (io.ReadCloser, string, error) {
	contentType := entries.ContentType(name)
	if len(args) == 1 && args[0] != "-" {
		if filepath.Ext(args[0]) != "" || contentType == typeUnknown {
			contentType = entries.ContentType(filepath.ToSlash(args[0]))
		}
		if err := a.reachable(args[0], "cmd | kist put NAME -"); err != nil {
			return nil, "", err
		}
		f, err := os.Open(a.at(args[0]))
		if err != nil {
			return nil, "", err
		}
		info, err := f.Stat()
		if err == nil && info.IsDir() {
			err = &failure{code: exitUsage, text: args[0] + " is a directory", hint: "kist import " + quote(args[0])}
		}
		if err != nil {
			return nil, "", errors.Join(err, f.Close())
		}
		return f, contentType, nil
	}
	if term.IsTerminal(a.stdin) {
		if a.noInput {
			return nil, "", usageError{errors.New("nothing is piped in, and --no-input forbids to ask: name a FILE")}
		}
		a.say("Type the value; end it with Ctrl-D on a line of its own.")
	}
	a.hasRead = true
	in := bufio.NewReader(&patient{ctx: ctx, r: a.stdin})
	if contentType == typeUnknown {
		// What a person types or pipes has no name to tell by.
		if begin, _ := in.Peek(in.Size()); len(begin) > 0 && !term.Binary(begin) {
			contentType = "text/plain"
		}
	}
	return io.NopCloser(in), contentType, nil
}

// parseTime parses a time, or a duration from now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want 2026-12-31, 2026-12-31T18:00:00Z, 90m or 30d", text)
}

// A patient reader reads what may never come, such as what a person types, and
// ends with its context: the read itself is left to end with the process.
type patient struct {
	ctx  context.Context
	r    io.Reader
	rest []byte
	err  error
}

func (p *patient) Read(b []byte) (int, error) {
	if len(p.rest) == 0 && p.err == nil {
		type result struct {
			b   []byte
			err error
		}
		c := make(chan result, 1)
		buf := make([]byte, len(b))
		go func() {
			n, err := p.r.Read(buf)
			c <- result{buf[:n], err}
		}()
		select {
		case r := <-c:
			p.rest, p.err = r.b, r.err
		case <-p.ctx.Done():
			p.err = context.Cause(p.ctx)
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	if len(p.rest) == 0 && n == 0 {
		return 0, p.err
	}
	return n, nil
}
