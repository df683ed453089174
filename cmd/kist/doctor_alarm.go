package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// An explanation tells a person what an alarm is about.
type explanation struct {
	title string // after "alarm: "
	may   string // what it may mean
	do    string // what helps beside what always may; may be empty
}

const (
	backup = "Ask who runs it whether it was restored from a backup, or moved. "
	faulty = "A secondary that works as it should checks the same before it takes anything in, so this is no accident of the network: its data are damaged, its program is faulty, or somebody changed what it serves. "
	copied = "Go on elsewhere: kist restore --vault OTHER --key FILE makes this a device of its own; what was never sent is in this directory alone, so keep it, and kist export DIR saves it."
)

// explanations are by the name of the alarm.
var explanations = map[string]explanation{
	"rollback": {"the secondary has gone back to an older history",
		"It has fewer commits than it had shown to this device before. Most often it was restored from an older backup, and what was written after that is on your devices alone. It may also be that somebody wants your devices to forget what was written since. " + backup, ""},
	"fork": {"the secondary shows another history than before",
		"What it shows does not continue the history that this device has verified. Either it was restored from a backup, and other devices have written since; or it shows different histories to different devices, so that they do not see what the others write. Comparing with another device tells which: with the same words on both, the history has changed behind both; with other words, your devices were shown different ones. " + backup, ""},
	"omission": {"the secondary left something out",
		"A commit, or the content of one, that must be there was not served. The secondary has lost part of its data, or somebody hides something from this device. ", ""},
	"checkpoint": {"a checkpoint that does not agree with the history",
		"One of your devices signs from time to time what the history comes to. Such a checkpoint says something else than the history does, or what the secondary served with it is not what it names. The secondary has served something false, or the device that signed it is faulty or in wrong hands. ",
		"If this came up in a restore, kist restore --full needs no checkpoint. If this device began with one, and its history is not verified yet, do not rely on what it shows: kist restore --full --vault OTHER --key FILE makes another copy from the whole history."},
	"own-commit-missing": {"the secondary has lost what it had confirmed",
		"It had confirmed something that this device wrote, and does not show it where it said it was. Most often it was restored from a backup, or its disk has lost what it had confirmed. What this device wrote is still here. " + backup, ""},
	"order": {"the secondary serves commits in another order than they were made in",
		"A commit stands where its author says that it may not stand. " + faulty, ""},
	"equivocation": {"a device has signed two different commits for one place",
		"This happens where a vault's directory was copied, or restored from a backup, and both copies have written: one of your devices is there twice. If the other device is another one than this, look there for a copy.", copied},
	"device-state-rollback": {"this device's directory is an old copy",
		"The secondary has commits of this device that this directory knows nothing of, and their signatures are good. So the directory was restored from a backup, or copied, and the other copy has written since. This is about this device, and not about the secondary.", copied},
	"signature": {"a commit whose signature is not good",
		"What the secondary served was not signed by the device that it names. " + faulty, ""},
	"unknown-signer": {"a commit by a device that is not yours",
		"The secondary served a commit by a device that your key file never admitted. " + faulty, ""},
	"revoked-signer": {"a commit by a device that was revoked",
		"The secondary served something that a device wrote after it had been revoked. Whoever has that device may work together with the secondary, or the secondary does not keep to the revocation. ", ""},
	"scope": {"a commit by a device that may not write there",
		"A device that is admitted to some namespaces only has written to another one, and the secondary has taken it. " + faulty, ""},
	"epoch": {"a commit under keys that are not in force",
		"It was sealed with keys that had been replaced. " + faulty, ""},
	"blob": {"content that is not what was signed",
		"The content that the secondary served differs from what its author signed. Its disk may be damaged. " + faulty, ""},
	"malformed": {"bytes that are no commit",
		"What the secondary served is not in the form that commits have. " + faulty, "If there is a newer kist, try that first."},
	"limit": {"more than a commit can hold",
		"What the secondary served is beyond what the format allows. " + faulty, "If there is a newer kist, try that first."},
	"control-fork": {"another list of your devices",
		"The statements that say which devices are yours do not continue those that this device knows. Somebody may try to bring in a device, or to hide that one was revoked; or two people have used the key file at a secondary that was restored from a backup. " + backup, ""},
	"no-genesis": {"the secondary has nothing of this vault",
		"Its history of the vault is empty, or does not begin as it must. It was set up anew, or this is another secondary than you think. " + backup, ""},
	"other-vault": {"the secondary serves another vault",
		"What came belongs to another vault than the one on this device. ", ""},
}

// otherAlarm explains an alarm that has no explanation of its own.
var otherAlarm = explanation{"the secondary was caught at something that no honest one does", faulty, "A newer kist may explain it."}

func explanationOf(alarm *vault.Alarm) explanation {
	if e, ok := explanations[alarm.Name()]; ok {
		return e
	}
	return otherAlarm
}

// explainAlarm says in words what was seen, what it may mean, and what to do.
func (a *app) explainAlarm(alarm *vault.Alarm) {
	e := explanationOf(alarm)
	fmt.Fprintf(a.stdout, "%s\n\n", a.out.Red("ALARM: "+a.show(e.title)))
	line := func(label, text string) { fmt.Fprintf(a.stdout, "  %-11s  %s\n", label, a.show(text)) }
	line("seen", a.timeText(alarm.Time))
	line("secondary", alarm.Secondary)
	line("this device", fmt.Sprintf("has verified %s, root %s…", term.Plural(alarm.Size, "commit", "commits"), hex.EncodeToString(alarm.Root[:8])))
	if alarm.Said.Bound {
		line("it said", fmt.Sprintf("that it has %s, root %s… at commit %d", term.Plural(alarm.Said.Size, "commit", "commits"), hex.EncodeToString(alarm.Said.Root[:8]), min(alarm.Size, alarm.Said.Size)))
	}
	line("reason", alarm.String())
	paragraph := func(text string) {
		if text = strings.TrimSpace(text); text != "" {
			fmt.Fprintf(a.stdout, "\n%s\n", wrap(text, 78))
		}
	}
	paragraph(e.may)
	paragraph("Nothing of it was taken over. What is on this device stays, and can be read and written; what you write waits here. Nothing is sent or received until you say so.")
	if errors.Is(alarm.Kind, commitlog.ErrFork) || errors.Is(alarm.Kind, commitlog.ErrRollback) || errors.Is(alarm.Kind, commitlog.ErrOwnCommitMissing) {
		paragraph("If you bring it in order on another device with kist secondary reseed --merge, this one goes on by itself when it syncs.")
	}
	if errors.Is(alarm.Kind, commitlog.ErrRollback) && alarm.Said.Bound {
		paragraph("It also goes on by itself, and says so, when it syncs and the secondary has all again that this device has seen, with nothing else in its place: as after kist secondary reseed on another device. What was seen is kept.")
	}
	paragraph(e.do)
	fmt.Fprint(a.stdout, `
What you can do:
  kist doctor --compare         do your other devices have the same history?
  kist doctor --evidence FILE   keep what was seen, for whoever runs the secondary
  kist export DIR               save what is here in the clear
  kist doctor --try-again       sync again, once you know why: if it is not repaired,
                                the alarm comes again
`)
	if errors.Is(alarm.Kind, commitlog.ErrFork) {
		fmt.Fprint(a.stdout, `  kist secondary reseed --merge --key FILE
                                if it was restored from a backup, and others have written
                                since: bring both histories together, on one device
`)
	}
	if errors.Is(alarm.Kind, commitlog.ErrRollback) || errors.Is(alarm.Kind, commitlog.ErrOwnCommitMissing) || errors.Is(alarm.Kind, commitlog.ErrNoGenesis) {
		fmt.Fprint(a.stdout, `  kist secondary reseed --key FILE
                                fill the secondary again with what this device has; with
                                an invite, another one. See kist secondary reseed --help
`)
	}
	fmt.Fprintln(a.stdout)
}

// wrap breaks a text into lines of at most width characters.
func wrap(text string, width int) string {
	var b strings.Builder
	n := 0
	for _, word := range strings.Fields(text) {
		l := utf8.RuneCountInString(word)
		switch {
		case n == 0:
		case n+1+l > width:
			b.WriteByte('\n')
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += l
	}
	return b.String()
}

// jsonAlarm is an alarm for a program.
type jsonAlarm struct {
	Kind      string     `json:"kind"` // "fork", "rollback", …
	Title     string     `json:"title"`
	Commit    uint64     `json:"commit,omitempty"`
	Reason    string     `json:"reason"`
	Time      *time.Time `json:"time"`
	Tried     *time.Time `json:"tried_again,omitempty"`
	CaughtUp  bool       `json:"caught_up,omitempty"` // then by itself
	Secondary string     `json:"secondary"`
	Size      uint64     `json:"size"` // commits that this device had verified
	Root      string     `json:"root"`
	SaidSize  *uint64    `json:"said_size,omitempty"` // what the secondary said
	SaidRoot  string     `json:"said_root,omitempty"`
}

func alarmJSON(alarm *vault.Alarm) *jsonAlarm {
	if alarm == nil {
		return nil
	}
	j := &jsonAlarm{
		Kind: alarm.Name(), Title: explanationOf(alarm).title, Commit: uint64(alarm.Commit), Reason: alarm.String(), Time: jsonTime(alarm.Time),
		Tried: jsonTime(alarm.Tried), CaughtUp: alarm.CaughtUp, Secondary: alarm.Secondary, Size: alarm.Size, Root: alarm.Root.String(),
	}
	if alarm.Said.Bound {
		j.SaidSize, j.SaidRoot = &alarm.Said.Size, alarm.Said.Root.String()
	}
	return j
}
