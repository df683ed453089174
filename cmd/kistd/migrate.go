package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary"
)

func migrateCommand() *cobra.Command {
	conf := newConfig()
	var to string
	var asJSON bool
	c := &cobra.Command{
		Use:   "migrate --to DIR --data DIR",
		Short: "copy everything to a new data directory, while the server is stopped",
		Long: `Copies all of the data directory to a new one, vault by vault, each as if it came in
now, and reads the copy back. What is free in the old store, or spoilt, does not come
along. The copy is the same server: its key, address, certificates, invites, and the
states and quotas of vaults are those of the old one, so devices notice nothing.

The directory given with --to must be empty, or not there, or what a kistd migrate
that was cut off has left. The old one stays as it is; what upgrades have put aside
in it is not copied. Where anything fails, the new one is left empty.

Exit status 9 says that the copy was made, and that something that should have been
in the old directory is missing.`,
		Example: `  systemctl stop kistd
  kistd migrate --to /new/kistd --data /var/lib/kistd`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := conf.load(c); err != nil {
				return err
			}
			if err := conf.needData(); err != nil {
				return err
			}
			if to == "" {
				return usagef("--to is needed: the new data directory")
			}
			if err := apart("copy", conf.data, to); err != nil {
				return err
			}
			d, err := secondary.OpenDataDir(conf.data)
			if errors.Is(err, store.ErrInUse) {
				return hinted{err, "stop kistd first: nothing may change meanwhile"}
			}
			if err != nil {
				return err
			}
			defer closing(&err, d)
			m, err := d.Migrate(c.Context(), to)
			if errors.Is(err, secondary.ErrNotEmpty) {
				return hinted{err, "a directory that is empty, or not there yet"}
			}
			if errors.Is(err, store.ErrDamaged) {
				return hinted{fmt.Errorf("copying: %w", err), "kistd verify, which says what is wrong; what to do about it is in docs/OPERATING.md"}
			}
			if err != nil {
				return fmt.Errorf("copying: %w", err)
			}
			return printMigrated(c.OutOrStdout(), m, to, asJSON)
		},
	}
	conf.flags(c, "data")
	c.Flags().StringVar(&to, "to", "", "the new data `DIR`: empty, or not there (needed)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printMigrated(w io.Writer, m *secondary.Migrated, to string, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(w).Encode(m); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(w, "copied to %s\n", to)
		fmt.Fprintf(w, "  copied     %s, %s\n", term.Plural(m.Vaults, "vault", "vaults"), term.Plural(m.Invites, "invite", "invites"))
		fmt.Fprintf(w, "  store      %s before, %s now\n", bytesText(uint64(m.Before)), bytesText(uint64(m.After)))
		printVerified(w, m.Verified, m.Faults, 0)
		fmt.Fprintf(w, "kistd serve --data %s goes on with it; keep the old directory until all is well, and start nothing on it\n", to)
	}
	if m.Missing > 0 {
		return fmt.Errorf("%w (%d); the copy has everything else", errMissing, m.Missing)
	}
	return nil
}
