package secondary

import (
	"net"
	"net/netip"
)

// Doorkeep returns l without the connections of an address that opens more than twice as
// many as Limits.Connects lets it: they are closed before anything is done for them, as a
// TLS handshake is. (Within that, and when the address is known that a proxy names, the
// limit says so in words.) Addresses that except takes are not limited; nil: none but this
// machine's.
func (s *Server) Doorkeep(l net.Listener, except func(netip.Addr) bool) net.Listener {
	if except == nil {
		except = func(netip.Addr) bool { return false }
	}
	return &door{l, s, except}
}

type door struct {
	net.Listener
	server *Server
	except func(netip.Addr) bool
}

// knocks is how often an address may come to the door where it may connect at a rate: what
// is no session, as a page or a probe, comes there, too.
func knocks(connects Rate) Rate { return Rate{2 * connects.PerSecond, 2 * connects.Burst} }

func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil || d.lets(c.RemoteAddr()) {
			return c, err
		}
		d.server.counts.refused[refusedRate].Add(1)
		c.Close()
	}
}

// lets reports whether whoever comes from an address may come in.
func (d *door) lets(a net.Addr) bool {
	peer, err := netip.ParseAddrPort(a.String())
	if err != nil { // not TCP, as in tests
		return true
	}
	from, counts := limited(peer.Addr())
	return !counts || d.except(peer.Addr().Unmap().WithZone("")) || d.server.knocks.take(from, d.server.config.Now(), 1) == 0
}
