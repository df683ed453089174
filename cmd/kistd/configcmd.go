package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "check the settings, or print an example of them",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", "config "+args[0])
			}
			return usagef("a command is needed: config check or config example")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.AddCommand(configCheckCommand(), configExampleCommand())
	return c
}

func configCheckCommand() *cobra.Command {
	conf := newConfig()
	c := &cobra.Command{
		Use:   "check",
		Short: "say whether serve would take the settings, and where they come from",
		Long: `Reads the settings as serve does, from flags, KISTD_… variables and the file, and
checks them. It prints those that have not their default, and what says so. It does
not touch the data directory or the network.`,
		Example: `  kistd config check
  kistd config check --config ./kistd.toml`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := conf.load(c); err != nil {
				return err
			}
			if err := conf.check(); err != nil {
				return err
			}
			if _, err := conf.certificateFiles(discardLog); err != nil {
				return err
			}
			out := c.OutOrStdout()
			if err := conf.table.Differing(out, conf.loaded); err != nil {
				return err
			}
			for _, name := range conf.loaded.Strange {
				fmt.Fprintf(c.ErrOrStderr(), "kistd: %s is no setting, and is left alone\n", name)
			}
			_, err := fmt.Fprintln(out, "the settings are in order")
			return err
		},
	}
	conf.flags(c, serveSettings(conf)...)
	return c
}

func configExampleCommand() *cobra.Command {
	conf := newConfig()
	return &cobra.Command{
		Use:     "example",
		Short:   "print a file with all settings and what they mean",
		Example: `  kistd config example > /etc/kistd/kistd.toml`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return conf.table.Example(c.OutOrStdout())
		},
	}
}

// serveSettings names the settings that serve takes as flags: all.
func serveSettings(c *config) []string {
	var names []string
	for _, s := range c.table.Settings {
		names = append(names, s.Name)
	}
	return names
}
