package lying_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/client"
	"github.com/kistvault/kist/secondary/engine/embedded"
	"github.com/kistvault/kist/secondary/internal/rawvault"
	"github.com/kistvault/kist/secondary/secondarytest/lying"
	"github.com/kistvault/kist/secondary/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Over TLS, with sign-in bound to it, a liar is the secondary that it says it is, and
// each mutation is what it says: the sequence of messages that a client gets.
func TestMutations(t *testing.T) {
	engine, err := embedded.Open(t.TempDir(), embedded.Options{NoSync: true})
	fatal(t, err)
	defer engine.Close()
	key := keys.GenerateSigningKey()
	honest, err := secondary.New(secondary.Config{Engine: engine, Key: key, Binding: wire.BindingExporter})
	fatal(t, err)
	liar := lying.New(honest, wire.BindingExporter)
	defer liar.Close()
	h := httptest.NewTLSServer(liar)
	defer h.Close()
	at := client.Server{URL: "wss" + strings.TrimPrefix(h.URL, "https") + "/", Key: key.Public(), Binding: wire.BindingExporter}
	v := rawvault.New()
	token := wire.Token{1}
	fatal(t, engine.Invite(t.Context(), token, 1, time.Now().Add(time.Hour), nil))
	owner := client.NewVault(v.Authority, token)

	// hear says BIND and MARK, and returns what is answered, up to MARKED.
	hear := func(m lying.Mutation) (types []wire.Type, err error) {
		liar.Tell(m)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := client.Dial(ctx, at, owner)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		for _, m := range []wire.Message{&wire.Bind{Root: commitlog.EmptyRoot}, &wire.Mark{Token: 7}} {
			if err := c.Send(ctx, m); err != nil {
				return nil, err
			}
		}
		for {
			m, err := c.Receive(ctx)
			if err != nil {
				return types, err
			}
			types = append(types, m.Type())
			if m.Type() == wire.TypeMarked {
				return types, nil
			}
		}
	}
	bound, marked, have := wire.TypeBound, wire.TypeMarked, wire.TypeHave
	for _, tt := range []struct {
		lie  lying.Mutation
		want []wire.Type
		err  error
		told int
	}{
		{lying.Mutation{}, []wire.Type{bound, marked}, nil, 0},
		{lying.Drop(bound, 1), []wire.Type{marked}, nil, 1},
		{lying.Repeat(bound, 1), []wire.Type{bound, bound, marked}, nil, 1},
		{lying.Late(bound, 1), []wire.Type{marked}, nil, 2}, // and BOUND after it
		{lying.Insert("HAVE", bound, 1, &wire.Have{}), []wire.Type{have, bound, marked}, nil, 1},
		{lying.Change("", 1, func(m *wire.Bound) { m.Size = 9 }), []wire.Type{bound, marked}, nil, 1},
		{lying.Replace("", 1, func(m *wire.Bound) []wire.Message { return nil }), []wire.Type{marked}, nil, 1},
		{lying.Answer("", func(m *wire.Bind) []wire.Message { return []wire.Message{&wire.Have{}, &wire.Marked{}} }), []wire.Type{have, marked}, nil, 3},
		{lying.HangUp(bound, 1), nil, wire.ErrUnreachable, 1},
		{lying.Flip(2, 0, 0xff), nil, wire.ErrProtocol, 1},
		{lying.Flip(0, 100, 1), nil, wire.ErrServerIdentity, 1},
		{lying.Both("", lying.Repeat(bound, 1), lying.Insert("", bound, 2, &wire.Have{})), []wire.Type{bound, have, bound, marked}, nil, 1},
		{lying.Serve("", nil), []wire.Type{bound, marked}, nil, 4},
	} {
		types, err := hear(tt.lie)
		if !slices.Equal(types, tt.want) || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v; want %v, %v", tt.lie.Name, types, err, tt.want, tt.err)
		}
		if told := liar.Told(); told > tt.told || (told > 0) != (tt.told > 0) || liar.Begun() != 1 {
			t.Errorf("%s: %d lies on %d connections, want at most %d on one", tt.lie.Name, told, liar.Begun(), tt.told)
		}
	}
}
