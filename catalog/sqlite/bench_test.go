package sqlite

import (
	"fmt"
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
