package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/secondary/admin"
)

func inviteCommand() *cobra.Command {
	conf := newConfig()
	var q admin.InviteQuestion
	var quota quotaFlags
	c := &cobra.Command{
		Use:   "invite --data DIR",
		Short: "print an invite that lets somebody create a vault",
		Long: `Prints an invite, one line, that lets whoever has it create one vault here,
within a week, unless --uses and --days say otherwise. It works while the server
runs.

With --quota-bytes, --quota-commits or --quota-devices its vaults have a quota of
their own; see kistd vaults quota.

It holds a secret: send it in a way that only the person it is for can read.`,
		Example: `  kistd invite --data /var/lib/kistd
  kistd invite --data /var/lib/kistd --uses 5 --days 30 --quota-bytes 2GiB`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if q.Uses == 0 || q.Days == 0 {
				return usagef("--uses and --days: at least one")
			}
			if q.Days > maxDays {
				return usagef("--days: at most %d", maxDays)
			}
			q.Quota = quota.given(c)
			return conf.operate(c, func(client *admin.Client, _ bool) error {
				a, err := client.Invite(c.Context(), q)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), a.Invite)
				return err
			})
		},
	}
	conf.flags(c, "data")
	c.Flags().Uint32Var(&q.Uses, "uses", 1, "`NUMBER` of vaults that can be made with it")
	c.Flags().Uint32Var(&q.Days, "days", 7, "`DAYS` that it is good for")
	quota.add(c)
	return c
}
