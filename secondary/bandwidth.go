package secondary

import (
	"time"

	"github.com/kistvault/kist/keys"
)

// bandwidth bounds how much of the line each vault has, one way and the other. A frame is
// charged once it has gone by, and who was charged waits until the vault has paid for it
// and for all before it: so the vault's sessions come in turn.
type bandwidth struct {
	in, out *buckets[keys.VaultID]
}

// longestDebt is more than a frame of each session of a vault costs together. A debt that
// is longer is taken for a clock that was set back, and is forgotten.
const longestDebt = time.Hour

func newBandwidth(r Rate) bandwidth {
	b := bandwidth{newBuckets[keys.VaultID](r), newBuckets[keys.VaultID](r)}
	b.in.debt, b.out.debt = longestDebt, longestDebt
	return b
}

// longestPause bounds how long a message is left lying before it is read, where it is one
// of too many, and longestStop where it is one of too many bytes: a device takes a line
// that takes nothing from it, and brings nothing, for dead after a minute.
const (
	longestPause = time.Second
	longestStop  = 20 * time.Second
)

// pause waits, with a frame of so many bytes, where the vault's sessions send more than
// they may: it is handled then, the next one is read then, and in the end the sender waits.
// Meanwhile it counts as held (see budget).
func (c *conn) pause(bytes int) {
	s, vault, now := c.server, c.session.vault(), c.server.config.Now()
	wait := max(
		min(s.messages.charge(vault, now, 1), longestPause),
		min(s.bandwidth.in.charge(vault, now, bytes), longestStop))
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.done:
	}
}

// sent notes that the writer has sent so many bytes to its vault, and when it may go on:
// a new session, after its first answer, when what earlier ones had is paid.
func (c *conn) sent(vault keys.VaultID, bytes int) {
	if wait := c.server.bandwidth.out.charge(vault, c.server.config.Now(), bytes); wait > 0 {
		c.resume = time.Now().Add(wait)
	}
}

// mayGoOn reports whether the writer may send what the session has to say by itself. If
// not, it is woken when it may. Within a bundle in parts it always may: the rest is in
// memory, and is better on its way.
func (c *conn) mayGoOn() bool {
	wait := time.Until(c.resume)
	if wait <= 0 || c.session.flow.held() > 0 {
		return true
	}
	if c.pacer == nil {
		c.pacer = time.AfterFunc(wait, c.wake)
	} else {
		c.pacer.Reset(wait)
	}
	return false
}
