package wire

// NewMessage is newMessage, for tests of every type.
func NewMessage(t Type) Message { return newMessage(t) }

// Codes returns every code.
func Codes() []Code {
	var out []Code
	for _, c := range codes {
		out = append(out, c.code)
	}
	return out
}
