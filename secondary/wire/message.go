package wire

// Type says which message a frame holds. The numbers are sent.
type Type uint8

const (
	TypeHello      Type = 1  // → begins sign-in
	TypeSHello     Type = 2  // ← the secondary proves itself
	TypeAuth       Type = 3  // → a device or the owner proves itself
	TypeCreate     Type = 4  // → the owner makes a vault
	TypeOK         Type = 5  // ← signed in
	TypeFail       Type = 6  // ← not signed in
	TypeBind       Type = 16 // → begins to follow the log
	TypeBound      Type = 17 // ←
	TypeDownload   Type = 18 // ← commits
	TypeUpload     Type = 19 // → commits
	TypeUploaded   Type = 20 // ←
	TypeObject     Type = 21 // → bytes of an object
	TypeHave       Type = 22 // ←
	TypeFetch      Type = 23 // → asks for bytes of a blob or object
	TypeBlobs      Type = 24 // ←
	TypeMark       Type = 25 // → asks to be told when all has been sent
	TypeMarked     Type = 26 // ←
	TypePing       Type = 27 // ⇄
	TypePong       Type = 28 // ⇄
	TypeUnbind     Type = 29 // → ends following the log
	TypeUnbound    Type = 30 // ←
	TypeError      Type = 31 // ←
	TypeProof      Type = 32 // ⇄ consistency proof between two sizes
	TypeSnapshot   Type = 33 // → asks for what was live at a size
	TypeState      Type = 34 // ← live changes
	TypeCheckpoint Type = 35 // ⇄ posts a checkpoint, asks for one
	TypeRead       Type = 36 // → asks for commits
	TypeCommits    Type = 37 // ←
	TypeRefill     Type = 38 // → commits that the secondary has lost, or never had
	TypeRefilled   Type = 39 // ←
)

var typeNames = map[Type]string{
	TypeHello: "HELLO", TypeSHello: "SHELLO", TypeAuth: "AUTH", TypeCreate: "CREATE",
	TypeOK: "OK", TypeFail: "FAIL", TypeBind: "BIND", TypeBound: "BOUND",
	TypeDownload: "DOWNLOAD", TypeUpload: "UPLOAD", TypeUploaded: "UPLOADED",
	TypeObject: "OBJECT", TypeHave: "HAVE", TypeFetch: "FETCH", TypeBlobs: "BLOBS",
	TypeMark: "MARK", TypeMarked: "MARKED", TypePing: "PING", TypePong: "PONG",
	TypeUnbind: "UNBIND", TypeUnbound: "UNBOUND", TypeError: "ERROR",
	TypeProof: "PROOF", TypeSnapshot: "SNAPSHOT", TypeState: "STATE",
	TypeCheckpoint: "CHECKPOINT", TypeRead: "READ", TypeCommits: "COMMITS",
	TypeRefill: "REFILL", TypeRefilled: "REFILLED",
}

// String returns the message's name in capitals.
func (t Type) String() string {
	if s := typeNames[t]; s != "" {
		return s
	}
	return "message of unknown type"
}

// A Message is one of the message types of this package, by pointer.
type Message interface {
	Type() Type
	// check reports what the encoding alone does not rule out.
	check() error
}

// newMessage returns an empty message of the type, nil for an unknown one.
func newMessage(t Type) Message {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeSHello:
		return new(SHello)
	case TypeAuth:
		return new(Auth)
	case TypeCreate:
		return new(Create)
	case TypeOK:
		return new(OK)
	case TypeFail:
		return new(Fail)
	case TypeBind:
		return new(Bind)
	case TypeBound:
		return new(Bound)
	case TypeDownload:
		return new(Download)
	case TypeUpload:
		return new(Upload)
	case TypeUploaded:
		return new(Uploaded)
	case TypeObject:
		return new(Object)
	case TypeHave:
		return new(Have)
	case TypeFetch:
		return new(Fetch)
	case TypeBlobs:
		return new(Blobs)
	case TypeMark:
		return new(Mark)
	case TypeMarked:
		return new(Marked)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	case TypeUnbind:
		return new(Unbind)
	case TypeUnbound:
		return new(Unbound)
	case TypeError:
		return new(Error)
	case TypeProof:
		return new(Proof)
	case TypeSnapshot:
		return new(Snapshot)
	case TypeState:
		return new(State)
	case TypeCheckpoint:
		return new(Checkpoint)
	case TypeRead:
		return new(Read)
	case TypeCommits:
		return new(Commits)
	case TypeRefill:
		return new(Refill)
	case TypeRefilled:
		return new(Refilled)
	}
	return nil
}
