package main

import (
	"io"
	"log/slog"
)

var discardLog = slog.New(slog.DiscardHandler)

// newLogger returns the log, and the level from which on it takes lines, which can
// be changed at any time.
func newLogger(w io.Writer, format, level string) (*slog.Logger, *slog.LevelVar, error) {
	lv := new(slog.LevelVar)
	switch level {
	case "debug":
		lv.Set(slog.LevelDebug)
	case "info":
		lv.Set(slog.LevelInfo)
	case "warn":
		lv.Set(slog.LevelWarn)
	case "error":
		lv.Set(slog.LevelError)
	default:
		return nil, nil, usagef("--log-level %q: want debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: lv}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), lv, nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), lv, nil
	}
	return nil, nil, usagef("--log-format %q: want text or json", format)
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
