package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// std as the name of a file is standard input or output.
const std = "-"

// errMissing: what was copied lacks something that should be there.
var errMissing = fmt.Errorf("%w: some of what should be there is missing, or is not what it was", store.ErrDamaged)

func exportCommand() *cobra.Command {
	conf := newConfig()
	var asJSON bool
	c := &cobra.Command{
		Use:   "export VAULT FILE --data DIR",
		Short: "write all that is kept of a vault to a file",
		Long: `Writes an archive of a vault to FILE: its history, values, large values and devices,
as they are at this moment, while the server and the vault's devices go on. It is as
sealed as it is here, and it is not the server: its key and invites are not in it.
The file has its name when it is whole, read back and on the disk. With - as FILE the
archive goes to standard output, and what is said of it to standard error; it is whole
where the exit status is 0 or 9. VAULT is an id of kistd vaults, or as much of one as
names it alone.

Exit status 9 says that something is missing that should be there: kistd verify says
what. The archive has everything else.`,
		Example: `  kistd vaults export 7KQ2 7KQ2.kistarchive --data /var/lib/kistd
  kistd vaults export 7KQ2 - | ssh other runuser -u kistd -- kistd vaults import -`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("a VAULT and a FILE are needed: kistd vaults lists the vaults")
			}
			if args[1] == std && term.IsTerminal(c.OutOrStdout()) {
				return usagef("an archive is not for a terminal: name a file, or pass it on to a program")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return conf.operate(c, func(client *admin.Client, _ bool) error {
				to, out := args[1], c.OutOrStdout()
				p := newProgress(c.ErrOrStderr(), "exporting")
				defer p.end()
				var done engine.Exported
				var err error
				if to == std {
					out = c.ErrOrStderr()
					done, err = client.ExportTo(c.Context(), args[0], c.OutOrStdout(), p.tell)
				} else {
					done, err = client.Export(c.Context(), args[0], to, p.tell)
				}
				p.end()
				if errors.Is(err, fs.ErrExist) {
					return hinted{fmt.Errorf("%s is there already", to), "another name, or remove it first"}
				}
				var path *fs.PathError
				if errors.As(err, &path) && !errors.Is(err, syscall.ENOSPC) {
					return hinted{fmt.Errorf("exporting to %s: %w", to, path.Err), "a file in a directory that is there, and that you may write to"}
				}
				if err != nil {
					return fmt.Errorf("exporting: %w", err)
				}
				return printExported(out, to, done, asJSON)
			})
		},
	}
	conf.flags(c, "data")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printExported(w io.Writer, file string, done engine.Exported, asJSON bool) (err error) {
	if asJSON {
		err = json.NewEncoder(w).Encode(done)
	} else {
		_, err = fmt.Fprintf(w, "%s: %s, %s, and %s, %s\n", file, term.Plural(done.Commits, "commit", "commits"), bytesText(done.Log), largeText(done.Objects), bytesText(done.ObjectBytes))
	}
	if err == nil && done.Missing > 0 {
		err = hinted{fmt.Errorf("%w (%d)", errMissing, done.Missing), "kistd verify, which says what"}
	}
	return err
}

func importCommand() *cobra.Command {
	conf := newConfig()
	var asJSON bool
	var flags quotaFlags
	c := &cobra.Command{
		Use:   "import FILE --data DIR",
		Short: "take a vault in from a file",
		Long: `Takes the vault in that kistd vaults export has written to FILE, while the server
runs. Everything is checked as if it came from a device, and nobody can reach the
vault before all of it is here. With - as FILE the archive comes from standard input.
A vault that is here already is left alone. One that
was suspended or deleted comes as suspended: kistd vaults resume lets devices in.

It comes with its own quota, if it had one, unless other limits are given; what does
not fit is refused as a whole.

Devices know a server by its key. They notice nothing where this server has the key
of the one that the archive is from; otherwise the owner tells them, with kist
secondary move or reseed: see docs/OPERATING.md.`,
		Example: `  kistd vaults import 7KQ2.kistarchive --data /var/lib/kistd
  kistd vaults import 7KQ2.kistarchive --quota-bytes 10GiB`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("one FILE is needed")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return conf.operate(c, func(client *admin.Client, _ bool) error {
				q := admin.ImportQuestion{Quota: flags.given(c)}
				p := newProgress(c.ErrOrStderr(), "importing")
				defer p.end()
				var v admin.Vault
				var err error
				if args[0] == std {
					v, err = client.ImportFrom(c.Context(), c.InOrStdin(), q, p.tell)
				} else {
					v, err = client.Import(c.Context(), args[0], q, p.tell)
				}
				p.end()
				if err != nil {
					return importError(args[0], err)
				}
				return printVaults(c, []admin.Vault{v}, asJSON)
			})
		},
	}
	conf.flags(c, "data")
	flags.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// importError says what failed and what to do.
func importError(file string, err error) error {
	if file == std {
		file = "from standard input"
	}
	failed := fmt.Errorf("importing %s: %w", file, err)
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		return hinted{fmt.Errorf("importing %s: %w", file, path.Err), "a file that kistd vaults export has written, and that you may read"}
	case errors.Is(err, archive.ErrDamaged):
		return hinted{failed, "another copy of the file; nothing was taken in"}
	case errors.Is(err, engine.ErrExists):
		return hinted{failed, "kistd vaults; one that is to be replaced goes with kistd vaults delete --now first"}
	case errors.Is(err, wire.ErrQuota):
		return hinted{failed, "kistd vaults import FILE --quota-bytes SIZE; nothing was taken in"}
	}
	return failed
}
