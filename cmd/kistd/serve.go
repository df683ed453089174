package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/internal/ballast"
	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/front"
	"github.com/kistvault/kist/secondary/wire"
)

func serveCommand() *cobra.Command {
	conf := newConfig()
	c := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "run the server",
		Long: `Runs the server until it is told to stop (SIGTERM, SIGINT), and then lets
sessions finish what they are doing, for eight seconds at most. A second signal
ends it at once. SIGHUP reads the certificate again, SIGUSR1 changes the log to
debug and back; see kistd log-level.

It listens on this machine alone, unless it is told otherwise. TLS ends in kistd:
with a certificate of its own, one that is given (--cert, --key), or one that it
gets (--domain). Devices pin the server key of the invite and need no certificate
authority. With --plain there is no TLS, for a proxy.

While there is no vault, an invite is printed at each start.

With --open nobody has to be invited: what is then printed lets everybody create
vaults. Each may take 1 GiB and 1,000,000 commits, unless --quota-bytes and
--quota-commits say something else.

Once a day, values that were superseded or removed longer ago than --retention
are dropped, vaults that were deleted longer ago than --deleted, and uploads that
were left unfinished for a week; see kistd compact and kistd vaults.

Every flag is also a variable (--min-free: KISTD_MIN_FREE) and a line of the
file ` + defaultFile + `, or of the one that --config names; see
kistd config example.`,
		Example: `  kistd serve --data /var/lib/kistd
  kistd serve --data /var/lib/kistd --domain vault.example.org
  kistd serve --data /var/lib/kistd --listen :7370 --url wss://vault.example.org:7370
  kistd serve --data /var/lib/kistd --plain --url wss://vault.example.org`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := conf.load(c); err != nil {
				return err
			}
			return serve(c.Context(), conf, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	conf.flags(c, serveSettings(conf)...)
	return c
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, conf *config, stdout, stderr io.Writer) (err error) {
	signals, unsubscribe := subscribe()
	defer unsubscribe()
	if err := conf.check(); err != nil {
		return err
	}
	log, level, err := conf.logger(stderr)
	if err != nil {
		return err
	}
	usual := level.Level()
	for _, name := range conf.loaded.Strange {
		log.Warn("not a setting, and left alone", "variable", name)
	}

	// 1. The data, for us alone.
	data, err := secondary.InitDataDir(conf.data)
	if err != nil {
		return dataError(err)
	}
	defer closing(&err, data)
	for _, what := range data.Remarks() {
		log.Warn("data directory: " + what)
	}
	defer ballast.Hold(ballast.Server)()
	e, err := data.OpenEngine()
	if err != nil {
		return err
	}
	defer closing(&err, e)
	e.DefaultQuota(conf.quota())
	if at, restored, err := data.Restored(); err != nil {
		return err
	} else if restored {
		log.Warn("this is a backup; devices that know more will notice, and one can send what is missing with kist secondary reseed", "of", at)
	}

	// 2. The address.
	listener, err := listen(conf.name("listen"), conf.listen)
	if err != nil {
		return err
	}
	defer listener.Close() // the HTTP server has closed it, but after an error
	address, urls, err := conf.addresses(listener)
	if err != nil {
		return err
	}
	if err := data.SetAddress(address); err != nil {
		return err
	}
	certificate, err := conf.certificate(data, log)
	if err != nil {
		return err
	}

	// 3. The server, and what a browser is shown.
	sessions, _ := room(descriptors(), int(conf.sessions))
	if sessions < int(conf.sessions) {
		log.Warn("the limit on open files has no room for as many sessions as are set; raise LimitNOFILE= in the unit, or ulimit -n", "sessions", sessions, "set", conf.sessions, "limit", descriptors())
	}
	server, err := secondary.New(secondary.Config{Engine: e, Key: data.Key(), Binding: address.Binding, URLs: urls, Logger: log,
		RetentionDays: conf.retention, DeletedDays: conf.deleted, Limits: conf.limits(), MaxConns: sessions, ClientBytes: int(conf.clientMemory), ClockFile: data.ClockFile()})
	if err != nil {
		return err
	}
	proxies, err := conf.proxies()
	if err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(conf.listen)
	disk := newProbe(conf.data, log)
	isReady := func() error { return ready(server, data, disk, conf.minFree) }
	public := &front.Handler{
		Sessions:    server,
		Ready:       isReady,
		Version:     versionText(),
		URL:         address.URL,
		Proxies:     proxies,
		ProxiesOnly: conf.plain && !wire.Loopback(host),
	}
	web := newHTTPServer(public, log)
	newInvite := func(ctx context.Context) (wire.Invite, error) {
		return secondary.NewInvite(ctx, e, data.Key().Public(), address, time.Now())
	}
	metrics := admin.NewMetrics(data, e, server, isReady, versionText(), log)
	commands, err := admin.Listen(data.AdminSocket(), &admin.Operator{Data: data, Engine: e, Server: server, DeletedDays: conf.deleted, Metrics: metrics, Level: level}, log)
	if err != nil {
		return err
	}
	defer closing(&err, commands)
	watched, err := conf.serveMetrics(metrics, log)
	if err != nil {
		return err
	}
	defer closing(&err, watched)

	// 4. What goes on beside it.
	var beside sync.WaitGroup
	defer beside.Wait()
	besideCtx, cancelBeside := context.WithCancel(ctx)
	defer cancelBeside()
	beside.Go(func() { server.CompactDaily(besideCtx) })
	beside.Go(func() { server.Mend(besideCtx) })
	stopCertificate, err := certificate.start(besideCtx, &beside)
	if err != nil {
		return err
	}
	defer stopCertificate()

	// 5. What the operator should know.
	fmt.Fprintf(stdout, "listening on %s\n", urls[len(urls)-1])
	if err := openInvite(ctx, e, data, address, conf.open, stdout); err != nil {
		return err
	}
	if conf.open && conf.quota().Bytes == 0 {
		log.Warn("whoever finds this server can fill its disk with one vault: with --open, leave --quota-bytes as it is, or set it to something")
	}
	if !conf.open {
		if err := firstInvite(ctx, e, newInvite, stdout); err != nil {
			return err
		}
	}
	log.Info("listening", "address", listener.Addr().String(), "url", address.URL, "binding", address.Binding.String(),
		"certificate", certificate.kind, "server-key", data.Key().Public().String(), "version", versionText(), "sessions", sessions, "settings", conf.file)

	// 6. Serve, and stop in order: the sessions, with what commands and compaction are at,
	// then connections, then the store.
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(certificate.listen(server.Doorkeep(listener, public.Trusted))) }()
	warn := func(err error) {
		if err != nil {
			log.Warn("telling the service manager", "err", err)
		}
	}
	warn(notify("READY=1"))
	for {
		select {
		case err := <-failed:
			return fmt.Errorf("serving: %w", err)
		case s := <-signals:
			switch s {
			case signalReload:
				warn(notifyReloading())
				log.Info("reading the certificate again")
				certificate.reload()
				warn(notify("READY=1"))
			case signalDebug:
				toggleDebug(level, usual)
				log.Warn("the log level has changed", "level", level.Level().String())
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	log.Info("stopping; a second signal ends it at once", "connections", server.Conns())
	warn(notify("STOPPING=1"))
	commands.End() // a verification may have hours to go
	return stop(server, web, failed, log)
}

// stopTime is how long sessions may take to end; a service manager that waits
// ten seconds finds kistd gone.
const stopTime = 8 * time.Second

// stop ends the sessions, after what they are doing, and then the HTTP server,
// which until then says that it is not ready.
func stop(server *secondary.Server, web *http.Server, served <-chan error, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("some sessions were cut off", "after", stopTime)
		err = nil
	}
	err = errors.Join(err, web.Close())
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// newHTTPServer returns the server of the public listener. A connection has one
// request, or becomes a session.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	_, waiting := room(descriptors(), defaultSessions)
	return &http.Server{
		Handler:           h,
		ConnState:         front.NewGate(waiting).ConnState,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second, // a session has deadlines of its own
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          httpLog(log),
	}
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

on their device:  kist onboard INVITE --key FILE
`, i.Expires.Format("2006-01-02 15:04 MST"), i)
	return err
}

// closing closes c when a function ends and keeps its error.
func closing(err *error, c io.Closer) { *err = errors.Join(*err, c.Close()) }
