package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/settings"
	"github.com/kistvault/kist/secondary/engine"
)

// quotaFlags are the flags of a quota, of one vault or of those of an invite.
type quotaFlags struct{ quota engine.Quota }

func (f *quotaFlags) add(c *cobra.Command) {
	c.Flags().Var(settings.Size(&f.quota.Bytes, 0), "quota-bytes", "`SIZE` that a vault may take, such as 500MB or 2GiB; 0: no limit")
	c.Flags().Uint64Var(&f.quota.Commits, "quota-commits", 0, "`NUMBER` of commits that it may have; 0: no limit")
	c.Flags().Uint32Var(&f.quota.Devices, "quota-devices", 0, "`NUMBER` of devices that it may have; 0: no limit but that of every vault, 64")
}

// given returns nil where none of the flags was given.
func (f *quotaFlags) given(c *cobra.Command) *engine.Quota {
	for _, name := range []string{"quota-bytes", "quota-commits", "quota-devices"} {
		if c.Flags().Changed(name) {
			return &f.quota
		}
	}
	return nil
}

// bytesText writes a number of bytes for a person.
func bytesText(n uint64) string {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n>>u.shift > 0 {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(uint64(1)<<u.shift), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
