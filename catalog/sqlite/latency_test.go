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

// BenchmarkCommitBesideMerges tells how long commits at full speed, with 300 B of index, wait while hot merges and folds
// go on beside them: of every two runs of 4,096 rows one is merged and folded, the other folded as it is. The names say
// how many rows one merge and one fold take at a time. Run it with -benchtime 1x.
func BenchmarkCommitBesideMerges(b *testing.B) {
	for _, tt := range []struct{ merge, fold catalog.Sequence }{{0, 0}, {4096, 4096}, {2048, 512}, {1024, 256}, {512, 128}} {
		b.Run(fmt.Sprintf("merge=%d/fold=%d", tt.merge, tt.fold), func(b *testing.B) {
			for b.Loop() {
				commitBesideMerges(b, 5*4096, tt.merge, tt.fold)
			}
		})
	}
}

func commitBesideMerges(b *testing.B, commits, merge, fold catalog.Sequence) {
	b.Helper()
	const run = 4096
	path := filepath.Join(b.TempDir(), "catalog.db")
	c := openTest(b, path, Options{})
	epoch := register(b, c)
	took := make([]time.Duration, 0, commits)
	index := make([]byte, 300)
	var merging, folding time.Duration
	full := make(chan catalog.Sequence, commits/run+1)
	timed := func(longest *time.Duration, call func() error) {
		began := time.Now()
		if err := call(); err != nil {
			b.Error(err)
		}
		*longest = max(*longest, time.Since(began))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for last := range full {
			first := last - run + 1
			if last%(2*run) == 0 {
				for at := first; at <= last; at += fold {
					f := catalog.Fold{Tail: epoch, After: at - 1, Through: at + fold - 1}
					for s := at; s < at+fold; s++ {
						f.Objects = append(f.Objects, catalog.Object{ID: catalog.ObjectID(s), Key: entry(epoch, s, nil).Key, Size: 5, Refs: 1})
					}
					timed(&folding, func() error { return c.Fold(b.Context(), epoch, f) })
				}
				continue
			}
			f := catalog.Fold{Tail: epoch, After: first - 1, Through: last}
			for at := first; at <= last; at += merge {
				m := catalog.TailMerge{Entry: entry(epoch, at+merge-1, make([]byte, 16*merge))}
				m.Entry.First, m.Entry.Object, m.Entry.Key = at, 1_000_000+m.Entry.Object, "segment/"+m.Entry.Key
				for s := at; s < at+merge; s++ {
					m.Replaces = append(m.Replaces, catalog.ObjectID(s))
				}
				timed(&merging, func() error { return c.MergeTail(b.Context(), epoch, m) })
				f.Objects = append(f.Objects, catalog.Object{ID: m.Entry.Object, Key: m.Entry.Key, Size: m.Entry.Size, Refs: 1})
			}
			timed(&folding, func() error { return c.Fold(b.Context(), epoch, f) })
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
			if merge > 0 {
				full <- seq
			}
			if info, err := os.Stat(path + "-wal"); err == nil {
				log = max(log, info.Size())
			}
		}
	}
	close(full)
	wg.Wait()
	slices.Sort(took)
	report(b, took, "")
	for name, at := range map[string]float64{"any-moment-p99-µs": 0.99, "any-moment-p999-µs": 0.999} {
		b.ReportMetric(float64(anyMoment(took, at).Microseconds()), name)
	}
	b.ReportMetric(float64(merging.Microseconds()), "max-merge-µs")
	b.ReportMetric(float64(folding.Microseconds()), "max-fold-µs")
	b.ReportMetric(float64(log>>10), "largest-log-KiB")
}

// anyMoment is how long those wait at most, but for 1 - at of them, who come at any moment rather than when the call
// before ended: of a call that took long there is then not one, but as many as came meanwhile.
func anyMoment(sorted []time.Duration, at float64) time.Duration {
	var all float64
	for _, d := range sorted {
		all += float64(d)
	}
	lo, hi := time.Duration(0), sorted[len(sorted)-1]
	for lo < hi {
		mid := (lo + hi) / 2
		var over float64
		for i := len(sorted) - 1; i >= 0 && sorted[i] > mid; i-- {
			over += float64(sorted[i] - mid)
		}
		if over/all > 1-at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func report(b *testing.B, sorted []time.Duration, prefix string) {
	b.Helper()
	for name, at := range map[string]int{"p50": 500, "p99": 990, "p999": 999} {
		b.ReportMetric(float64(sorted[len(sorted)*at/1000].Microseconds()), prefix+name+"-µs")
	}
	b.ReportMetric(float64(sorted[len(sorted)-1].Microseconds()), prefix+"max-µs")
}

// BenchmarkEditTail tells how long the writer, and so any commit, is held up by a merge of so many rows with 300 B of
// index, by a fold of as many, and by a fold of one merged row. The calls also read, before the writer is asked. On a busy
// machine the shortest says most.
func BenchmarkEditTail(b *testing.B) {
	for _, run := range []int{4096, 2048, 1024, 512, 256, 128} {
		b.Run(fmt.Sprint(run), func(b *testing.B) { editTail(b, run) })
	}
}

func editTail(b *testing.B, run int) {
	b.Helper()
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
		return seq - catalog.Sequence(run) + 1
	}
	var merges, folds, rows []time.Duration
	timed := func(into *[]time.Duration, call func() error) {
		began := time.Now()
		require.NoError(b, call())
		*into = append(*into, time.Since(began))
	}
	for b.Loop() {
		first := fill()
		m := catalog.TailMerge{Entry: entry(epoch, seq, make([]byte, 16*run))}
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
		b.ReportMetric(float64(took[0].Microseconds()), name+"min-µs")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), name+"p50-µs")
	}
}
