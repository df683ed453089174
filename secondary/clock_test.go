package secondary

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestLook(t *testing.T) {
	const hour = time.Hour
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, looks := range map[string][]struct {
		at   time.Duration
		held bool
	}{
		"day by day":       {{0, false}, {24 * hour, false}, {48 * hour, false}},
		"restarts":         {{0, false}, {hour, false}, {hour + time.Second, false}},
		"a long weekend":   {{0, false}, {4 * 24 * hour, false}},
		"set back a bit":   {{0, false}, {-hour, false}},
		"off for weeks":    {{0, false}, {500 * hour, true}, {524 * hour, false}, {548 * hour, false}},
		"ahead and right":  {{0, false}, {99999 * hour, true}, {24 * hour, true}, {48 * hour, false}},
		"ahead, restarted": {{0, false}, {99999 * hour, true}, {99999*hour + time.Minute, true}, {100000 * hour, true}, {24 * hour, true}, {30 * hour, true}, {48 * hour, false}},
		"back and right":   {{0, false}, {-99999 * hour, true}, {-99998 * hour, true}, {24 * hour, true}, {48 * hour, false}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "clock.json")
			for i, want := range looks {
				l, err := readLook(file) // as one that was restarted
				if err != nil {
					t.Fatal(err)
				}
				l = l.next(begin.Add(want.at))
				if l.Held != want.held {
					t.Errorf("look %d: held %v", i+1, l.Held)
				}
				if err := l.store(file); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	file := filepath.Join(t.TempDir(), "clock.json")
	if err := os.WriteFile(file, []byte("{spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := readLook(file); l != (look{}) || err != nil {
		t.Errorf("a spoilt file: %+v, %v", l, err)
	}
}
