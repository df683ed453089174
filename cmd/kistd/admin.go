package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
)

// operate reads a command's settings and runs fn with a client of the data directory's
// server.
func (conf *config) operate(c *cobra.Command, fn func(c *admin.Client, beside bool) error) error {
	if err := conf.load(c); err != nil {
		return err
	}
	if err := conf.needData(); err != nil {
		return err
	}
	return conf.withServer(fn)
}

// withServer runs fn with a client of the data directory's server. Where no server
// runs, this process is it for so long, but for root in the directory of somebody else. beside says that one runs.
func (conf *config) withServer(fn func(c *admin.Client, beside bool) error) (err error) {
	data := conf.data
	if rootElsewhere(data) {
		// What root made there, the server could not use.
		err := fn(admin.NewClient(secondary.AdminSocket(data)), true)
		if errors.Is(err, admin.ErrSilent) {
			return hinted{fmt.Errorf("%s belongs to another user, and %w", data, err), "as that user, such as: runuser -u kistd -- kistd …"}
		}
		return err
	}
	d, err := secondary.OpenDataDir(data)
	if errors.Is(err, store.ErrInUse) {
		err := fn(admin.NewClient(secondary.AdminSocket(data)), true)
		if errors.Is(err, admin.ErrSilent) {
			// A server that starts, stops, or is stuck; or another command.
			return fmt.Errorf("data directory: %w, and %w", store.ErrInUse, err)
		}
		return err
	}
	if err != nil {
		return err
	}
	defer closing(&err, d)
	e, err := d.OpenEngine()
	if err != nil {
		return err
	}
	defer closing(&err, e)
	e.DefaultQuota(conf.quota())
	s, err := admin.Listen(d.AdminSocket(), &admin.Operator{Data: d, Engine: e, DeletedDays: conf.deleted}, nil)
	if err != nil {
		return err
	}
	defer closing(&err, s)
	return fn(admin.NewClient(d.AdminSocket()), false)
}
