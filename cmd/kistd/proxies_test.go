package main

import (
	"net/netip"
	"slices"
	"testing"
)

// Proxies are compared with addresses of IPv4 as such, however they were written.
func TestProxies(t *testing.T) {
	c := &config{trustedProxies: []string{"192.0.2.7", "10.1.2.3/8", "::ffff:192.0.2.8", "::ffff:172.16.0.0/108", "2001:db8::1", "2001:db8:1::/48"}}
	got, err := c.proxies()
	var want []netip.Prefix
	for _, p := range []string{"192.0.2.7/32", "10.0.0.0/8", "192.0.2.8/32", "172.16.0.0/12", "2001:db8::1/128", "2001:db8:1::/48"} {
		want = append(want, netip.MustParsePrefix(p))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
