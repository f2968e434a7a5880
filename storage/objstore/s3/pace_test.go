package s3

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// However long a server was in trouble, and whether it refused all or half of the calls, all who wait go through soon after it
// is not any more: commits wait for the one that comes last.
func TestTheGateOpensSoonAfterTrouble(t *testing.T) {
	for _, refused := range []float64{0.5, 1} {
		for _, trouble := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 3500 * time.Millisecond, 20 * time.Second} {
			bubble.Test(t, func(t *testing.T) {
				var (
					p     pacer
					mu    sync.Mutex
					first time.Duration // after the trouble, to the first success, and until everybody had one
					all   time.Duration
					sent  int // in the midst of the trouble
					wg    sync.WaitGroup
				)
				began := time.Now()
				for range 8 {
					wg.Go(func() {
						mine := false
						for time.Since(began) < trouble+10*time.Second {
							p.pass(t.Context())
							at := time.Now()
							over := at.Sub(began) > trouble
							<-time.After(20 * time.Millisecond)
							if !over && rand.Float64() < refused {
								p.throttled(time.Now(), 0)
							} else {
								p.succeeded(at, time.Now())
							}
							mu.Lock()
							if over && first == 0 {
								first = time.Since(began) - trouble
							}
							if over && !mine {
								mine, all = true, time.Since(began)-trouble
							}
							if !over && at.Sub(began) > trouble/2 {
								sent++
							}
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				t.Logf("%v of the calls refused for %v: the first success came %v after it, all had one %v after it, %d calls were made in the second half of it", refused, trouble, first, all, sent)
				assert.Less(t, first, 400*time.Millisecond)
				assert.Less(t, all, 600*time.Millisecond)
				if refused == 1 {
					assert.Less(t, sent, 8+int(trouble/(100*time.Millisecond)), "a server that refuses all is left alone")
				}
			})
		}
	}
}

// What a server asks for with Retry-After is kept: nobody finds out before.
func TestTheGateKeepsRetryAfter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var p pacer
		began := time.Now()
		require.Equal(t, 4*time.Second, p.throttled(began, 4*time.Second))
		p.succeeded(began, time.Now()) // sent before
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				p.pass(t.Context())
				require.GreaterOrEqual(t, time.Since(began), 4*time.Second)
			})
		}
		wg.Wait()
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

// Who decides over second requests outside of the store is told what the gate tells second GETs.
func TestAStoreIsCalmLongAfterItsLastGate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &Store{}
		require.True(t, objstore.Calm(s))
		closed := s.pacer.throttled(time.Now(), 2*time.Second)
		require.False(t, objstore.Calm(s))
		<-time.After(closed)
		require.False(t, objstore.Calm(s), "the gate has opened just now")
		<-time.After(calmAfter)
		require.False(t, objstore.Calm(s))
		<-time.After(time.Millisecond)
		require.True(t, objstore.Calm(s))
	})
}
