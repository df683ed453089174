// Package secondary is the server that keeps vaults: it gives commits their
// order, keeps them, and sends them to the devices of their vault. It holds no
// key that opens anything and imports no package that could; what it stores and
// sees is ciphertext, sizes, times, and which change supersedes which.
//
// A [Server] is an http.Handler that speaks the messages of package wire over
// WebSocket connections, and needs a store to keep things in (package engine).
//
//	s, err := secondary.New(secondary.Config{Engine: e, Key: key, URLs: urls, Binding: wire.BindingExporter})
//	err = (&http.Server{Handler: s, TLSConfig: …}).ServeTLS(listener, "", "")
//
// # Trust
//
// Devices believe nothing that a secondary says, but its key. It runs their own
// checks before it appends, so that no faulty device can put into a log what
// the others would refuse.
//
// # Concurrency
//
// A [Session] is one device's session as a state machine: messages in, messages
// out, no goroutine, clock or socket. Each connection has two goroutines:
// conn.read hands frames to the session and waits while it works; conn.write
// sends answers, and asks the session for the next frame of bulk whenever the
// line is free. So what a slow device is sent is read from the store when it can
// be sent, and a session holds one frame, or one commit that is larger.
// [Server.Shutdown] returns when all of them have ended.
package secondary
