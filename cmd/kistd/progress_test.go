package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// screen is a terminal.
type screen struct{ strings.Builder }

func (*screen) IsTerminal() bool { return true }
func (*screen) Width() int       { return 80 }

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s screen
		p := newProgress(&s, "exporting")
		p.tell(1<<20, 4<<20)
		if s.Len() > 0 {
			t.Errorf("in the first second: %q", s.String())
		}
		time.Sleep(2 * time.Second)
		p.tell(1<<20, 4<<20)
		if text := s.String(); !strings.Contains(text, "exporting [=====>") || !strings.HasSuffix(text, "25 %  1.0 MiB") {
			t.Errorf("shown: %q", text)
		}
		p.end()
		gone := s.Len()
		time.Sleep(time.Second)
		p.tell(2<<20, 4<<20)
		p.end()
		if s.Len() != gone {
			t.Errorf("after the end: %q", s.String()[gone:])
		}
	})
}
