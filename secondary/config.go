package secondary

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// Config says how a server works. It is not changed after [New].
type Config struct {
	// Engine stores the vaults. Required; the caller closes it, after Shutdown.
	Engine engine.Engine
	// Key is the server's identity, which devices pin. Required.
	Key keys.SigningKey
	// Binding is how sign-in is bound to the connection: BindingExporter where
	// TLS ends in this process, BindingNone behind a proxy or without TLS.
	Binding wire.Binding
	// URLs are the addresses that devices know the server by. A device that
	// asks for another is refused: it may have been lured. None: any is good,
	// which is safe with BindingExporter and for tests.
	URLs []string

	// Logger is told what an operator should know, and with level debug of
	// every session. Nil: nobody.
	Logger *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// ClockFile is where the server keeps what its clock said when it last dropped
	// something for good, to notice one that has jumped. Empty: only in memory.
	ClockFile string
	// Random is where nonces come from; nil: crypto/rand.
	Random io.Reader
	// Hub carries the news of appended commits; nil: one of its own, which is
	// right for a server that alone uses its engine.
	Hub Hub

	// MaxObject is the size of the largest sealed object in bytes, at most
	// commitlog.MaxObject. 0: 68 MiB, which holds a value of 64 MiB.
	MaxObject uint64
	// RetentionDays is how long superseded blobs are kept. 0: 30 days.
	RetentionDays uint32
	// DeletedDays is how long a deleted vault can be had back. 0: 7 days.
	DeletedDays uint32
	// MaxConns is how many connections there may be at a time. One more takes the
	// place of the oldest that has not signed in. 0: 4096.
	MaxConns int
	// ClientBytes is how many bytes the server holds in memory for its clients, all of
	// them together: requests that are half here, and answers that are not taken. Fewer
	// than 32 MiB cannot hold the largest. What the collector has not collected yet comes
	// on top, about as much again. 0: 128 MiB.
	ClientBytes int
	// Limits are those of one address, and of one vault.
	Limits Limits
	// ClientAddr returns where a connection comes from, for the limits of an
	// address; nil: from where the socket says. A server behind a proxy, which
	// alone can know, needs one of its own.
	ClientAddr func(*http.Request) netip.Addr
	// SignInTime is how long sign-in may take. 0: 30 s.
	SignInTime time.Duration
	// Idle is how long a device may be silent. 0: 90 s; devices ping three
	// times a minute.
	Idle time.Duration

	// Tap sees every frame that is received, for tests; nil: nobody does.
	Tap func(frame []byte)
}

// withDefaults returns the config with its zero values filled in.
func (c Config) withDefaults() (Config, error) {
	if c.Engine == nil || c.Key.IsZero() {
		return c, errors.New("secondary: a server needs an engine and a key")
	}
	c.URLs = slices.Clone(c.URLs)
	for i, u := range c.URLs {
		url, err := wire.CanonicalURL(u)
		if err != nil {
			return c, fmt.Errorf("secondary: %w", err)
		}
		c.URLs[i] = url
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Hub == nil {
		c.Hub = newHub()
	}
	if c.MaxObject == 0 {
		c.MaxObject = 68 << 20 // 64 MiB, Padmé's 3 % at this size, and the tags of the chunks
	}
	c.MaxObject = min(c.MaxObject, commitlog.MaxObject)
	setDefault(&c.RetentionDays, 30)
	setDefault(&c.DeletedDays, 7)
	setDefault(&c.MaxConns, 4096)
	setDefault(&c.ClientBytes, 128<<20)
	c.Limits = c.Limits.withDefaults()
	if c.ClientAddr == nil {
		c.ClientAddr = remoteAddr
	}
	setDefault(&c.SignInTime, 30*time.Second)
	setDefault(&c.Idle, 90*time.Second)
	return c, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}
