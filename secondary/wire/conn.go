package wire

import "errors"

// ConnHeader is the field of an HTTP answer in which a secondary names the
// connection, as its log does. It is not signed, and says nothing that is believed.
const ConnHeader = "Kist-Connection"

// maxConnName bounds the name of a connection.
const maxConnName = 32

// ConnError is an error on a connection that its secondary has named, so that a
// person can find it in the secondary's log.
type ConnError struct {
	Conn string
	Err  error
}

func (e *ConnError) Error() string { return e.Err.Error() }
func (e *ConnError) Unwrap() error { return e.Err }

// OnConn names the connection on which err came: with what ConnHeader held, which
// anybody can have written. It returns err itself where that is no name, where err
// is nil, and where there was no secondary to look into the log of.
func OnConn(err error, name string) error {
	if err == nil || !validConnName(name) || errors.Is(err, ErrServerIdentity) {
		return err
	}
	return &ConnError{name, err}
}

// validConnName takes up to 32 letters, digits and hyphens: nothing that can do
// harm on a terminal or be taken for a sentence.
func validConnName(name string) bool {
	if name == "" || len(name) > maxConnName {
		return false
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}
