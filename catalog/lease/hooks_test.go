package lease_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
)

// told is what a hook was told of leases that moved, or did not.
type told struct {
	mu       sync.Mutex
	ok, not  int
	took     time.Duration // the shortest
	reasons  []error
	overlong bool
}

func (o *told) hook(n int, took time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.took == 0 || took < o.took {
		o.took = took
	}
	o.overlong = o.overlong || took > time.Second
	if err != nil {
		o.not += n
		o.reasons = append(o.reasons, err)
		return
	}
	o.ok += n
}

// What comes to a broker is told with how it ended and how long it took: free leases, and leases that were moved to it, also
// when the engine cannot take them over.
func TestLeasesThatComeAreTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 20)
		first := &told{}
		s.hooks.Acquired = first.hook
		s.start(1)
		s.pass(10 * time.Second)
		require.Equal(t, s.total, first.ok, "all are free")
		require.Zero(t, first.not)
		require.GreaterOrEqual(t, first.took, loadTime)

		wrong := errors.New("the log cannot be read")
		acquired, adopted := &told{}, &told{}
		s.hooks.Acquired, s.hooks.Adopted = acquired.hook, adopted.hook
		second := s.start(2)
		second.mu.Lock()
		second.refuse = wrong
		second.mu.Unlock()
		s.pass(10 * time.Second)
		require.Positive(t, s.moves.Load(), "the first gives away what the second should have")
		adopted.mu.Lock()
		require.Positive(t, adopted.not)
		require.Zero(t, adopted.ok)
		for _, err := range adopted.reasons {
			require.ErrorIs(t, err, wrong)
		}
		adopted.mu.Unlock()

		second.mu.Lock()
		second.refuse = nil
		second.mu.Unlock()
		s.pass(time.Minute)
		s.allLed("taken over after all")
		adopted.mu.Lock()
		defer adopted.mu.Unlock()
		require.Equal(t, len(second.Held()), adopted.ok)
		require.GreaterOrEqual(t, adopted.took, loadTime)
		require.False(t, adopted.overlong)
		require.Zero(t, acquired.ok+acquired.not, "nothing was free")
	})
}

// A view may show leases as ours that the catalog, when it is asked, does not give: after a fail-over of it, until the next change. They
// are asked for ever less often, and nobody is told that they were taken over.
func TestLeasesThatOnlyShowAreAskedForEverLessOften(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 20)
		s.start(1)
		s.pass(10 * time.Second)
		adopted := &told{}
		s.hooks.Adopted = adopted.hook
		second := s.start(2)
		second.mu.Lock()
		second.undone = true
		second.mu.Unlock()
		s.pass(30 * time.Second)
		require.Positive(t, s.moves.Load())
		second.mu.Lock()
		require.Positive(t, second.adopts)
		require.Less(t, second.adopts, 20, "in half a minute")
		second.undone = false
		second.mu.Unlock()
		adopted.mu.Lock()
		require.Zero(t, adopted.ok)
		adopted.mu.Unlock()
		s.pass(time.Minute)
		s.allLed("they are ours after all")
	})
}
