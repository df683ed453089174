package main

import (
	"fmt"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// historyText says how much of the history is verified.
func historyText(st *vault.Status) string {
	all := term.Plural(st.Commits, "commit", "commits")
	if st.Base == 0 {
		return all + ", every one verified"
	}
	return fmt.Sprintf("%s; of the %d up to the checkpoint, %d are verified so far", all, st.Base, st.Verified)
}

// laterText says what becomes of the rest.
const laterText = "kist run and kist sync verify the rest; kist sync --full does it at once"

// staleText says that nobody has been heard of for long; empty where that is not so.
func (a *app) staleText(st *vault.Status) string {
	if !st.Stale {
		return ""
	}
	return fmt.Sprintf("no other device has been heard of since %s: they are off, or the secondary holds back what they send", a.timeText(st.Heard))
}
