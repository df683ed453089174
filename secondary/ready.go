package secondary

import "errors"

// Why a server is not ready.
var (
	errStopping = errors.New("stopping")
	errReadOnly = errors.New("the store is read-only")
	errDamaged  = errors.New("the store is damaged")
)

// Ready says why the server should not be sent work, nil if it should. The text
// names nothing of what is stored.
func (s *Server) Ready() error {
	s.connsMu.Lock()
	closing := s.closing
	s.connsMu.Unlock()
	if closing {
		return errStopping
	}
	if t := s.trouble.Load(); t != nil {
		return *t
	}
	return nil
}
