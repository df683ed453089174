package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
)

func compactCommand() *cobra.Command {
	conf := newConfig()
	c := &cobra.Command{
		Use:   "compact --data DIR",
		Short: "drop superseded values now, and give their space back",
		Long: `Drops the content of versions that were superseded or removed longer ago than
--retention, in steps that let everything else go on. Who made which commit when
stays for ever, so that the log can be verified. A server that runs does this once
a day by itself.

The space is used again, but the store's file does not become smaller while the
server runs. When it is stopped, this command then writes the store anew without
the space that is free. That needs as much room beside the old file as the new one
takes, and can be cut off at any time.`,
		Example: `  kistd compact --data /var/lib/kistd
  systemctl stop kistd
  runuser -u kistd -- kistd compact --data /var/lib/kistd
  systemctl start kistd`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := conf.load(c); err != nil {
				return err
			}
			if err := errors.Join(conf.needData(), conf.needRetention()); err != nil {
				return err
			}
			return compact(c, conf)
		},
	}
	conf.flags(c, "data", "retention")
	return c
}

func compact(c *cobra.Command, conf *config) (err error) {
	served := false
	err = conf.withServer(func(client *admin.Client, beside bool) error {
		served = beside
		done, err := client.Compact(c.Context(), admin.CompactQuestion{Days: conf.retention})
		if err == nil {
			_, err = fmt.Fprintf(c.OutOrStdout(), "dropped %s and %s, %s\n", term.Plural(done.Blobs, "superseded value", "superseded values"), largeText(done.Objects), bytesText(done.Bytes))
		}
		return err
	})
	if err != nil || served {
		return err
	}
	d, err := secondary.OpenDataDir(conf.data)
	if err != nil {
		return err
	}
	defer closing(&err, d)
	before, after, err := d.Rewrite()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "store: %s before, %s now\n", bytesText(uint64(before)), bytesText(uint64(after)))
	return err
}
