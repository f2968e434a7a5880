package coordinator

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/internal/bubble"
)

// taken is what a coordinator tells of members: how many each group has, "gone" ones with -1; whole are the shards told in full.
func (n *node) taken() (groups map[string]int, whole, led []int32) {
	n.t.Helper()
	groups = map[string]int{}
	for _, s := range n.TakeMembers(n.t.Context()) {
		led = append(led, s.Shard)
		if s.Whole {
			whole = append(whole, s.Shard)
		}
		for id, members := range s.Groups {
			groups[id] = len(members)
		}
		for _, id := range s.Gone {
			groups[id] = -1
		}
	}
	return groups, whole, led
}

func TestMembersAreTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var rung atomic.Int32
		follow := func(c *Config) { c.Hooks.Members = func() { rung.Add(1) } }
		a := w.start(follow)
		require.Empty(t, a.TakeMembers(t.Context()))
		a.acquire()
		require.Positive(t, rung.Load())
		groups, whole, led := a.taken()
		require.Empty(t, groups)
		require.Equal(t, []int32{0, 1, 2}, whole, "read a moment ago")
		require.Equal(t, whole, led)

		rung.Store(0)
		m, other := a.member("g"), a.member(besides("g"))
		require.NoError(t, m.join())
		require.NoError(t, other.join())
		require.Positive(t, rung.Load())
		groups, whole, led = a.taken()
		require.Equal(t, map[string]int{"g": 1, besides("g"): 1}, groups)
		require.Empty(t, whole)
		require.Equal(t, []int32{0, 1, 2}, led)

		// A heartbeat and a commit change no member.
		rung.Store(0)
		require.NoError(t, m.heartbeat())
		require.NoError(t, m.commit(0, 1))
		groups, _, _ = a.taken()
		require.Empty(t, groups)
		require.Zero(t, rung.Load())

		// Another broker is told in full, this one knows nothing any more.
		a.fence()
		require.ErrorIs(t, m.commit(0, 2), ErrNotCoordinator)
		b := w.start(follow)
		b.acquire()
		groups, whole, _ = b.taken()
		require.Equal(t, map[string]int{"g": 1, besides("g"): 1}, groups)
		require.Equal(t, []int32{0, 1, 2}, whole)
		a.register()
		<-time.After(time.Second)
		_, _, led = a.taken()
		require.Empty(t, led)

		// A lease that is not trusted for a while tells nothing new, and is not forgotten.
		b.e.change(func() { b.e.doubtful = true })
		<-time.After(time.Second)
		_, _, led = b.taken()
		require.Equal(t, []int32{0, 1, 2}, led)
		b.e.change(func() { b.e.doubtful = false })

		// Sessions end, and a group is deleted.
		<-time.After(time.Minute)
		groups, _, _ = b.taken()
		require.Equal(t, map[string]int{"g": 0, besides("g"): 0}, groups)
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Version, del.Groups = 2, []string{"g"}
		_, err := b.ask("g", del)
		require.NoError(t, err)
		groups, _, _ = b.taken()
		require.Equal(t, map[string]int{"g": -1}, groups)
	})
}

// Who asks may give up, as a scrape whose client hangs up: nothing is lost of what changed, and no shard looks lost.
func TestMembersAreToldToWhoeverGaveUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(func(c *Config) { c.Hooks.Members = func() {} })
		n.acquire()
		n.taken()
		require.NoError(t, n.member("g").join())
		stopped := make(chan struct{})
		n.e.change(func() { n.e.stopped = stopped }) // its shard does not answer for a while
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		told := make(chan []ShardMembers)
		go func() { told <- n.TakeMembers(ctx) }()
		<-time.After(2 * time.Second)
		n.e.change(func() { n.e.stopped = nil })
		close(stopped)
		groups := map[string]int{}
		for _, all := range [][]ShardMembers{<-told, n.TakeMembers(t.Context())} {
			require.Len(t, all, testShards, "each shard is there all the time")
			for _, s := range all {
				for id, members := range s.Groups {
					groups[id] = len(members)
				}
			}
		}
		require.Equal(t, map[string]int{"g": 1}, groups)
	})
}

// Without anybody who asks nothing is kept.
func TestMembersNobodyAsksFor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		require.NoError(t, n.member("g").join())
		groups, whole, led := n.taken()
		require.Empty(t, groups)
		require.Empty(t, whole)
		require.Len(t, led, testShards)
	})
}
