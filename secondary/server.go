package secondary

import (
	"container/list"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/secondary/internal/frames"
	"github.com/kistvault/kist/secondary/wire"
)

// Server is a secondary: an http.Handler for the WebSocket connections of its
// devices. See [New].
type Server struct {
	config   Config
	upgrader websocket.Upgrader
	sessions registry
	begun    atomic.Uint64 // sessions so far
	looked   look          // at the clock, by CompactDaily
	full     full
	counts   counts

	knocks, connects, creates *buckets[netip.Addr]
	messages, scans           *buckets[keys.VaultID]
	bandwidth                 bandwidth
	outgoing                  outgoing
	budget                    budget

	// ctx ends what sessions do with the engine when Shutdown runs out of time.
	ctx    context.Context
	cancel context.CancelFunc

	connsMu   sync.Mutex
	conns     map[*conn]struct{}
	strangers list.List          // those of them that have not signed in, the oldest first
	from      map[netip.Addr]int // connections of each address that is limited
	closing   bool
	finished  sync.WaitGroup // the goroutines of all connections

	trouble atomic.Pointer[error] // why the engine is not to be relied on; nil: it is
	sick    chan struct{}         // holds a token when Mend has to look
}

// New returns a server. It starts nothing.
func New(c Config) (*Server, error) {
	config, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	looked, err := readLook(config.ClockFile)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{
		config: config,
		looked: looked,
		upgrader: websocket.Upgrader{
			HandshakeTimeout: config.SignInTime,
			ReadBufferSize:   512, // an idle session holds these; large reads go around them
			WriteBufferSize:  4 << 10,
			WriteBufferPool:  new(sync.Pool),
			Subprotocols:     []string{wire.Subprotocol},
			// Browsers say where a page comes from; no page has business here.
			CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" },
		},
		ctx: ctx, cancel: cancel,
		sessions: registry{max: config.Limits.Sessions},
		knocks:   newBuckets[netip.Addr](knocks(config.Limits.Connects)),
		connects: newBuckets[netip.Addr](config.Limits.Connects), creates: newBuckets[netip.Addr](config.Limits.Creates),
		messages: newBuckets[keys.VaultID](config.Limits.Messages), scans: newBuckets[keys.VaultID](config.Limits.Scans),
		bandwidth: newBandwidth(config.Limits.Bandwidth),
		conns:     make(map[*conn]struct{}), from: make(map[netip.Addr]int),
		budget: budget{max: config.ClientBytes},
		sick:   make(chan struct{}, 1),
	}, nil
}

// ServeHTTP takes a connection over. It returns at once; the connection has
// goroutines of its own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := newConnName()
	w.Header().Set(wire.ConnHeader, name)
	log := s.config.Logger.With("conn", name)
	if !slices.Contains(websocket.Subprotocols(r), wire.Subprotocol) {
		s.counts.refused[refusedProtocol].Add(1)
		http.Error(w, "this is a kist secondary; it speaks "+wire.Subprotocol+" over WebSocket", http.StatusBadRequest)
		return
	}
	from, counts := limited(s.config.ClientAddr(r))
	if counts {
		if wait := s.connects.take(from, s.config.Now(), 1); wait > 0 {
			s.counts.refused[refusedRate].Add(1)
			tooMany(w, wait)
			return
		}
	}
	var exporter []byte
	if s.config.Binding == wire.BindingExporter {
		var err error
		if r.TLS == nil {
			err = errors.New("no TLS")
		} else {
			exporter, err = r.TLS.ExportKeyingMaterial(wire.ExporterLabel, nil, wire.ExporterSize)
		}
		if err != nil {
			s.counts.refused[refusedTLS].Add(1)
			log.Error("cannot bind sign-in to the connection", "err", err)
			http.Error(w, "sign-in needs TLS 1.3 that ends here", http.StatusInternalServerError)
			return
		}
	}
	c := &conn{server: s, from: from, counts: counts, ready: make(chan struct{}, 1), replies: make(chan wire.Message, wire.MaxUploads), done: make(chan struct{})}
	switch s.admit(c) {
	case http.StatusServiceUnavailable:
		s.counts.refused[refusedFull].Add(1)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	case http.StatusTooManyRequests:
		s.counts.refused[refusedAddress].Add(1)
		tooMany(w, connsWait)
		return
	}
	ws, err := s.upgrader.Upgrade(w, r, http.Header{wire.ConnHeader: {name}})
	if err != nil { // Upgrade has answered
		s.dismiss(c)
		s.counts.refused[refusedProtocol].Add(1)
		log.Debug("no WebSocket", "from", r.RemoteAddr, "err", err)
		return
	}
	s.counts.connections.Add(1)
	log.Debug("connection begins", "from", r.RemoteAddr)
	c.frames = frames.New(ws, s.config.Idle)
	c.session = s.NewSession(exporter, c.wake)
	c.bound()
	c.session.from, c.session.counts = from, counts
	c.session.name = name
	s.start(c)
}

// connsWait is when to come back for who has too many connections open.
const connsWait = 30 * time.Second

// tooMany refuses a connection of an address that has had its share.
func tooMany(w http.ResponseWriter, wait time.Duration) {
	seconds := int64(wait+time.Second-1) / int64(time.Second)
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	http.Error(w, "too many connections from this address", http.StatusTooManyRequests)
}

// admit makes room for a connection and returns 0, or the HTTP status that says why
// there is none.
func (s *Server) admit(c *conn) int {
	oldest, status := s.enter(c)
	if oldest != nil {
		oldest.frames.Close()
	}
	return status
}

// enter is admit. Where it returns a connection, that has given way and is to be closed.
func (s *Server) enter(c *conn) (oldest *conn, status int) {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	if s.closing {
		return nil, http.StatusServiceUnavailable
	}
	if c.counts && s.config.Limits.Conns >= 0 && s.from[c.from] >= s.config.Limits.Conns {
		return nil, http.StatusTooManyRequests
	}
	if len(s.conns) >= s.config.MaxConns {
		if oldest = s.oldestStranger(); oldest == nil {
			return nil, http.StatusServiceUnavailable
		}
		s.forget(oldest)
	}
	if c.counts {
		s.from[c.from]++
	}
	s.conns[c] = struct{}{}
	c.stranger = s.strangers.PushBack(c)
	return oldest, 0
}

// oldestStranger returns the connection that has not signed in for longest, nil for none:
// whoever has addresses enough to take every place with such as never do keeps nobody
// out who does. connsMu is held.
func (s *Server) oldestStranger() *conn {
	for e := s.strangers.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); c.started {
			return c
		}
	}
	return nil
}

// known notes that a connection's device has signed in.
func (s *Server) known(c *conn) {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	s.strangers.Remove(c.stranger)
}

// forget takes a connection out. connsMu is held.
func (s *Server) forget(c *conn) {
	if _, there := s.conns[c]; !there {
		return
	}
	delete(s.conns, c)
	s.strangers.Remove(c.stranger) // if it is there still
	if c.counts {
		if s.from[c.from]--; s.from[c.from] == 0 {
			delete(s.from, c.from)
		}
	}
}

// start lets the connection run, or closes it if the server has begun to stop.
func (s *Server) start(c *conn) {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	if s.closing {
		c.frames.Close()
		s.forget(c)
		return
	}
	c.started = true
	s.finished.Add(2) // read and write
	go c.read()
	go c.write()
}

func (s *Server) dismiss(c *conn) {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	s.forget(c)
}

// Conns returns how many connections there are.
func (s *Server) Conns() int {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	return len(s.conns)
}

// Shutdown ends all sessions, after what they are doing, and returns when their
// goroutines have ended. Where ctx ends first, it cuts them off and returns
// ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.connsMu.Lock()
	s.closing = true
	var running []*conn
	for c := range s.conns {
		if c.started {
			running = append(running, c)
		}
	}
	s.connsMu.Unlock()

	finished := make(chan struct{})
	go func() {
		// All are told before any is waited for: what one is doing holds up no other.
		spread := shutdownSpread(len(running))
		for _, c := range running {
			e := wire.NewError(wire.CodeShutdown, "")
			e.RetryAfter = uint64(500 + rand.IntN(spread))
			c.session.tell(e)
		}
		for _, c := range running {
			c.session.End(wire.ErrShutdown)
		}
		s.finished.Wait()
		close(finished)
	}()
	defer s.cancel()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	for _, c := range running {
		c.frames.Close()
	}
	<-finished
	return fmt.Errorf("stopping: %w", ctx.Err())
}

// shutdownSpread is over how many milliseconds n devices come back after a stop, so
// that they do not all come at once: five seconds, and half a minute for 5,000.
func shutdownSpread(n int) int { return 5_000 + 5*n }

// newConnName returns a name for a connection, for logs and for people who compare
// them with what a device shows. It is random, and says nothing of the connection.
func newConnName() string { return strings.ToLower(crand.Text()[:10]) }
