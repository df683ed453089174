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
// A log is a bucket with these buckets in it. Numbers are big-endian, so that
// keys are in log order.
//
//	head         "log"                   vault 16 ‖ authority keys 64 ‖ size u64 ‖ control tag 16
//	             "epochs"                n × (from size u64 ‖ epoch u32), ascending
//	             "resets"                n × commit ID u64, one for each reset statement, ascending
//	             "base"                  size u64, where the log began at a checkpoint
//	             "base/" ‖ device 16     its last sequence number there
//	             "proven/" ‖ size u64    root 32, below the base
//	commits      commit ID u64           header 216
//	changes      commit ID u64 ‖ idx u16 entry ‖ blob, where the blob is here
//	live         tag 16 ‖ ID u64 ‖ idx   —
//	retired      by u64 ‖ ID u64 ‖ idx   append time of by, u64 Unix ms
//	restates     named ID ‖ idx ‖ restate ID ‖ idx   —
//	sequences    device 16 ‖ seq u64     commit ID u64
//	leaves       device 16 ‖ leaf 32     —
//	authors      device 16               encoded Author
//	tree         index u64               hash 32 (x/mod tlog's numbering)
//	past         head, live, restates, authors: as above, of the log below a base while it is verified
//
// live holds the live changes. retired holds what a commit ended: the changes
// that it superseded, and its own deletes and void restates.
package store
