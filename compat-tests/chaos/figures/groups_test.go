package figures_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/history"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/members"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

const (
	groups    = 12
	ofATopic  = 6 // partitions
	groupPace = 50 * time.Millisecond
)

// TestGroupFailOver measures how long members of groups were without a good answer to a heartbeat around the loss of their
// coordinator: of the member for which it was longest, and the median of so many losses. Members send a heartbeat every 50 ms,
// and look for the coordinator anew, as clients do, with a pause of 50 ms after each error. Half of the groups are classic, half
// are of KIP-848; their members commit all the time. Nobody may be thrown out, and no generation or epoch may change.
func TestGroupFailOver(t *testing.T) {
	for _, c := range losses[:2] {
		t.Run(c.name, func(t *testing.T) {
			flags := []string{"--group-initial-rebalance-delay=200ms", "--group-consumer-session-timeout=10s", "--group-consumer-heartbeat-interval=1s"}
			if os.Getenv("FIGURES_TRACE") != "" {
				flags = append(flags, "--log-level", "debug")
			}
			s := stack.Start(t, stack.Options{Brokers: 3, Flags: flags})
			histories := startGroups(t, s)
			repeat := number(t, "FIGURES_REPEAT", 10)
			var longest history.Gaps
			for i := range repeat {
				spread(t, s, stack.GroupsTopic)
				b, hit := coordinatorOfMost(t, s, histories)
				awaitBeats(t, histories, time.Now())
				size := logSizes(s)
				begin := time.Now()
				for _, h := range histories {
					h.Watch(begin)
				}
				require.NoError(t, c.lose(b))
				awaitLeaderless(t, s, b.ID, stack.GroupsTopic)
				awaitBeats(t, histories, time.Now())
				gaps := ofAll(histories)
				longest = append(longest, gaps.Max())
				t.Logf("%s of %d of %d groups, %d: %s", c.what, hit, groups, i+1, gaps.Max().Round(time.Millisecond))
				if os.Getenv("FIGURES_TRACE") != "" {
					t.Logf("broker %d lost at %s", b.ID, begin.Format(stamp))
					for _, b := range s.Brokers {
						t.Logf("broker %d:\n%s", b.ID, b.LogFrom(size[b.ID]))
					}
				}
				for _, h := range histories {
					require.Empty(t, h.Violations(), "%s", h.Trace())
				}
				require.NoError(t, s.Heal(t.Context()))
			}
			t.Logf("FIGURE %s that coordinates groups: longest time without an answer to a heartbeat of any member: median of %d %s, most %s "+
				"(wanted: under 1 s)", c.what, repeat, longest.Median().Round(time.Millisecond), longest.Max().Round(time.Millisecond))
		})
	}
}

// startGroups starts groups of two members each, until the test ends, and returns once all are stable.
func startGroups(t *testing.T, s *stack.Stack) (histories []*members.History) {
	t.Helper()
	topic := s.Topic(t, "figures-groups", ofATopic)
	cfg := members.Config{
		Seeds: s.Seeds(), Topic: topic, Partitions: ofATopic, Session: 10 * time.Second, Pace: groupPace, Backoff: groupPace,
	}
	for i := range groups {
		h := members.NewHistory(fmt.Sprintf("figures-%d", i))
		histories = append(histories, h)
		for j := range 2 {
			name := fmt.Sprintf("member-%d", j)
			if i%2 == 0 {
				m := members.NewClassic(t.Context(), name, h, cfg, func(m *members.Classic) { m.Commits.Store(true) })
				t.Cleanup(m.Stop)
				continue
			}
			m := members.NewConsumer(t.Context(), name, h, cfg)
			m.Commits.Store(true)
			t.Cleanup(m.Stop)
		}
	}
	for _, h := range histories {
		require.Eventually(t, func() bool {
			partitions, n := h.Partitions()
			epochs := h.Epochs()
			return partitions == ofATopic && n == 2 && epochs["member-0"] == epochs["member-1"]
		}, recoverWithin, 10*time.Millisecond, "group %s is not stable", h.Group)
	}
	<-time.After(time.Second) // whoever is told of a rebalance now was told before
	for _, h := range histories {
		h.Still(true)
	}
	return histories
}

// coordinatorOfMost is the broker that coordinates most of the groups.
func coordinatorOfMost(t *testing.T, s *stack.Stack, histories []*members.History) (most *stack.Broker, n int) {
	t.Helper()
	var ids []string
	for _, h := range histories {
		ids = append(ids, h.Group)
	}
	count, err := s.Coordinated(t.Context(), ids)
	require.NoError(t, err)
	for _, b := range s.Brokers {
		if count[b.ID] > n {
			most, n = b, count[b.ID]
		}
	}
	return most, n
}

// awaitBeats waits until every member has had a good answer to a heartbeat after t.
func awaitBeats(t *testing.T, histories []*members.History, since time.Time) {
	t.Helper()
	for _, h := range histories {
		require.Eventually(t, func() bool { return len(h.Quiet(since)) == 0 }, recoverWithin, 5*time.Millisecond,
			"members of %s get no answer", h.Group)
	}
}

func ofAll(histories []*members.History) (gaps history.Gaps) {
	for _, h := range histories {
		gaps = append(gaps, h.Gaps(time.Now())...)
	}
	return gaps
}

func logSizes(s *stack.Stack) map[int32]int64 {
	sizes := map[int32]int64{}
	for _, b := range s.Brokers {
		sizes[b.ID] = b.LogSize()
	}
	return sizes
}
