package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/internal/agent"
	"github.com/kistvault/kist/internal/entries"
	"github.com/kistvault/kist/internal/term"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/onboarding"
	"github.com/kistvault/kist/secondary/wire"
	"github.com/kistvault/kist/vault"
)

// usageError is a fault of the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// A failure is an error that knows how it is told to a person.
type failure struct {
	code    int
	text    string
	details [][2]string // label, text
	hint    string      // a command or a sentence; may be empty
	err     error       // the reason; may be nil
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

func (f *failure) detail(label, text string) { f.details = append(f.details, [2]string{label, text}) }

// maxErrorLine is the length in characters at which a line of an error is cut in
// the middle: a name has up to 512 bytes.
const maxErrorLine = 300

// printProblem prints a failure in the one form that errors have:
//
//	kist: what failed
//	  label  detail
//	try: what to do
func (a *app) printProblem(f *failure) {
	var b strings.Builder
	lines := strings.Split(f.text, "\n")
	for i, l := range lines {
		if r := []rune(l); len(r) > maxErrorLine {
			lines[i] = string(r[:maxErrorLine/2]) + " … " + string(r[len(r)-maxErrorLine/2:])
		}
	}
	b.WriteString(a.note.Red("kist: ") + a.clean(lines[0]) + "\n")
	for _, l := range lines[1:] {
		b.WriteString("  " + a.clean(l) + "\n")
	}
	width := 0
	for _, d := range f.details {
		width = max(width, len(d[0]))
	}
	for _, d := range f.details {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, d[0], a.clean(d[1]))
	}
	if f.hint != "" {
		b.WriteString(a.note.Bold("try: ") + a.clean(f.hint) + "\n")
	}
	fmt.Fprint(a.stderr, b.String())
}

// explain turns any error into what is printed, and the exit status.
func (a *app) explain(err error) *failure {
	var f *failure
	if !errors.As(err, &f) {
		f = a.classify(err)
	}
	var named *wire.ConnError
	if errors.As(err, &named) {
		f.detail("connection", named.Conn+", in the secondary's log")
	}
	if errors.Is(err, errSilent) {
		a.movedSince(f)
	}
	if errors.Is(err, onboarding.ErrUnfinished) {
		f.hint = "the same command again: it goes on where it ended"
	}
	return f
}

func (a *app) classify(err error) *failure {
	f := &failure{code: exitFailed, text: err.Error(), err: err}
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	// set fills in what does not depend on the error's text.
	set := func(code int, hint string) *failure {
		f.code, f.hint = code, hint
		return f
	}
	var usage usageError

	switch {
	case errors.As(err, &usage):
		if a.cmd.HasParent() {
			f.detail("usage", a.cmd.UseLine())
		}
		return set(exitUsage, a.cmd.CommandPath()+" --help")
	case is(errInterrupted, errTerminated):
		f.text = "interrupted"
		return set(exitInterrupted, "")

	case is(agent.ErrEnded):
		f.text = "kist run ended, and this command with it"
		return set(exitTemporary, "the same again")

	// The vault's directory.
	case is(vault.ErrNoVault):
		f.text = "there is no vault here"
		f.detail("vault", a.vaultDir)
		return set(exitNoVault, "kist onboard INVITE --key FILE to make one, kist restore --key FILE to get one back, or --vault DIR for another place")
	case is(vault.ErrInUse):
		f.text = "the vault is in use by another program"
		f.detail("vault", a.vaultDir)
		if by := holder(a.vaultDir); by != "" {
			f.detail("held by", by)
		}
		return set(exitInUse, "wait for it, or end it")
	case is(vault.ErrValueDamaged):
		f.detail("vault", a.vaultDir)
		return set(exitIntegrity, "kist sync --full; what was never sent is lost: write it again")
	case is(vault.ErrDamaged):
		f.detail("vault", a.vaultDir)
		f.detail("unsent", "changes that were never sent are in this directory alone: keep it")
		if _, kerr := keyfile.ReadDevice(filepath.Join(a.vaultDir, "device.key")); kerr == nil {
			return set(exitIntegrity, "kist doctor")
		}
		return set(exitIntegrity, "mv "+quote(a.vaultDir)+" "+quote(a.vaultDir+".damaged")+", then kist restore --vault "+quote(a.vaultDir)+" --key FILE")
	case is(vault.ErrReadOnly):
		f.detail("vault", a.vaultDir)
		f.detail("safe", "what was written before is there; this was not done, or not wholly")
		return set(exitFailed, "make room on the disk, if it is full, and the same again; kist run goes on by itself")
	case is(vault.ErrExists):
		return set(exitConflict, "choose another directory with --vault DIR")

	// The log: what a secondary was caught at, or what was done to this device.
	case vault.IsAlarm(err):
		f.detail("vault", a.vaultDir)
		f.detail("meaning", "nothing of it was taken over; nothing is sent or received until you say so")
		return set(exitIntegrity, "kist doctor")
	case is(vault.ErrRevoked, commitlog.ErrRevoked):
		f.text = "this device was revoked: it may not sync any more"
		f.detail("vault", a.vaultDir)
		return set(exitRevoked, "kist export DIR to save what is here; kist restore --vault OTHER --key FILE to join as a new device")

	// The secondary.
	case is(wire.ErrServerIdentity):
		here, _ := vault.Exists(a.vaultDir)
		if here {
			f.detail("safe", "nothing was sent; what is on this device stays and can be used")
		}
		var cert *tls.CertificateVerificationError
		if errors.As(err, &cert) {
			f.detail("meaning", "a reverse proxy is at this address, and this device does not accept its certificate, as a browser would not")
			return set(exitIntegrity, "check this device's clock, and tell who runs the secondary")
		}
		if here {
			return set(exitIntegrity, "ask who runs the secondary: where its address or key has changed, kist secondary reseed INVITE --key FILE with a new invite goes on there; kist export DIR saves what is here")
		}
		return a.movedSince(set(exitIntegrity, "check the address, and ask who runs the secondary for a new invite"))
	case is(vault.ErrNotAll):
		return set(exitConflict, "kist sync --full, or the same on a device that keeps everything (kist select)")
	case is(onboarding.ErrNotThere):
		return a.movedSince(set(exitNotFound, "check that the key file and the secondary belong together"))
	case is(wire.ErrInvite, onboarding.ErrInviteExpired):
		return set(exitLocked, "ask who runs the secondary for a new invite (kistd invite)")
	case is(onboarding.ErrNeedInvite):
		f.text = "an invite is needed: it says where the secondary is"
		return set(exitUsage, "kist onboard INVITE --key FILE")
	case is(onboarding.ErrNeedSecondary):
		return set(exitUsage, "kist restore --key FILE --secondary INVITE")
	case is(wire.ErrInviteText):
		return set(exitUsage, "copy the whole invite: it begins with kistinvite1")
	case is(wire.ErrDenied):
		if here, _ := vault.Exists(a.vaultDir); here {
			f.detail("meaning", "the secondary does not know this vault or this device: it may have lost its data")
			f.detail("safe", "what is on this device stays and can be used")
			return set(exitLocked, "ask who runs the secondary; kist export DIR saves what is here")
		}
		return a.movedSince(set(exitLocked, "check that the key file and the secondary belong together"))
	case is(wire.ErrSuspended):
		f.text = "who runs the secondary has suspended this vault, or is about to delete it"
		if here, _ := vault.Exists(a.vaultDir); !here {
			return a.movedSince(set(exitLocked, "ask who runs the secondary soon (kistd vaults resume takes either back)"))
		}
		f.detail("safe", "what is on this device stays and can be used; what you write is sent when the vault is active again")
		return set(exitLocked, "ask who runs the secondary soon (kistd vaults resume takes either back); kist export DIR saves what is here")
	case is(wire.ErrQuota):
		f.text = "the secondary has no more room for this vault"
		return set(exitSize, "ask who runs the secondary for more (kistd vaults quota), or remove what is not needed, and try again in some weeks")
	case is(wire.ErrVersion):
		return set(exitFailed, "use the same version of kist and kistd")

	case is(commitlog.ErrLimit) && slices.Contains([]string{"onboard", "restore"}, a.cmd.Name()):
		f.detail("meaning", "a vault takes 64 devices, those that are lost included, and none can be taken out yet")
		return set(exitSize, "kist export DIR on a device that is in it, and kist import to a new vault")

	// Keys.
	case is(keyfile.ErrMode):
		return set(exitFailed, "chmod 600 "+quote(filepath.Join(a.vaultDir, "device.key")))
	case is(keyfile.ErrExists):
		return set(exitConflict, "choose another name with --key FILE")
	case is(keyfile.ErrPassphrase):
		return set(exitKey, "the same again with the right passphrase or key file")
	case is(keyfile.ErrNoMatch, keyfile.ErrWorkFactor):
		return set(exitKey, "the same again with the right key file")
	case is(commitlog.ErrVaultIDMismatch, keyfile.ErrVaultIDMismatch):
		return set(exitKey, "the same again with the vault's own key file, or with another directory: --vault DIR")
	case is(keyfile.ErrDamaged, keyfile.ErrVersion):
		return set(exitKey, "use another copy of the key file")
	case is(keyfile.ErrPart):
		return set(exitConflict, "look at the file that is named, and move it away if it is not needed")

	// Records.
	case is(vault.ErrCompacted):
		return set(exitNotFound, "kist history with the record's name shows what is here; another device may have kept more")
	case is(vault.ErrNotFound):
		return set(exitNotFound, "kist ls")
	case is(vault.ErrNotSelected):
		return set(exitConflict, "kist select shows what this device keeps; kist select with this namespace among the others, or kist select --all, and then kist sync")
	case is(vault.ErrIncomplete):
		return set(exitTemporary, "kist sync")
	case is(vault.ErrNotHere):
		return set(exitTemporary, "kist sync; kist get fetches a value that was left at the secondary")
	case is(vault.ErrCondition):
		return set(exitConflict, "kist get, to see what is there")
	case is(vault.ErrTooLarge, wire.ErrTooLarge, keyfile.ErrContent, entries.ErrTooLarge):
		return set(exitSize, "")
	case is(vault.ErrInvalid, keys.ErrDeviceName):
		return set(exitUsage, "")
	case is(vault.ErrNoSecondary):
		f.text = "this vault has no secondary yet: there is nothing to sync with"
		return set(exitConflict, "kist onboard INVITE --key FILE")
	case is(vault.ErrNotEnrolled):
		return a.unfinished()
	case is(vault.ErrNotUnderstood):
		return set(exitFailed, "use a newer kist")
	case is(wire.ErrReplaced):
		return set(exitInUse, "end the other program of this device; if there is none, this vault was copied: kist restore --vault OTHER --key FILE")

	// What may pass.
	case is(vault.ErrNotArrived):
		f.text = "the vault is being moved to another secondary, which does not have all of it yet"
		f.detail("safe", "what you write stays on this device and is sent later")
		return set(exitTemporary, "the same again later; if it stays so, kist secondary move again on the device that moves it, or kist secondary reseed --key FILE on any")
	case is(wire.ErrReadOnly):
		f.detail("meaning", "its disk is full or failing; whoever runs it sees why in its log")
		if here, _ := vault.Exists(a.vaultDir); here && a.cmd.Name() == "sync" {
			f.detail("safe", "what you write stays on this device and is sent later; what others wrote is here")
		}
		return set(exitTemporary, "the same again in a while; tell who runs the secondary")
	case is(errSilent):
		return set(exitTemporary, "try again later, or with a longer --timeout")
	case is(wire.ErrUnreachable, wire.ErrBusy, wire.ErrTimeout, wire.ErrShutdown, wire.ErrInternal, context.DeadlineExceeded):
		if here, _ := vault.Exists(a.vaultDir); here && a.cmd.Name() == "sync" {
			f.detail("safe", "what you write stays on this device and is sent later")
		}
		return a.movedSince(set(exitTemporary, againHint(err)))
	case is(syscall.ENOSPC, syscall.EDQUOT):
		return set(exitFailed, "make room on the disk")
	case is(fs.ErrNotExist):
		return set(exitNotFound, "check the file's name")
	}
	return f
}

// againHint says when to try again.
func againHint(err error) string {
	var said *wire.Error
	if !errors.As(err, &said) || said.RetryAfter == 0 {
		return "the same again, when the network and the secondary are up"
	}
	seconds := (min(said.RetryAfter, 1<<32) + 999) / 1000
	return "the same again in " + term.Plural(seconds, "second", "seconds") + ", as the secondary asks; kist run comes again by itself"
}

// holder names the process that has a vault's store open, where the system
// tells.
func holder(dir string) string {
	if runtime.GOOS != "linux" {
		return ""
	}
	file, err := os.Stat(filepath.Join(dir, "vault.db"))
	if err != nil {
		return ""
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || filepath.Base(target) != "vault.db" {
			continue
		}
		if held, err := os.Stat(link); err != nil || !os.SameFile(file, held) {
			continue
		}
		pid := strings.Split(link, "/")[2]
		if pid == fmt.Sprint(os.Getpid()) {
			continue
		}
		line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		return fmt.Sprintf("%s (process %s)", commandName(line), pid)
	}
	return ""
}

// commandName returns a program's name and, where that comes first, its command:
// no more of the command line, which may hold names of records.
func commandName(line []byte) string {
	args := strings.Split(string(line), "\x00")
	name := filepath.Base(args[0])
	if len(args) > 1 && args[1] != "" && !strings.ContainsFunc(args[1], func(r rune) bool { return r < 'a' || r > 'z' }) {
		name += " " + args[1]
	}
	return name
}

// quote writes a path so that it can be pasted into a shell.
func quote(path string) string {
	if path != "" && !strings.ContainsFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r))
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
