package keyfile

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kistvault/kist/keys"
)

// Encodings of 32 bytes. Strict: no freedom in the last character.
var (
	secretText = base64.RawURLEncoding.Strict()
	hashText   = base64.StdEncoding.Strict() // as tree heads of logs are written everywhere
)

// lines reads "key: value" lines in a fixed order. The first thing that is
// wrong stays in err, and everything after it returns zero values. Errors name
// the line and its key, never its value: it may be a secret.
type lines struct {
	text []byte
	rest string
	n    int // number of the line that was read last
	err  error
}

func newLines(text []byte) *lines { return &lines{text: text, rest: string(text)} }

func (l *lines) fail(what string) {
	if l.err == nil {
		l.err = fmt.Errorf("%w: line %d: %s", ErrDamaged, l.n, what)
	}
}

func (l *lines) line() string {
	l.n++
	line, rest, ok := strings.Cut(l.rest, "\n")
	if !ok {
		l.fail("the text ends before its end")
		return ""
	}
	l.rest = rest
	return line
}

// first reads the first line, which must be the prefix and version 1. With
// another number it is of a later version.
func (l *lines) first(prefix string) {
	version, ok := strings.CutPrefix(l.line(), prefix)
	switch {
	case l.err != nil || ok && version == "1":
	case ok && versionRE.MatchString(version):
		l.err = ErrVersion
	default:
		l.fail("not " + strconv.Quote(prefix+"1"))
	}
}

var versionRE = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)

// last reads the last line and checks that nothing follows.
func (l *lines) last() {
	if line := l.line(); l.err == nil && (line != lastLine || l.rest != "") {
		l.fail("not the end")
	}
}

// sameAs checks that what was parsed has the one form: marshalled again, it is
// the same text.
func (l *lines) sameAs(text []byte, err error) error {
	if err != nil || !bytes.Equal(text, l.text) {
		return fmt.Errorf("%w: not in canonical form", ErrDamaged)
	}
	return nil
}

// next reports whether the next line has this key.
func (l *lines) next(key string) bool {
	return l.err == nil && strings.HasPrefix(l.rest, key+": ")
}

func (l *lines) field(key string) string {
	line := l.line()
	if l.err != nil {
		return ""
	}
	value, ok := strings.CutPrefix(line, key+": ")
	if !ok {
		l.fail(key + " expected")
		return ""
	}
	return value
}

func (l *lines) vault(key string) keys.VaultID {
	id, err := keys.ParseVaultID(l.field(key))
	if err != nil {
		l.fail(key)
	}
	return id
}

func (l *lines) device(key string) keys.DeviceID {
	id, err := keys.ParseDeviceID(l.field(key))
	if err != nil {
		l.fail(key)
	}
	return id
}

func (l *lines) verifyKey(key string) keys.VerifyKey {
	k, err := keys.ParseVerifyKey(l.field(key))
	if err != nil {
		l.fail(key)
	}
	return k
}

func (l *lines) time(key string) time.Time {
	t, err := time.Parse(createdLayout, l.field(key))
	if err != nil {
		l.fail(key)
	}
	return t
}

func (l *lines) root(key string) keys.Root {
	r, err := keys.ParseRoot(l.field(key))
	if err != nil {
		l.fail(key)
	}
	return r
}

func (l *lines) secret(key string) [32]byte { return l.bytes32(key, secretText, l.field(key)) }

func (l *lines) bytes32(key string, enc *base64.Encoding, s string) (b [32]byte) {
	d, err := enc.DecodeString(s)
	if err != nil || len(d) != len(b) {
		l.fail(key)
		return b
	}
	return [32]byte(d)
}

func (l *lines) number(key, s string, most uint64) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > most {
		l.fail(key)
		return 0
	}
	return n
}

func (l *lines) servers() []Server {
	var servers []Server
	for l.next("server") {
		if len(servers) == maxServers {
			l.n++
			l.fail("too many servers")
			break
		}
		s := Server{
			URL:     l.field("server"),
			Key:     l.verifyKey("server-key"),
			Binding: Binding(l.field("server-binding")),
		}
		if l.err == nil && s.check() != nil {
			l.fail("server")
		}
		servers = append(servers, s)
	}
	return servers
}

func (l *lines) checkpoint(key string) *Checkpoint {
	f := strings.Split(l.field(key), " ")
	if len(f) != 4 {
		l.fail(key)
		return nil
	}
	return &Checkpoint{
		Size:   l.number(key, f[0], maxLogSize),
		Root:   l.bytes32(key, hashText, f[1]),
		Resets: l.number(key, f[2], maxLogSize),
		Stated: l.number(key, f[3], maxLogSize),
	}
}

func (l *lines) epoch(key string) keys.Epoch {
	number, secret, ok := strings.Cut(l.field(key), " ")
	if !ok {
		l.fail(key)
		return keys.Epoch{}
	}
	return keys.Epoch{
		Number: uint32(l.number(key, number, keys.MaxEpoch)),
		Secret: keys.NewEpochSecret(l.bytes32(key, secretText, secret)),
	}
}
