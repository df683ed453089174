package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/internal/words"
	"github.com/kistvault/kist/vault"
)

// How a comparison ends.
const (
	compareShown   = "shown"   // nothing was given to compare with
	compareSame    = "same"    // both have the same history up to the size
	compareOther   = "other"   // they have different ones
	compareShorter = "shorter" // this device has not come to the size yet
)

// jsonComparison is what doctor --compare prints with --json.
type jsonComparison struct {
	Version int    `json:"version"`
	Type    string `json:"type"`    // "comparison"
	Result  string `json:"result"`  // see above
	Size    uint64 `json:"size"`    // that the words are for
	Commits uint64 `json:"commits"` // that this device has
	Root    string `json:"root"`    // at size
	Words   string `json:"words"`
}

// compare shows the words for a size, or compares them with those of another
// device. The arguments may be one text, as it was pasted.
func (a *app) compare(ctx context.Context, v *vault.Vault, args []string) error {
	st, err := v.Status(ctx)
	if err != nil {
		return err
	}
	size, theirs, err := comparand(args, st.Commits)
	if err != nil {
		return usageError{err}
	}
	c := jsonComparison{Version: jsonVersion, Type: "comparison", Result: compareShown, Size: size, Commits: st.Commits}
	if size > st.Commits {
		c.Result, c.Size = compareShorter, st.Commits
	}
	root, err := v.RootAt(ctx, c.Size)
	if err != nil {
		return err
	}
	ours, err := words.Of(c.Size, root)
	if err != nil {
		return err
	}
	c.Root, c.Words = root.String(), strings.Join(ours, " ")
	if theirs != nil && c.Result == compareShown {
		c.Result = compareOther
		if slices.Equal(ours, theirs) {
			c.Result = compareSame
		}
	}
	if a.json {
		if err := a.printJSON(c); err != nil {
			return err
		}
	} else {
		a.printComparison(&c)
	}
	switch c.Result {
	case compareOther:
		return &failure{code: exitIntegrity, text: fmt.Sprintf("the devices have different histories, at commit %d or before", c.Size),
			hint: "make sure that it is the same vault (kist status) and that each word is right; then kist doctor --evidence FILE on both"}
	case compareShorter:
		return &failure{code: exitConflict, text: fmt.Sprintf("this device has %s, the other one %d: it cannot compare what it does not have", term.Plural(st.Commits, "commit", "commits"), size),
			hint: "on the other device: kist doctor --compare " + fmt.Sprint(c.Size) + " " + c.Words}
	}
	return nil
}

// comparand takes the arguments of --compare apart: the size, and the words of
// another device, nil if there are none.
func comparand(args []string, commits uint64) (size uint64, theirs []string, err error) {
	fields := strings.Fields(strings.Join(args, " "))
	if len(fields) == 0 {
		return commits, nil, nil
	}
	if size, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return 0, nil, errors.New("the number of commits comes first: it stands before the other device's words")
	}
	if len(fields) > 1 {
		theirs, err = words.Parse(strings.Join(fields[1:], " "))
	}
	return size, theirs, err
}

func (a *app) printComparison(c *jsonComparison) {
	switch c.Result {
	case compareSame:
		a.tell("%s: both devices have the same history up to commit %d", a.out.Green("the same"), c.Size)
		if c.Commits > c.Size {
			a.tell("this device has %s more, which the other one can pull", term.Plural(c.Commits-c.Size, "commit", "commits"))
		}
		return
	case compareOther:
		a.tell("%s: at commit %d this device has", a.out.Red("not the same"), c.Size)
	}
	a.tell("  %d  %s", c.Size, a.out.Bold(c.Words))
	if c.Result == compareShown {
		a.say("on another device of yours: kist doctor --compare %d %s", c.Size, c.Words)
		if a.verbose {
			a.say("root: %s", c.Root)
		}
	}
}
