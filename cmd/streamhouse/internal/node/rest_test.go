package node

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// resting counts what is told in seconds without traffic.
func (r *rest) resting(seconds int) (drops, frees int) {
	for range seconds {
		drop, free := r.second(false, false)
		if drop {
			drops++
		}
		if free {
			frees++
		}
	}
	return drops, frees
}

func TestMemoryIsGivenBackOnceAfterTraffic(t *testing.T) {
	var r rest
	told := func(seconds, wantDrops, wantFrees int) {
		t.Helper()
		drops, frees := r.resting(seconds)
		require.Equal(t, [2]int{wantDrops, wantFrees}, [2]int{drops, frees})
	}
	told(200, 0, 0) // never used
	r.second(true, false)
	told(freeAfter-1, 0, 0)
	r.second(true, false) // not quiet long enough
	told(freeAfter-1, 0, 0)
	told(1, 0, 1)
	told(dropAfter-freeAfter-1, 0, 0)
	told(1, 1, 1) // what was dropped is given back at once
	told(200, 0, 0)
	r.second(true, false)
	told(200, 1, 2)
}

func TestWorkInTheBackgroundIsNoTraffic(t *testing.T) {
	var r rest
	r.second(false, true)
	drops, frees := r.resting(200)
	require.Equal(t, [2]int{0, 1}, [2]int{drops, frees}, "nobody read anything")
	r.second(true, false)
	for i := range dropAfter {
		drop, free := r.second(false, true)
		require.Equal(t, i == dropAfter-1, drop)
		require.False(t, free, "not in the middle of it")
	}
	drops, frees = r.resting(200)
	require.Equal(t, [2]int{0, 1}, [2]int{drops, frees})
}
