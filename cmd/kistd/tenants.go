package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/kistvault/kist/internal/settings"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/engine"
)

// defaultDeleted is how many days a deleted vault can be had back.
const defaultDeleted = 7

// tenantLimits say how much a vault, and an address, may have. Zeros are no limits.
type tenantLimits struct {
	quotaBytes                uint64
	quotaCommits              uint32
	quotaDevices              uint32
	sessions                  uint32
	addressConns, addressRate uint32
	clientMemory, bandwidth   uint64
}

// What a vault may have on a server that is open to everybody, where nothing is set: it
// is more than a person's contacts, calendars, notes and some documents take, and less
// than makes it worth while to come for the room.
const (
	openBytes   = 1 << 30
	openCommits = 1_000_000
)

// minBandwidth moves the largest commit within the time after which a device takes an
// answer for lost.
const minBandwidth = 256 << 10

// Bytes that are held for clients: without a setting, and the fewest that hold what one
// of them may send.
const (
	defaultClientMemory = 128 << 20
	minClientMemory     = 32 << 20
)

// tenants adds the settings about who may have how much.
func (c *config) tenants(t *settings.Table) {
	t.Group("Vaults")
	t.Add("open", settings.Switch(&c.open),
		"let everybody create vaults, without an invite",
		"What kistd then prints at its start is the address to give away. A vault then has quotas, unless others are set.")
	t.Add("deleted", settings.Number(&c.deleted, defaultDeleted),
		"`DAYS` for which a deleted vault can be had back, at least 1", "See kistd vaults delete.")
	t.Add("quota-bytes", settings.Size(&c.quotaBytes, 0),
		"`SIZE` that a vault may take, unless it has a quota of its own", "0 is no limit. Default: none, and with open 1GiB. See kistd vaults quota.")
	t.Add("quota-commits", settings.Number(&c.quotaCommits, 0),
		"`NUMBER` of commits that a vault may have", "0 is no limit. Default: none, and with open 1000000.")
	t.Add("quota-devices", settings.Number(&c.quotaDevices, 0),
		"`NUMBER` of devices that a vault may have", "0 is no limit but that of every vault, 64.")
	t.Add("sessions", settings.Number(&c.sessions, defaultSessions),
		"`NUMBER` of devices that may be connected at a time",
		"Further ones are told to come back. One that does nothing takes some 20 KiB of memory, with TLS 30, and a file descriptor: where the limit on these (LimitNOFILE= in the unit) has no room for all, the log says so at the start.")
	t.Add("client-memory", settings.Size(&c.clientMemory, defaultClientMemory),
		"`SIZE` of all that devices have half sent, or not read yet, at least 32MiB",
		"It is held in memory, which needs about twice as much for it. Where it is used up, who has held much for long is cut off, and others are told to come back: devices do both by themselves, and lose nothing.")
	t.Add("vault-bandwidth", settings.Size(&c.bandwidth, 0),
		"`SIZE` that a vault's devices together may send in a second, and as much that they may be sent, in the long run, at least 256KiB",
		"0 is no limit. After a rest a vault may take four times as much at once. Who wants more is served more slowly.")
	t.Add("address-connections", settings.Number(&c.addressConns, 256),
		"`NUMBER` of connections that one address may have open", "0 is no limit. For IPv6 the first 64 bits are the address; this machine is not limited.")
	t.Add("address-rate", settings.Number(&c.addressRate, 10),
		"`NUMBER` of connections that one address may open in a second, in the long run", "0 is no limit. After a rest it may open thirty times as many at once.")
}

// quota returns that of vaults without one of their own.
func (c *config) quota() engine.Quota {
	q := engine.Quota{Bytes: c.quotaBytes, Commits: uint64(c.quotaCommits), Devices: c.quotaDevices}
	if c.open && c.loaded.From["quota-bytes"] == "" {
		q.Bytes = openBytes
	}
	if c.open && c.loaded.From["quota-commits"] == "" {
		q.Commits = openCommits
	}
	return q
}

func (l *tenantLimits) limits() secondary.Limits {
	out := secondary.Limits{Conns: int(l.addressConns), Connects: secondary.Rate{PerSecond: float64(l.addressRate), Burst: 30 * int(l.addressRate)}}
	out.Bandwidth.PerSecond = float64(l.bandwidth)
	if l.addressConns == 0 {
		out.Conns = -1
	}
	if l.addressRate == 0 {
		out.Connects.PerSecond = -1
	}
	return out
}

// openInvite opens the server for everybody and says how to come in, or closes it.
func openInvite(ctx context.Context, e engine.Engine, data *secondary.DataDir, a secondary.Address, open bool, stdout io.Writer) error {
	i, err := secondary.OpenInvite(ctx, e, data.Key().Public(), a, time.Now(), open)
	if err != nil || !open {
		return err
	}
	_, err = fmt.Fprintf(stdout, `everybody can create vaults here, with this address. It is no secret:

%s

`, i)
	return err
}
