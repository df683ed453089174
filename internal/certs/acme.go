package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEConfig says for which name to get a certificate, and where.
type ACMEConfig struct {
	Domain    string
	Email     string // for the authority, to write to; may be empty
	Directory string // the authority's address
	Cache     string // directory for account and certificate; made with mode 0700
	// Fallback is used for other names, and until there is a certificate.
	Fallback *tls.Certificate
	Client   *http.Client // nil: the usual one
	Logger   *slog.Logger
}

// ACME gets a certificate from an authority (RFC 8555) and renews it.
//
// Handshakes never wait for that: Run keeps the certificate at hand.
type ACME struct {
	c       ACMEConfig
	manager *autocert.Manager
	current atomic.Pointer[tls.Certificate]
	again   chan struct{} // holds a token when Run should try at once
}

// NewACME returns an ACME that has no certificate yet; see [ACME.Run].
func NewACME(c ACMEConfig) *ACME {
	return &ACME{
		c: c,
		manager: &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			Cache:      autocert.DirCache(c.Cache),
			HostPolicy: autocert.HostWhitelist(c.Domain),
			Client:     &acme.Client{DirectoryURL: c.Directory, HTTPClient: c.Client, UserAgent: "kistd"},
			Email:      c.Email,
		},
		again: make(chan struct{}, 1),
	}
}

// Protocol is what a TLS server has to offer (ALPN), so that the authority can look
// at the name by TLS-ALPN-01 (RFC 8737).
const Protocol = acme.ALPNProto

// GetCertificate is for [tls.Config].
func (a *ACME) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == Protocol {
		return a.manager.GetCertificate(hello)
	}
	if c := a.current.Load(); c != nil && strings.EqualFold(strings.TrimSuffix(hello.ServerName, "."), a.c.Domain) {
		return c, nil
	}
	return a.c.Fallback, nil
}

// HTTPHandler answers the authority's questions by HTTP-01, and sends everybody else
// to https. It has to be asked for before Run.
func (a *ACME) HTTPHandler() http.Handler {
	h := a.manager.HTTPHandler(nil)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.Host); err == nil { // some authorities write the port
			r2 := *r
			r2.Host = host
			r = &r2
		}
		h.ServeHTTP(w, r)
	})
}

// Reload lets Run try at once.
func (a *ACME) Reload() {
	select {
	case a.again <- struct{}{}:
	default:
	}
}

// An authority that refuses takes a handful of failures an hour.
const (
	retryFirst = 5 * time.Minute
	retryMost  = time.Hour
	checkTime  = time.Hour
)

// Run gets a certificate, and the new one when it has been renewed, until ctx ends.
func (a *ACME) Run(ctx context.Context) {
	wait := retryFirst
	for {
		pause := checkTime
		if err := a.get(ctx); ctx.Err() != nil {
			return
		} else if err != nil {
			pause, wait = wait, min(2*wait, retryMost)
			a.c.Logger.Warn("no certificate by ACME; devices do not need it, browsers do",
				"domain", a.c.Domain, "err", err, "again-in", pause.String(),
				"check", "that port 443 of this name, or port 80 with acme-http, comes to this server")
		} else {
			wait = retryFirst
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.again:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// get asks for the certificate, which takes a moment where there is one and
// minutes where there is none. The manager renews by itself.
func (a *ACME) get(ctx context.Context) error {
	type answer struct {
		cert *tls.Certificate
		err  error
	}
	done := make(chan answer, 1)
	go func() { // it cannot be cancelled, and ends after five minutes at the latest
		cert, err := a.manager.GetCertificate(&tls.ClientHelloInfo{
			ServerName:       a.c.Domain,
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
			CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, // asks for an ECDSA key
		})
		done <- answer{cert, err}
	}()
	var got answer
	select {
	case got = <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if got.err != nil {
		return got.err
	}
	before := a.current.Swap(got.cert)
	leaf := got.cert.Leaf
	if leaf == nil {
		return errors.New("a certificate that was not parsed")
	}
	expires := leaf.NotAfter.UTC()
	if before == nil || !before.Leaf.Equal(leaf) {
		a.c.Logger.Info("certificate by ACME", "domain", a.c.Domain, "expires", expires.Format(time.DateTime))
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); time.Until(leaf.NotAfter) < life/10 {
		a.c.Logger.Warn("the certificate by ACME has not been renewed", "domain", a.c.Domain, "expires", expires.Format(time.DateTime))
	}
	return nil
}
