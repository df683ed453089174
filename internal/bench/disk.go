package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// fdatasync returns the median time of a page written within a file and made
// durable, which is what a store does.
func fdatasync(path string) (time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const pages, page = 64, 4 << 10
	if _, err := f.Write(make([]byte, pages*page)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	times := make([]time.Duration, 400)
	data := make([]byte, page)
	for i := range times {
		data[0] = byte(i)
		start := time.Now()
		if _, err := f.WriteAt(data, int64(i%pages*page)); err != nil {
			return 0, err
		}
		if err := datasync(f); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	return quantile(times, 0.5), nil
}

// quantile returns the q-th quantile, and sorts times.
func quantile(times []time.Duration, q float64) time.Duration {
	slices.Sort(times)
	return times[min(int(q*float64(len(times))), len(times)-1)]
}

func diskUse(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			fi, ierr := d.Info()
			if ierr != nil {
				return ierr
			}
			total += fi.Size()
		}
		return err
	})
	return total, err
}
