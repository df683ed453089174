package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen serves a new data directory until the test ends.
func listen(t *testing.T) (*admin.Client, *admin.Operator) {
	t.Helper()
	d, err := secondary.InitDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e, err := d.OpenEngine()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetAddress(secondary.Address{URL: "ws://127.0.0.1:7370/", Binding: wire.BindingNone}); err != nil {
		t.Fatal(err)
	}
	o := &admin.Operator{Data: d, Engine: e, DeletedDays: 7}
	s, err := admin.Listen(d.AdminSocket(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), e.Close(), d.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(d.AdminSocket()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return admin.NewClient(d.AdminSocket()), o
}

func TestSocket(t *testing.T) {
	_, o := listen(t)
	path := o.Data.AdminSocket()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := admin.Listen(filepath.Join(t.TempDir(), strings.Repeat("d", 100)), o, nil); !errors.Is(err, admin.ErrPath) {
		t.Errorf("a long path: %v, want ErrPath", err)
	}
	none := admin.NewClient(filepath.Join(t.TempDir(), "none"))
	if _, err := none.Invite(t.Context(), admin.InviteQuestion{}); !errors.Is(err, admin.ErrSilent) {
		t.Errorf("no socket: %v, want ErrSilent", err)
	}

	post := func(what, body string) (int, string) {
		c := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			},
			DisableKeepAlives: true,
		}}
		r, err := c.Post("http://kistd/"+what, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(b)
	}
	for _, test := range []struct {
		what, body string
		status     int
	}{
		{"invite", "{}", 200},
		{"invite", "", 400},
		{"invite", "{", 400},
		{"invite", `{"frob":1}`, 400},
		{"invite", `{"x":"` + strings.Repeat("x", 100<<10) + `"}`, 400},
		{"frob", "{}", 404},
	} {
		if status, text := post(test.what, test.body); status != test.status {
			t.Errorf("%s %.20s: status %d, %s; want %d", test.what, test.body, status, text, test.status)
		}
	}
}

func TestInvite(t *testing.T) {
	c, o := listen(t)
	a, err := c.Invite(t.Context(), admin.InviteQuestion{})
	if err != nil {
		t.Fatal(err)
	}
	i, err := wire.ParseInvite(a.Invite)
	if err != nil || i.Server != o.Data.Key().Public() {
		t.Errorf("invite: %+v, %v", i, err)
	}
}
