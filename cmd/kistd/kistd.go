package main

// How kistd speaks: results on stdout, all else on stderr. An error is one line,
// "kistd: " and what failed, lower case, without a full stop; where there is
// something to do about it, a second line begins with "try: ".

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistvault/kist/internal/settings"
)

// run runs kistd until it is done or ctx ends, and returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "kistd",
		Short: "kistd keeps encrypted vaults for devices that run kist",
		Long: `kistd keeps encrypted vaults for devices that run kist.

It holds no key: what it stores is ciphertext. Devices know it by its server
key, which is in every invite; keep the data directory safe and backed up.`,
		Example: `  kistd serve --data /var/lib/kistd
  kistd serve --data /var/lib/kistd --domain vault.example.org
  kistd config example > /etc/kistd/kistd.toml
  kistd invite --data /var/lib/kistd
  kistd vaults --data /var/lib/kistd
  kistd backup /backup/kistd --data /var/lib/kistd
  kistd verify --data /var/lib/kistd
  kistd doctor --data /var/lib/kistd
  kistd compact --data /var/lib/kistd
  kistd migrate --to /new/kistd --data /var/lib/kistd

Exit status: 0 done, 1 failed, 2 usage, 9 data directory damaged,
10 no data directory, 11 data directory or address in use.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return usagef("a command is needed: serve, invite, vaults, backup, verify, doctor, compact, migrate, log-level, config, health or version")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) {
			f := invalid.GetFlag()
			return usagef("--%s %s", f.Name, settings.Wrong(f.Value, invalid.GetValue()))
		}
		return usageError{err}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().String("config", "", "`FILE` with settings (default "+defaultFile+", if it is there)")
	root.AddCommand(serveCommand(), inviteCommand(), vaultsCommand(), backupCommand(), verifyCommand(), doctorCommand(), compactCommand(), migrateCommand(), logLevelCommand(), configCommand(), healthCommand(), versionCommand())
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.PersistentPreRunE = func(_ *cobra.Command, args []string) error {
				if c, _, err := root.Find(args); err != nil || c == root && len(args) > 0 {
					return hinted{usagef("unknown command %q", strings.Join(args, " ")), "kistd --help"}
				}
				return nil
			}
		}
	}
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "kistd: %v\n", err)
	if hint := hintOf(err, ran); hint != "" {
		fmt.Fprintf(stderr, "try: %s\n", hint)
	}
	return exitCode(err)
}

// noArgs refuses arguments that are no flags.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}
