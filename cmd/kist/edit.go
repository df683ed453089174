package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/vault"
)

// maxEdit is the longest version that is given to an editor.
const maxEdit = 4 << 20

// edit settles a conflict by what a person writes. They are given a file with all
// versions: what these have in common at the beginning and at the end once, and
// between marks what differs.
func (s *settling) edit(ctx context.Context) error {
	if s.noInput {
		return usageError{errors.New("--edit opens an editor, and --no-input forbids it")}
	}
	var versions []side
	for _, r := range s.c.Versions {
		if r.Deleted {
			continue
		}
		text, err := s.text(ctx, r)
		if err != nil {
			return err
		}
		versions = append(versions, side{fmt.Sprintf("%s, %s", term.Clean(r.Device), s.timeText(r.Time)), text})
	}
	begin := compose(versions)
	path, err := scratch(s.c.Name, begin)
	if err != nil {
		return err
	}
	value, err := s.edited(ctx, path, begin)
	if err == nil {
		shown := *s.c.Versions[0]
		if shown.Expires.Before(time.Now()) {
			shown.Expires = time.Time{} // what is written now is to be seen
		}
		var rev vault.Revision
		rev, err = s.ns.Settle(ctx, s.c.Name, vault.Resolution{
			Value: value, ContentType: shown.ContentType, Expires: shown.Expires, Available: shown.Available,
		}, s.unchanged())
		err = s.done(rev, err, "settled by what you wrote")
	}
	if now, rerr := os.ReadFile(path); err != nil && rerr == nil && !bytes.Equal(now, begin) {
		var f *failure
		if !errors.As(err, &f) {
			f = &failure{code: exitFailed, text: err.Error(), err: err}
		}
		// What was written is not lost.
		f.detail("kept", path)
		return f
	}
	return errors.Join(err, os.RemoveAll(filepath.Dir(path)))
}

// edited runs the editor and returns what the file holds then.
func (s *settling) edited(ctx context.Context, path string, begin []byte) ([]byte, error) {
	if err := s.runEditor(ctx, path); err != nil {
		return nil, err
	}
	value, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, l := range bytes.Split(value, []byte("\n")) {
		for _, m := range []string{markBegin, markNext, markEnd} {
			if bytes.HasPrefix(l, []byte(m)) && bytes.Contains(begin, l) {
				return nil, &failure{code: exitFailed, text: fmt.Sprintf("%q was not settled: lines with %q are left", s.arg, strings.TrimSpace(m)),
					hint: "edit again and take them out, or kist conflicts " + quote(s.arg) + " --keep N"}
			}
		}
	}
	return value, nil
}

// text returns a version that can be edited.
func (s *settling) text(ctx context.Context, r *vault.Record) ([]byte, error) {
	hint := "kist conflicts " + quote(s.arg) + " --keep N or --both"
	if r.Size > maxEdit {
		return nil, &failure{code: exitSize, text: fmt.Sprintf("the version by %s is too long to edit", r.Device), hint: hint}
	}
	value, err := s.c.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer value.Close()
	text, err := io.ReadAll(value)
	if err == nil && term.Binary(text) {
		err = &failure{code: exitUsage, text: fmt.Sprintf("the version by %s is not text", r.Device), hint: hint}
	}
	return text, err
}

// A side is one of the texts that are put together for an editor.
type side struct {
	by   string // device and time
	text []byte
}

// Marks before the versions of what differs, and after the last.
const (
	markBegin = "<<<<<<< "
	markNext  = "======= "
	markEnd   = ">>>>>>>"
)

// compose puts versions together for an editor.
func compose(versions []side) []byte {
	var all [][]string
	short := -1
	for _, v := range versions {
		lines := strings.SplitAfter(string(v.text), "\n")
		if last := len(lines) - 1; lines[last] == "" {
			lines = lines[:last]
		} else {
			lines[last] += "\n" // a mark begins its line
		}
		all = append(all, lines)
		if short < 0 || len(lines) < short {
			short = len(lines)
		}
	}
	if len(all) == 1 {
		return versions[0].text
	}
	same := func(at func(lines []string) string) bool {
		for _, lines := range all[1:] {
			if at(lines) != at(all[0]) {
				return false
			}
		}
		return true
	}
	head, tail := 0, 0
	for head < short && same(func(l []string) string { return l[head] }) {
		head++
	}
	for head+tail < short && same(func(l []string) string { return l[len(l)-1-tail] }) {
		tail++
	}
	var b strings.Builder
	write := func(lines []string) {
		for _, l := range lines {
			b.WriteString(l)
		}
	}
	write(all[0][:head])
	for i, lines := range all {
		mark := markNext
		if i == 0 {
			mark = markBegin
		}
		fmt.Fprintf(&b, "%s%d: %s\n", mark, i+1, versions[i].by)
		write(lines[head : len(lines)-tail])
	}
	b.WriteString(markEnd + "\n")
	write(all[0][len(all[0])-tail:])
	return []byte(b.String())
}

// scratch writes a file for an editor into a new directory that only this person
// can read; where there is one, it is in memory.
func scratch(name string, text []byte) (path string, err error) {
	parent := os.Getenv("XDG_RUNTIME_DIR")
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "kist-")
	if err != nil {
		return "", err
	}
	// The name tells the editor what kind of text it is.
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name[strings.LastIndexByte(name, '/')+1:])
	if len(base) > 64 {
		base = base[len(base)-64:]
	}
	path = filepath.Join(dir, "record-"+base)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return path, nil
}

// runEditor has the person edit a file with their editor, and returns when that
// has ended.
func (a *app) runEditor(ctx context.Context, path string) error {
	if a.ask != nil {
		_, err := a.remotely(ctx, askEditor, editorQuestion{path})
		return err
	}
	editor := cmp.Or(a.getenv("VISUAL"), a.getenv("EDITOR"))
	if editor == "" {
		if !term.IsTerminal(a.stdin) {
			return &failure{code: exitUsage, text: "no editor is named, and there is no terminal for one", hint: "set VISUAL or EDITOR"}
		}
		editor = "vi"
		if runtime.GOOS == "windows" {
			editor = "notepad"
		}
	}
	// It may come with flags of its own, as in "code --wait".
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$1"`, "sh", path)
	if runtime.GOOS == "windows" {
		words := append(strings.Fields(editor), path)
		cmd = exec.CommandContext(ctx, words[0], words[1:]...)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	if !term.IsTerminal(a.stdout) {
		cmd.Stdout = a.stderr // stdout is for the result
	}
	if err := cmd.Run(); err != nil {
		return &failure{code: exitFailed, text: fmt.Sprintf("the editor failed: %v", err), err: err, hint: "set VISUAL or EDITOR to another one"}
	}
	return nil
}
