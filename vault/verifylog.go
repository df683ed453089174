package vault

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/commitlog/store"
	"github.com/kistvault/kist/keys"
)

// A Verified is what [Vault.VerifyLog] has worked out.
type Verified struct {
	Commits    uint64
	Root       commitlog.Hash // of the tree
	Live       uint64         // changes, the control log's among them
	Digest     commitlog.Hash // as Digest gives it
	Blobs      uint64         // that are here, and are those that the commits name
	Signatures time.Duration  // spent verifying them, on all cores together
	Checks     time.Duration  // spent on everything else, on one core
}

// VerifyLog works out anew what this device knows of its vault's log: it goes
// through all commits from the first, checks each as if it came in now, with its
// signature, what its author had seen and what it supersedes, and compares the
// tree, the authors, the live changes and each blob with what is stored. It asks
// nobody. What differs is [ErrDamaged]: it was right when it came in. Where the log
// began at a checkpoint and what is below has not come yet, it is [ErrIncomplete].
//
// progress, if not nil, is called now and then with how many commits are done.
// The vault can be used meanwhile. Memory is eight bytes a commit and one bit a
// change, and one blob at a time.
func (v *Vault) VerifyLog(ctx context.Context, progress func(done, total uint64)) (*Verified, error) {
	w := &logVerifier{v: v, report: &Verified{}, replay: store.NewReplay(v.keys.vault, v.device.Authority)}
	defer w.stop()
	w.start()
	for done := false; !done; {
		err := v.view(func(s *state) (err error) {
			done, err = w.part(ctx, s)
			return err
		})
		var refused *commitlog.CommitError
		if errors.As(err, &refused) {
			err = fmt.Errorf("%w: the log on this device: %w", ErrDamaged, err)
		}
		if err != nil {
			return nil, v.storeError(absent(err))
		}
		if progress != nil {
			progress(w.replay.Size(), w.total)
		}
	}
	return w.report, nil
}

const (
	verifyCommits = 256 // that are read ahead and have their signatures verified at a time
	verifyParts   = 32  // times this many in one transaction, which keeps old pages
)

// A logVerifier goes through a log. The signatures are verified on all cores,
// those of one batch while the batch before it is checked.
type logVerifier struct {
	v      *Vault
	replay *store.Replay
	head   commitlog.ControlHead
	report *Verified
	total  uint64
	jobs   chan *signature
	done   sync.WaitGroup
}

// A batch is a run of commits that follow each other.
type batch struct {
	bundles    []*commitlog.Bundle
	signatures []*signature
	wg         sync.WaitGroup
}

// A signature is one to be verified. What it is over shares no memory with the
// store, whose faults only the goroutine of the transaction may meet.
type signature struct {
	key    keys.VerifyKey
	commit *commitlog.Commit
	took   time.Duration
	wg     *sync.WaitGroup
}

func (w *logVerifier) start() {
	w.jobs = make(chan *signature, verifyCommits)
	for range runtime.GOMAXPROCS(0) {
		w.done.Go(func() {
			for x := range w.jobs {
				begun := time.Now()
				x.commit.Verify(w.v.keys.vault, x.key) // which remembers it
				x.took = time.Since(begun)
				x.wg.Done()
			}
		})
	}
}

func (w *logVerifier) stop() {
	close(w.jobs)
	w.done.Wait()
}

// part goes on within one transaction, and reports whether that was all.
func (w *logVerifier) part(ctx context.Context, s *state) (done bool, err error) {
	if base := s.log.Base(); base > 0 {
		return false, fmt.Errorf("%w: the history up to commit %d", ErrIncomplete, base)
	}
	w.replay.In(s.log)
	w.total = s.log.Size()
	next, err := w.read(s, w.replay.Size())
	if err != nil {
		return false, err
	}
	for range verifyParts {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if len(next.bundles) == 0 {
			return true, w.finish(s)
		}
		now := next
		if next, err = w.read(s, uint64(now.bundles[len(now.bundles)-1].ID)); err != nil {
			return false, err
		}
		now.wg.Wait()
		begun := time.Now()
		for i, b := range now.bundles {
			x := now.signatures[i]
			w.report.Signatures += x.took
			if err := w.take(b); err != nil {
				return false, err
			}
		}
		w.report.Checks += time.Since(begun)
	}
	return false, nil
}

// read reads the commits after a place and has their signatures verified.
func (w *logVerifier) read(s *state, after uint64) (*batch, error) {
	b := &batch{}
	for id := after + 1; id <= min(after+verifyCommits, s.log.Size()); id++ {
		bundle, err := s.log.Commit(commitlog.CommitID(id))
		if err != nil {
			return nil, err
		}
		c := bundle.Commit
		author, err := w.replay.Author(c.Header.Device)
		if err == nil && author == nil {
			// It may be admitted by one of the commits that are being checked. Whether
			// this is its key is looked at when its turn comes.
			author, err = s.log.Author(c.Header.Device)
		}
		if err != nil {
			return nil, err
		}
		c.Raw = slices.Clone(c.Raw)
		x := &signature{commit: c, wg: &b.wg}
		if author != nil {
			x.key = author.Sign
		}
		b.bundles, b.signatures = append(b.bundles, bundle), append(b.signatures, x)
		b.wg.Add(1)
		w.jobs <- x
	}
	return b, nil
}

// take checks one commit.
func (w *logVerifier) take(b *commitlog.Bundle) error {
	eff, err := commitlog.Check(w.replay, b.Commit)
	if err != nil {
		return err
	}
	for i, blob := range b.Blobs {
		if blob == nil {
			continue
		}
		if err := commitlog.CheckBlob(&b.Commit.Changes[i], blob); err != nil {
			return fmt.Errorf("%w: the content of change %v", store.ErrDamaged, commitlog.ChangeID{Commit: b.ID, Index: uint16(i)})
		}
		w.report.Blobs++
	}
	if err := w.replay.Append(b.Commit, eff); err != nil || b.Commit.Header.Kind != commitlog.KindControl {
		return err
	}
	w.head, err = w.v.keys.follow(w.replay, w.head, b, func(*commitlog.Statement) error { return nil })
	return err
}

// finish compares what is stored of the log as a whole.
func (w *logVerifier) finish(s *state) (err error) {
	if err := w.replay.Finish(); err != nil {
		return err
	}
	if s.controlHead() != w.head {
		return fmt.Errorf("%w: the head of the control log", store.ErrDamaged)
	}
	w.report.Commits, w.report.Live = w.replay.Size(), w.replay.Live()
	if w.report.Root, err = w.replay.RootAt(w.report.Commits); err != nil {
		return err
	}
	w.report.Digest, err = s.log.Digest()
	return err
}
