package main

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
)

var discardLog = slog.New(slog.DiscardHandler)

// logger returns the log, and the level from which on it takes lines, which can
// be changed at any time.
func (c *config) logger(w io.Writer) (*slog.Logger, *slog.LevelVar, error) {
	at, err := parseLevel(c.logLevel)
	if err != nil {
		return nil, nil, usagef("%s %w", c.name("log-level"), err)
	}
	lv := new(slog.LevelVar)
	lv.Set(at)
	o := &slog.HandlerOptions{Level: lv}
	switch c.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), lv, nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), lv, nil
	}
	return nil, nil, usagef("%s %q: want text or json", c.name("log-format"), c.logFormat)
}

func parseLevel(level string) (slog.Level, error) {
	switch level {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%q: want debug, info, warn or error", level)
}

// toggleDebug changes to debug, and from that back to usual, which is the level
// that was set, or info where that is debug itself.
func toggleDebug(lv *slog.LevelVar, usual slog.Level) {
	if lv.Level() != slog.LevelDebug {
		lv.Set(slog.LevelDebug)
		return
	}
	if usual == slog.LevelDebug {
		usual = slog.LevelInfo
	}
	lv.Set(usual)
}

// httpLog returns what the HTTP server writes to: what strangers do wrong is of level
// debug, and that no connections can be accepted is a warning.
func httpLog(log *slog.Logger) *stdlog.Logger {
	strangers := slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer()
	return stdlog.New(writerFunc(func(line []byte) (int, error) {
		if bytes.Contains(line, []byte("Accept error")) {
			log.Warn(string(bytes.TrimSpace(line)))
			return len(line), nil
		}
		return strangers.Write(line)
	}), "", 0)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
