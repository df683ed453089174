package main

import (
	"fmt"
	"strings"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// statementTexts says in words what the statements of a control commit are.
func statementTexts(c *vault.CommitInfo) (out []string) {
	device := func(id [16]byte) string {
		if name := c.Names[id]; name != "" {
			return name
		}
		return "a device"
	}
	for _, st := range c.Statements {
		switch st.Kind() {
		case commitlog.StatementGenesis:
			out = append(out, "the vault begins")
		case commitlog.StatementAddDevice:
			out = append(out, device(st.AddDevice.Certificate.Device)+" is admitted")
		case commitlog.StatementRevoke:
			out = append(out, device(st.Revoke.Device)+" is shut out")
		case commitlog.StatementRotate:
			out = append(out, "new keys")
		case commitlog.StatementPolicy:
			out = append(out, "other rules")
		case commitlog.StatementMove:
			out = append(out, "the vault moves to "+st.Move.URL)
		case commitlog.StatementReset:
			if !st.Reset.More {
				out = append(out, fmt.Sprintf("another history ends, which parted after commit %d", st.Reset.Kept))
			}
		}
	}
	return out
}

// controlText describes a control commit in a line.
func controlText(c *vault.CommitInfo) string {
	n := term.Plural(c.Changes, "change", "changes")
	if texts := statementTexts(c); len(texts) > 0 {
		return n + ": " + strings.Join(texts, ", ")
	}
	return n
}
