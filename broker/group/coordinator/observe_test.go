package coordinator

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// Rebalances are told with why they began, and how long they took.
func TestRebalancesAreTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		t.Helper()
		w := newWorld(t)
		var mu sync.Mutex
		var told []string
		shards := 0
		note := func(line string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, line)
		}
		n := w.start(func(c *Config) {
			c.Hooks.Rebalancing = func(kind catalog.GroupKind, why Why) { note(fmt.Sprintf("%s begins: %d", kind, why)) }
			c.Hooks.Rebalanced = func(kind catalog.GroupKind, took time.Duration) { note(fmt.Sprintf("%s stable after %v", kind, took)) }
			c.Hooks.Shards = func(n int) { shards = n }
		})
		n.acquire()
		require.Equal(t, testShards, shards)
		is := func(want ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, want, told)
			told = nil
		}
		one := n.member("g")
		require.NoError(t, one.join())
		is(fmt.Sprintf("classic begins: %d", WhyMemberJoins), "classic stable after 0s")

		// The second one waits for the first, which is dead: the rebalance takes until its session ends.
		two := n.member("g")
		<-time.After(time.Second)
		require.NoError(t, two.join())
		is(fmt.Sprintf("classic begins: %d", WhyMemberJoins), fmt.Sprintf("classic stable after %v", whole-time.Second))

		require.NoError(t, two.heartbeat())
		require.NoError(t, two.commit(0, 1))
		is()
		<-time.After(2 * whole) // its session ends, and nobody is left
		is()
		require.Equal(t, "Empty", n.phase("g"))
		n.stop()
		require.Zero(t, shards)
	})
}
