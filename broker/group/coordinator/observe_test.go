package coordinator

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// Rebalances are told with why they began, and how long they took.
func TestRebalancesAreTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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

		require.NoError(t, one.join())
		is(fmt.Sprintf("classic begins: %d", WhySubscription), "classic stable after 0s") // begun and joined by all in one step

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

// The reason is what the last note tells that tells any.
func TestTheReasonIsInTheNotes(t *testing.T) {
	for what, why := range map[string]Why{
		"rebalance: a member joins":                                WhyMemberJoins,
		"rebalance: a static member is back under another id":      WhyMemberJoins,
		"rebalance: topics changed":                                WhyTopics,
		"rebalance: a member subscribes to something else":         WhySubscription,
		"rebalance: the leader joins again":                        WhySubscription,
		"member removed: its session is over":                      WhySession,
		"member removed: it did not sync in its rebalance timeout": WhyRebalanceTimeout,
		"member removed: it leaves":                                WhyMemberLeaves,
		"member left":                                              WhyMemberLeaves,
		"the group becomes a classic group: the last member of the consumer protocol is gone": WhyProtocol,
		"member turned away: the group is full":                                               WhyOther,
		"something that has no word of its own":                                               WhyOther,
	} {
		require.Equal(t, why, whyOf([]group.Note{{What: what}}), what)
		require.Equal(t, WhyProtocol, whyOf([]group.Note{{What: what}, {What: "the group becomes a consumer group"}}), what)
	}
	require.Equal(t, WhyOther, whyOf(nil))
}

// A static member comes back with the other protocol, as the last one: the group rebalances because it becomes a classic one.
func TestAChangeOfTheProtocolIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		n := newWorld(t).start(func(c *Config) {
			c.Hooks.Rebalancing = func(kind catalog.GroupKind, why Why) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, fmt.Sprintf("%s: %d", kind, why))
			}
		})
		n.acquire()
		beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		beat.Version, beat.Group, beat.MemberID, beat.InstanceID = 1, "g", "m", new("one")
		beat.RebalanceTimeoutMillis, beat.SubscribedTopicNames = 60_000, []string{"t"}
		beat.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		resp, err := n.ask("g", beat)
		require.NoError(t, err)
		require.Zero(t, resp.(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode)
		one := n.member("g")
		one.instance = new("one")
		require.Equal(t, codeError(27), one.join(), "REBALANCE_IN_PROGRESS: it joins again")
		require.Equal(t, []string{fmt.Sprintf("consumer: %d", WhyMemberJoins), fmt.Sprintf("classic: %d", WhyProtocol)}, told)
		n.stop()
	})
}
