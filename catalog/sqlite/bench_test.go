package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func openTest(tb testing.TB, path string, opts Options) *Catalog {
	tb.Helper()
	c, err := Open(tb.Context(), path, opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Close()) })
	return c
}

func register(tb testing.TB, c *Catalog) catalog.BrokerEpoch {
	tb.Helper()
	b, err := c.RegisterBroker(tb.Context(), catalog.Registration{ID: 1, Incarnation: [16]byte{byte(time.Now().UnixNano())}, TTL: time.Minute})
	require.NoError(tb, err)
	return b.Epoch
}

func entry(epoch catalog.BrokerEpoch, s catalog.Sequence, index []byte) catalog.TailEntry {
	return catalog.TailEntry{
		Epoch: epoch, First: s, Last: s, Object: catalog.ObjectID(s), Key: fmt.Sprintf("log/%08x/%d-%d.shl", uint32(s)*2654435761, epoch, s),
		Size: 1 << 20, Checksum: 7, Index: index,
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{500, 8 << 10, 64 << 10} {
		for _, objects := range []int{1, 8} {
			b.Run(fmt.Sprintf("index=%d/objects=%d", size, objects), func(b *testing.B) {
				c := openTest(b, filepath.Join(b.TempDir(), "catalog.db"), Options{})
				epoch := register(b, c)
				index := make([]byte, size)
				var took []time.Duration
				seq := catalog.Sequence(0)
				b.ReportAllocs()
				for b.Loop() {
					rows := make([]catalog.TailEntry, objects)
					for i := range rows {
						seq++
						rows[i] = entry(epoch, seq, index)
					}
					began := time.Now()
					_, err := c.Commit(b.Context(), epoch, rows)
					took = append(took, time.Since(began))
					if err != nil {
						b.Fatal(err)
					}
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "catalog.db")
	c, err := Open(b.Context(), path, Options{})
	require.NoError(b, err)
	require.NoError(b, c.Close())
	for b.Loop() {
		c, err := Open(b.Context(), path, Options{})
		require.NoError(b, err)
		require.NoError(b, c.Close())
	}
}

func BenchmarkLargeTopic(b *testing.B) {
	c := openTest(b, filepath.Join(b.TempDir(), "catalog.db"), Options{})
	var create, acquire time.Duration
	n := int32(0)
	for b.Loop() {
		n++
		epoch := register(b, c)
		began := time.Now()
		topic, err := c.CreateTopic(b.Context(), catalog.TopicSpec{ID: catalog.TopicID{byte(n), byte(n >> 8)}, Name: fmt.Sprintf("t%d", n), Partitions: 10_000})
		create += time.Since(began)
		require.NoError(b, err)
		began = time.Now()
		leases, err := c.AcquireLeases(b.Context(), epoch, nil)
		acquire += time.Since(began)
		require.NoError(b, err)
		require.Len(b, leases, 10_000)
		require.NoError(b, c.DeleteTopic(b.Context(), topic.ID))
	}
	b.ReportMetric(float64(create.Microseconds())/float64(b.N), "create-µs")
	b.ReportMetric(float64(acquire.Microseconds())/float64(b.N), "acquire-µs")
}

// BenchmarkDay is a day of one broker, 200,000 commits with 500 B of index, as fast as they go: a tail merge every
// 1,000, a fold every 10,000 into 100 partitions, a segment merge every 16 folded objects, retired objects forgotten
// after a grace of ten minutes. Run it with -benchtime 1x.
func BenchmarkDay(b *testing.B) {
	for b.Loop() {
		simulateDay(b, 200_000)
	}
}

func simulateDay(b *testing.B, commits catalog.Sequence) {
	b.Helper()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	path := filepath.Join(b.TempDir(), "catalog.db")
	c := openTest(b, path, Options{Now: func() time.Time { return now }})
	epoch := register(b, c)
	topic, err := c.CreateTopic(b.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: 100})
	require.NoError(b, err)
	d := day{b: b, c: c, epoch: epoch, topic: topic.ID, next: 1_000_000_000}
	index := make([]byte, 500)
	var took []time.Duration
	var largest, log int64
	began := time.Now()
	for seq := catalog.Sequence(1); seq <= commits; seq++ {
		now = now.Add(24 * time.Hour / 200_000)
		start := time.Now()
		_, err := c.Commit(b.Context(), epoch, []catalog.TailEntry{entry(epoch, seq, index)})
		took = append(took, time.Since(start))
		require.NoError(b, err)
		if seq%1000 == 0 {
			d.mergeTail(seq)
			for suffix, into := range map[string]*int64{"": &largest, "-wal": &log} {
				if info, err := os.Stat(path + suffix); err == nil {
					*into = max(*into, info.Size())
				}
			}
		}
		if seq%10_000 == 0 {
			d.fold(seq)
			d.mergeSegments()
			d.forget()
		}
	}
	all := time.Since(began)
	slices.Sort(took)
	b.ReportMetric(float64(commits)/all.Seconds(), "commits/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(d.merge.Microseconds()), "max-tail-merge-µs")
	b.ReportMetric(float64(d.folding.Microseconds()), "max-fold-µs")
	b.ReportMetric(float64(largest>>10), "largest-file-KiB")
	b.ReportMetric(float64(log>>10), "largest-log-KiB")
}

type day struct {
	b              *testing.B
	c              *Catalog
	epoch          catalog.BrokerEpoch
	topic          catalog.TopicID
	next           catalog.ObjectID
	offset         int64
	merge, folding time.Duration // the longest
}

func (d *day) mergeTail(last catalog.Sequence) {
	d.b.Helper()
	m := catalog.TailMerge{Entry: entry(d.epoch, last, make([]byte, 20_000))}
	m.Entry.First = last - 999
	d.next++
	m.Entry.Object, m.Entry.Key = d.next, fmt.Sprintf("segment/%d", d.next)
	for s := m.Entry.First; s <= last; s++ {
		m.Replaces = append(m.Replaces, catalog.ObjectID(s))
	}
	began := time.Now()
	require.NoError(d.b, d.c.MergeTail(d.b.Context(), d.epoch, m))
	d.merge = max(d.merge, time.Since(began))
}

func (d *day) fold(through catalog.Sequence) {
	d.b.Helper()
	rows, err := d.c.ReadTail(d.b.Context(), d.epoch, through-10_000, 20_000)
	require.NoError(d.b, err)
	f := catalog.Fold{Tail: d.epoch, After: through - 10_000, Through: through}
	for _, r := range rows {
		f.Objects = append(f.Objects, catalog.Object{ID: r.Object, Key: r.Key, Size: r.Size, Generation: 1, Refs: 100, Live: 100})
	}
	for p := range int32(100) {
		tp := catalog.TopicPartition{Topic: d.topic, Partition: p}
		row := catalog.PackedRow{TopicPartition: tp, Base: d.offset, End: d.offset + 1000}
		if d.offset%10_000 != 0 { // grows until it is full
			old, err := d.c.PackedRows(d.b.Context(), tp, d.offset-1, 1)
			require.NoError(d.b, err)
			f.Replaces = append(f.Replaces, catalog.RowRef{TopicPartition: tp, Base: old[0].Base, Version: old[0].Version})
			row.Base = old[0].Base
		}
		row.Extents = make([]byte, (row.End-row.Base)*30/100)
		f.Rows = append(f.Rows, row)
		f.Partitions = append(f.Partitions, catalog.PartitionState{
			TopicPartition: tp, LogEnd: d.offset + 1000, LastStable: d.offset + 1000, Producers: make([]byte, 2000),
		})
	}
	d.offset += 1000
	began := time.Now()
	require.NoError(d.b, d.c.Fold(d.b.Context(), d.epoch, f))
	d.folding = max(d.folding, time.Since(began))
}

func (d *day) mergeSegments() {
	d.b.Helper()
	objs, err := d.c.MergeCandidates(d.b.Context(), 1<<40, 2, 16)
	require.NoError(d.b, err)
	if len(objs) < 16 {
		return
	}
	d.next++
	e := catalog.Edit{Objects: []catalog.Object{{
		ID: d.next, Key: fmt.Sprintf("segment/%d", d.next), Size: 1 << 25, Generation: 2, Refs: 1600, Live: 1600,
	}}}
	for _, o := range objs {
		e.Deltas = append(e.Deltas, catalog.RefDelta{Object: o.ID, Refs: -o.Refs, Live: -o.Live})
	}
	require.NoError(d.b, d.c.Edit(d.b.Context(), d.epoch, e))
}

func (d *day) forget() {
	d.b.Helper()
	for {
		batches, err := d.c.ListRetired(d.b.Context(), 10*time.Minute, 64)
		require.NoError(d.b, err)
		if len(batches) == 0 {
			return
		}
		for _, batch := range batches {
			require.NoError(d.b, d.c.ForgetRetired(d.b.Context(), []int64{batch.ID}))
		}
	}
}
