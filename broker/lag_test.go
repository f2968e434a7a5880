package broker

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// What a leader assigns is any bytes of up to a megabyte a member, four for a partition that need not exist. Nobody who wants to know
// of lag may make the broker take many times as much for it.
func TestLagIsNotOfAllThatIsAssigned(t *testing.T) {
	tb := startGroups(t, quickGroups)
	tb.topic("t", 1)
	tb.loaded()
	none := make([]int32, 250_000)
	for i := range none {
		none[i] = int32(i) + 1
	}
	const groups = 4
	for i := range groups {
		tb.joinAlone(fmt.Sprintf("g%d", i), "c", "/h", "t", none...)
	}
	resp := ask(tb.dial(), commitRequest("committed", "t", 0, 0), 9).(*kmsg.OffsetCommitResponse)
	require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	lags, err := tb.CoordinatedLags(t.Context())
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, lags, groups+1)
	for i := range lags {
		if lags[i].Group != "committed" {
			require.Equal(t, 1, lags[i].Members)
			require.Empty(t, lags[i].Partitions)
			continue
		}
		require.Len(t, lags[i].Partitions, 1)
		require.Zero(t, lags[i].Partitions[0].Records)
	}
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "it was 730 MB")

	// Who asks for one group is told of owners, of what there is: there may be many who ask at once.
	tb.joinAlone("real", "c", "/h", "t", append([]int32{0}, none[1:]...)...)
	one, err := tb.GroupLag(t.Context(), "real", nil)
	require.NoError(t, err)
	require.Len(t, one.Partitions, 1)
	require.NotEmpty(t, one.Partitions[0].Member)
}

// pagedCatalog notes how many groups are asked for at a time.
type pagedCatalog struct {
	catalog.Catalog

	most atomic.Int64
}

// ReadGroups implements [catalog.Groups].
func (c *pagedCatalog) ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]catalog.GroupRecord, error) {
	if shard < 0 {
		c.most.Store(max(c.most.Load(), int64(limit)))
	}
	return c.Catalog.ReadGroups(ctx, shard, after, limit)
}

// The catalog's rows have all that is known of members, up to a megabyte of each: a list, which says how many there are, holds few of
// them at a time.
func TestGroupsAreListedAFewAtATime(t *testing.T) {
	paged := &pagedCatalog{}
	tb := startGroups(t, quickGroups, func(c *Config) {
		paged.Catalog = c.Catalog
		c.Catalog = paged
	})
	tb.topic("t", 1)
	tb.loaded()
	c := tb.dial()
	var want []string
	for i := range 2*groupsAtOnce + 1 {
		want = append(want, fmt.Sprintf("g%03d", i))
		resp := ask(c, commitRequest(want[i], "t", 0, 0), 9).(*kmsg.OffsetCommitResponse)
		require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
	}
	list := func(after string, limit int) (ids []string) {
		t.Helper()
		groups, nodes, err := tb.Groups(t.Context(), after, limit)
		require.NoError(t, err)
		require.Len(t, nodes, len(groups))
		for i := range groups {
			ids = append(ids, groups[i].Group)
		}
		return ids
	}
	require.Equal(t, want, list("", 10_000))
	require.Equal(t, want, list("", len(want)))
	require.Equal(t, want[:2*groupsAtOnce], list("", 2*groupsAtOnce))
	require.Equal(t, want[1:groupsAtOnce+2], list(want[0], groupsAtOnce+1))
	require.Empty(t, list(want[len(want)-1], 10))
	require.EqualValues(t, groupsAtOnce, paged.most.Load())
}
