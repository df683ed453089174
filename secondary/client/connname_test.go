package client_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/wire"
)

// connName returns the name that an error has, "" for none.
func connName(err error) string {
	var e *wire.ConnError
	if errors.As(err, &e) {
		return e.Conn
	}
	return ""
}

// What a secondary says is told with the name that it gave the connection, another
// one each time.
func TestConnName(t *testing.T) {
	server, token := real(t, wire.BindingNone, nil)
	_, err := client.Dial(timeout(t), server, client.Owner(rawvault.New().Authority))
	first := connName(err)
	if !errors.Is(err, wire.ErrDenied) || len(first) != 10 {
		t.Errorf("refused: %v on connection %q", err, first)
	}
	_, err = client.Dial(timeout(t), server, client.Owner(rawvault.New().Authority))
	if again := connName(err); again == first || again == "" {
		t.Errorf("the next connection is %q too", again)
	}

	v := rawvault.New()
	older, err := client.Dial(timeout(t), server, client.NewVault(v.Authority, token))
	if err != nil {
		t.Fatal(err)
	}
	defer older.Close()
	newer, err := client.Dial(timeout(t), server, client.Owner(v.Authority))
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	_, err = older.Receive(timeout(t))
	if !errors.Is(err, wire.ErrReplaced) || connName(err) == "" {
		t.Errorf("replaced: %v on connection %q", err, connName(err))
	}
	if err := newer.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := newer.Receive(timeout(t)); connName(err) != "" || !errors.Is(err, client.ErrClosed) {
		t.Errorf("closed on this side: %v on connection %q", err, connName(err))
	}
}

// A name is taken from whoever answers, so what is none is left out.
func TestConnNameIsClean(t *testing.T) {
	for given, want := range map[string]string{
		"a1b2-C3": "a1b2-C3", "": "", "a;b": "", "two words": "", "naïve": "", "a\tb": "",
		strings.Repeat("x", 32): strings.Repeat("x", 32), strings.Repeat("x", 33): "",
	} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()[wire.ConnHeader] = []string{given}
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		s := client.Server{URL: "ws" + strings.TrimPrefix(h.URL, "http"), Key: keys.GenerateSigningKey().Public()}
		err := client.Probe(timeout(t), s)
		h.Close()
		if got := connName(err); !errors.Is(err, wire.ErrBusy) || got != want {
			t.Errorf("%q: %v on connection %q, want %q", given, err, got, want)
		}
	}
}
