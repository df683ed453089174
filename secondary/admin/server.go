package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/internal/peer"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/wire"
)

// maxSocketPath is the length in bytes of the longest path that a Unix socket can
// have on every system (sockaddr_un: 104 with the final zero on the smallest).
const maxSocketPath = 103

// root may administrate what belongs to another user.
const root = 0

// ErrPath: a data directory's path leaves no room for the socket's name.
var ErrPath = errors.New("the data directory's path is too long")

// A Server answers on the socket of a data directory.
type Server struct {
	http    *http.Server
	end     context.CancelFunc
	serving sync.WaitGroup
	running sync.WaitGroup // questions that are being answered
}

// Listen answers at path until Close. Whoever calls it has the data directory for
// himself: a socket that is there has been left by a process that is no more. log
// is told what was done; nil: nobody is.
func Listen(path string, o *Operator, log *slog.Logger) (*Server, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrPath, path, maxSocketPath)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ctx, end := context.WithCancel(context.Background())
	s := &Server{end: end}
	s.http = &http.Server{
		Handler:           s.counted(o.handler(log)),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    8 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.serving.Go(func() {
		if err := s.http.Serve(knownPeers{l}); !errors.Is(err, http.ErrServerClosed) {
			log.Error("no commands are taken any more", "err", err)
		}
	})
	return s, nil
}

// counted counts the questions that are being answered.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		h.ServeHTTP(w, r)
	})
}

// End ends what is being answered, at its next step, and does not wait for it.
func (s *Server) End() { s.end() }

// Close is End, waits for it, and removes the socket.
func (s *Server) Close() error {
	s.End()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx) // lets answers out that are ready
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close() // somebody does not take his
	}
	s.serving.Wait()
	s.running.Wait()
	return err
}

// knownPeers is a listener that lets in only who may administrate.
type knownPeers struct{ *net.UnixListener }

func (l knownPeers) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peer.Check(c, root) == nil {
			return c, nil
		}
		c.Close()
	}
}

// maxQuestion is the size in bytes of the longest question, and of any answer but
// lists.
const maxQuestion = 64 << 10

// refusal is the answer to a question that could not be met.
type refusal struct {
	Error    string    `json:"error"`
	Code     wire.Code `json:"code,omitempty"`      // 0: none that a program knows
	ReadOnly bool      `json:"read_only,omitempty"` // store.ErrReadOnly
	Damaged  bool      `json:"damaged,omitempty"`   // store.ErrDamaged
}

func refusalOf(err error) refusal {
	return refusal{err.Error(), wire.CodeOf(err), errors.Is(err, store.ErrReadOnly), errors.Is(err, store.ErrDamaged)}
}

// known returns what a program knows of the refusal, nil for nothing.
func (r refusal) known() error {
	switch {
	case r.ReadOnly:
		return store.ErrReadOnly
	case r.Damaged:
		return store.ErrDamaged
	}
	return r.Code.Err()
}

// on answers one question.
func on[Q, A any](mux *http.ServeMux, log *slog.Logger, what string, fn func(context.Context, Q) (A, error)) {
	mux.HandleFunc("POST /"+what, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			reply(w, http.StatusBadRequest, refusal{Error: "the question cannot be read: " + err.Error()})
			return
		}
		a, err := fn(r.Context(), q)
		log.Debug("command", "what", what, "err", err)
		if err != nil {
			refuse(w, err)
			return
		}
		reply(w, http.StatusOK, a)
	})
}

// refuse says that a question could not be met.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, engine.ErrExists):
		status = http.StatusConflict
	case errors.Is(err, archive.ErrDamaged):
		status = http.StatusUnsupportedMediaType
	}
	reply(w, status, refusalOf(err))
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who asked has left
}
