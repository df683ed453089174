package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"filippo.io/age"
	"filippo.io/age/armor"
	"filippo.io/age/plugin"

	"github.com/kistvault/kist/internal/testonly"
)

// plugins are the age plugins that a key file may be locked for and opened
// with: hardware keys whose programs are maintained. A name outside this list
// would have kist start any program of the form age-plugin-NAME.
var plugins = []string{"yubikey", "se", "tpm", "fido2-hmac"}

// Lock says how a key file is locked: with a passphrase, or for recipients. age
// does not mix the two; who wants both makes two files with the same root.
type Lock struct {
	Passphrase []byte // not empty

	// Recipients are X25519 (age1…), hybrid post-quantum (age1pq…) or of an
	// allowed plugin; age does not mix post-quantum and other ones.
	Recipients []age.Recipient
}

// Unlock is what a key file is opened with. A field that does not fit the file
// is not used.
type Unlock struct {
	// Passphrase is asked for only when a file is locked with one whose work
	// factor is acceptable, and at most once in a call. Its error is
	// returned as it is. It may be nil.
	Passphrase func() ([]byte, error)

	// Identities are tried for files locked for recipients, those that need
	// no plugin first.
	Identities []age.Identity

	// Warn is told, in a sentence for a person, what should be changed about
	// a file that opens. It may be nil.
	Warn func(text string)
}

// recipients returns what to hand to age.
func (l Lock) recipients() ([]age.Recipient, error) {
	switch {
	case len(l.Passphrase) > 0 && len(l.Recipients) > 0:
		return nil, fmt.Errorf("%w: passphrase and recipients in one file; make two key files", ErrLock)
	case len(l.Passphrase) > 0:
		r, err := age.NewScryptRecipient(string(l.Passphrase))
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrLock, err) // unreachable: not empty
		}
		r.SetWorkFactor(WorkFactor)
		if n := testonly.ScryptWorkFactor; n != 0 {
			r.SetWorkFactor(n)
		}
		return []age.Recipient{r}, nil
	case len(l.Recipients) == 0:
		return nil, fmt.Errorf("%w: the passphrase is empty, and there are no recipients", ErrLock)
	case len(l.Recipients) > maxRecipients:
		return nil, fmt.Errorf("%w: %d recipients, at most %d", ErrLock, len(l.Recipients), maxRecipients)
	}
	for _, r := range l.Recipients {
		switch r := r.(type) {
		case *age.X25519Recipient, *age.HybridRecipient:
		case *plugin.Recipient:
			if !slices.Contains(plugins, r.Name()) {
				return nil, fmt.Errorf("%w: plugin %q is not one of %q", ErrLock, r.Name(), plugins)
			}
		default:
			return nil, fmt.Errorf("%w: recipient of type %T", ErrLock, r)
		}
	}
	return l.Recipients, nil
}

// encrypt returns the armored age file with this content.
func (l Lock) encrypt(content []byte) ([]byte, error) {
	recipients, err := l.recipients()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	a := armor.NewWriter(&b)
	w, err := age.Encrypt(a, recipients...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLock, err)
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		return nil, err
	}
	if b.Len() > MaxFile {
		return nil, fmt.Errorf("%w: recipients make a key file of %d bytes, at most %d", ErrLock, b.Len(), MaxFile)
	}
	return b.Bytes(), nil
}

// Decrypt opens an armored age file by the rules for key files and returns its
// content, whatever that is. The error wraps [ErrPassphrase], [ErrNoMatch],
// [ErrWorkFactor] or [ErrDamaged]; or it is that of u.Passphrase or of a
// plugin.
func Decrypt(armored []byte, u Unlock) ([]byte, error) {
	if len(armored) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrDamaged, len(armored), MaxFile)
	}
	opener := &opener{unlock: u}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(armored)), opener)
	if err != nil {
		switch {
		case opener.err != nil:
			return nil, opener.err
		case isArmorError(err):
			return nil, errArmor
		case opener.unwrapped:
			return nil, fmt.Errorf("%w: the header was altered, or the content is cut off", ErrDamaged)
		}
		return nil, fmt.Errorf("%w: the header is malformed", ErrDamaged)
	}
	content, err := io.ReadAll(io.LimitReader(r, MaxContent+1))
	switch {
	case isArmorError(err):
		return nil, errArmor
	case err != nil:
		return nil, fmt.Errorf("%w: the content was altered or is cut short", ErrDamaged)
	case len(content) > MaxContent:
		return nil, fmt.Errorf("%w: content over %d bytes", ErrDamaged, MaxContent)
	}
	return content, nil
}

var errArmor = fmt.Errorf("%w: not an armored age file, or changed by an editor or a mail program", ErrDamaged)

// isArmorError reports whether err is about the armor. Its text is not used:
// it quotes the line, which in a file of the wrong kind may be a secret.
func isArmorError(err error) bool {
	var e *armor.Error
	return errors.As(err, &e)
}

// opener is the one identity that age sees. It decides from the stanzas what
// kind of lock there is, checks what a hostile file could cost before paying,
// and keeps the reason of a failure.
type opener struct {
	unlock    Unlock
	unwrapped bool  // the file key was found
	err       error // why it was not
}

// Unwrap implements [age.Identity].
func (o *opener) Unwrap(stanzas []*age.Stanza) (fileKey []byte, err error) {
	if slices.ContainsFunc(stanzas, isScrypt) {
		fileKey, err = o.unwrapPassphrase(stanzas)
	} else {
		fileKey, err = o.unwrapIdentities(stanzas)
	}
	o.unwrapped, o.err = err == nil, err
	return fileKey, err
}

func isScrypt(s *age.Stanza) bool { return s.Type == "scrypt" }

var workFactorRE = regexp.MustCompile(`^[1-9][0-9]*$`)

// unwrapPassphrase opens the one scrypt stanza that a file may have.
func (o *opener) unwrapPassphrase(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || len(stanzas[0].Args) != 2 || !workFactorRE.MatchString(stanzas[0].Args[1]) {
		return nil, fmt.Errorf("%w: the header is malformed", ErrDamaged)
	}
	factor := 0
	if w := stanzas[0].Args[1]; len(w) <= 2 { // three digits are too many anyway
		fmt.Sscan(w, &factor)
	}
	if factor < minWorkFactor || factor > maxWorkFactor {
		return nil, fmt.Errorf("%w: it is %s, and %d to %d are accepted: open the file with age and lock it again",
			ErrWorkFactor, clip(stanzas[0].Args[1]), minWorkFactor, maxWorkFactor)
	}
	if o.unlock.Passphrase == nil {
		return nil, fmt.Errorf("%w: it is locked with a passphrase", ErrNoMatch)
	}
	passphrase, err := o.unlock.Passphrase()
	if err != nil {
		return nil, err
	}
	if len(passphrase) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrPassphrase)
	}
	id, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err // unreachable: not empty
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	fileKey, err := id.Unwrap(stanzas)
	switch {
	case errors.Is(err, age.ErrIncorrectIdentity):
		return nil, fmt.Errorf("%w: check the keyboard layout, and that this is the right file", ErrPassphrase)
	case err != nil:
		return nil, fmt.Errorf("%w: the header is malformed", ErrDamaged)
	}
	if factor < weakWorkFactor && o.unlock.Warn != nil {
		o.unlock.Warn(fmt.Sprintf("the key file protects its passphrase weakly (scrypt work factor %d, now %d is usual): set the passphrase again", factor, WorkFactor))
	}
	return fileKey, nil
}

// clip shortens digits from a file for a message.
func clip(s string) string {
	if len(s) > 10 {
		return s[:10] + "…"
	}
	return s
}

// unwrapIdentities tries all identities, those without a plugin first.
func (o *opener) unwrapIdentities(stanzas []*age.Stanza) ([]byte, error) {
	if len(o.unlock.Identities) == 0 {
		return nil, fmt.Errorf("%w: it is locked for recipients, and no identity is given", ErrNoMatch)
	}
	for _, native := range []bool{true, false} {
		for _, id := range o.unlock.Identities {
			if isNative(id) != native {
				continue
			}
			if p, ok := id.(*plugin.Identity); ok && !slices.Contains(plugins, p.Name()) {
				return nil, fmt.Errorf("%w: plugin %q is not one of %q", ErrNoMatch, p.Name(), plugins)
			}
			fileKey, err := id.Unwrap(stanzas)
			switch {
			case err == nil:
				return fileKey, nil
			case errors.Is(err, age.ErrIncorrectIdentity):
			case native:
				return nil, fmt.Errorf("%w: the header is malformed", ErrDamaged)
			default:
				return nil, fmt.Errorf("opening with a plugin: %w", err)
			}
		}
	}
	return nil, fmt.Errorf("%w: it is locked for other recipients", ErrNoMatch)
}

func isNative(id age.Identity) bool {
	switch id.(type) {
	case *age.X25519Identity, *age.HybridIdentity:
		return true
	}
	return false
}
