package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
)

// BenchmarkWriteGroups commits offsets of one group over and over, one write after the other.
func BenchmarkWriteGroups(b *testing.B) {
	for _, offsets := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("offsets=%d", offsets), func(b *testing.B) {
			c := open(b, postgres.Options{URL: durable(b)})
			co := coordinate(b, c, register(b, c, 1), 1)
			require.NoError(b, co.write(b.Context(), c, catalog.GroupChange{ID: "g", Group: groupRow("g", 1)}))
			list := make([]catalog.GroupOffset, offsets)
			n := int64(0)
			for b.Loop() {
				n++
				for i := range list {
					list[i] = groupOffset(int32(i), n)
				}
				require.NoError(b, co.write(b.Context(), c, catalog.GroupChange{ID: "g", Offsets: list}))
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}
