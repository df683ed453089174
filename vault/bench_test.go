package vault_test

import (
	"fmt"
	"testing"

	"github.com/kistvault/kist/vault"
)

// BenchmarkPut: durable puts of 24-byte names and 200-byte values, one by one.
func BenchmarkPut(b *testing.B) {
	n := newVault(b, vault.Config{}).Namespace("bench")
	value := make([]byte, 200)
	for i := 0; b.Loop(); i++ {
		if _, err := n.Put(b.Context(), fmt.Sprintf("record-%017d", i), value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutParallel: the same from many goroutines, which share fsyncs.
func BenchmarkPutParallel(b *testing.B) {
	v := newVault(b, vault.Config{})
	b.SetParallelism(32)
	value := make([]byte, 200)
	b.RunParallel(func(pb *testing.PB) {
		n := v.Namespace("bench")
		id := new(byte)
		for i := 0; pb.Next(); i++ {
			if _, err := n.Put(b.Context(), fmt.Sprintf("%p-%d", id, i), value); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkUpdate1000: transactions of 1,000 puts; reports the puts.
func BenchmarkUpdate1000(b *testing.B) {
	v := newVault(b, vault.Config{})
	value := make([]byte, 200)
	n := 0
	for b.Loop() {
		err := v.Update(b.Context(), "bench", func(tx *vault.Tx) error {
			for range 1000 {
				n++
				if _, err := tx.Put(fmt.Sprintf("record-%017d", n), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "puts/s")
}

// BenchmarkGet: reads of one record of 10,000.
func BenchmarkGet(b *testing.B) {
	v := newVault(b, vault.Config{})
	fatal(b, v.Update(b.Context(), "bench", func(tx *vault.Tx) error {
		for i := range 10_000 {
			if _, err := tx.Put(fmt.Sprint(i), make([]byte, 200)); err != nil {
				return err
			}
		}
		return nil
	}))
	for i := 0; b.Loop(); i++ {
		if _, err := v.Namespace("bench").Get(b.Context(), fmt.Sprint(i%10_000)); err != nil {
			b.Fatal(err)
		}
	}
}
