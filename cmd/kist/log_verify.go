package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// verifyLog works the log out anew and says what it came to.
func (a *app) verifyLog(ctx context.Context, v *vault.Vault) error {
	r, err := v.VerifyLog(ctx, a.counting("verified"))
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			Version int    `json:"version"`
			Type    string `json:"type"`
			Done    string `json:"done"`
			Commits uint64 `json:"commits"`
			Root    string `json:"root"`
			Live    uint64 `json:"live"`
			Digest  string `json:"digest"`
		}{jsonVersion, "result", "verified", r.Commits, hex.EncodeToString(r.Root[:]), r.Live, hex.EncodeToString(r.Digest[:])})
	}
	a.tell("%s %s: signatures, order, tree and live changes are as they are kept", a.out.Green("verified"), term.Plural(r.Commits, "commit", "commits"))
	a.tell("  root    %s at commit %d", hex.EncodeToString(r.Root[:]), r.Commits)
	a.tell("  live    %s", term.Plural(r.Live, "change", "changes"))
	a.tell("  digest  %s", hex.EncodeToString(r.Digest[:]))
	return nil
}

// counting returns a progress function that draws one line on a terminal.
func (a *app) counting(what string) func(done, total uint64) {
	if a.quiet || a.json || !term.IsTerminal(a.stderr) {
		return nil
	}
	return func(done, total uint64) {
		fmt.Fprintf(a.stderr, "\r%s %d of %d commits", what, done, total)
		if done >= total {
			fmt.Fprint(a.stderr, "\r\x1b[K")
		}
	}
}
