//go:build linux

package stress

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// H55: a second server does not start on the data directory of one that runs, and does
// as soon as that one is gone, however it went. A directory of a newer kistd is refused
// and left as it is (H53).
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	s := run(t)
	p := meet(t, s)
	a, b := p.device(), p.device()
	p.write(a, 100)
	p.sync(a, b)
	second := newServer(t, s.data)
	second.first = s.first
	refused := func(server *server, want string) {
		t.Helper()
		err := server.tryStart()
		if err == nil {
			server.kill()
			t.Fatal("it starts")
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(server.log.String(), "try: ") {
			t.Errorf("%v, want %q and what to do", err, want)
		}
	}
	refused(second, "in use by another program")
	p.write(a, 100)
	p.sync(a, b) // the first has not noticed
	s.kill()
	second.addr = s.addr // where the devices look
	second.start()
	p.write(a, 100)
	p.sync(a, b)
	refused(s, "in use by another program")
	second.stop()

	version := filepath.Join(s.data, "version")
	ours, err := os.ReadFile(version)
	fatal(t, err)
	db, err := os.ReadFile(filepath.Join(s.data, "kist.db"))
	fatal(t, err)
	fatal(t, os.WriteFile(version, []byte("99\n"), 0o600))
	refused(s, "belongs to a newer kistd")
	if now, err := os.ReadFile(filepath.Join(s.data, "kist.db")); err != nil || string(now) != string(db) {
		t.Errorf("the store of a newer kistd was touched: %v", err)
	}
	fatal(t, os.WriteFile(version, ours, 0o600))
	s.start()
	p.fresh(a, b)
	s.stop()
}
