// Package front is what a secondary shows on its public address beside sessions: a
// page for a person with a browser, and answers for what watches the server.
//
// Anybody can ask, so nothing here says what is stored: no vaults, no counts, no
// sizes, no addresses.
package front

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/kistvault/kist/secondary/wire"
)

// Handler answers requests on the public listener. Its fields are not changed after
// the first.
type Handler struct {
	Sessions http.Handler // gets the requests that want a WebSocket
	// Ready says why the server should not be sent work, nil if it should. The
	// text is shown to anybody.
	Ready   func() error
	Version string // of the program
	// URL is how devices reach the server. Behind a proxy it may have a path,
	// which the proxy may leave in requests.
	URL string
	// Proxies are believed in X-Forwarded-For.
	Proxies []netip.Prefix
	// ProxiesOnly refuses whoever is neither a proxy nor on this machine.
	ProxiesOnly bool
}

// ServeHTTP answers. What it passes on has the client's address in RemoteAddr.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r, ok := h.fromClient(r)
	if !ok {
		http.Error(w, "this port is for the reverse proxy", http.StatusForbidden)
		return
	}
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		h.Sessions.ServeHTTP(w, r)
		return
	}
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("X-Robots-Tag", "noindex")
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET is answered here", http.StatusMethodNotAllowed)
		return
	}
	switch h.path(r.URL.Path) {
	case "/":
		h.page(w)
	case "/healthz":
		text(w, http.StatusOK, "ok")
	case "/readyz":
		if err := h.Ready(); err != nil {
			head.Set("Retry-After", "10")
			text(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		text(w, http.StatusOK, "ready")
	case "/version":
		head.Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"program": "kistd", "version": h.Version, "protocol": wire.Subprotocol})
	default:
		http.Error(w, "there is nothing here", http.StatusNotFound)
	}
}

// path returns a request's path below that of the server's own address.
func (h *Handler) path(p string) string {
	u, err := url.Parse(h.URL)
	if err != nil {
		return p
	}
	base := strings.TrimSuffix(u.Path, "/")
	if rest, ok := strings.CutPrefix(p, base); ok && (rest == "" || rest[0] == '/') {
		p = rest
	}
	if p == "" {
		return "/"
	}
	return p
}

func text(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(line + "\n"))
}

// fromClient returns the request with the client's address in RemoteAddr, and
// whether it may be answered.
func (h *Handler) fromClient(r *http.Request) (*http.Request, bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // not TCP, as in tests
		return r, !h.ProxiesOnly
	}
	addr := peer.Addr().Unmap().WithZone("")
	if !h.Trusted(addr) {
		return r, !h.ProxiesOnly || here(r, addr)
	}
	client := forwarded(addr, r.Header.Values("X-Forwarded-For"), h.Trusted)
	if client == addr {
		return r, true
	}
	r2 := *r
	r2.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	return &r2, true
}

// here reports whether an address that a request comes from is this machine's: one that
// only it has, or the one that the request was sent to.
func here(r *http.Request, a netip.Addr) bool {
	own, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return a.IsLoopback()
	}
	to, err := netip.ParseAddrPort(own.String())
	return a.IsLoopback() || err == nil && to.Addr().Unmap().WithZone("") == a
}

// Trusted reports whether an address is that of a proxy.
func (h *Handler) Trusted(a netip.Addr) bool {
	for _, p := range h.Proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// forwarded returns the address of the client of which a trusted peer speaks in
// X-Forwarded-For: each proxy adds, on the right, who spoke to it, so the first from
// the right that is not trusted is the last that can be believed. What stands left
// of it anybody can have written.
//
// The header Forwarded (RFC 7239) is not looked at. Proxies add to one of the two
// and pass on the other as it came from outside.
func forwarded(peer netip.Addr, header []string, trusted func(netip.Addr) bool) netip.Addr {
	client := peer
	all := strings.Split(strings.Join(header, ","), ",")
	for i := len(all) - 1; i >= 0; i-- {
		a, err := parseAddr(strings.TrimSpace(all[i]))
		if err != nil {
			return client
		}
		client = a
		if !trusted(a) {
			return client
		}
	}
	return client
}

// parseAddr takes an address with or without a port.
func parseAddr(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return a, errors.New("not an address")
	}
	return a.Unmap().WithZone(""), nil
}
