package seal

// Limits of what is sealed and opened. SPEC.md, "Limits".
const (
	// MaxInline is the longest value inside a blob, in bytes. Longer values
	// are objects, which are streamed and never whole in memory.
	MaxInline = 64 << 10

	// MaxControl is the longest value inside a blob of the control log, in
	// bytes. A statement that rotates the keys holds a grant of some 1.3 KB
	// for each of up to 64 devices, or of some 60 bytes more for each
	// namespace and device where devices are scoped.
	MaxControl = 1 << 20

	// MaxName is the length of a record's name in bytes: longer than any
	// file name, so that a path fits.
	MaxName = 512

	// MaxContentType is the length of a content type in bytes: its length
	// is stored in one.
	MaxContentType = 255

	// MaxPadding is the most padding that is accepted behind a payload, in
	// bytes. Padmé adds at most 12 %, and fills to 256; the rest is room
	// for a namespace's own padding policy.
	MaxPadding = 64 << 10

	// MaxObject is the longest value of an object, in bytes. The default
	// limit of a vault is lower.
	MaxObject = 1 << 30

	// MaxGrant is the length of an encoded grant in bytes. Chosen
	// arbitrarily: 1,000 epochs of 20 namespaces fit.
	MaxGrant = 1 << 20

	// minPadded is the size that small payloads are padded to.
	minPadded = 256
)
