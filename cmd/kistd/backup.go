package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/engine"
)

// errFaults: what was verified is not as it was written.
var errFaults = fmt.Errorf("%w: see above", store.ErrDamaged)

// errKept: what was copied is worse than the backup before.
var errKept = fmt.Errorf("the backup of before is kept: %w, or has lost something", store.ErrDamaged)

func backupCommand() *cobra.Command {
	conf := newConfig()
	var asJSON bool
	var o admin.BackupOptions
	c := &cobra.Command{
		Use:   "backup DIR --data DIR",
		Short: "write or bring up to date a backup, while the server runs",
		Long: `Writes a backup of all that the server has at this moment to DIR, verified by
reading it back. The server goes on meanwhile. DIR is empty at first; the next
time, only what is new is copied of the large values, and until its last step DIR
holds the backup before.

A good backup is kept where the new one would have faults, or has lost commits that
are in it, as when a server began anew. Exit status 9 says so. Look what is wrong
with the server first; --replace then takes the new one as it is.

DIR is a data directory itself: to restore, copy it and give the copy to kistd
serve. It holds the server's key, so keep it as safe as the server.

This command writes DIR with the rights of whoever runs it, who has to be able to
read the data directory.`,
		Example: `  kistd backup /backup/kistd --data /var/lib/kistd`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("one directory for the backup is needed")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return conf.operate(c, func(client *admin.Client, _ bool) error {
				if err := apart("backup", conf.data, args[0]); err != nil {
					return err
				}
				s, err := client.Backup(c.Context(), conf.data, args[0], o)
				if err != nil {
					return err
				}
				return printBackup(c.OutOrStdout(), s, args[0], asJSON)
			})
		},
	}
	conf.flags(c, "data")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&o.Replace, "replace", false, "put it in the place of a good backup, whatever is wrong with it")
	return c
}

// apart refuses a copy within the data directory.
func apart(what, data, dir string) error {
	from, err := real(data)
	if err != nil {
		return err
	}
	to, err := real(dir)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(from, to); err == nil && filepath.IsLocal(rel) {
		return usagef("the %s cannot be in the data directory", what)
	}
	return nil
}

// real returns where a path leads, absolute and without links. Its end need not be there
// yet.
func real(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	there, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		above, err := real(filepath.Dir(path))
		return filepath.Join(above, filepath.Base(path)), err
	}
	return there, err
}

func printBackup(w io.Writer, s *admin.BackupSummary, dir string, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(w).Encode(s); err != nil {
			return err
		}
	} else {
		if s.Kept != nil {
			fmt.Fprintf(w, "not a good backup: %s holds the one of %s still\n", dir, s.Kept.Format("2006-01-02 15:04 MST"))
		} else {
			fmt.Fprintf(w, "backup in %s\n", dir)
		}
		fmt.Fprintf(w, "  store      %s\n", bytesText(uint64(s.Store)))
		fmt.Fprintf(w, "  copied     %s that the backup had not yet, %s\n", largeText(s.Copied), bytesText(s.Bytes))
		if s.Removed > 0 {
			fmt.Fprintf(w, "  dropped    %s that nothing needs any more\n", largeText(s.Removed))
		}
		if s.Lost > 0 {
			fmt.Fprintf(w, "  lost       commits of %s that the backup of before has\n", term.Plural(s.Lost, "vault", "vaults"))
		}
		printVerified(w, s.Verified, s.Faults, 0)
	}
	if s.Kept != nil {
		return hinted{errKept, "kistd verify, which says what is wrong with the server; when that is understood, kistd backup --replace"}
	}
	if len(s.Faults) > 0 {
		return errFaults
	}
	return nil
}

// printVerified prints what was verified of a copy, as one of its lines.
func printVerified(w io.Writer, v engine.Verified, faults []string, more int) {
	fmt.Fprintf(w, "  verified   %s: %s, %s, %s, %s\n", term.Plural(v.Vaults, "vault", "vaults"), term.Plural(v.Commits, "commit", "commits"),
		term.Plural(v.Blobs, "value", "values"), largeText(v.Objects), bytesText(v.Bytes))
	printFaults(w, faults, more)
}

// printVerification prints what verify has gone through, and what it has found.
func printVerification(w io.Writer, dir string, a admin.Verification) {
	result := "all is as it was written"
	if n := len(a.Faults) + a.More; n > 0 {
		result = term.Plural(n, "fault", "faults")
	}
	v := a.Verified
	fmt.Fprintf(w, "verified %s: %s\n", dir, result)
	fmt.Fprintf(w, "  vaults        %d\n", v.Vaults)
	fmt.Fprintf(w, "  commits       %d\n", v.Commits)
	fmt.Fprintf(w, "  values        %d\n", v.Blobs)
	fmt.Fprintf(w, "  large values  %d\n", v.Objects)
	fmt.Fprintf(w, "  size          %s\n", bytesText(v.Bytes))
	printFaults(w, a.Faults, a.More)
}

// largeText counts large values, which are files of their own.
func largeText[N int | uint64](n N) string { return term.Plural(n, "large value", "large values") }

func printFaults(w io.Writer, faults []string, more int) {
	for _, f := range faults {
		fmt.Fprintf(w, "  fault      %s\n", f)
	}
	if more > 0 {
		fmt.Fprintf(w, "  fault      … and %d more\n", more)
	}
}

func verifyCommand() *cobra.Command {
	conf := newConfig()
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify --data DIR",
		Short: "verify all that is stored, of a server or a backup",
		Long: `Goes through every vault from its first commit on, as if it came in now: the
signatures, what follows on what, what is live, the hash of each value and of each
large one. No key is needed, and nothing is changed. Names and contents the server
cannot read; that they are the ones that were sent, it can tell.

Beside a server that runs, everything else goes on. Otherwise, as for a backup,
every page of the store is read, too. What an earlier program has stored is
brought up to date first, and what was there before is put aside, as when the
server starts.

Exit status 9 says that something is not as it was written.`,
		Example: `  kistd verify --data /var/lib/kistd
  kistd verify --data /backup/kistd`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return conf.operate(c, func(client *admin.Client, _ bool) error {
				a, err := client.Verify(c.Context())
				if err != nil {
					return err
				}
				if asJSON {
					err = json.NewEncoder(c.OutOrStdout()).Encode(a)
				} else {
					printVerification(c.OutOrStdout(), conf.data, a)
				}
				if len(a.Faults) > 0 {
					err = errors.Join(err, errFaults)
				}
				return err
			})
		},
	}
	conf.flags(c, "data")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
