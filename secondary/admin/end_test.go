package admin_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kistvault/kist/secondary"
	"github.com/kistvault/kist/secondary/admin"
	"github.com/kistvault/kist/secondary/engine"
	"github.com/kistvault/kist/secondary/engine/embedded"
)

// long is an engine with which all that can take long takes until its context ends.
type long struct {
	*embedded.Engine
	begun chan struct{}
}

func (l long) until(ctx context.Context) error {
	l.begun <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (l long) Verify(ctx context.Context, _ engine.VerifyOptions, _ func(engine.Fault)) (v engine.Verified, err error) {
	return v, l.until(ctx)
}

func (l long) Compact(ctx context.Context, _ time.Time) (c engine.Compacted, err error) {
	return c, l.until(ctx)
}

func (l long) Tidy(ctx context.Context, _ time.Time, _ bool) (t engine.Tidied, err error) {
	return t, l.until(ctx)
}

// A server that stops does not wait for commands: they end before it has.
func TestEnd(t *testing.T) {
	d, err := secondary.InitDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e, err := d.OpenEngine()
	if err != nil {
		t.Fatal(err)
	}
	slow := long{e, make(chan struct{})}
	s, err := admin.Listen(d.AdminSocket(), &admin.Operator{Data: d, Engine: slow, DeletedDays: 7}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := admin.NewClient(d.AdminSocket())
	commands := []func() error{
		func() error { _, err := c.Verify(t.Context()); return err },
		func() error { _, err := c.Compact(t.Context(), admin.CompactQuestion{Days: 1}); return err },
		func() error { _, err := c.Tidy(t.Context(), admin.TidyQuestion{}); return err },
	}
	ended := make(chan error)
	for _, command := range commands {
		go func() { ended <- command() }()
		<-slow.begun
	}
	s.End()
	for range commands {
		if err := <-ended; err == nil || errors.Is(err, admin.ErrSilent) {
			t.Errorf("a command ends with %v", err)
		}
	}
	if err := errors.Join(s.Close(), e.Close(), d.Close()); err != nil {
		t.Error(err)
	}
}
