package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"

	"github.com/kistvault/kist/internal/certs"
	"github.com/kistvault/kist/secondary"
)

// certificate is where the certificate of the public listener comes from.
type certificate struct {
	kind   string // own, file, acme or none
	config *tls.Config
	acme   *certs.ACME
	http   string // where ACME answers without TLS; empty: nowhere
	named  string // the setting of that
	reload func() // never nil
	log    *slog.Logger
}

// certificateFiles reads the certificate that is given, nil if none is.
func (c *config) certificateFiles(log *slog.Logger) (*certs.Files, error) {
	if c.cert == "" {
		return nil, nil
	}
	f, err := certs.OpenFiles(c.cert, c.key, log, nil)
	if err != nil {
		return nil, usagef("%s, %s: %w", c.name("cert"), c.name("key"), err)
	}
	return f, nil
}

// certificate returns what the settings ask for. Nothing of it runs yet.
func (c *config) certificate(data *secondary.DataDir, log *slog.Logger) (*certificate, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	all := &certificate{kind: "own", config: t, reload: func() {}, log: log}
	if c.plain {
		all.kind, all.config = "none", nil
		return all, nil
	}
	files, err := c.certificateFiles(log)
	if err != nil {
		return nil, err
	}
	if files != nil {
		all.kind, t.GetCertificate, all.reload = "file", files.GetCertificate, files.Reload
		return all, nil
	}
	said := len(data.Remarks())
	own, err := data.Certificate()
	if err != nil {
		return nil, err
	}
	for _, what := range data.Remarks()[said:] {
		log.Warn("data directory: " + what)
	}
	t.Certificates = []tls.Certificate{own}
	if c.domain != "" {
		all.acme = certs.NewACME(certs.ACMEConfig{
			Domain: strings.ToLower(strings.TrimSuffix(c.domain, ".")), Email: c.acmeEmail, Directory: c.acmeDirectory,
			Cache: filepath.Join(data.Path(), "acme"), Fallback: &own, Logger: log,
		})
		all.kind, all.http, all.named = "acme", c.acmeHTTP, c.name("acme-http")
		t.GetCertificate, all.reload = all.acme.GetCertificate, all.acme.Reload
		t.NextProtos = append(t.NextProtos, certs.Protocol)
	}
	return all, nil
}

// listen puts TLS before a listener.
func (c *certificate) listen(l net.Listener) net.Listener {
	if c.config == nil {
		return l
	}
	return tls.NewListener(l, c.config)
}

// start lets what needs it run until ctx ends. The function that it returns closes
// what listens.
func (c *certificate) start(ctx context.Context, beside *sync.WaitGroup) (stop func(), err error) {
	stop = func() {}
	if c.acme == nil {
		return stop, nil
	}
	if c.http != "" {
		l, err := listen(c.named, c.http)
		if err != nil {
			return nil, err
		}
		web := newHTTPServer(c.acme.HTTPHandler(), c.log)
		beside.Go(func() {
			if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				c.log.Error("answering the certificate authority", "err", err)
			}
		})
		stop = func() { web.Close() }
	}
	beside.Go(func() { c.acme.Run(ctx) })
	return stop, nil
}
