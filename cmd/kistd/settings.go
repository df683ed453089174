package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/settings"
)

// config is all that can be set.
type config struct {
	data string

	listen, url    string
	domain         string
	acmeEmail      string
	acmeDirectory  string
	acmeHTTP       string
	cert, key      string
	plain          bool
	trustedProxies []string

	metrics string

	retention uint32
	minFree   uint64

	open    bool
	deleted uint32
	tenantLimits

	logFormat, logLevel string

	file   string // that was read; empty: none
	table  *settings.Table
	loaded *settings.Loaded
}

// The defaults that depend on nothing.
const (
	defaultListen    = "127.0.0.1:7370"
	defaultRetention = 30 // days
	letsEncrypt      = "https://acme-v02.api.letsencrypt.org/directory"
)

// defaultFile is read where it is and no other is named. It is not in the data
// directory: that is what a backup holds, and its path is a setting itself.
var defaultFile = "/etc/kistd/kistd.toml"

// newConfig returns a config with all defaults. This is the one table of settings:
// flags, variables, file, example and manual follow from it.
func newConfig() *config {
	c := new(config)
	t := &settings.Table{Program: "kistd"}
	c.table = t
	t.Group("Data")
	t.Add("data", settings.Text(&c.data, ""),
		"`DIR` that holds all of the server's data (needed)",
		"It is made if it is not there, and is for one kistd at a time. Back it up; see Backup in docs/SELF-HOSTING.md.")
	t.Add("retention", settings.Number(&c.retention, defaultRetention),
		"`DAYS` for which superseded and removed values are kept, at least 1",
		"A device that is away for longer still gets the present state, and a shorter history.")
	t.Add("min-free", settings.Size(&c.minFree, 256<<20),
		"free space in `SIZE` below which /readyz reports a disk that is nearly full",
		"0 turns that off. Nothing is refused by it: it is for whoever watches the server.")

	c.tenants(t)

	t.Group("Address")
	t.Add("listen", settings.Text(&c.listen, ""),
		"`ADDRESS` to listen on (default "+defaultListen+"; with --domain :443)",
		"HOST:PORT; port 0 picks a free one. Without a host it listens on all addresses of the machine.")
	t.Add("url", settings.Text(&c.url, ""),
		"`URL` that devices use, such as wss://vault.example.org",
		"It stands in invites. Default: wss:// and the domain, or else the address listened on.")
	t.Add("trusted-proxies", settings.List(&c.trustedProxies),
		"`ADDRESSES` of reverse proxies, such as 10.0.0.0/8 or 192.0.2.7",
		"From these alone X-Forwarded-For is believed, from the right up to the first address that is not one of them. With plain, who is neither one of them nor on this machine is refused.")

	t.Add("metrics", settings.Text(&c.metrics, ""),
		"loopback `ADDRESS`, such as 127.0.0.1:7371, on which Prometheus finds /metrics",
		"Default: none; /metrics is on the admin socket in any case. It names no vault, device or address. Everybody on the machine can read it, and nobody else.")

	t.Group("Certificate")
	t.Add("domain", settings.Text(&c.domain, ""),
		"`NAME` for which to get a certificate by ACME, such as vault.example.org",
		"It means that you accept the authority's terms. The authority must reach this server at port 443 of that name (or at port 80, with acme-http). Devices need no certificate: they know the server by its key, which is in the invite.")
	t.Add("acme-email", settings.Text(&c.acmeEmail, ""),
		"`EMAIL` address for the authority to write to", "")
	t.Add("acme-directory", settings.Text(&c.acmeDirectory, letsEncrypt),
		"`URL` of the authority's directory", "")
	t.Add("acme-http", settings.Text(&c.acmeHTTP, ""),
		"`ADDRESS` on which to answer the authority without TLS, such as :80",
		"For HTTP-01, where TLS-ALPN-01 at port 443 is not possible. Whoever else asks there is sent to https.")
	t.Add("cert", settings.Text(&c.cert, ""),
		"PEM `FILE` with a certificate chain (default: a certificate of kistd's own)",
		"It is read again when it changes, and on SIGHUP; one that is not good leaves the one before in use.")
	t.Add("key", settings.Text(&c.key, ""),
		"PEM `FILE` with the certificate's private key", "")
	t.Add("plain", settings.Switch(&c.plain),
		"no TLS: behind a reverse proxy, or for trying things out",
		"Only on a loopback address, or with trusted-proxies.")

	t.Group("Log")
	t.Add("log-format", settings.Text(&c.logFormat, "text"),
		"`FORMAT` of the log on stderr: text or json", "")
	t.Add("log-level", settings.Text(&c.logLevel, "info"),
		"`LEVEL` from which on to log: debug, info, warn or error",
		"debug has a line for each connection. SIGUSR1 changes to debug and back while kistd runs.")
	return c
}

// flags adds the flags of some settings to a command.
func (c *config) flags(cmd *cobra.Command, names ...string) {
	c.table.AddFlags(cmd.Flags(), names...)
}

// load sets what the command's flags have not set.
func (c *config) load(cmd *cobra.Command) error {
	c.file = os.Getenv(c.table.Variable("config"))
	if f := cmd.Flag("config"); f != nil && f.Changed {
		c.file = f.Value.String()
	}
	if c.file == "" {
		if _, err := os.Stat(defaultFile); err == nil {
			c.file = defaultFile
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var err error
	c.loaded, err = c.table.Load(cmd.Flags(), os.Environ(), c.file)
	var e *settings.Error
	if errors.As(err, &e) {
		hint := e.Hint
		if hint == "" {
			hint = "kistd config example"
		}
		return hinted{usageError{err}, hint}
	}
	if err != nil {
		return hinted{fmt.Errorf("reading the settings: %w", err), "a file that whoever runs kistd can read: chmod 644, and 755 its directory"}
	}
	if c.listen == "" {
		if c.listen = defaultListen; c.domain != "" {
			c.listen = ":443"
		}
	}
	return nil
}

// name names a setting in a sentence, as whoever is to change it finds it.
func (c *config) name(setting string) string { return c.loaded.Name(setting) }

// needData checks that there is a data directory to work on.
func (c *config) needData() error {
	if c.data == "" {
		return hinted{usagef("--data DIR is needed"), "--data DIR, KISTD_DATA, or a line such as data = \"/var/lib/kistd\" in " + defaultFile}
	}
	return nil
}

// needSessions checks that there can be some.
func (c *config) needSessions() error {
	if c.sessions < 1 || c.sessions > maxSessions {
		return usagef("%s: a number from 1 to %d", c.name("sessions"), maxSessions)
	}
	return nil
}

// needClientMemory checks that setting.
func (c *config) needClientMemory() error {
	if c.clientMemory < minClientMemory || c.clientMemory > math.MaxInt {
		return usagef("%s: at least 32MiB: less does not hold the largest commit", c.name("client-memory"))
	}
	return nil
}

// needBandwidth checks that setting.
func (c *config) needBandwidth() error {
	if c.bandwidth != 0 && c.bandwidth < minBandwidth || c.bandwidth > math.MaxInt/8 {
		return usagef("%s: at least 256KiB, or 0 for no limit: with less a device takes a large commit for lost before it has it", c.name("vault-bandwidth"))
	}
	return nil
}

// maxDays is as long as anything can be kept, or be good for: a hundred years, which
// every clock and format here can count.
const maxDays = 36_500

// needRetention checks that setting.
func (c *config) needRetention() error {
	if c.retention == 0 {
		return usagef("%s: at least one day: a device that is away for less must find what it needs", c.name("retention"))
	}
	if c.retention > maxDays {
		return usagef("%s: at most %d days", c.name("retention"), maxDays)
	}
	return nil
}
