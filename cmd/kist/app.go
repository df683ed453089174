package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/vault"
)

// jsonVersion is the version of everything that --json prints.
const jsonVersion = 1

// app is one run of the program: who called, and the global flags.
type app struct {
	caller
	started bool           // the command line was understood
	hasRead bool           // standard input was begun
	cmd     *cobra.Command // that was run, or was to be

	vaultDir  string
	json      bool
	quiet     bool
	verbose   bool
	color     string
	noInput   bool
	yes       bool
	timeout   time.Duration
	passFile  string
	passCmd   string
	passFD    int
	out, note term.Style // colours of stdout and stderr
}

const longRoot = `kist keeps your contacts, calendar, notes and files in an encrypted vault on this
device, and in step with your other devices through a secondary: a small server
that anyone can host and that can read nothing of it.

A record is addressed NAMESPACE/NAME, such as contacts/ada. The name is all after
the first slash.`

const exampleRoot = `  kist onboard kistinvite1… --key ~/usb/me.kistkey   # new vault, with an invite
  kist put notes/shopping list.txt                   # store a file
  echo "buy oats" | kist put notes/todo              # or what is piped in
  kist import contacts.vcf calendar.ics              # bring data in
  kist sync                                          # send and receive
  kist onboard --key ~/usb/me.kistkey                # on the next device
  kist restore --key ~/usb/me.kistkey                # after a loss

Exit status: 0 done, 1 failed, 2 usage, 3 partly done, 4 sign-in needed,
5 temporary, 6 not found, 7 conflict, 8 too large, 9 integrity, 10 no vault,
11 vault in use, 12 wrong passphrase or key, 13 device revoked, 130 interrupted.`

func init() { cobra.EnableCommandSorting = false }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "kist",
		Short:         "an end-to-end encrypted vault for personal data",
		Long:          longRoot,
		Example:       exampleRoot,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			msg := fmt.Sprintf("there is no command %q", args[0])
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 && len(args[0]) > 3 {
				msg += "; did you mean " + strings.Join(like, " or ") + "?"
			}
			return errors.New(msg)
		},
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if err := a.settle(cmd); err != nil {
				return usageError{err}
			}
			a.started = true
			return a.hand(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.start(cmd.Context()) },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("kist {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })

	f := root.PersistentFlags()
	f.SortFlags, root.Flags().SortFlags = false, false
	f.StringVar(&a.vaultDir, "vault", "", "the vault's `DIR` (default: "+defaultVaultText+")")
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print what was asked for and errors only")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say what goes on")
	f.StringVar(&a.color, "color", "auto", "colours: auto, always or never (`WHEN`)")
	f.BoolVar(&a.noInput, "no-input", false, "never ask: fail instead")
	f.BoolVar(&a.yes, "yes", false, "answer yes to every question")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "give up on a secondary when nothing moves for so long (`TIME`)")
	f.StringVar(&a.passFile, "passphrase-file", "", "read the passphrase from the first line of `FILE`")
	f.StringVar(&a.passCmd, "passphrase-command", "", "read it from the first line that `COMMAND` prints")
	f.IntVar(&a.passFD, "passphrase-fd", -1, "read it from the first line of file descriptor `N`")

	root.AddGroup(
		&cobra.Group{ID: "setup", Title: "Set up:"},
		&cobra.Group{ID: "data", Title: "Data:"},
		&cobra.Group{ID: "sync", Title: "Sync:"},
		&cobra.Group{ID: "care", Title: "Other:"},
	)
	for _, g := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{"setup", []*cobra.Command{newInit(a), newOnboard(a), newRestore(a)}},
		{"data", []*cobra.Command{newPut(a), newGet(a), newLs(a), newRm(a), newHistory(a), newRevert(a), newUndelete(a), newImport(a), newExport(a)}},
		{"sync", []*cobra.Command{newSync(a), newRun(a), newSelect(a), newWatch(a), newConflicts(a), newStatus(a), newLog(a)}},
		{"care", []*cobra.Command{newDoctor(a), newSecondary(a), newVersion(a), newCompletion(a)}},
	} {
		for _, c := range g.commands {
			c.GroupID = g.id
			c.DisableFlagsInUseLine = true
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID("care")
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Short = "tell more about a command"
			c.PersistentPreRunE = func(_ *cobra.Command, args []string) error { return topic(root, args) }
		}
	}
	return root
}

// settle takes the flags that were not given from the environment, and checks
// them.
func (a *app) settle(cmd *cobra.Command) error {
	var err error
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || err != nil {
			return
		}
		name := "KIST_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := a.env(name)
		if !ok || value == "" {
			return
		}
		if serr := f.Value.Set(value); serr != nil {
			err = fmt.Errorf("%s in the environment: %q is no value for --%s", name, value, f.Name)
		}
	})
	if err != nil {
		return err
	}
	switch a.color {
	case "auto", "always", "never":
	default:
		return fmt.Errorf("--color is auto, always or never, not %q", a.color)
	}
	if a.timeout <= 0 {
		return errors.New("--timeout must be more than nothing")
	}
	if a.vaultDir == "" {
		if a.vaultDir, err = a.defaultVault(); err != nil {
			return err
		}
	}
	if a.vaultDir, err = a.abs(a.vaultDir); err != nil {
		return err
	}
	a.out, a.note = term.NewStyle(a.color, a.stdout, a.getenv), term.NewStyle(a.color, a.stderr, a.getenv)
	return nil
}

const defaultVaultText = "$XDG_DATA_HOME/kist or ~/.local/share/kist"

func (c *caller) defaultVault() (string, error) {
	if dir := c.getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kist"), nil
	}
	if runtime.GOOS == "windows" {
		dir, err := os.UserConfigDir()
		return filepath.Join(dir, "kist"), err
	}
	home := c.getenv("HOME")
	if home == "" {
		return "", errors.New("no home directory is known: say where the vault is with --vault DIR")
	}
	return filepath.Join(home, ".local", "share", "kist"), nil
}

// finished refuses a vault whose onboarding or restore was cut short: what it
// has is not whole.
func (a *app) finished(v *vault.Vault) error {
	if len(v.Servers()) == 0 {
		return nil
	}
	ok, err := v.Enrolled()
	if err == nil && !ok {
		if rebuilding, rerr := v.Rebuilding(); rebuilding || rerr != nil {
			return rerr // it says itself what is not here yet
		}
		err = a.unfinished()
	}
	if errors.Is(err, vault.ErrRevoked) {
		return nil // what is here is still the person's
	}
	return err
}

// unfinished is the error of a vault that is not whole yet.
func (a *app) unfinished() *failure {
	f := &failure{
		code: exitConflict,
		text: "this vault is not complete: its onboarding or restore did not finish",
		hint: "run the same \"kist onboard … --key FILE\" or \"kist restore --key FILE\" again: it goes on where it ended",
	}
	f.detail("vault", a.vaultDir)
	return f
}

// withAny opens the vault, calls fn and closes it. The agent's stays open.
func (a *app) withAny(ctx context.Context, fn func(*vault.Vault) error) error {
	if a.held != nil {
		v, err := a.held.vault(a.vaultDir)
		if err != nil {
			return err
		}
		return fn(v)
	}
	v, err := vault.Open(ctx, a.vaultDir, a.vaultConfig())
	if err != nil {
		return err
	}
	err = fn(v)
	return errors.Join(err, v.Close())
}

func (a *app) vaultConfig() vault.Config {
	if !a.verbose {
		return vault.Config{}
	}
	return vault.Config{Logger: slog.New(slog.NewTextHandler(a.stderr, nil))}
}

// with is withAny for a command that works with the vault's data, and so needs
// all of it.
func (a *app) with(ctx context.Context, fn func(*vault.Vault) error) error {
	return a.withAny(ctx, func(v *vault.Vault) error {
		if err := a.finished(v); err != nil {
			return err
		}
		return fn(v)
	})
}

// say prints a line to the person, unless they want to hear nothing.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// tell prints a line of the result.
func (a *app) tell(format string, args ...any) {
	fmt.Fprintf(a.stdout, format+"\n", args...)
}

// warn prints a warning.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintln(a.stderr, a.note.Yellow("kist: warning: ")+a.clean(fmt.Sprintf(format, args...)))
}

// clean makes text from elsewhere fit for stderr if that is a terminal.
func (a *app) clean(text string) string {
	text = a.given(text)
	if term.IsTerminal(a.stderr) {
		return term.Clean(text)
	}
	return text
}

// show makes text from elsewhere fit for stdout if that is a terminal.
func (a *app) show(text string) string {
	if term.IsTerminal(a.stdout) {
		return term.Clean(text)
	}
	return text
}

// printJSON prints one value as one line.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// address takes NAMESPACE/NAME apart.
func address(arg string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(arg, "/")
	if !ok {
		return "", "", usageError{fmt.Errorf("a record is addressed NAMESPACE/NAME, such as notes/%s", arg)}
	}
	if err := keys.ValidNamespace(namespace); err != nil {
		return "", "", usageError{fmt.Errorf("namespace %q: it is made of a-z, 0-9, \".\", \"_\" and \"-\", at most %d, and begins with one of a-z and 0-9", namespace, keys.MaxNamespace)}
	}
	return namespace, name, nil
}

// hostName returns this machine's name as a device name.
func hostName() string {
	name, _ := os.Hostname()
	name = term.Clean(name)
	for len(name) > keys.MaxDeviceName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	if keys.ValidDeviceName(name) != nil {
		return "device"
	}
	return name
}

// bytesText returns a size as people read it.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1000/1000)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1000/1000/1000)
}

// jsonTime returns a time for a program, nil if there is none.
func jsonTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
