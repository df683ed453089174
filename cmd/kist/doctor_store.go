package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// examineDamaged says what is damaged of a vault that cannot be opened, or that
// was found to be damaged, and what of it can be saved. err is how that was
// noticed.
func (a *app) examineDamaged(err error) error {
	d, xerr := vault.Examine(a.vaultDir)
	if xerr != nil {
		return xerr
	}
	f := &failure{code: exitIntegrity, text: "the vault's store is damaged", err: err, hint: "kist doctor --rebuild"}
	f.detail("vault", a.vaultDir)
	f.detail("noticed", strings.TrimPrefix(err.Error(), vault.ErrDamaged.Error()+": "))
	if a.json {
		if err := a.printJSON(damageJSON("damaged", d)); err != nil {
			return err
		}
		return f
	}
	a.tell("%s in %s", a.out.Red("DAMAGED: the vault's store"), a.show(a.vaultDir))
	a.printDamage(d, "can be read and saved")
	a.tell("Nothing was changed. kist doctor --rebuild saves what was not sent, keeps the damaged")
	a.tell("file beside it, and has the next kist sync get the rest from the secondary.")
	return f
}

// shownSaved is how many of the saved changes are listed.
const shownSaved = 20

// printDamage prints what is damaged, and what becomes of changes that can be read.
func (a *app) printDamage(d *vault.Damage, saved string) {
	for _, fault := range d.Faults {
		a.tell("  damaged   %s", a.show(fault.Error()))
	}
	a.tell("  unsent    %s %s", term.Plural(len(d.Saved), "change", "changes"), saved)
	for i, c := range d.Saved {
		if i == shownSaved {
			a.tell("              and %d more", len(d.Saved)-i)
			break
		}
		what := "written"
		if c.Deleted {
			what = "removed"
		}
		a.tell("              %s  %s %s", a.timeText(c.Time), what, a.show(c.Record))
	}
	if d.Lost > 0 {
		a.tell("  lost      %s not sent and cannot be read", term.Plural(d.Lost, "change was", "changes were"))
	}
}

// rebuild makes a damaged store anew.
func (a *app) rebuild(ctx context.Context, cmd *cobra.Command) error {
	if a.held != nil {
		return a.taken(cmd, os.Getpid())
	}
	v, err := vault.Open(ctx, a.vaultDir, a.vaultConfig())
	if err == nil {
		_, err = v.Check(ctx, a.counting("checked"))
		err = errors.Join(err, v.Close())
		if err == nil {
			a.say("nothing is damaged: every page, commit and record is as it should be")
			return nil
		}
	}
	if !errors.Is(err, vault.ErrDamaged) {
		return err
	}
	d, err := vault.Rebuild(ctx, a.vaultDir, a.vaultConfig())
	if errors.Is(err, vault.ErrNoSecondary) {
		f := &failure{code: exitIntegrity, text: "the vault's store is damaged, and there is no secondary to get the rest from", err: err,
			hint: "a backup of the directory; kist doctor lists what can be read"}
		f.detail("vault", a.vaultDir)
		return f
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(damageJSON("rebuilt", d))
	}
	a.tell("%s the store in %s", a.out.Green("made anew"), a.show(a.vaultDir))
	a.printDamage(d, "saved")
	if d.Kept != "" {
		a.tell("  kept      %s, which can be deleted when all is well", a.show(d.Kept))
	}
	a.say("now kist sync: it gets the rest from the secondary and sends what was saved")
	return nil
}

// checkStore looks through all that the device keeps.
func (a *app) checkStore(ctx context.Context, v *vault.Vault) (check, error) {
	r, err := v.Check(ctx, a.counting("checked"))
	switch {
	case err != nil:
		return check{}, err
	case len(r.Spoilt) > 0:
		return check{"content", checkBad, fmt.Sprintf("the files of %s are damaged, %q among them: kist sync --full gets them again",
			term.Plural(len(r.Spoilt), "long value", "long values"), r.Spoilt[0]), "kist sync --full"}, nil
	}
	return check{"content", checkOK, fmt.Sprintf("every page is in its place; %s, %s and %s are as they were verified",
		term.Plural(r.Commits, "commit", "commits"), term.Plural(r.Records, "record", "records"), term.Plural(r.Objects, "long value", "long values")), ""}, nil
}

type jsonDamage struct {
	Version int         `json:"version"`
	Type    string      `json:"type"`
	Done    string      `json:"done"` // "damaged" or "rebuilt"
	Faults  []string    `json:"faults"`
	Saved   []jsonSaved `json:"saved"`
	Lost    int         `json:"lost"`
	Kept    string      `json:"kept,omitempty"`
}

type jsonSaved struct {
	Record  string `json:"record"`
	Removed bool   `json:"removed"`
	Time    string `json:"time"`
	Bytes   uint64 `json:"bytes"`
}

func damageJSON(done string, d *vault.Damage) *jsonDamage {
	j := &jsonDamage{Version: jsonVersion, Type: "result", Done: done, Faults: []string{}, Saved: []jsonSaved{}, Lost: d.Lost, Kept: d.Kept}
	for _, f := range d.Faults {
		j.Faults = append(j.Faults, f.Error())
	}
	for _, c := range d.Saved {
		j.Saved = append(j.Saved, jsonSaved{c.Record, c.Deleted, c.Time.UTC().Format("2006-01-02T15:04:05Z"), c.Bytes})
	}
	return j
}
