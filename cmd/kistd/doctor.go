package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/secondary/admin"
)

// errUnwell: the doctor has found something that is to be put right.
var errUnwell = errors.New("something is to be put right: see above")

func doctorCommand() *cobra.Command {
	conf := newConfig()
	var fix bool
	c := &cobra.Command{
		Use:   "doctor --data DIR",
		Short: "look whether the server is well, and tidy up",
		Long: `Looks at what makes a server unwell: rights of its files, space on the disk, its
clock, and things that nobody needs any more: uploads that were never finished, and
invites that expired a week ago. With --fix these go at once; a server that runs
removes them once a day.

What is stored it takes as it is; kistd verify goes through that.`,
		Example: `  kistd doctor --data /var/lib/kistd`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return conf.operate(c, func(client *admin.Client, _ bool) error {
				x := &examination{c: c, data: conf.data}
				if err := x.all(c.Context(), client, fix); err != nil {
					return err
				}
				if x.bad {
					return errUnwell
				}
				return nil
			})
		},
	}
	conf.flags(c, "data")
	c.Flags().BoolVar(&fix, "fix", false, "remove what nobody needs any more")
	return c
}

// examination is one visit to the doctor.
type examination struct {
	c    *cobra.Command
	data string
	bad  bool
}

func (x *examination) say(mark, what, format string, args ...any) {
	x.bad = x.bad || mark == "bad"
	fmt.Fprintf(x.c.OutOrStdout(), "%-4s  %-8s  %s\n", mark, what, fmt.Sprintf(format, args...))
}

func (x *examination) all(ctx context.Context, client *admin.Client, fix bool) error {
	state, err := client.Tidy(ctx, admin.TidyQuestion{Remove: fix})
	if err != nil {
		return err
	}
	if state.Serving {
		x.say("ok", "server", "it runs and answers")
	} else {
		x.say("note", "server", "it does not run")
	}
	if err := x.rights(); err != nil {
		return err
	}
	x.disk()
	if state.Damaged != "" {
		x.say("bad", "store", "%s: kistd verify says of which vault", state.Damaged)
	}
	if ahead := time.Until(state.Newest); ahead > time.Minute {
		x.say("bad", "clock", "this clock is %v behind what is stored: set it, or what was deleted is kept for longer", ahead.Round(time.Minute))
	} else {
		x.say("ok", "clock", "%s", time.Now().UTC().Format(time.RFC3339))
	}
	switch found := fmt.Sprintf("%s (%s) and %s", term.Plural(state.Objects, "unfinished upload", "unfinished uploads"), bytesText(state.Bytes), term.Plural(state.Invites, "expired invite", "expired invites")); {
	case state.Objects+state.Invites == 0:
		x.say("ok", "tidy", "nothing is left over")
	case fix:
		x.say("ok", "tidy", "%s: removed", found)
	default:
		x.say("note", "tidy", "%s: kistd doctor --fix removes them", found)
	}
	return nil
}

// rights looks at whom the files belong to and who may read them.
func (x *examination) rights() error {
	dir, err := os.Stat(x.data)
	if err != nil {
		return err
	}
	fine := true
	if dir.Mode().Perm()&0o077 != 0 {
		fine = false
		x.say("bad", "rights", "others can enter %s: chmod 700 it", x.data)
	}
	for _, name := range []string{"server.key", "tls.key", "kist.db", "lock", "version"} {
		path := filepath.Join(x.data, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == "tls.key":
		case err != nil:
			return err
		case info.Mode().Perm()&0o077 != 0:
			fine = false
			x.say("bad", "rights", "others can read %s: chmod 600 it", path)
		case !sameOwner(dir, info):
			fine = false
			x.say("bad", "rights", "%s belongs to another user than its directory: chown it", path)
		}
	}
	if fine {
		x.say("ok", "rights", "nobody else can read what is here")
	}
	return nil
}

// Below these a disk is nearly full.
const (
	lowBytes = 1 << 30
	lowShare = 20 // one part in so many
)

func (x *examination) disk() {
	free, total, err := diskSpace(x.data)
	switch {
	case err != nil:
		x.say("note", "disk", "how full it is cannot be told: %v", err)
	case free < lowBytes || free < total/lowShare:
		x.say("bad", "disk", "only %s of %s are free: make room, or give vaults quotas (kistd vaults)", bytesText(free), bytesText(total))
	default:
		x.say("ok", "disk", "%s of %s are free", bytesText(free), bytesText(total))
	}
}
