package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary"
)

func compactCommand() *cobra.Command {
	conf := newConfig()
	c := &cobra.Command{
		Use:   "compact --data DIR",
		Short: "give the space of superseded values back, while the server is stopped",
		Long: `Drops the content of versions that were superseded or removed longer ago than
--retention, and then rewrites the store without the space that became free. Who
made which commit when stays for ever, so that the log can be verified.

A server that runs drops the same once a day by itself and uses the space again;
its file does not become smaller. Stop it for this command, which needs as much
room beside the old file as the new one takes, and can be cut off at any time.`,
		Example: `  systemctl stop kistd && kistd compact --data /var/lib/kistd && systemctl start kistd`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := conf.load(c); err != nil {
				return err
			}
			if err := errors.Join(conf.needData(), conf.needRetention()); err != nil {
				return err
			}
			return compact(c, conf.data, conf.retention)
		},
	}
	conf.flags(c, "data", "retention")
	return c
}

func compact(c *cobra.Command, data string, days uint32) (err error) {
	d, err := secondary.OpenDataDir(data)
	if errors.Is(err, store.ErrInUse) {
		return hinted{err, "stop the server first; while it runs it compacts once a day by itself"}
	}
	if err != nil {
		return err
	}
	defer closing(&err, d)
	e, err := d.OpenEngine()
	if err != nil {
		return err
	}
	done, err := e.Compact(c.Context(), time.Now().AddDate(0, 0, -int(days)))
	if err = errors.Join(err, e.Close()); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "dropped %d superseded values and %d objects, %d bytes\n", done.Blobs, done.Objects, done.Bytes)
	before, after, err := d.Rewrite()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "store: %d bytes before, %d after\n", before, after)
	return err
}
