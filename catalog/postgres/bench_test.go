package postgres_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// durable runs a server as in production: what is measured includes syncing.
func durable(b *testing.B) string {
	b.Helper()
	server, err := postgrestest.Start(postgrestest.Options{Durable: true})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, server.Close()) })
	return server.NewDatabase(b)
}

// BenchmarkCommits commits from some brokers at once, each one object after the other with 500 B of index.
func BenchmarkCommits(b *testing.B) {
	for _, brokers := range []int{1, 3, 10} {
		b.Run(fmt.Sprintf("brokers=%d", brokers), func(b *testing.B) {
			url := durable(b)
			took := make([][]time.Duration, brokers)
			cs, epochs := make([]*postgres.Catalog, brokers), make([]catalog.BrokerEpoch, brokers)
			for i := range cs {
				cs[i] = open(b, postgres.Options{URL: url})
				epochs[i] = register(b, cs[i], byte(i+1))
				settle(b, cs[i], epochs[i], 1)
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range brokers {
				wg.Go(func() {
					for seq := range catalog.Sequence(b.N / brokers) {
						e := entry(epochs[i], seq+2)
						e.Index = make([]byte, 500)
						began := time.Now()
						if _, err := cs[i].Commit(b.Context(), epochs[i], []catalog.TailEntry{e}); err != nil {
							b.Error(err)
							return
						}
						took[i] = append(took[i], time.Since(began))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Sorted(slices.Values(slices.Concat(took...)))
			if len(all) > 0 {
				b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "commits/s")
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
			}
		})
	}
}

// BenchmarkCommitOfManyPartitions commits objects with 20 B of index a partition, with and without log ends.
func BenchmarkCommitOfManyPartitions(b *testing.B) {
	for _, partitions := range []int32{1, 100, 10_000} {
		for _, told := range []bool{false, true} {
			b.Run(fmt.Sprintf("partitions=%d/ends=%t", partitions, told), func(b *testing.B) {
				url := durable(b)
				c := open(b, postgres.Options{URL: url})
				epoch := register(b, c, 1)
				topic, err := c.CreateTopic(b.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: partitions})
				require.NoError(b, err)
				var ends []catalog.PartitionEnd
				if told {
					for p := range partitions {
						ends = append(ends, catalog.PartitionEnd{TopicPartition: catalog.TopicPartition{Topic: topic.ID, Partition: p}})
					}
				}
				index := make([]byte, 20*partitions)
				for i := range index {
					index[i] = byte(i * i >> 3)
				}
				seq := catalog.Sequence(0)
				for b.Loop() {
					seq++
					e := entry(epoch, seq)
					e.Index, e.Ends = index, ends
					for i := range ends {
						ends[i].End += int64(i%7) + 1
					}
					if _, err := c.Commit(b.Context(), epoch, []catalog.TailEntry{e}); err != nil {
						b.Fatal(err)
					}
				}
				var bytes float64
				require.NoError(b, connect(b, url).QueryRow(b.Context(), `SELECT avg(coalesce(pg_column_size(end_topics), 0) + coalesce(pg_column_size(end_partitions), 0)
					+ coalesce(pg_column_size(end_offsets), 0)) FROM catalog_tail`).Scan(&bytes))
				b.ReportMetric(bytes, "ends-B/row")
				if told {
					began := time.Now()
					var n int
					require.NoError(b, connect(b, url).QueryRow(b.Context(), "SELECT count(high_watermark) FROM partitions").Scan(&n))
					b.ReportMetric(float64(time.Since(began).Milliseconds()), "view-ms")
				}
			})
		}
	}
}

// BenchmarkFold folds 100 objects into packed rows of 10,000 partitions, appended to those of the fold before, and says how
// long commits beside it took at most.
func BenchmarkFold(b *testing.B) {
	const partitions, objects = 10_000, 100
	url := durable(b)
	c := open(b, postgres.Options{URL: url})
	epoch, other := register(b, c, 1), register(b, c, 2)
	topic, err := c.CreateTopic(b.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: partitions})
	require.NoError(b, err)
	tps := make([]catalog.TopicPartition, partitions)
	for i := range tps {
		tps[i] = catalog.TopicPartition{Topic: topic.ID, Partition: int32(i)}
	}
	_, err = c.AcquireLeases(b.Context(), epoch, nil)
	require.NoError(b, err)
	var seq, done catalog.Sequence
	var end int64
	var folding, longest time.Duration
	n := 0
	for b.Loop() {
		n++
		after := seq
		f := catalog.Fold{Tail: epoch, After: after, Through: after + objects}
		for range objects {
			seq++
			e := entry(epoch, seq)
			if _, err := c.Commit(b.Context(), epoch, []catalog.TailEntry{e}); err != nil {
				b.Fatal(err)
			}
			f.Objects = append(f.Objects, catalog.Object{ID: e.Object, Key: e.Key, Size: e.Size, Refs: 1, Live: 1})
		}
		for _, tp := range tps {
			f.Rows = append(f.Rows, catalog.PackedRow{TopicPartition: tp, Base: end, End: end + 100, Extents: make([]byte, 300)})
			f.Partitions = append(f.Partitions, catalog.PartitionState{TopicPartition: tp, LogEnd: end + 100, LastStable: end + 100, Producers: make([]byte, 100)})
		}
		end += 100
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for _, epoch := range []catalog.BrokerEpoch{epoch, other} { // the folded one's and another's
			wg.Go(func() {
				for s := seq + 1; ; s++ {
					if epoch == other {
						done++
						s = done
					}
					select {
					case <-stop:
						if epoch != other {
							seq = s - 1
						} else {
							done--
						}
						return
					default:
					}
					began := time.Now()
					if _, err := c.Commit(b.Context(), epoch, []catalog.TailEntry{entry(epoch, s)}); err != nil {
						b.Error(err)
						return
					}
					if epoch != other {
						longest = max(longest, time.Since(began))
					}
				}
			})
		}
		began := time.Now()
		err := c.Fold(b.Context(), epoch, f)
		folding += time.Since(began)
		close(stop)
		wg.Wait()
		require.NoError(b, err)
		// The next fold starts where this one ended: what was committed beside it goes with it.
		rows, err := c.ReadTail(b.Context(), epoch, f.Through, 1_000_000)
		require.NoError(b, err)
		rest := catalog.Fold{Tail: epoch, After: f.Through, Through: seq}
		for _, r := range rows {
			rest.Objects = append(rest.Objects, catalog.Object{ID: r.Object, Key: r.Key, Size: r.Size, Refs: 1, Live: 1})
		}
		if len(rows) > 0 {
			require.NoError(b, c.Fold(b.Context(), epoch, rest))
		}
	}
	b.ReportMetric(float64(folding.Milliseconds())/float64(n), "fold-ms")
	b.ReportMetric(float64(longest.Microseconds()), "max-commit-µs")
}

// BenchmarkTakeOver fences a broker that holds 1,000 leases and takes them.
func BenchmarkTakeOver(b *testing.B) {
	const partitions = 1000
	url := durable(b)
	c := open(b, postgres.Options{URL: url})
	_, err := c.CreateTopic(b.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: partitions})
	require.NoError(b, err)
	holder := register(b, c, 1)
	_, err = c.AcquireLeases(b.Context(), holder, nil)
	require.NoError(b, err)
	for n := byte(2); b.Loop(); n = n%200 + 2 {
		next := register(b, c, n)
		if err := c.FenceBroker(b.Context(), holder, catalog.FenceProvenDead); err != nil {
			b.Fatal(err)
		}
		got, err := c.AcquireLeases(b.Context(), next, nil)
		if err != nil {
			b.Fatal(err)
		}
		require.Len(b, got, partitions)
		holder = next
	}
}
