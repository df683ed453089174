package vault

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/kistvault/kist/commitlog"
	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/keyfile"
	"github.com/kistvault/kist/keys/seal"
)

var verifyCommitsFlag = flag.Int("verify.commits", 10_000, "single-change commits in the log that BenchmarkVerifyLog verifies")

// BenchmarkVerifyLog: a log of commits with one change each, of a 24-byte name and
// a 200-byte value, each of which supersedes one of those before.
func BenchmarkVerifyLog(b *testing.B) {
	v := newLogVault(b, *verifyCommitsFlag)
	var r *Verified
	for b.Loop() {
		var err error
		if r, err = v.VerifyLog(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(r.Commits)
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(r.Signatures.Microseconds())/n, "µs/signature")
	b.ReportMetric(float64(r.Checks.Microseconds())/n, "µs/rest")
}

// logRecords is how many records there are in the log of newLogVault.
const logRecords = 100

// newLogVault returns a vault whose log was written as if it had come in.
func newLogVault(b testing.TB, commits int) *Vault {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	root := keys.GenerateRoot()
	seed := keys.GenerateDeviceSeed()
	own, err := seed.Keys()
	must(err)
	dir := b.TempDir() + "/vault"
	must(Create(dir, &keyfile.Device{
		Vault: root.VaultID(), ID: own.ID(), Seed: seed, Authority: root.Authority().Public(),
		TagSecret: root.TagSecret(), Epochs: []keys.Epoch{{Number: 1, Secret: root.Epoch(1)}},
	}, "bench"))
	v, err := Open(b.Context(), dir, Config{NoSync: true})
	must(err)
	b.Cleanup(func() { must(v.Close()) })
	must(v.update(func(s *state) error {
		genesis, err := s.enrolment(root.Authority(), time.Now())
		if err != nil {
			return err
		}
		genesis.ID = 1
		return s.apply(&incoming{bundle: genesis}, &applied{})
	}))
	tag := v.keys.tag("bench")
	sealer, err := v.keys.sealer(tag, 1)
	must(err)
	prev, value := commitlog.Hash{}, make([]byte, 200)
	for done := 0; done < commits; {
		must(v.update(func(s *state) error {
			for end := min(done+1000, commits); done < end; done++ {
				size := s.log.Size()
				seen, err := s.log.RootAt(size)
				if err != nil {
					return err
				}
				blob, err := sealer.Seal(nil, &seal.Payload{Form: seal.FormInline, HLC: 1, Name: fmt.Sprintf("record-%017d", done%logRecords), Value: value})
				if err != nil {
					return err
				}
				ch := commitlog.Change{Op: commitlog.OpPut, BlobHash: sha256.Sum256(blob), BlobSize: uint32(len(blob))}
				if size > logRecords {
					ch.Refs = []commitlog.Ref{{At: size + 1 - logRecords}}
				}
				c, err := commitlog.Build(commitlog.Header{
					Kind: commitlog.KindData, Epoch: 1, Tag: tag, Device: v.keys.device, Seq: size, PrevLeaf: prev, SeenSize: size, SeenRoot: seen,
				}, []commitlog.Change{ch}, func(m []byte) [64]byte { return own.Sign.Sign(keys.PurposeCommit, v.keys.vault, m) })
				if err != nil {
					return err
				}
				eff, err := commitlog.Check(s.log, c)
				if err != nil {
					return err
				}
				if err := s.log.Append(c, [][]byte{blob}, eff, 0); err != nil {
					return err
				}
				prev = c.Leaf()
			}
			return nil
		}))
	}
	return v
}
