package wire

import "github.com/kistvault/kist/commitlog"

// Proto is the protocol version that this package speaks. There is no other,
// and nothing is negotiated.
const Proto = 1

// Subprotocol is the WebSocket subprotocol of a session.
const Subprotocol = "kist.v1"

// ExporterLabel names the TLS exporter that binds a sign-in to its connection
// (RFC 8446, section 7.5), without a context, of ExporterSize bytes.
const (
	ExporterLabel = "EXPORTER-kist-v1"
	ExporterSize  = 32
)

// Bounds on what a peer may send. Both sides refuse what exceeds them.
const (
	// MaxFrame is the size of the largest frame in bytes: large enough for
	// bulk transfer to run at the network's speed, small enough to be held in
	// memory for each of many sessions.
	MaxFrame = 4 << 20

	// MaxSignInFrame bounds frames before sign-in is over. The largest
	// message there holds a URL of 512 bytes.
	MaxSignInFrame = 4 << 10

	// MaxItem bounds one item of a frame. A bundle that is larger is cut, and
	// half a frame is left for the head.
	MaxItem = 2 << 20

	// MaxURL is the length of the longest address of a secondary in bytes.
	MaxURL = 512

	// MaxText is the length of an error's text in bytes: one sentence.
	MaxText = 200

	// MaxRange is the number of bytes that one OBJECT or BLOBS carries.
	MaxRange = 1 << 20

	// MaxTags is the number of namespaces that a device can ask for or be
	// registered for; keys.MaxScope says the same of certificates.
	MaxTags = 1024

	// MaxRegistrations is the number of devices that one control commit can
	// register or revoke: all there may be.
	MaxRegistrations = commitlog.MaxDevices

	// MaxUploads is the number of UPLOAD and OBJECT frames that a device should
	// have under way: enough to fill a long line, few enough for all answers to
	// be queued. A device with more under way has to read while it sends.
	MaxUploads = 16

	// MaxFetches is the number of FETCH requests that a device may have under way.
	MaxFetches = 32

	// MaxMarks is the number of MARK requests that a device may have under way.
	MaxMarks = 16

	// MaxBinds is the number of BIND and UNBIND that a device may have under way.
	MaxBinds = 16

	// MaxProof is the number of hashes in a consistency proof: one for each
	// level of the largest log's tree, and one.
	MaxProof = 41

	// maxElements bounds every CBOR array. The longest that is needed is
	// UPLOADED's, with one entry a bundle in a frame; the shortest bundle has
	// 269 bytes.
	maxElements = 1 << 14

	// minBundle is the size of the shortest bundle: ID, header, list length,
	// one change, presence.
	minBundle = 8 + commitlog.HeaderSize + 4 + 39 + 1

	// minExcerpt is the size of the shortest excerpt: ID, header, count, one
	// change without its blob.
	minExcerpt = 8 + commitlog.HeaderSize + 2 + 3 + 39
)
