package keys

// Limits of what is parsed here. SPEC.md, "Limits".
const (
	// MaxNamespace is the length of a namespace name in bytes: enough for
	// a reversed domain name, short enough for a file name.
	MaxNamespace = 64

	// MaxDeviceName is the length of a device's name in bytes: a host name
	// label has at most 63.
	MaxDeviceName = 64

	// MaxScope is the number of namespaces in a certificate's scope. Chosen
	// arbitrarily; more than any app family needs, and a certificate stays
	// under 20 KiB.
	MaxScope = 1024

	// MaxEpoch is the largest epoch number. One rotation a second would
	// take 68 years to get there.
	MaxEpoch = 1<<31 - 1

	// maxIDText bounds the text form of an id before it is looked at:
	// 26 characters and a separator after each.
	maxIDText = 52

	// maxTime bounds times in Unix milliseconds: 48 bits, as in the
	// hybrid logical clock.
	maxTime = 1<<48 - 1
)
