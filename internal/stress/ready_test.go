//go:build linux

package stress

import (
	"path/filepath"
	"testing"
)

// H51: a server finds out that its disk takes nothing when it is asked whether it is
// ready, and not from a device whose write fails.
func TestReadyAsksDisk(t *testing.T) {
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, filepath.Join(t.TempDir(), "data"))
		d, ok := tmpfs(t, s.data, &s.wrap, s.kill)
		if !ok {
			if *all {
				t.Fatal("no file system of its own here")
			}
			t.Skip("no file system of its own here; cmd/kistd has the same with a disk that is made up")
		}
		s.start()
		d.full()
		s.notReady("the disk is full")
		d.free()
		s.isReady()
		s.stop()
	})
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		needStrace(t)
		s := run(t)
		f := inject(t, s, "openat:error=EROFS")
		s.notReady("the disk is read-only")
		f.lift()
		s.isReady()
		s.stop()
	})
}
