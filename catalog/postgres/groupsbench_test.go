package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
)

// BenchmarkWriteOffsets has one shard write offsets of a group of 1,000 partitions, so many a statement, one statement after the
// other, as a coordinator of busy members does.
func BenchmarkWriteOffsets(b *testing.B) {
	const partitions = 1000
	for _, each := range []int{1, 30, 1000} {
		b.Run(fmt.Sprintf("offsets=%d", each), func(b *testing.B) {
			c := open(b, postgres.Options{URL: durable(b)})
			co := coordinate(b, c, register(b, c, 1), 3)
			all := catalog.GroupChange{ID: "g", Group: groupRow("g", 3)}
			for p := range int32(partitions) {
				all.Offsets = append(all.Offsets, groupOffset(p, 1))
			}
			require.NoError(b, co.write(b.Context(), c, all))
			var took []time.Duration
			offset, next := int64(1), int32(0)
			for b.Loop() {
				ch := catalog.GroupChange{ID: "g"}
				offset++
				for range each {
					ch.Offsets = append(ch.Offsets, groupOffset(next%partitions, offset))
					next += 7 // members do not commit in order
				}
				slices.SortFunc(ch.Offsets, func(a, b catalog.GroupOffset) int { return int(a.Partition - b.Partition) })
				began := time.Now()
				require.NoError(b, co.write(b.Context(), c, ch))
				took = append(took, time.Since(began))
			}
			half := slices.Sorted(slices.Values(took[len(took)/2:])) // what it is like after a while
			b.ReportMetric(float64(each*len(took))/b.Elapsed().Seconds(), "offsets/s")
			b.ReportMetric(float64(half[len(half)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(half[len(half)*99/100].Microseconds()), "p99-µs")
		})
	}
}
