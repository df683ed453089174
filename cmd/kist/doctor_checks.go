package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// A check is one thing that doctor has looked at.
type check struct {
	Name  string `json:"name"`
	State string `json:"state"` // checkOK, checkNote or checkBad
	Text  string `json:"text"`
	hint  string // for checkBad: what to do
}

const (
	checkOK   = "ok"
	checkNote = "note" // good to know
	checkBad  = "bad"  // something is to be done
)

// examine looks at everything but an alarm.
func (a *app) examine(ctx context.Context, v *vault.Vault, st *vault.Status) (out []check, err error) {
	add := func(name, state, hint, format string, args ...any) {
		out = append(out, check{name, state, fmt.Sprintf(format, args...), hint})
	}
	add("store", checkOK, "", "it opens, and holds %s and %s", term.Plural(st.Commits, "verified commit", "verified commits"), term.Plural(st.Records, "record", "records"))
	switch {
	case st.Secondary == "":
		add("secondary", checkNote, "", "none: what is here is on this device alone")
	case st.Revoked:
		add("secondary", checkBad, "", "this device was revoked: it may not sync any more")
	case st.Rebuilding:
		add("secondary", checkBad, "kist sync", "the store was made anew, and the rest has to come: kist sync")
	case unfinished(st):
		add("secondary", checkBad, "the same kist onboard or kist restore again", "onboarding or restore is not complete")
	default:
		add("secondary", checkOK, "", "%s, known by its key %s…", st.Secondary, v.Servers()[0].Key.String()[:8])
	}
	alarms, err := v.Alarms(ctx)
	if err != nil {
		return nil, err
	}
	switch n := len(alarms); {
	case st.Alarm != "":
		add("alarm", checkBad, "kist doctor", "%s", st.Alarm)
	case n > 0:
		last := alarms[n-1]
		text := explanationOf(last).title
		if last.CaughtUp {
			text += ", and has caught up " + a.timeText(last.Tried)
		}
		add("alarm", checkNote, "", "none stops the sync; %s before, the last %s: %s", term.Plural(n, "was seen", "were seen"), a.timeText(last.Time), text)
	default:
		add("alarm", checkOK, "", "none was ever seen")
	}
	switch {
	case st.Aside > 0:
		add("outbox", checkBad, "kist sync", "the secondary refused %s of this device: kist sync tells why", term.Plural(st.Aside, "change", "changes"))
	case st.Pending > 0 && st.Secondary != "":
		add("outbox", checkNote, "", "%s to send: kist sync", term.Plural(st.Pending, "change", "changes"))
	default:
		add("outbox", checkOK, "", "nothing waits to be sent")
	}
	if st.Missing > 0 {
		add("missing", checkBad, "kist sync", "the content of %s has not come: kist sync", term.Plural(st.Missing, "change", "changes"))
	} else {
		add("missing", checkOK, "", "all content that is to be here is here")
	}
	if st.Quarantine > 0 {
		add("quarantine", checkBad, "kist status -v", "%s cannot be read, and all others can: kist status -v lists them", term.Plural(st.Quarantine, "change", "changes"))
	} else {
		add("quarantine", checkOK, "", "every change can be read")
	}
	add("device key", checkNote, "", "%s", protectionText(a.vaultDir))
	clock := time.Now().In(a.zone()).Format("2006-01-02 15:04:05 MST")
	if st.Ahead > 0 {
		add("clocks", checkNote, "", "this device says %s; %s dated in the future, so a clock was wrong there or is here: kist status -v lists them", clock, term.Plural(st.Ahead, "record is", "records are"))
	} else {
		add("clocks", checkOK, "", "this device says %s, and nothing is dated after that", clock)
	}
	return out, nil
}

func (a *app) printChecks(st *vault.Status, checks []check) {
	fmt.Fprintf(a.stdout, "vault %s in %s\n", a.out.Bold(st.Vault.Short()), a.show(a.vaultDir))
	for _, c := range checks {
		mark := a.out.Green("ok  ")
		switch c.State {
		case checkNote:
			mark = a.out.Yellow("note")
		case checkBad:
			mark = a.out.Red("BAD ")
		}
		fmt.Fprintf(a.stdout, "  %s  %-10s  %s\n", mark, c.Name, a.show(c.Text))
	}
}
