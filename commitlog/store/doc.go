// Package store keeps sealed logs on disk, with bbolt. Devices and the embedded
// secondary use it alike, since both hold the same ciphertext log; it knows no
// key and cannot read a name or a value.
//
// A [DB] is one file. It holds any number of logs and whatever else its owner
// keeps in buckets of its own, so that what belongs together is written in one
// transaction. [Objects] keeps the sealed values that are too large for a blob,
// one file each.
//
// # Durability
//
// [DB.Update] returns nil only after fsync. Calls that run at the same time
// share one transaction and one fsync: the first becomes the leader and runs
// those that wait behind it; there is no timer and no goroutine. After a failed
// fsync the file is not trusted again and every Update returns [ErrReadOnly].
//
// # Layout of a log
//
// A log is a bucket. The first byte of a key says what stands there. Numbers are
// big-endian, so that keys are in log order.
//
//	a ‖ device 16 ‖ seq u64                  commit ID u64
//	a ‖ device 16 ‖ 0xFF                     encoded Author
//	c ‖ commit ID u64 ‖ 0                    header 216
//	c ‖ commit ID u64 ‖ 1 ‖ idx u16          entry ‖ blob, where the blob is here
//	c ‖ commit ID u64 ‖ 2 ‖ level u8         hash 32 of the tree, of the subtree whose last leaf is the commit's
//	c ‖ commit ID u64 ‖ 3                    bytes of the bundles up to it, u64: a secondary's
//	h                                        vault 16 ‖ authority keys 64 ‖ size u64 ‖ control tag 16
//	h ‖ "epochs"                             n × (from size u64 ‖ epoch u32), ascending
//	h ‖ "resets"                             n × commit ID u64, one for each reset statement, ascending
//	h ‖ "base"                               size u64, where the log began at a checkpoint
//	h ‖ "base/" ‖ device 16                  its last sequence number there
//	h ‖ "proven/" ‖ size u64                 root 32, below the base
//	l ‖ tag 16 ‖ ID u64 ‖ idx u16            —
//	n ‖ named ID ‖ idx ‖ restate ID ‖ idx    —
//	r ‖ by u64 ‖ ID u64 ‖ idx u16            append time of by, u64 Unix ms
//	~past                                    a bucket: a, h, l, n of the log below a base while it is verified
//
// l are the live changes. r is what a commit ended: the changes that it superseded,
// and its own deletes and void restates. The first layout had a bucket for each of
// these; [Convert] brings a store from there.
package store
