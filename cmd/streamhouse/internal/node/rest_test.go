package node

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryIsGivenBackOnceAfterTraffic(t *testing.T) {
	var r rest
	given := func(seconds int) (n int) {
		for range seconds {
			if r.second(false) {
				n++
			}
		}
		return n
	}
	require.Zero(t, given(100), "never used")
	require.False(t, r.second(true))
	require.Zero(t, given(restAfter-1))
	require.False(t, r.second(true), "not quiet long enough")
	require.Zero(t, given(restAfter-1))
	require.Equal(t, 1, given(100))
	require.False(t, r.second(true))
	require.Equal(t, 1, given(100))
}
