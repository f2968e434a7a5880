package figures_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/history"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// recoverWithin bounds a wait that is not what is measured.
const recoverWithin = 60 * time.Second

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// losses are the ways to lose a leader.
var losses = []struct {
	name  string // of the subtest
	what  string
	under time.Duration // wanted
	lose  func(b *stack.Broker) error
}{
	{"kill", "kill -9 of a leader", time.Second, func(b *stack.Broker) error { return b.Kill() }},
	{"sigterm", "SIGTERM of a leader", 200 * time.Millisecond, func(b *stack.Broker) error { _, err := b.Stop(); return err }},
	{"cut-catalog", "silent cut of a leader from the catalog", 10 * time.Second, func(b *stack.Broker) error { b.Postgres.Silence(); return nil }},
	{"cut-all", "silent cut of a leader from all", 10 * time.Second, func(b *stack.Broker) error {
		b.Postgres.Silence()
		b.Store.Silence()
		b.Clients.Silence()
		return nil
	}},
}

// TestWriteGaps measures, under load, how long no write of a partition was
// acknowledged around the loss of its leader: of the partition for which it was
// longest, and the median of so many losses. Each way has a cluster and a load of
// its own: what is read back at the end stays small, and one can be measured
// alone (-run TestWriteGaps/sigterm).
func TestWriteGaps(t *testing.T) {
	for _, c := range losses {
		t.Run(c.name, func(t *testing.T) {
			var flags []string
			if os.Getenv("FIGURES_TRACE") != "" {
				flags = []string{"--log-level", "debug"}
			}
			s := stack.Start(t, stack.Options{Brokers: 3, Flags: flags})
			l := load.Start(t, s)
			repeat := number(t, "FIGURES_REPEAT", 10)
			var longest history.Gaps
			for i := range repeat {
				gap := loseOne(t, s, l, int32(i%load.Partitions), c.lose)
				longest = append(longest, gap)
				t.Logf("%s, %d: %s", c.what, i+1, gap.Round(time.Millisecond))
				require.NoError(t, s.Heal(t.Context()))
			}
			require.Empty(t, l.History.Violations())
			t.Logf("FIGURE %s: longest gap in acknowledged writes of any partition: median of %d %s, most %s (wanted: under %s); "+
				"records given up %d; errors readers got over: %s",
				c.what, repeat, longest.Median().Round(time.Millisecond), longest.Max().Round(time.Millisecond), c.under,
				l.Failures.Load(), l.Hiccups())
			began := time.Now()
			t.Logf("%d records, none lost, none twice; read back in %s", l.End(t, s), time.Since(began).Round(time.Millisecond))
		})
	}
}

// loseOne loses the leader of a partition and returns the longest gap of any.
func loseOne(t *testing.T, s *stack.Stack, l *load.Load, partition int32, lose func(*stack.Broker) error) time.Duration {
	t.Helper()
	spread(t, s, l.Topic)
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	b, err := s.Leader(t.Context(), l.Topic, partition)
	require.NoError(t, err)
	sizes := map[int32]int64{}
	for _, b := range s.Brokers {
		sizes[b.ID] = b.LogSize()
	}
	begin := time.Now()
	l.History.Watch(begin)
	require.NoError(t, lose(b))
	// The broker that was cut off may acknowledge what was under way: the cut takes
	// effect for good once its session is over.
	awaitLeaderless(t, s, b.ID, l.Topic)
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	at := time.Now()
	gaps := l.History.Gaps(at)
	if os.Getenv("FIGURES_TRACE") != "" {
		t.Logf("broker %d lost from %s to %s, gaps by partition %v", b.ID, begin.Format(stamp), at.Format(stamp), gaps)
		for _, b := range s.Brokers {
			t.Logf("broker %d:\n%s", b.ID, b.LogFrom(sizes[b.ID]))
		}
	}
	return gaps.Max()
}

// stamp is how times of a trace are written.
const stamp = "15:04:05.000"

// spread waits until every broker leads a part of topic.
func spread(t *testing.T, s *stack.Stack, topic string) {
	t.Helper()
	require.Eventually(t, func() bool {
		count := leading(t, s, topic)
		for _, b := range s.Brokers {
			if count[b.ID] == 0 {
				return false
			}
		}
		return true
	}, recoverWithin, 50*time.Millisecond, "the partitions are not spread over all brokers")
}

// awaitLeaderless waits until a broker leads nothing of topic.
func awaitLeaderless(t *testing.T, s *stack.Stack, id int32, topic string) {
	t.Helper()
	require.Eventually(t, func() bool { return leading(t, s, topic)[id] == 0 && leading(t, s, topic)[-1] == 0 },
		recoverWithin, 10*time.Millisecond, "nobody took over what broker %d led", id)
}

// leading counts the partitions of topic by broker; -1: led by nobody.
func leading(t *testing.T, s *stack.Stack, topic string) map[int32]int {
	t.Helper()
	leases, err := s.Leases(t.Context())
	require.NoError(t, err)
	count := map[int32]int{}
	for _, l := range leases {
		if l.Topic == topic {
			count[l.Broker]++
		}
	}
	return count
}
