// Package vault is what an app uses: records in namespaces, encrypted on this
// device, kept equal on all devices of their owner through a secondary that can
// read nothing.
//
//	v, err := vault.Open(ctx, dir, vault.Config{}) // never waits for the network
//	notes := v.Namespace("notes")
//	_, err = notes.Put(ctx, "milk", []byte("buy some"))
//	rec, err := notes.Get(ctx, "milk")
//	report, err := v.Sync(ctx, vault.SyncOptions{})
//
// Package onboarding makes a vault and brings devices into it. There is no
// global state; a program may have several vaults open.
//
// # Model
//
// A record has a name, a value, a content type and, if wanted, times from and to
// which it is to be seen. A write is durable on this device when it returns; it
// stands in the outbox until it is verified in the vault's log. A record's state
// is the join of the changes to it that no other change supersedes: usually one,
// and more after devices have written at the same time ([Record.Siblings]). Then
// the namespace's [Strategy] says which is shown, the same on every device; the
// others stay readable in the record's history, and the next write settles the
// matter, be it a person's ([Namespace.Settle]) or a [Resolver]'s.
//
// # Trust
//
// What the secondary serves is checked, commit by commit, against the log that
// this device has verified (package commitlog). What cannot be true is an alarm:
// the sync ends, nothing of it is taken over, and every other sync is refused until
// [Vault.TryAgain]; see [Alarm]. What is authentic and cannot be used is put in
// quarantine, listed, and holds up nothing: the record shows the version before it
// ([Record.Unread]).
//
// The directory of a vault shows no name, namespace, value or device name to who
// can read its store and objects but not device.key. That file is protected by
// its mode alone so far.
//
// # Concurrency
//
// All methods may be called at the same time. One program at a time can have a
// vault open. Put and its like start no goroutine; Watch starts one, a sync two
// while it has a connection, and opening many blobs one a core.
//
// Files: create.go and vault.go (making and opening a vault), write.go and
// outbox.go (local changes), record.go (what a record shows), strategy.go (which of
// several versions), conflict.go with disputes.go and rivals.go (finding and listing
// conflicts), listen.go, resolver.go with answer.go, settle.go (who is told of them,
// and answers), versions.go (what was before), times.go (expiry), build.go (signing
// commits), open.go, apply.go and index.go (taking commits in); selection.go with
// sweep.go, reselect.go, missing.go and lazy.go (what a device keeps); engine.go with
// bind.go, download.go, upload.go, fetch.go, full.go, verify.go, mark.go and
// patience.go (a session, step by step), session.go and run.go (its driver),
// waiter.go, progress.go and sync.go (who asks, and is told), enrol.go (admitting a
// device); transact.go with serialised.go and drive.go (transactions across devices).
package vault
