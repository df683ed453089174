package secondary

import (
	"strconv"
	"sync/atomic"

	"github.com/kistvault/kist/internal/metrics"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/wire"
)

// counts is what a server has done since it began. Nothing in it belongs to a vault, a
// device or an address, and no label comes from outside.
type counts struct {
	connections    atomic.Uint64
	refused        [len(refusals)]atomic.Uint64
	received, sent atomic.Uint64 // bytes of frames

	signIns [len(signIns)]atomic.Uint64
	errors  [knownCodes]atomic.Uint64

	commits         atomic.Uint64 // that are in the log
	quota, sessions atomic.Uint64 // limits of a vault that were met

	compactions, failures atomic.Uint64 // runs
	compacted             atomic.Uint64 // bytes
}

// Why connections are refused.
const (
	refusedProtocol = iota
	refusedRate
	refusedAddress
	refusedFull
	refusedTLS
)

var refusals = [...]string{refusedProtocol: "protocol", refusedRate: "rate", refusedAddress: "address", refusedFull: "full", refusedTLS: "tls"}

// How sign-ins end, but for those that end with an error.
const (
	signInOK = iota
	signInDenied
	signInInvite
	signInSuspended
	signInRevoked
)

var signIns = [...]string{signInOK: "ok", signInDenied: "denied", signInInvite: "invite", signInSuspended: "suspended", signInRevoked: "revoked"}

// knownCodes is above all codes of package wire.
const knownCodes = 128

// said counts a message that is sent, in a frame of so many bytes. It is the one
// place that sees all that devices are told.
func (c *counts) said(m wire.Message, frame int) {
	c.sent.Add(uint64(frame))
	switch m := m.(type) {
	case *wire.OK:
		c.signIns[signInOK].Add(1)
	case *wire.Fail:
		switch m.Code {
		case wire.CodeInvite:
			c.signIns[signInInvite].Add(1)
		case wire.CodeSuspended:
			c.signIns[signInSuspended].Add(1)
		case wire.CodeRevoked:
			c.signIns[signInRevoked].Add(1)
		default:
			c.signIns[signInDenied].Add(1)
		}
	case *wire.Error:
		c.failed(m.Code)
	case *wire.Uploaded:
		for i := range m.Results {
			c.failed(m.Results[i].Code)
		}
	case *wire.Refilled:
		c.failed(m.Code)
	case *wire.Have:
		c.failed(m.Code)
	}
}

// failed counts an error that a device was told of; 0 is none.
func (c *counts) failed(code wire.Code) {
	if code != 0 && code < knownCodes {
		c.errors[code].Add(1)
	}
}

// WriteMetrics writes what the server has done since it began.
func (s *Server) WriteMetrics(w *metrics.Writer) {
	c := &s.counts
	signedIn, _ := s.sessions.counts(keys.VaultID{})
	w.Gauge("kistd_connections", "Connections that are open.", float64(s.Conns()))
	w.Gauge("kistd_sessions", "Devices that are signed in.", float64(signedIn))
	w.Counter("kistd_connections_total", "Connections that were taken.", c.connections.Load())
	w.Gauge("kistd_client_bytes", "Bytes in memory of requests that are half here, and of answers that devices have not taken.", float64(s.budget.bytes()))
	w.Gauge("kistd_client_bytes_max", "How many there may be.", float64(s.budget.max))
	f := w.Counters("kistd_connections_refused_total", "Connections that were refused: no kist protocol, too many from an address at a time or open, no room at all or stopping, no TLS where it is needed.")
	for i, name := range refusals {
		f.Add(float64(c.refused[i].Load()), "reason", name)
	}
	f = w.Counters("kistd_sign_ins_total", "Sign-ins that were answered; what ends in an error is one of kistd_errors_total.")
	for i, name := range signIns {
		f.Add(float64(c.signIns[i].Load()), "outcome", name)
	}
	w.Counter("kistd_received_bytes_total", "Bytes of frames from devices.", c.received.Load())
	w.Counter("kistd_sent_bytes_total", "Bytes of frames to devices.", c.sent.Load())
	w.Counter("kistd_commits_total", "Commits taken from devices, those included that came again.", c.commits.Load())
	f = w.Counters("kistd_errors_total", "Errors that devices were told, by code (docs/SPEC.md).")
	for code := wire.Code(1); code < knownCodes; code++ {
		if err := code.Err(); err != nil {
			f.Add(float64(c.errors[code].Load()), "code", strconv.Itoa(int(code)), "meaning", err.Error())
		}
	}
	f = w.Counters("kistd_limits_total", "Times that a limit was met: of an address (knocks, connects, creates), of a vault (messages, scans, sessions, quota, and, of its bandwidth, upload and download), or of the server (memory).")
	for _, l := range []struct {
		name string
		met  *atomic.Uint64
	}{{"knocks", &s.knocks.met}, {"connects", &s.connects.met}, {"creates", &s.creates.met}, {"messages", &s.messages.met}, {"scans", &s.scans.met}, {"sessions", &c.sessions}, {"quota", &c.quota}, {"upload", &s.bandwidth.in.met}, {"download", &s.bandwidth.out.met}, {"memory", &s.budget.met}} {
		f.Add(float64(l.met.Load()), "limit", l.name)
	}
	f = w.Counters("kistd_compactions_total", "Compactions, of all vaults.")
	f.Add(float64(c.compactions.Load()), "outcome", "ok")
	f.Add(float64(c.failures.Load()), "outcome", "failed")
	w.Counter("kistd_compacted_bytes_total", "Bytes that compactions dropped.", c.compacted.Load())
}
