package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/vault"
)

// Every kind of alarm is explained, and nothing else is.
func TestExplanations(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../vault/alarm.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "alarmKinds" {
			return true
		}
		for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
			kinds++
			name := strings.Trim(e.(*ast.CompositeLit).Elts[0].(*ast.BasicLit).Value, `"`)
			if e := explanations[name]; e.title == "" || len(e.may) < 60 {
				t.Errorf("%s is not explained", name)
			}
		}
		return false
	})
	if kinds != len(explanations) {
		t.Errorf("%d kinds of alarms, %d explanations", kinds, len(explanations))
	}
	if e := explanationOf(&vault.Alarm{}); e.title != otherAlarm.title {
		t.Errorf("%+v", e)
	}
}

func TestWrap(t *testing.T) {
	if got := wrap("ä bb  ccc\ndddd e", 4); got != "ä bb\nccc\ndddd\ne" {
		t.Errorf("%q", got)
	}
}

// A record that shows an earlier version says so.
func TestWarnOfUnread(t *testing.T) {
	var out, note bytes.Buffer
	a := &app{caller: caller{stdout: &out, stderr: &note, zone: func() *time.Location { return time.UTC }}}
	rec := &vault.Record{Namespace: "notes", Name: "x", Unread: commitlog.ChangeID{Commit: 7, Index: 1}}
	a.warnOf("notes/x", rec)
	if !strings.Contains(note.String(), `"notes/x" has a newer version (7.1) that this program cannot read`) {
		t.Errorf("%q", note.String())
	}
	b, err := json.Marshal(recordJSON("record", rec))
	if err != nil || !strings.Contains(string(b), `"unread":"7.1"`) {
		t.Errorf("%s, %v", b, err)
	}
}
