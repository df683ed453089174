package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/vault"
)

func newSelect(a *app) *cobra.Command {
	var all bool
	var patterns, prefixes []string
	var lazy string
	cmd := &cobra.Command{
		Use:   "select [NAMESPACE…] [--all] [--pattern NAMESPACE=RE2] [--prefix NAMESPACE=TEXT] [--lazy SIZE]",
		Short: "choose what is kept on this device",
		Long: `Choose what is kept on this device; without arguments, show it. The choice is
carried out by the next kist sync: what is new comes, and what is not kept any more
is forgotten here. It stays at the secondary and on other devices, and what was
written here and not sent yet is never forgotten.

Namespaces that are named are kept, and no others; --all keeps all again, whole.
Of the values over 64 KiB in a namespace, --pattern and --prefix keep those of
matching names, and --lazy those up to a size; kist get fetches the others when
they are read. A pattern matches anywhere in the name, unless it says ^ and $; an
empty one takes back the patterns and prefixes of its namespace, --lazy 0 the size.
A pattern or prefix takes the place of all that its namespace had of the two. What is
not mentioned stays as it is.`,
		Example: `  kist select
  kist select contacts calendar
  kist select --pattern files='^2026/.*\.jpg$' --lazy 10MB
  kist select --all`,
		Args:              between(0, -1),
		ValidArgsFunction: a.completeNamespaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			size := int64(-1)
			if cmd.Flags().Changed("lazy") {
				var err error
				if size, err = parseSize(lazy); err != nil {
					return usageError{fmt.Errorf("--lazy: %w", err)}
				}
			}
			if all && len(args) > 0 {
				return usageError{errors.New("--all and namespaces exclude each other")}
			}
			filters, err := parseFilters(patterns, prefixes)
			if err != nil {
				return usageError{err}
			}
			return a.with(cmd.Context(), func(v *vault.Vault) error {
				if !all && len(args)+len(filters) == 0 && size < 0 {
					return a.showSelection(cmd.Context(), v)
				}
				return a.choose(cmd.Context(), v, all, args, filters, size)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "keep everything again")
	cmd.Flags().StringArrayVar(&patterns, "pattern", nil, "of NAMESPACE, keep long values of names that a regular expression matches (`NAMESPACE=RE2`)")
	cmd.Flags().StringArrayVar(&prefixes, "prefix", nil, "… of names that begin with a text (`NAMESPACE=TEXT`)")
	cmd.Flags().StringVar(&lazy, "lazy", "", "leave longer values at the secondary until they are read (`SIZE`, such as 500kB or 10MB)")
	return cmd
}

// choose changes the selection: what is named replaces what there is of its kind.
func (a *app) choose(ctx context.Context, v *vault.Vault, all bool, namespaces []string, filters []vault.Filter, lazy int64) error {
	sel, _, err := v.Selection(ctx)
	if err != nil {
		return err
	}
	if all {
		sel = vault.Selection{}
	}
	if len(namespaces) > 0 {
		sel.Namespaces = namespaces
		sel.Filters = slices.DeleteFunc(sel.Filters, func(f vault.Filter) bool { return !sel.Keeps(f.Namespace) })
	}
	sel.Filters = slices.DeleteFunc(sel.Filters, func(f vault.Filter) bool {
		return slices.ContainsFunc(filters, func(g vault.Filter) bool { return f.Namespace == g.Namespace })
	})
	for _, f := range filters {
		if f.Pattern != "" || f.Prefix != "" {
			sel.Filters = append(sel.Filters, f)
		}
	}
	if lazy >= 0 {
		sel.Lazy = lazy
	}
	if err := v.SetSelection(ctx, sel); err != nil {
		return err
	}
	if err := a.warnUnknown(ctx, v, sel.Namespaces); err != nil {
		return err
	}
	return a.showSelection(ctx, v)
}

// warnUnknown warns of namespaces that this device does not know by name: they
// may come later, or be mistyped.
func (a *app) warnUnknown(ctx context.Context, v *vault.Vault, namespaces []string) error {
	known, err := v.Namespaces(ctx)
	if err != nil {
		return err
	}
	have := "none is known"
	if len(known) > 0 {
		have = "known are " + strings.Join(known, ", ")
	}
	for _, n := range namespaces {
		if !slices.Contains(known, n) {
			a.warn("no namespace %q is known here, though it may come later; %s", n, have)
		}
	}
	return nil
}

// jsonSelection is what select prints with --json.
type jsonSelection struct {
	Version    int          `json:"version"`
	Type       string       `json:"type"`       // "selection"
	Namespaces []string     `json:"namespaces"` // empty: all
	Filters    []jsonFilter `json:"filters"`
	Lazy       int64        `json:"lazy"` // bytes; 0: no limit
	Done       bool         `json:"done"` // it has been carried out
}

type jsonFilter struct {
	Namespace string `json:"namespace"`
	Pattern   string `json:"pattern,omitempty"`
	Prefix    string `json:"prefix,omitempty"`
}

func selectionJSON(sel *vault.Selection, done bool) jsonSelection {
	j := jsonSelection{Version: jsonVersion, Type: "selection", Namespaces: []string{}, Filters: []jsonFilter{}, Lazy: sel.Lazy, Done: done}
	j.Namespaces = append(j.Namespaces, sel.Namespaces...)
	for _, f := range sel.Filters {
		j.Filters = append(j.Filters, jsonFilter(f))
	}
	return j
}

func (a *app) showSelection(ctx context.Context, v *vault.Vault) error {
	sel, done, err := v.Selection(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(selectionJSON(&sel, done))
	}
	for i, l := range selectionText(&sel) {
		label := "kept"
		if i > 0 {
			label = ""
		}
		a.tell("%-4s  %s", label, a.show(l))
	}
	if !done {
		a.say("kist sync carries it out; until then what is here stays")
	}
	return nil
}

// selectionText says in words what is kept, the namespaces first.
func selectionText(sel *vault.Selection) []string {
	if sel.All() {
		return []string{"everything"}
	}
	first := "all namespaces"
	if len(sel.Namespaces) > 0 {
		first = strings.Join(sel.Namespaces, ", ")
	}
	out := []string{first}
	for _, f := range sel.Filters {
		if f.Pattern != "" {
			out = append(out, fmt.Sprintf("of %s, values over 64 KiB of names that match %s", f.Namespace, f.Pattern))
		} else {
			out = append(out, fmt.Sprintf("of %s, values over 64 KiB of names that begin with %s", f.Namespace, f.Prefix))
		}
	}
	if sel.Lazy > 0 {
		out = append(out, "values up to "+bytesText(max(sel.Lazy, 64<<10)))
	}
	return out
}

// parseFilters takes NAMESPACE=TEXT apart. A filter without text stands for none.
func parseFilters(patterns, prefixes []string) (out []vault.Filter, err error) {
	add := func(flag, arg string, set func(f *vault.Filter, text string)) error {
		namespace, text, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("--%s %q: it is NAMESPACE=TEXT", flag, arg)
		}
		f := vault.Filter{Namespace: namespace}
		set(&f, text)
		out = append(out, f)
		return nil
	}
	for _, p := range patterns {
		if err := add("pattern", p, func(f *vault.Filter, text string) { f.Pattern = text }); err != nil {
			return nil, err
		}
	}
	for _, p := range prefixes {
		if err := add("prefix", p, func(f *vault.Filter, text string) { f.Prefix = text }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseSize reads a number of bytes, with a unit or without.
func parseSize(text string) (int64, error) {
	units := []struct {
		suffix string
		bytes  int64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1000}, {"KB", 1000}, {"MB", 1000 * 1000}, {"GB", 1000 * 1000 * 1000}, {"B", 1},
	}
	number, unit := text, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is no size: 500kB and 10MiB are", text)
	}
	return n * unit, nil
}

// completeNamespaces completes names of namespaces.
func (a *app) completeNamespaces(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, func(v *vault.Vault) ([]string, cobra.ShellCompDirective) {
		list, _ := v.Namespaces(cmd.Context())
		return slices.DeleteFunc(list, func(n string) bool { return !strings.HasPrefix(n, begin) || slices.Contains(args, n) }), 0
	})
}

// fetch brings a value here that was left at the secondary.
func (a *app) fetch(ctx context.Context, v *vault.Vault, ns *vault.Namespace, name string) error {
	if len(v.Servers()) == 0 {
		return vault.ErrNoSecondary
	}
	sctx, m := a.meter(ctx, v.Servers()[0].URL, 0)
	o := m.options(vault.PullOnly)
	if a.json {
		o.Progress = func(vault.Progress) { m.timer.Reset(a.timeout) } // what is printed is the record alone
	}
	return m.end(sctx, ns.Fetch(sctx, name, o))
}
