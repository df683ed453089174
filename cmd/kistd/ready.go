package main

import (
	"errors"
	"fmt"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/secondary"
)

// ready says why the server should not be sent work, nil if it should. Anybody can
// ask, so it tells no more than that.
func ready(server *secondary.Server, data *secondary.DataDir, disk *probe, minFree uint64) error {
	if err := server.Ready(); err != nil {
		return err
	}
	if err := disk.check(); err != nil {
		return err
	}
	if minFree == 0 {
		return nil
	}
	free, err := data.Free()
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return errors.New("the disk cannot be asked")
	}
	if free < minFree {
		return errors.New("the disk is nearly full")
	}
	return nil
}

// dataError says which directory, and that another server has it.
func dataError(err error) error {
	err = fmt.Errorf("opening data directory: %w", err)
	if errors.Is(err, store.ErrInUse) {
		return hinted{err, "end the other kistd first; kistd invite and kistd health ask the one that runs"}
	}
	return err
}
