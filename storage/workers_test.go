package storage

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
)

// Functions that begin together run together; afterwards a bounded number of goroutines is kept, which run the next.
func TestWorkers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := workers{work: make(chan func()), end: ctx.Done()}
		const n = 3 * maxIdle
		var ran atomic.Int32
		for range 10 {
			gate := make(chan struct{})
			for range n {
				c.Go(func() {
					ran.Add(1)
					<-gate
				})
			}
			synctest.Wait()
			close(gate)
			synctest.Wait()
			require.EqualValues(t, maxIdle, c.idle.Load())
		}
		require.EqualValues(t, 10*n, ran.Load())
		kept := runtime.NumGoroutine()
		for range maxIdle {
			c.Go(func() { ran.Add(1) })
		}
		synctest.Wait()
		require.EqualValues(t, 10*n+maxIdle, ran.Load())
		require.LessOrEqual(t, runtime.NumGoroutine(), kept, "those that were kept ran them")
		cancel()
		c.Wait()
	})
}
