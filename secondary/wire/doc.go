// Package wire holds the words that a device and a secondary say to each other:
// messages, their encoding and limits, error codes, and the invite.
//
// A session is one WebSocket connection with the subprotocol [Subprotocol]. Each
// binary message on it is one frame, and each frame one [Message]:
//
//	frame = type u8 ‖ body
//
// A body is one CBOR array (RFC 8949, core deterministic encoding), but for
// [Download] and [Upload], whose bulk follows their CBOR:
//
//	body  = length u32 ‖ CBOR array ‖ items
//	item  = kind u8 ‖ length u32 ‖ bytes
//
// Decoding is strict: what [Parse] accepts, [Append] encodes to the same bytes.
// The items of a parsed message share the frame's memory.
//
// The package does no I/O, starts no goroutine, and holds no key. Formats are in
// docs/SPEC.md, section "Wire".
package wire
