package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// parseKeep reads which versions are to be kept: "all", a number of versions, days
// such as 30d, or both with a comma.
func parseKeep(text string) (r vault.Retention, err error) {
	bad := fmt.Errorf("--keep %q: it is all, a number of versions, days such as 30d, or both: 3,30d", text)
	if text == "all" {
		return r, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		number, days := strings.CutSuffix(part, "d")
		n, err := strconv.ParseUint(number, 10, 31)
		into := &r.Versions
		if days {
			into = &r.Days
		}
		if err != nil || n == 0 || *into != 0 {
			return r, bad
		}
		*into = int(n)
	}
	return r, nil
}

// retentionText says in words which versions are kept.
func retentionText(r vault.Retention) string {
	newest := "the newest version of each record"
	if r.Versions > 1 {
		newest = fmt.Sprintf("the newest %d versions of each record", r.Versions)
	}
	days := fmt.Sprintf("what was superseded in the last %s", term.Plural(r.Days, "day", "days"))
	switch {
	case r.All():
		return "all versions"
	case r.Days == 0:
		return newest
	case r.Versions == 0:
		return "the present version of each record, and " + days
	}
	return newest + ", and " + days
}

// jsonRetention is what history prints with --json where it is about no record.
type jsonRetention struct {
	Version  int          `json:"version"`
	Type     string       `json:"type"`     // "retention"
	Versions int          `json:"versions"` // of each record; 0: their number does not count
	Days     int          `json:"days"`     // after a version was superseded; 0: its age does not count. Both 0: all are kept
	Dropped  *jsonDropped `json:"dropped,omitempty"`
	Shrunk   *jsonShrunk  `json:"shrunk,omitempty"`
}

func retentionJSON(r vault.Retention) jsonRetention {
	return jsonRetention{Version: jsonVersion, Type: "retention", Versions: r.Versions, Days: r.Days}
}

type jsonDropped struct {
	Versions int   `json:"versions"`
	Bytes    int64 `json:"bytes"`
}

type jsonShrunk struct {
	Before int64 `json:"before"` // bytes
	After  int64 `json:"after"`
}

// retention shows which versions are kept on this device, or changes it, and gives
// free space back to the system.
func (a *app) retention(ctx context.Context, keep string, shrink bool) error {
	var j jsonRetention
	err := a.with(ctx, func(v *vault.Vault) error {
		var dropped *jsonDropped
		r, err := v.Retention(ctx)
		if err == nil && keep != "" {
			if r, err = parseKeep(keep); err != nil {
				return usageError{err}
			}
			if !a.yes && !r.All() {
				return &failure{code: exitUsage, text: "what is superseded and not kept is dropped on this device, and does not come back here: kept would be " + retentionText(r),
					hint: "kist history --keep " + keep + " --yes"}
			}
			if err = v.SetRetention(ctx, r); err == nil {
				var c vault.Compacted
				c, err = v.Compact(ctx)
				dropped = &jsonDropped{c.Versions, c.Bytes}
			}
		}
		j = retentionJSON(r)
		j.Dropped = dropped
		return err
	})
	if err == nil && shrink {
		j.Shrunk = &jsonShrunk{}
		j.Shrunk.Before, j.Shrunk.After, err = vault.Shrink(ctx, a.vaultDir)
		if errors.Is(err, vault.ErrInUse) {
			err = &failure{code: exitInUse, text: "the store cannot be rewritten while a program has the vault open", err: err, hint: "stop kist run, then kist history --shrink"}
		}
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(j)
	}
	a.tell("kept  %s", retentionText(vault.Retention{Versions: j.Versions, Days: j.Days}))
	if j.Dropped != nil {
		a.say("dropped %s here, %s", term.Plural(j.Dropped.Versions, "version", "versions"), bytesText(j.Dropped.Bytes))
	}
	if j.Shrunk != nil {
		a.say("the store had %s, and has %s now", bytesText(j.Shrunk.Before), bytesText(j.Shrunk.After))
	}
	return nil
}
