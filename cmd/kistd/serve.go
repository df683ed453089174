package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/wire"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	data, listen, url string
	cert, key         string
	plain, verbose    bool
	retention         uint32
}

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve --data DIR --listen ADDRESS",
		Short: "run the server",
		Long: `Runs the server until it is told to stop (SIGTERM, SIGINT), and then lets
sessions finish what they are doing.

TLS ends in kistd, with a certificate of its own or the one given: devices pin
the server key of the invite and need no certificate authority. With --plain
there is no TLS, for a proxy on this machine or for trying things out.

While there is no vault, an invite is printed at each start.

Once a day, values that were superseded or removed longer ago than --retention
are dropped; see kistd compact.`,
		Example: `  kistd serve --data /var/lib/kistd --listen 127.0.0.1:7370
  kistd serve --data /var/lib/kistd --listen :7370 --url wss://vault.example.org:7370
  kistd serve --data /var/lib/kistd --listen 127.0.0.1:7370 --plain --url wss://vault.example.org`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c.Context(), f, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	dataFlag(c, &f.data)
	c.Flags().StringVar(&f.listen, "listen", "", "address to listen on, such as 127.0.0.1:7370; port 0 picks a free one (required)")
	c.Flags().StringVar(&f.url, "url", "", "address that devices use, such as wss://vault.example.org; default: the one listened on")
	c.Flags().StringVar(&f.cert, "cert", "", "PEM file with a certificate chain (default: a certificate of kistd's own)")
	c.Flags().StringVar(&f.key, "key", "", "PEM file with the certificate's private key")
	c.Flags().BoolVar(&f.plain, "plain", false, "no TLS; only on a loopback address")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log each session")
	retentionFlag(c, &f.retention)
	return c
}

// check looks at the flags before anything is touched.
func (f *serveFlags) check() error {
	if err := needData(f.data); err != nil {
		return err
	}
	if err := needRetention(f.retention); err != nil {
		return err
	}
	if f.listen == "" {
		return usagef("--listen ADDRESS is needed, such as 127.0.0.1:7370")
	}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return usagef("--listen %q: want HOST:PORT", f.listen)
	}
	if (f.cert == "") != (f.key == "") {
		return usagef("--cert and --key go together")
	}
	if f.plain && f.cert != "" {
		return usagef("--plain has no use for a certificate")
	}
	if f.plain && !wire.Loopback(host) {
		return usagef("--plain is for loopback addresses only, and %s is none", f.listen)
	}
	if f.url == "" {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return usagef("--url is needed: %s listens everywhere, and does not say where devices find it", f.listen)
		}
		return nil
	}
	url, err := wire.CanonicalURL(f.url)
	if err != nil {
		return usagef("--url %q: want wss://HOST, wss://HOST:PORT or ws://127.0.0.1:PORT", f.url)
	}
	f.url = url
	if host, secure := wire.SplitURL(url); !secure && !(f.plain && wire.Loopback(host)) {
		return usagef("--url %s: devices take ws:// only with --plain and on a loopback address", url)
	}
	return nil
}

// addresses returns how devices reach the server, and every address that it
// answers to.
func (f *serveFlags) addresses(l net.Listener) (secondary.Address, []string, error) {
	scheme, binding := "wss", wire.BindingExporter
	if f.plain {
		scheme, binding = "ws", wire.BindingNone
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return secondary.Address{}, nil, err
	}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return secondary.Address{}, nil, err
	}
	var urls []string
	if f.url != "" {
		urls = append(urls, f.url)
	}
	if host != "" {
		own, err := wire.CanonicalURL(scheme + "://" + net.JoinHostPort(host, port))
		if err != nil {
			return secondary.Address{}, nil, err
		}
		urls = append(urls, own)
	}
	return secondary.Address{URL: urls[0], Binding: binding}, urls, nil
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, f serveFlags, stdout, stderr io.Writer) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	// 1. The data, for us alone.
	data, err := secondary.InitDataDir(f.data)
	if err != nil {
		return fmt.Errorf("opening data directory: %w", err)
	}
	defer closing(&err, data)
	e, err := data.OpenEngine()
	if err != nil {
		return err
	}
	defer closing(&err, e)

	// 2. The address.
	listener, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	defer listener.Close() // the HTTP server has closed it, but after an error
	address, urls, err := f.addresses(listener)
	if err != nil {
		return err
	}
	if err := data.SetAddress(address); err != nil {
		return err
	}

	// 3. The server.
	server, err := secondary.New(secondary.Config{Engine: e, Key: data.Key(), Binding: address.Binding, URLs: urls, Logger: log, RetentionDays: f.retention})
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler:           server,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       10 * time.Second, // between requests; there is only one
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if !f.plain {
		cert, err := f.certificate(data)
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"},
		})
	}
	newInvite := func(ctx context.Context) (wire.Invite, error) {
		return secondary.NewInvite(ctx, e, data.Key().Public(), address, time.Now())
	}
	commands, err := listenAdmin(ctx, data.AdminSocket(), func(ctx context.Context, question string) (string, error) {
		if question != "invite" {
			return "", fmt.Errorf("unknown command %q", question)
		}
		i, err := newInvite(ctx)
		return i.String(), err
	})
	if err != nil {
		return err
	}
	defer closing(&err, commands)

	// 4. What the operator should know.
	fmt.Fprintf(stdout, "listening on %s\n", urls[len(urls)-1])
	if err := firstInvite(ctx, e, newInvite, stdout); err != nil {
		return err
	}
	log.Info("listening", "address", listener.Addr().String(), "url", address.URL, "server-key", data.Key().Public().String())

	// 5. Serve, and stop in order: no new connections, then the sessions, then
	// the store.
	var beside sync.WaitGroup
	defer beside.Wait()
	besideCtx, cancelBeside := context.WithCancel(ctx)
	defer cancelBeside()
	beside.Go(func() { server.CompactDaily(besideCtx) })
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping")
	stopCtx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err = errors.Join(web.Close(), server.Shutdown(stopCtx))
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("some sessions were cut off", "after", stopTime)
		err = nil
	}
	return err
}

// stopTime is how long sessions may take to end; a service manager that waits
// ten seconds finds kistd gone.
const stopTime = 8 * time.Second

func (f *serveFlags) certificate(data *secondary.DataDir) (tls.Certificate, error) {
	if f.cert == "" {
		return data.Certificate()
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return cert, usagef("--cert, --key: %w", err)
	}
	return cert, nil
}

// firstInvite prints an invite while there is no vault.
func firstInvite(ctx context.Context, e interface {
	Vaults(context.Context) (int, error)
}, newInvite func(context.Context) (wire.Invite, error), stdout io.Writer) error {
	n, err := e.Vaults(ctx)
	if err != nil || n > 0 {
		return err
	}
	i, err := newInvite(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, `there is no vault yet. This invite lets one person create one, until %s:

%s

on their device:  kist onboard INVITE --vault DIR --key FILE
`, i.Expires.Format("2006-01-02 15:04 MST"), i)
	return err
}

// closing closes c when a function ends and keeps its error.
func closing(err *error, c io.Closer) { *err = errors.Join(*err, c.Close()) }
