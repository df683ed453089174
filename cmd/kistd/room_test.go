package main

import "testing"

// Whatever the limit is, some descriptors are left for files, and there is some room
// for sessions and for those that have not asked for one yet.
func TestRoom(t *testing.T) {
	for _, test := range []struct{ descriptors, wanted, sessions int }{
		{1 << 20, 4096, 4096}, {1 << 20, 10_000, 10_000}, {16_384, 10_000, 10_000}, {8192, 10_000, 7104}, {1024, 4096, 720}, {64, 4096, 36}, {8, 4096, 5}, {1, 4096, 1},
	} {
		sessions, waiting := room(test.descriptors, test.wanted)
		if sessions != test.sessions || waiting < 1 || test.descriptors > 4 && sessions+waiting >= test.descriptors {
			t.Errorf("%d descriptors, %d sessions wanted: %d, and %d wait; want %d", test.descriptors, test.wanted, sessions, waiting, test.sessions)
		}
	}
}
