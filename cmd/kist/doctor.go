package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/vault"
)

func newDoctor(a *app) *cobra.Command {
	var again, compare, check, rebuild bool
	var evidence string
	cmd := &cobra.Command{
		Use:   "doctor [--check | --rebuild | --try-again | --evidence FILE | --compare [SIZE [WORD…]]]",
		Short: "look for what is wrong, and say what to do",
		Long: `Look at the vault, as far as this device knows it, and say what is in order and
what is not. Exit status: 0 all is well, 3 something is left to do, 9 an alarm, or the
vault's files are damaged: then it says what is, and what can be saved.

--check looks through everything on this device: every page of the store, the log as
kist log --verify does, the index of records, the files of long values.

--rebuild makes a damaged store anew: what was not sent is saved, as far as it can be
read, the damaged file is kept beside the new one, and the next kist sync gets the
rest. It needs no key file.

An alarm says that the secondary was caught at something that no honest one does.
Nothing of it was taken over. The vault can be used as ever, but nothing is sent or
received until you say so: kist doctor explains what was seen, and then

--compare shows six words for the history that this device has. Another of your
devices with the same history shows the same words, so they can be compared by
reading them aloud. One device may have more of it: give the other's size to see the
words for that, and the words, too, to be told whether they are the same.

--evidence writes what was seen to a new file, to show to others: headers of
commits, sizes, roots, times and public keys. Names, values and keys are not in it.

--try-again lets the sync go on. Nothing is forgotten by it, and where the secondary
does it again, the alarm is there again. It is not needed where the secondary had gone
back to an older history and was filled again: the next sync finds that out.`,
		Example: `  kist doctor
  kist doctor --check
  kist doctor --rebuild && kist sync
  kist doctor --compare
  kist doctor --compare 1207 wealth evidence bulk cigar resist right
  kist doctor --evidence evidence.json
  kist doctor --try-again`,
		Args: func(cmd *cobra.Command, args []string) error {
			chosen := 0
			for _, is := range []bool{again, compare, check, rebuild, evidence != ""} {
				if is {
					chosen++
				}
			}
			if chosen > 1 {
				return errors.New("--check, --rebuild, --try-again, --evidence and --compare exclude each other")
			}
			if compare {
				return nil
			}
			return exactly(0)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if rebuild {
				return a.rebuild(ctx, cmd)
			}
			err := a.withAny(ctx, func(v *vault.Vault) error {
				switch {
				case compare:
					return a.compare(ctx, v, args)
				case evidence != "":
					return a.evidence(ctx, v, evidence)
				case again:
					return a.tryAgain(ctx, v)
				}
				return a.doctor(ctx, v, check)
			})
			if errors.Is(err, vault.ErrDamaged) && a.held == nil {
				err = a.examineDamaged(err)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "look through everything that is on this device")
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "make a damaged store anew, and save what was not sent")
	cmd.Flags().BoolVar(&again, "try-again", false, "let the sync go on after an alarm")
	cmd.Flags().StringVar(&evidence, "evidence", "", "write what was seen to a new `FILE`, to show to others")
	cmd.Flags().BoolVar(&compare, "compare", false, "show, or compare, six words for the history")
	return cmd
}

// doctor looks at the vault: at an alarm, if one stands, and at all else; with
// thorough, through all that it keeps.
func (a *app) doctor(ctx context.Context, v *vault.Vault, thorough bool) error {
	alarm, err := v.Alarm(ctx)
	if err != nil {
		return err
	}
	st, err := v.Status(ctx)
	if err != nil {
		return err
	}
	checks, err := a.examine(ctx, v, st)
	if err != nil {
		return err
	}
	if thorough {
		c, err := a.checkStore(ctx, v)
		if err != nil {
			return err
		}
		checks = append(checks[:1], append([]check{c}, checks[1:]...)...)
	}
	if a.json {
		if err := a.printJSON(doctorJSON(alarm, st, checks)); err != nil {
			return err
		}
	} else {
		if alarm != nil {
			a.explainAlarm(alarm)
		}
		a.printChecks(st, checks)
	}
	switch {
	case alarm != nil:
		return &failure{code: exitIntegrity, text: "an alarm stops the sync; what is on this device can be used", err: alarm.Err(),
			hint: "kist doctor --compare on this device and on another"}
	case st.Revoked:
		return vault.ErrRevoked
	}
	for _, c := range checks {
		if c.State == checkBad {
			return &failure{code: exitPartly, text: "something is left to do, see above", hint: c.hint}
		}
	}
	return nil
}

// jsonDoctor is what doctor prints with --json.
type jsonDoctor struct {
	Version int        `json:"version"`
	Type    string     `json:"type"` // "doctor"
	Vault   string     `json:"vault"`
	OK      bool       `json:"ok"`
	Alarm   *jsonAlarm `json:"alarm,omitempty"`
	Checks  []check    `json:"checks"`
}

func doctorJSON(alarm *vault.Alarm, st *vault.Status, checks []check) *jsonDoctor {
	j := &jsonDoctor{Version: jsonVersion, Type: "doctor", Vault: st.Vault.String(), OK: alarm == nil && !st.Revoked, Alarm: alarmJSON(alarm), Checks: checks}
	for _, c := range checks {
		j.OK = j.OK && c.State != checkBad
	}
	return j
}

func (a *app) tryAgain(ctx context.Context, v *vault.Vault) error {
	alarm, err := v.Alarm(ctx)
	if err == nil {
		err = v.TryAgain(ctx)
	}
	if err != nil {
		return err
	}
	if alarm != nil && a.held != nil {
		a.held.goOn()
	}
	if a.json {
		return a.printJSON(struct {
			Version int    `json:"version"`
			Type    string `json:"type"`
			Done    string `json:"done"`
			Alarm   bool   `json:"alarm"`
		}{jsonVersion, "result", "try-again", alarm != nil})
	}
	switch {
	case alarm == nil:
		a.say("no alarm stops the sync: there is nothing to do")
	case a.held != nil:
		a.say("kist run tries again now: kist status")
	default:
		a.say("the sync may go on: kist sync")
	}
	return nil
}

// evidence writes a new file.
func (a *app) evidence(ctx context.Context, v *vault.Vault, path string) error {
	if path == "-" {
		return usageError{errors.New("--evidence takes the name of a file")}
	}
	b, err := v.Evidence(ctx)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(a.at(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &failure{code: exitConflict, text: fmt.Sprintf("%s exists already", path), hint: "another name", err: err}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(a.at(path)))
	}
	if a.json {
		return a.printJSON(struct {
			Version int    `json:"version"`
			Type    string `json:"type"`
			Done    string `json:"done"`
			File    string `json:"file"`
		}{jsonVersion, "result", "evidence", path})
	}
	a.say("wrote %s: it can be shown to others, and holds no names, values or keys that open anything", a.clean(path))
	return nil
}
