package bubble

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRaceDetector: timers that are due together, touched by those whom they wake, are no crash. With synctest.Test in
// place of Test, it crashed six times of six under the race detector on two processors.
func TestRaceDetector(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	for range 10 {
		Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 64 {
				all.Go(func() {
					for range 200 {
						touchTimers()
					}
				})
			}
			all.Wait()
		})
	}
	require.Equal(t, before, runtime.GOMAXPROCS(0))
}

func touchTimers() {
	first, second := time.NewTimer(time.Second), time.NewTimer(time.Second)
	<-first.C
	select {
	case <-second.C:
	default:
	}
	second.Stop()
	done := make(chan struct{})
	time.AfterFunc(time.Second, func() { close(done) })
	<-done
}

// TestParallelBubbles: the processors come back with the last bubble.
func TestParallelBubbles(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("all", func(t *testing.T) {
		for range 4 {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				Test(t, func(*testing.T) {
					if raceEnabled {
						require.Equal(t, 1, runtime.GOMAXPROCS(0))
					}
					<-time.After(time.Second) // in the bubble: no time at all
				})
			})
		}
	})
	require.Equal(t, before, runtime.GOMAXPROCS(0))
}
