package main

import (
	"time"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// longAgo is how old the last contact may be without being pointed out.
const longAgo = 7 * 24 * time.Hour

// agoText says how long ago something was, in one unit.
func agoText(d time.Duration) string {
	switch {
	case d < -time.Minute: // the clock was set back
		return "in the future, by this device's clock"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return term.Plural(int(d/time.Minute), "minute", "minutes") + " ago"
	case d < 48*time.Hour:
		return term.Plural(int(d/time.Hour), "hour", "hours") + " ago"
	}
	return term.Plural(int(d/(24*time.Hour)), "day", "days") + " ago"
}

// withContact adds to what stateText says when the vault was in step last.
func withContact(state string, st *vault.Status, now time.Time) string {
	switch {
	case st.Secondary == "" || st.InStep.IsZero():
		return state
	case stateWord(st) == "in-step":
		return state + ", " + agoText(now.Sub(st.InStep))
	}
	return state + "; in step " + agoText(now.Sub(st.InStep))
}
