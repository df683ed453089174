package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
)

// check looks at the settings before anything is touched.
func (c *config) check() error {
	if err := errors.Join(c.needData(), c.needRetention(), c.needSessions(), c.needClientMemory(), c.needBandwidth()); err != nil {
		return err
	}
	if c.deleted == 0 {
		return usagef("%s: at least one day: somebody may have second thoughts", c.name("deleted"))
	}
	if c.deleted > maxDays {
		return usagef("%s: at most %d days", c.name("deleted"), maxDays)
	}
	if _, _, err := c.logger(nil); err != nil {
		return err
	}
	host, err := c.hostPort("listen", c.listen)
	if err != nil {
		return err
	}
	if err := c.checkMetrics(); err != nil {
		return err
	}
	proxies, err := c.proxies()
	if err != nil {
		return err
	}
	if err := c.checkCertificate(); err != nil {
		return err
	}
	if c.plain && !wire.Loopback(host) && len(proxies) == 0 {
		return usagef("%s is for loopback addresses only, and %s %s is none; behind a proxy on another machine, say which with --trusted-proxies", c.name("plain"), c.name("listen"), c.listen)
	}
	if c.url == "" {
		if ip := net.ParseIP(host); c.domain == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
			return hinted{usagef("--url is needed: %s %s listens everywhere, and does not say where devices find it", c.name("listen"), c.listen), "--url wss://HOST:PORT, or KISTD_URL, with the name or address by which devices reach this machine"}
		}
		if c.plain && !wire.Loopback(host) {
			return hinted{usagef("--url is needed: devices reach the proxy, and not %s %s", c.name("listen"), c.listen), "--url wss://HOST with the name by which devices reach the proxy"}
		}
		return nil
	}
	canonical, err := wire.CanonicalURL(c.url)
	if err != nil {
		return usagef("%s %q: want wss://HOST, wss://HOST:PORT or ws://127.0.0.1:PORT", c.name("url"), c.url)
	}
	c.url = canonical
	if host, secure := wire.SplitURL(canonical); !secure && !(c.plain && wire.Loopback(host)) {
		return usagef("%s %s: devices take ws:// only with --plain and on a loopback address", c.name("url"), canonical)
	}
	return nil
}

// hostPort returns the host of an address to listen on, and an error that names the
// setting where it is none.
func (c *config) hostPort(setting, address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return "", usagef("%s %q: want HOST:PORT, with a port up to 65535", c.name(setting), address)
	}
	return host, nil
}

// checkCertificate checks that there is one way to have a certificate.
func (c *config) checkCertificate() error {
	if (c.cert == "") != (c.key == "") {
		return usagef("%s and %s go together", c.name("cert"), c.name("key"))
	}
	switch {
	case c.plain && c.cert != "":
		return usagef("%s has no use for a certificate (%s)", c.name("plain"), c.name("cert"))
	case c.plain && c.domain != "":
		return usagef("%s has no use for %s: there is no TLS for its certificate", c.name("plain"), c.name("domain"))
	case c.cert != "" && c.domain != "":
		return usagef("%s gets a certificate, and %s gives one: choose", c.name("domain"), c.name("cert"))
	case c.acmeHTTP != "" && c.domain == "":
		return usagef("%s answers for --domain, which is not given", c.name("acme-http"))
	}
	if c.domain == "" {
		return nil
	}
	if _, err := wire.CanonicalURL("wss://" + c.domain + "/"); err != nil || !strings.Contains(strings.Trim(c.domain, "."), ".") || net.ParseIP(strings.Trim(c.domain, "[]")) != nil || strings.Contains(c.domain, ":") {
		return usagef("%s %q: want a full name such as vault.example.org", c.name("domain"), c.domain)
	}
	if c.acmeHTTP != "" {
		if _, err := c.hostPort("acme-http", c.acmeHTTP); err != nil {
			return err
		}
	}
	u, err := url.Parse(c.acmeDirectory)
	if err != nil || u.Host == "" || !(u.Scheme == "https" || u.Scheme == "http" && wire.Loopback(u.Host)) {
		return usagef("%s %q: want https://…", c.name("acme-directory"), c.acmeDirectory)
	}
	return nil
}

// proxies returns the trusted proxies.
func (c *config) proxies() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.trustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, aerr := netip.ParseAddr(text)
			if err = aerr; aerr == nil {
				p, err = a.Prefix(a.BitLen())
			}
		}
		if a := p.Addr(); err == nil && a.Is4In6() {
			// Who comes is compared as what he is, an address of IPv4.
			p, err = a.Unmap().Prefix(p.Bits() - 96)
		}
		if err != nil {
			return nil, usagef("%s %q: want an address such as 192.0.2.7, or a range such as 10.0.0.0/8", c.name("trusted-proxies"), text)
		}
		if p.Bits() == 0 {
			return nil, usagef("%s %q: that is everybody, who could then claim any address", c.name("trusted-proxies"), text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// addresses returns how devices reach the server, and every address that it
// answers to.
func (c *config) addresses(l net.Listener) (secondary.Address, []string, error) {
	scheme, web, binding := "wss", "https", wire.BindingExporter
	if c.plain {
		scheme, web, binding = "ws", "http", wire.BindingNone
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return secondary.Address{}, nil, err
	}
	host, _, err := net.SplitHostPort(c.listen)
	if err != nil {
		return secondary.Address{}, nil, err
	}
	var urls []string
	if c.url != "" {
		urls = append(urls, c.url)
	}
	if c.domain != "" {
		// Without its port: the authority has to reach it at 443.
		urls = append(urls, "wss://"+strings.ToLower(strings.TrimSuffix(c.domain, "."))+"/")
	}
	local := host
	switch ip := net.ParseIP(host); {
	case host == "" || ip != nil && ip.IsUnspecified():
		local = "127.0.0.1"
		if strings.Contains(host, ":") {
			local = "::1"
		}
	case c.plain && !wire.Loopback(host): // for the proxy alone
	default:
		own, err := wire.CanonicalURL(scheme + "://" + net.JoinHostPort(host, port))
		if err != nil {
			return secondary.Address{}, nil, err
		}
		urls = append(urls, own)
	}
	return secondary.Address{URL: urls[0], Binding: binding, Local: web + "://" + net.JoinHostPort(local, port)}, urls, nil
}

// listen listens on a TCP address, and says what to do where that does not go.
func listen(setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	_, port, _ := net.SplitHostPort(address)
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = hinted{err, fmt.Sprintf("another port with %s, or end the program that has this one (ss -ltnp 'sport = :%s' names it)", setting, port)}
	case errors.Is(err, syscall.EACCES):
		err = hinted{err, "a port from 1024 on, or let kistd have this one: AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit, or setcap cap_net_bind_service=+ep on the program"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = hinted{err, "an address of this machine (ip address lists them), or " + net.JoinHostPort("", port) + " for all"}
	case errors.As(err, &dns):
		err = hinted{err, "an IP address instead of the name"}
	}
	return nil, err
}
