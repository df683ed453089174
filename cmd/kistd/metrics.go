package main

import (
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/kistvault/kist/secondary/wire"
)

// checkMetrics checks that setting. There is no TLS there and no password, so it is
// for this machine alone.
func (c *config) checkMetrics() error {
	if c.metrics == "" {
		return nil
	}
	host, err := c.hostPort("metrics", c.metrics)
	if err != nil {
		return err
	}
	if !wire.Loopback(host) {
		return usagef("%s %s: want a loopback address such as 127.0.0.1:7371; for Prometheus on another machine, let a proxy or an agent here pass it on", c.name("metrics"), c.metrics)
	}
	return nil
}

// serveMetrics answers /metrics on the address of that setting, until what it returns
// is closed.
func (c *config) serveMetrics(metrics http.Handler, log *slog.Logger) (io.Closer, error) {
	if c.metrics == "" {
		return io.NopCloser(nil), nil
	}
	l, err := listen(c.name("metrics"), c.metrics)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	s := &metricsServer{newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page from elsewhere that a browser on this machine shows may call this
		// address by a name of its own.
		if !wire.Loopback(r.Host) {
			http.Error(w, "this is for the machine itself", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	}), log), make(chan error, 1)}
	go func() { s.ended <- s.http.Serve(l) }()
	log.Info("metrics", "address", l.Addr().String())
	return s, nil
}

type metricsServer struct {
	http  *http.Server
	ended chan error
}

// Close ends it at once.
func (s *metricsServer) Close() error {
	err := s.http.Close()
	if e := <-s.ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
