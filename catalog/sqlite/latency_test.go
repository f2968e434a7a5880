package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// BenchmarkCommitBesideMerges is 60,000 commits at full speed with 300 B of index, a hot merge of every 4,096 rows and a
// fold of what was merged beside them. It tells how long commits waited. Run it with -benchtime 1x.
func BenchmarkCommitBesideMerges(b *testing.B) {
	for b.Loop() {
		commitBesideMerges(b, 60_000, 4096)
	}
}

func commitBesideMerges(b *testing.B, commits, run catalog.Sequence) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "catalog.db")
	c := openTest(b, path, Options{})
	epoch := register(b, c)
	took := make([]time.Duration, 0, commits)
	index := make([]byte, 300)
	var longest, folding time.Duration
	full := make(chan catalog.Sequence, commits/run+1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for last := range full {
			first := last - run + 1
			m := catalog.TailMerge{Entry: entry(epoch, last, make([]byte, 64<<10))}
			m.Entry.First, m.Entry.Object, m.Entry.Key = first, 1_000_000+m.Entry.Object, "segment/"+m.Entry.Key
			for s := first; s <= last; s++ {
				m.Replaces = append(m.Replaces, catalog.ObjectID(s))
			}
			began := time.Now()
			if err := c.MergeTail(b.Context(), epoch, m); err != nil {
				b.Error(err)
			}
			longest = max(longest, time.Since(began))
			began = time.Now()
			err := c.Fold(b.Context(), epoch, catalog.Fold{Tail: epoch, After: first - 1, Through: last, Objects: []catalog.Object{
				{ID: m.Entry.Object, Key: m.Entry.Key, Size: m.Entry.Size, Refs: 1},
			}})
			if err != nil {
				b.Error(err)
			}
			folding = max(folding, time.Since(began))
		}
	})
	var log int64
	for seq := catalog.Sequence(1); seq <= commits; seq++ {
		began := time.Now()
		_, err := c.Commit(b.Context(), epoch, []catalog.TailEntry{entry(epoch, seq, index)})
		took = append(took, time.Since(began))
		if err != nil {
			b.Fatal(err)
		}
		if seq%run == 0 {
			full <- seq
			if info, err := os.Stat(path + "-wal"); err == nil {
				log = max(log, info.Size())
			}
		}
	}
	close(full)
	wg.Wait()
	slices.Sort(took)
	report(b, took, "")
	b.ReportMetric(float64(longest.Microseconds()), "max-merge-µs")
	b.ReportMetric(float64(folding.Microseconds()), "max-fold-µs")
	b.ReportMetric(float64(log>>10), "largest-log-KiB")
}

func report(b *testing.B, sorted []time.Duration, prefix string) {
	b.Helper()
	for name, at := range map[string]int{"p50": 500, "p99": 990, "p999": 999} {
		b.ReportMetric(float64(sorted[len(sorted)*at/1000].Microseconds()), prefix+name+"-µs")
	}
	b.ReportMetric(float64(sorted[len(sorted)-1].Microseconds()), prefix+"max-µs")
}

// BenchmarkEditTail tells how long the writer, and so any commit, is held up by a merge of 4,096 rows with 300 B of
// index, by a fold of as many, and by a fold of one merged row.
func BenchmarkEditTail(b *testing.B) {
	const run = 4096
	c := openTest(b, filepath.Join(b.TempDir(), "catalog.db"), Options{})
	epoch := register(b, c)
	seq := catalog.Sequence(0)
	fill := func() (first catalog.Sequence) {
		for range run / 64 {
			var rows []catalog.TailEntry
			for range 64 {
				seq++
				rows = append(rows, entry(epoch, seq, make([]byte, 300)))
			}
			_, err := c.Commit(b.Context(), epoch, rows)
			require.NoError(b, err)
		}
		return seq - run + 1
	}
	var merges, folds, rows []time.Duration
	timed := func(into *[]time.Duration, call func() error) {
		began := time.Now()
		require.NoError(b, call())
		*into = append(*into, time.Since(began))
	}
	for b.Loop() {
		first := fill()
		m := catalog.TailMerge{Entry: entry(epoch, seq, make([]byte, 64<<10))}
		m.Entry.First, m.Entry.Object, m.Entry.Key = first, 1_000_000+m.Entry.Object, fmt.Sprintf("segment/%d", seq)
		for s := first; s <= seq; s++ {
			m.Replaces = append(m.Replaces, catalog.ObjectID(s))
		}
		timed(&merges, func() error { return c.MergeTail(b.Context(), epoch, m) })
		timed(&folds, func() error {
			return c.Fold(b.Context(), epoch, catalog.Fold{Tail: epoch, After: first - 1, Through: seq, Objects: []catalog.Object{
				{ID: m.Entry.Object, Key: m.Entry.Key, Refs: 1},
			}})
		})
		first = fill()
		f := catalog.Fold{Tail: epoch, After: first - 1, Through: seq}
		for s := first; s <= seq; s++ {
			f.Objects = append(f.Objects, catalog.Object{ID: catalog.ObjectID(s), Key: entry(epoch, s, nil).Key, Size: 5, Refs: 1})
		}
		timed(&rows, func() error { return c.Fold(b.Context(), epoch, f) })
	}
	for name, took := range map[string][]time.Duration{"merge-": merges, "fold-merged-": folds, "fold-rows-": rows} {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), name+"p50-µs")
		b.ReportMetric(float64(took[len(took)-1].Microseconds()), name+"max-µs")
	}
}
