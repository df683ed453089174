package store

import (
	"bytes"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
)

// What is stored of a log stands in one bucket, and the first byte of a key says what
// it is. What a commit adds comes to stand in few places: its header, changes and
// hashes of the tree one behind the other, directly before the log's head; its number
// beside what is known of its author. A commit to a small log touches two or three
// pages so, and each page more is written, and made durable, with every commit.
//
// Numbers are big-endian, so that keys are in log order.
const (
	kindAuthor  = 'a' // device 16 ‖ seq u64: commit ID u64; and behind all of them device 16 ‖ 0xFF: encoded Author
	kindCommit  = 'c' // commit ID u64 ‖ one of …
	kindHead    = 'h' // nothing: vault 16 ‖ authority keys 64 ‖ size u64 ‖ control tag 16; and other things by name
	kindLive    = 'l' // tag 16 ‖ ID u64 ‖ idx u16: —
	kindRestate = 'n' // named ID u64 ‖ idx u16 ‖ restate ID u64 ‖ idx u16: —
	kindRetired = 'r' // by u64 ‖ ID u64 ‖ idx u16: append time of by, u64 Unix ms

	partHeader = 0 // nothing: header 216
	partChange = 1 // idx u16: entry ‖ blob, where the blob is here
	partHash   = 2 // level u8: hash 32 of the tree that the commit completes at that level; 0 is its leaf
	partSum    = 3 // nothing: bytes u64, see SetSum

	endOfNumbers = 0xFF // no sequence number begins with it: they are below 2⁶³
)

// Lengths of keys.
const (
	sizeSequence = 1 + 16 + 8
	sizeAuthor   = 1 + 16 + 1
	sizeCommit   = 1 + 8 // and the part, and what follows
	sizeChange   = sizeCommit + 1 + 2
	sizeLive     = 1 + 16 + 10
	sizeRestate  = 1 + 10 + 10
	sizeRetired  = 1 + 8 + 10

	sizeHead = 104 // of the value
)

// logShape is what an element of a log is like that has this key.
func logShape(key []byte) Shape {
	unknown := Shape{None, None}
	if len(key) == 0 {
		return unknown
	}
	switch key[0] {
	case kindAuthor:
		if len(key) == sizeAuthor {
			return Shape{sizeAuthor, Any}
		}
		return Shape{sizeSequence, 8}
	case kindCommit:
		if len(key) <= sizeCommit {
			return unknown
		}
		switch key[sizeCommit] {
		case partHeader:
			return Shape{sizeCommit + 1, commitlog.HeaderSize}
		case partChange:
			return Shape{sizeChange, Any}
		case partHash:
			return Shape{sizeCommit + 2, 32}
		case partSum:
			return Shape{sizeCommit + 1, 8}
		}
		return unknown
	case kindHead:
		if len(key) == 1 {
			return Shape{1, sizeHead}
		}
		return Shape{Any, Any}
	case kindLive:
		return Shape{sizeLive, 0}
	case kindRestate:
		return Shape{sizeRestate, 0}
	case kindRetired:
		return Shape{sizeRetired, 8}
	case pastName[0]:
		return Shape{len(pastName), Any}
	}
	return unknown
}

func commitPrefix(id commitlog.CommitID) []byte {
	return be.AppendUint64(append(make([]byte, 0, sizeChange), kindCommit), uint64(id))
}

func headerKey(id commitlog.CommitID) []byte { return append(commitPrefix(id), partHeader) }

func sumKey(id commitlog.CommitID) []byte { return append(commitPrefix(id), partSum) }

func changeKey(id commitlog.ChangeID) []byte {
	return be.AppendUint16(append(commitPrefix(id.Commit), partChange), id.Index)
}

// hashKey returns the key of a hash of the tree by the index that it has there.
func hashKey(index int64) []byte {
	if index < 0 || index >= 2*commitlog.MaxLog { // made of a number that is damaged
		panic(misshapen("tree"))
	}
	level, by := commitlog.TreePlace(index)
	return append(commitPrefix(by), partHash, byte(level))
}

// A commitKey is a key of kindCommit, taken apart.
type commitKey []byte

func (k commitKey) id() commitlog.CommitID { return commitlog.CommitID(be.Uint64(k[1:])) }
func (k commitKey) part() byte             { return k[sizeCommit] }

// change returns which change it is a key of.
func (k commitKey) change() commitlog.ChangeID {
	return commitlog.ChangeID{Commit: k.id(), Index: be.Uint16(k[sizeCommit+1:])}
}

func appendChangeID(b []byte, id commitlog.ChangeID) []byte {
	b = be.AppendUint64(b, uint64(id.Commit))
	return be.AppendUint16(b, id.Index)
}

func parseChangeID(b []byte) commitlog.ChangeID {
	return commitlog.ChangeID{Commit: commitlog.CommitID(be.Uint64(b)), Index: be.Uint16(b[8:])}
}

func livePrefix(tag keys.Tag) []byte {
	return append(append(make([]byte, 0, sizeLive), kindLive), tag[:]...)
}

func liveKey(tag keys.Tag, id commitlog.ChangeID) []byte {
	return appendChangeID(livePrefix(tag), id)
}

func parseLive(k []byte) (keys.Tag, commitlog.ChangeID) {
	return keys.Tag(k[1:17]), parseChangeID(k[17:])
}

func retiredPrefix(by commitlog.CommitID) []byte {
	return be.AppendUint64(append(make([]byte, 0, sizeRetired), kindRetired), uint64(by))
}

func retiredKey(by commitlog.CommitID, id commitlog.ChangeID) []byte {
	return appendChangeID(retiredPrefix(by), id)
}

func parseRetired(k []byte) (by commitlog.CommitID, id commitlog.ChangeID) {
	return commitlog.CommitID(be.Uint64(k[1:])), parseChangeID(k[9:])
}

func restatePrefix(named commitlog.ChangeID) []byte {
	return appendChangeID(append(make([]byte, 0, sizeRestate), kindRestate), named)
}

func restateKey(named, restate commitlog.ChangeID) []byte {
	return appendChangeID(restatePrefix(named), restate)
}

// parseRestate returns the restate, not what it names.
func parseRestate(k []byte) commitlog.ChangeID { return parseChangeID(k[11:]) }

func authorPrefix(id keys.DeviceID) []byte {
	return append(append(make([]byte, 0, sizeSequence), kindAuthor), id[:]...)
}

func authorKey(id keys.DeviceID) []byte { return append(authorPrefix(id), endOfNumbers) }

func sequenceKey(id keys.DeviceID, seq uint64) []byte {
	return be.AppendUint64(authorPrefix(id), seq)
}

// headKey returns the key of what stands in the head by a name; the head itself has
// none.
func headKey(name string) []byte { return append([]byte{kindHead}, name...) }

// HeaderIn returns the commit ID and header that an element of a log is, for whoever
// reads a store that cannot be opened. path is where the element stands within the log's
// bucket: that may be of the first layout.
func HeaderIn(path []string, key, value []byte) (id commitlog.CommitID, header []byte, ok bool) {
	switch {
	case len(value) != commitlog.HeaderSize:
		return 0, nil, false
	case len(path) == 0 && len(key) == sizeCommit+1 && key[0] == kindCommit && key[sizeCommit] == partHeader:
		return commitKey(key).id(), bytes.Clone(value), true
	case len(path) == 1 && path[0] == oldCommits && len(key) == 8:
		return commitlog.CommitID(be.Uint64(key)), bytes.Clone(value), true
	}
	return 0, nil, false
}

// SignerIn returns the key of an author that an element of a log is, like [HeaderIn].
func SignerIn(path []string, key, value []byte) (signer keys.VerifyKey, ok bool) {
	switch {
	case len(value) < len(signer):
	case len(path) == 0 && len(key) == sizeAuthor && key[0] == kindAuthor,
		len(path) == 1 && path[0] == oldAuthors && len(key) == len(keys.DeviceID{}):
		return keys.VerifyKey(value[:len(signer)]), true
	}
	return signer, false
}
