package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/kistvault/kist/internal/term"
)

// maxPassphrase bounds what is read while looking for the end of a first line.
const maxPassphrase = 64 << 10

// weakPassphrase is the length below which a person is told that more is better:
// four short words have more.
const weakPassphrase = 12

// passphrase gets a key file's passphrase: from a file, a command or a file
// descriptor, if one was named, else from the person. With confirm it is asked
// for twice, since it locks something new.
func (a *app) passphrase(ctx context.Context, key string, confirm bool) ([]byte, error) {
	if a.ask != nil {
		return a.remotely(ctx, askPassphrase, passphraseQuestion{key, confirm})
	}
	named := 0
	for _, is := range []bool{a.passFile != "", a.passCmd != "", a.passFD >= 0} {
		if is {
			named++
		}
	}
	var p []byte
	var err error
	switch {
	case named > 1:
		return nil, usageError{errors.New("give one of --passphrase-file, --passphrase-command and --passphrase-fd")}
	case a.passFile != "":
		p, err = a.passphraseFile()
	case a.passCmd != "":
		p, err = a.passphraseCommand(ctx)
	case a.passFD >= 0:
		p, err = passphraseFD(a.passFD)
	default:
		p, err = a.askPerson(ctx, key, confirm)
	}
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, &failure{code: exitUsage, text: "the passphrase is empty", hint: "a passphrase of five or more random words"}
	}
	if confirm && len(p) < weakPassphrase {
		a.warn("the passphrase is short: whoever gets the key file can try many; five or more random words are good")
	}
	return p, nil
}

func (a *app) askPerson(ctx context.Context, key string, confirm bool) ([]byte, error) {
	need := &failure{
		code: exitUsage,
		text: "the passphrase of the key file is needed, and there is no terminal to ask for it",
		hint: "--passphrase-file FILE, --passphrase-command COMMAND or --passphrase-fd N",
	}
	need.detail("key file", key)
	if a.noInput {
		need.text = "the passphrase of the key file is needed, and --no-input forbids to ask for it"
		return nil, need
	}
	if confirm && term.IsTerminal(a.stdin) {
		fmt.Fprintln(a.stderr, "Choose a passphrase for the new key file. Five or more random words are good;\nit cannot be recovered if you forget it.")
	}
	prompt := "Passphrase for " + a.clean(key) + ": "
	for {
		p, err := term.ReadPassphrase(ctx, a.stdin, a.stderr, prompt)
		if errors.Is(err, term.ErrNoTerminal) {
			return nil, need
		}
		if errors.Is(err, io.EOF) {
			err = errInterrupted
		}
		if err != nil || !confirm || len(p) == 0 {
			return p, err
		}
		again, err := term.ReadPassphrase(ctx, a.stdin, a.stderr, "The same again: ")
		if errors.Is(err, io.EOF) {
			err = errInterrupted
		}
		if err != nil || bytes.Equal(p, again) {
			return p, err
		}
		fmt.Fprintln(a.stderr, "They differ. Once more.")
	}
}

func (a *app) passphraseFile() ([]byte, error) {
	f, err := os.Open(a.passFile)
	if err != nil {
		return nil, &failure{code: exitUsage, text: fmt.Sprintf("reading the passphrase file: %v", err), hint: "--passphrase-file with a file that is there", err: err}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		a.warn("other users of this machine may be able to read %s: chmod 600 it", a.passFile)
	}
	return firstLine(f)
}

func (a *app) passphraseCommand(ctx context.Context) ([]byte, error) {
	shell := []string{"/bin/sh", "-c"}
	if runtime.GOOS == "windows" {
		shell = []string{"cmd", "/c"}
	}
	cmd := exec.CommandContext(ctx, shell[0], shell[1], a.passCmd)
	cmd.Stdin, cmd.Stderr = a.stdin, a.stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, &failure{code: exitUsage, text: fmt.Sprintf("the passphrase command failed: %v", err), hint: "run the command by itself, to see why", err: err}
	}
	return firstLine(bytes.NewReader(out))
}

func passphraseFD(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "passphrase")
	if f == nil {
		return nil, usageError{fmt.Errorf("there is no file descriptor %d", fd)}
	}
	defer f.Close()
	p, err := firstLine(f)
	if err != nil {
		return nil, usageError{fmt.Errorf("reading the passphrase from file descriptor %d: %w", fd, errors.Unwrap(err))}
	}
	return p, nil
}

// firstLine returns the first line without its end.
func firstLine(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxPassphrase)).ReadBytes('\n')
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
}
