package commitlog

// Bounds on what a commit may hold. They are part of the format: every device
// and every secondary refuses what exceeds them (SPEC.md, "Limits").
const (
	// MaxChanges is the number of changes a commit can count: its field has
	// 16 bits.
	MaxChanges = 1<<16 - 1

	// MaxCommitBytes bounds header, change list and blobs of one commit: it is
	// held in memory whole while it is checked. Objects are not counted.
	MaxCommitBytes = 16 << 20

	// MaxRefs is the number of refs a change can count: its field has 8 bits.
	MaxRefs = 1<<8 - 1

	// MinBlob is the size of the smallest blob: 256 bytes of padded plaintext,
	// 24 of salt, 32 of commitment, 16 of tag.
	MinBlob = 328

	// MaxBlob is the size of the largest blob of a data commit: the longest
	// payload (a value of 64 KiB, the longest name and content type) with
	// 64 KiB of padding, and what sealing adds.
	MaxBlob = 132 << 10

	// MaxControlBlob is the size of the largest blob of a control commit: a
	// statement of 1 MiB, padded and sealed.
	MaxControlBlob = 1<<20 + 1<<17

	// MaxObject is the largest sealed object: 1 GiB of value, with room for
	// its padding and the tags of its chunks.
	MaxObject = 1<<30 + 1<<27

	// MaxLog is the first size that a log cannot have: far beyond any vault,
	// and small enough for every sum over commit IDs to stay in 64 bits.
	MaxLog = 1 << 40

	// MaxSequence is the first sequence number that cannot be. An author can
	// always go on: no one comes near it by counting.
	MaxSequence = 1 << 63

	// MaxEpoch is the first epoch that cannot be. It leaves the top bit of the
	// field unused.
	MaxEpoch = 1 << 31

	// MaxDevices is the number of devices that may be active at a time. It
	// bounds a checkpoint and the grants of a rotation.
	MaxDevices = 64

	// MaxStatement bounds one control statement. A rotation holds a grant of
	// some 1.3 KB for each of 64 devices, more for scoped ones.
	MaxStatement = 1 << 20
)

// What a commit is usually filled up to. Nothing depends on these: a larger
// transaction makes a larger commit.
const (
	TargetChanges = 1000
	TargetBytes   = 1 << 20
)
