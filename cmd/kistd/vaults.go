package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/engine"
)

func vaultsCommand() *cobra.Command {
	conf := newConfig()
	var asJSON bool
	c := &cobra.Command{
		Use:   "vaults --data DIR",
		Short: "list the vaults; export, import, quota, suspend, resume and delete one",
		Long: `Lists the vaults that are kept here: what each takes, when a device was here
last (it may have been up to an hour later), and how many are here now. One that
was moved is at another secondary; it stays here, so that its devices learn where,
and those that have learnt it do not come again. Whose they are and what is in them
the server does not know; VAULT is an id of the list, or as much of one as names
it alone.`,
		Example: `  kistd vaults --data /var/lib/kistd
  kistd vaults quota 7KQ2 --quota-bytes 10GiB --data /var/lib/kistd
  kistd vaults export 7KQ2 7KQ2.kistarchive --data /var/lib/kistd
  kistd vaults delete 7KQ2 --data /var/lib/kistd`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", "vaults "+args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			return conf.operate(c, func(client *admin.Client, _ bool) error {
				list, err := client.Vaults(c.Context())
				if err != nil {
					return err
				}
				return printVaults(c, list, asJSON)
			})
		},
	}
	conf.flags(c, "data")
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	one := func(use, short, long string, do func(c *cobra.Command, client *admin.Client, vault string) (admin.Vault, error)) *cobra.Command {
		c := &cobra.Command{
			Use: use + " VAULT --data DIR", Short: short, Long: long,
			Args: func(_ *cobra.Command, args []string) error {
				if len(args) != 1 {
					return usagef("one VAULT is needed: kistd vaults lists them")
				}
				return nil
			},
			RunE: func(c *cobra.Command, args []string) error {
				return conf.operate(c, func(client *admin.Client, _ bool) error {
					v, err := do(c, client, args[0])
					if err != nil {
						return err
					}
					if err := printVaults(c, []admin.Vault{v}, asJSON); err != nil || asJSON {
						return err
					}
					return printWayBack(c.ErrOrStderr(), v, args[0])
				})
			},
		}
		conf.flags(c, "data")
		return c
	}
	state := func(state string) func(c *cobra.Command, client *admin.Client, vault string) (admin.Vault, error) {
		return func(c *cobra.Command, client *admin.Client, vault string) (admin.Vault, error) {
			return client.SetState(c.Context(), admin.StateQuestion{Vault: vault, State: state})
		}
	}

	var flags quotaFlags
	var standard bool
	quota := one("quota", "change what a vault may take",
		`Changes how many bytes (of commits and large values), commits and devices a vault may
have. What is not given has no limit; --default takes the vault's own quota away, so
that the one of kistd serve holds.

What is over a quota stays: only more is refused. Devices keep what was refused, and
send it when there is room: at once, where the quota was raised.`,
		func(c *cobra.Command, client *admin.Client, vault string) (admin.Vault, error) {
			q := flags.given(c)
			if (q == nil) != standard {
				return admin.Vault{}, usagef("either --default or what the quota is")
			}
			return client.SetQuota(c.Context(), admin.QuotaQuestion{Vault: vault, Quota: q})
		})
	flags.add(quota)
	quota.Flags().BoolVar(&standard, "default", false, "no quota of its own")

	var now bool
	remove := one("delete", "delete a vault after a time",
		`Lets no device of the vault in, as kistd vaults suspend does, and deletes all that is
kept of it after the days of kistd serve --deleted (7). Until then kistd vaults
resume has it back. With --now it goes at once. What is on its devices stays there.`,
		func(c *cobra.Command, client *admin.Client, vault string) (admin.Vault, error) {
			v, err := client.SetState(c.Context(), admin.StateQuestion{Vault: vault, State: "deleted"})
			if err != nil || !now {
				return v, err
			}
			_, err = client.Remove(c.Context(), admin.RemoveQuestion{Vault: vault})
			v.State, v.Gone = "removed", nil
			return v, err
		})
	remove.Flags().BoolVar(&now, "now", false, "do not wait")

	c.AddCommand(exportCommand(), importCommand(), quota, remove,
		one("suspend", "let no device of a vault in",
			`Ends the sessions of a vault's devices, and lets none in until kistd vaults resume.
They are told so, keep what is on them, and can be used meanwhile.`, state("suspended")),
		one("resume", "let the devices of a vault in again, or have a deleted one back",
			`Ends what kistd vaults suspend began, and takes kistd vaults delete back while the
vault is still there.`, state("active")),
	)
	return c
}

// printVaults prints a list of vaults.
func printVaults(c *cobra.Command, list []admin.Vault, asJSON bool) error {
	w := c.OutOrStdout()
	if asJSON {
		e := json.NewEncoder(w)
		for _, v := range list {
			if err := e.Encode(v); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no vaults yet: kistd invite lets somebody create one")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VAULT\tSTATE\tSIZE\tCOMMITS\tDEVICES\tLAST HERE (UTC, +1h)\tQUOTA")
	for _, v := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", v.ID, stateText(v), bytesText(v.Bytes), v.Commits, v.Devices, hereText(v), quotaText(v.Quota))
	}
	return t.Flush()
}

// printWayBack says how what was done to a vault is undone.
func printWayBack(w io.Writer, v admin.Vault, named string) (err error) {
	switch {
	case v.Gone != nil:
		_, err = fmt.Fprintf(w, "until %s, kistd vaults resume %s has it back; then it goes with all its files. Its devices keep what they have\n", v.Gone.Format(dayFormat), named)
	case v.State == engine.StateSuspended.String():
		_, err = fmt.Fprintf(w, "kistd vaults resume %s lets its devices in again\n", named)
	case v.State == engine.StateRemoved.String():
		_, err = fmt.Fprintln(w, "it is gone from here, and its devices keep what they have; an archive or a backup brings it back")
	}
	return err
}

const dayFormat = "2006-01-02"

func stateText(v admin.Vault) string {
	text := v.State
	if v.Gone != nil {
		text = "deleted, goes " + v.Gone.Format(dayFormat)
	}
	switch {
	case v.Damaged != "":
		return text + ", damaged"
	case v.Moved == 0:
		return text
	case v.State == engine.StateActive.String():
		return "moved away"
	}
	return text + ", moved away"
}

func hereText(v admin.Vault) string {
	if v.Sessions > 0 {
		return fmt.Sprintf("now (%d)", v.Sessions)
	}
	return v.Seen.UTC().Format(time.DateTime)[:len("2006-01-02 15:04")]
}

func quotaText(q engine.Quota) string {
	var parts []string
	if q.Bytes > 0 {
		parts = append(parts, bytesText(q.Bytes))
	}
	if q.Commits > 0 {
		parts = append(parts, term.Plural(q.Commits, "commit", "commits"))
	}
	if q.Devices > 0 {
		parts = append(parts, term.Plural(q.Devices, "device", "devices"))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
