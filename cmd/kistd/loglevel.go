package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/secondary/admin"
)

func logLevelCommand() *cobra.Command {
	conf := newConfig()
	c := &cobra.Command{
		Use:   "log-level [LEVEL]",
		Short: "print, or change, how much the server that runs logs",
		Long: `Changes the level from which on the server that runs logs, until it ends or is told
another: debug, info, warn or error. Without one it prints the level in force.`,
		Example: `  kistd log-level debug`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("one level is wanted: debug, info, warn or error")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var q admin.Level
			if len(args) > 0 {
				if _, err := parseLevel(args[0]); err != nil {
					return usageError{err}
				}
				q.Level = args[0]
			}
			return conf.operate(c, func(client *admin.Client, beside bool) error {
				if !beside {
					return hinted{errors.New("no server runs with this data directory"), "log-level = \"debug\" in the settings, or kistd serve --log-level debug, for when it starts"}
				}
				a, err := client.LogLevel(c.Context(), q)
				if err == nil {
					_, err = fmt.Fprintln(c.OutOrStdout(), a.Level)
				}
				return err
			})
		},
	}
	conf.flags(c, "data")
	return c
}
