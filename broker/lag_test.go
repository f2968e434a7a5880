package broker

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
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
