package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kistvault/kist/secondary"
)

// healthTime is how long a server may take to say that it is well, but in tests.
var healthTime = 5 * time.Second

func healthCommand() *cobra.Command {
	conf := newConfig()
	c := &cobra.Command{
		Use:   "health --data DIR",
		Short: "ask the server that runs on this machine whether it is ready",
		Long: `Asks the server that runs with this data directory for /readyz, where it listens,
and prints the answer. Exit status 0 if it is ready, 1 if not: for a container's
health check, where there is no curl.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := conf.load(c); err != nil {
				return err
			}
			if err := conf.needData(); err != nil {
				return err
			}
			answer, err := health(c.Context(), conf.data)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), answer)
			return err
		},
	}
	conf.flags(c, "data")
	return c
}

func health(ctx context.Context, data string) (string, error) {
	address, err := secondary.ReadAddress(data)
	if errors.Is(err, fs.ErrNotExist) || err == nil && address.Local == "" {
		return "", hinted{fmt.Errorf("%s: %w, or no server has run with it", data, secondary.ErrNoDataDir), "kistd serve --data " + data}
	}
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address.Local+"/readyz", nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// It is asked on this machine, for nothing that is secret or believed, and
		// its certificate is for another name.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return "", hinted{fmt.Errorf("the server does not answer: %w", err), "systemctl start kistd, or kistd serve --data " + data + "; journalctl -u kistd says why it ended, if it did"}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 200))
	if err != nil {
		return "", fmt.Errorf("the server does not answer: %w", err)
	}
	answer := strings.TrimSpace(string(text))
	if resp.StatusCode != http.StatusOK {
		return "", hinted{fmt.Errorf("%q (HTTP %d)", answer, resp.StatusCode), "kistd doctor, and the server's log (journalctl -u kistd)"}
	}
	return answer, nil
}
