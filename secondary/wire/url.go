package wire

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// CanonicalURL returns the one form of a secondary's address: ws or wss, host in
// lower case, port unless it is the scheme's own, path (at least "/"), nothing
// else. The error wraps [ErrProtocol].
func CanonicalURL(s string) (string, error) {
	if len(s) > MaxURL {
		return "", malformed("address of %d bytes", len(s))
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return "", malformed("address %q", s)
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return "", malformed("address %q", s)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if !validHost(host) || !validPort(port) {
		return "", malformed("address %q", s)
	}
	switch {
	case u.Scheme != "ws" && u.Scheme != "wss":
		return "", malformed("address %q: not ws:// or wss://", s)
	case u.Scheme == "wss" && port == "443", u.Scheme == "ws" && port == "80":
		port = ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" {
		host += ":" + port
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	canonical := u.Scheme + "://" + host + path
	if len(canonical) > MaxURL {
		return "", malformed("address of %d bytes", len(canonical))
	}
	return canonical, nil
}

// validHost takes names of letters, digits, dots, hyphens and underscores, and IP
// addresses without a zone.
func validHost(host string) bool {
	if strings.Contains(host, ":") {
		ip, err := netip.ParseAddr(host)
		return err == nil && ip.Zone() == ""
	}
	return host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0 && port[0] != '0'
}

// Loopback reports whether host, a name or address with or without a port, is
// this machine itself: the only place where ws:// is accepted.
func Loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// SplitURL returns host and port of a canonical address, and whether it is wss.
func SplitURL(canonical string) (host string, secure bool) {
	rest, secure := strings.CutPrefix(canonical, "wss://")
	if !secure {
		rest = strings.TrimPrefix(canonical, "ws://")
	}
	host, _, _ = strings.Cut(rest, "/")
	return host, secure
}
