package chaos_test

import (
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// pauseBound is the longest a planned move may hold up writes on a machine with other things to do; a broker that lost its
// session on the way costs them 6 s.
const pauseBound = 4 * time.Second

// TestBalance watches the controller of real brokers at work, under load: two brokers of one zone are joined by one of another,
// and then one of them leads all that much is written to. What counts as even is in package catalog/lease.
func TestBalance(t *testing.T) {
	onlyFull(t)
	s := stack.Start(t, stack.Options{Brokers: 2, Disk: 2 << 30, Racks: []string{"zone-a", "zone-a", "zone-b"}})
	l := load.Start(t, s)
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	awaitEven(t, s)

	begin := time.Now()
	l.History.Watch(begin)
	joined, err := s.Join(t)
	require.NoError(t, err)
	ready := time.Since(begin)
	awaitEven(t, s)
	even := time.Since(begin)
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	gap := l.History.Gaps(time.Now()).Max()
	t.Logf("FIGURE a third broker, of another zone: ready after %s, all leases even after %s, longest gap %s",
		ready.Round(time.Millisecond), even.Round(time.Millisecond), gap.Round(time.Millisecond))
	require.Less(t, gap, pauseBound, "writes stood still for a join")
	require.Empty(t, l.History.Violations())
	for topic, leads := range leading(t, s) {
		total := 0
		for _, p := range leads {
			total += len(p)
		}
		t.Logf("%s: broker %d leads %d of %d", topic, joined.ID, len(leads[joined.ID]), total)
		if total >= len(s.Brokers) {
			require.InDelta(t, float64(total)/float64(len(s.Brokers)), len(leads[joined.ID]), 1.5, "%s: the new zone's share", topic)
		}
	}

	busy := s.Topic(t, "chaos-busy", 12)
	awaitEven(t, s)
	before := leading(t, s)[busy]
	var hot []int32
	for _, partitions := range before {
		if len(partitions) > len(hot) {
			hot = partitions
		}
	}
	hot = hot[:2]
	l.History.Watch(time.Now())
	writeMuch(t, s, busy, hot)
	begin = time.Now()
	require.Eventually(t, func() bool { return leaders(leading(t, s)[busy], hot) == 2 }, 2*time.Minute, 100*time.Millisecond,
		"one broker keeps all that is written much to")
	took := time.Since(begin)
	awaitEven(t, s)
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	gap = l.History.Gaps(time.Now()).Max()
	t.Logf("FIGURE two partitions of one broker written to with %d KiB/s each: led by two after %s, longest gap of others %s",
		hotPace>>10, took.Round(time.Millisecond), gap.Round(time.Millisecond))
	require.Less(t, gap, pauseBound, "writes stood still for moving a busy partition")
	// For its load no topic gets more leases into a zone than the zone's share of brokers, rounded up.
	after := leading(t, s)[busy]
	require.LessOrEqual(t, len(after[joined.ID]), max(len(before[joined.ID]), 4), "before %v, after %v", before, after)
	t.Logf("%d records, none lost, none twice, none out of order", l.End(t, s))
}

// hotPace is what writeMuch writes to each partition, in bytes/s: more than the difference below which nothing moves (1 MiB/s).
const hotPace = 3 << 19

// writeMuch writes to partitions until the test ends.
func writeMuch(t *testing.T, s *stack.Stack, topic string, partitions []int32) {
	t.Helper()
	cl := s.Client(t, append(load.Options(), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	value := make([]byte, 8<<10)
	_, _ = rand.Read(value) // never fails
	go func() {
		tick := time.NewTicker(time.Second * time.Duration(len(value)) / hotPace)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
			for _, p := range partitions {
				cl.TryProduce(t.Context(), &kgo.Record{Partition: p, Value: value}, nil)
			}
		}
	}()
}

// leading are the partitions that each broker leads, by topic.
func leading(t *testing.T, s *stack.Stack) map[string]map[int32][]int32 {
	t.Helper()
	leases, err := s.Leases(t.Context())
	require.NoError(t, err)
	out := map[string]map[int32][]int32{}
	for _, l := range leases {
		if out[l.Topic] == nil {
			out[l.Topic] = map[int32][]int32{}
		}
		out[l.Topic][l.Broker] = append(out[l.Topic][l.Broker], l.Partition)
	}
	return out
}

// leaders is how many brokers lead some of partitions.
func leaders(leads map[int32][]int32, partitions []int32) (n int) {
	for broker, led := range leads {
		if broker >= 0 && slices.ContainsFunc(led, func(p int32) bool { return slices.Contains(partitions, p) }) {
			n++
		}
	}
	return n
}

// awaitEven waits until all brokers hold as many leases, but for one.
func awaitEven(t *testing.T, s *stack.Stack) {
	t.Helper()
	require.Eventually(t, func() bool {
		count := map[int32]int{}
		for _, leads := range leading(t, s) {
			for broker, partitions := range leads {
				count[broker] += len(partitions)
			}
		}
		least, most := 1<<30, 0
		for _, b := range s.Brokers {
			least, most = min(least, count[b.ID]), max(most, count[b.ID])
		}
		return count[-1] == 0 && most-least <= 1
	}, recoverWithin, 50*time.Millisecond, "the leases are not spread evenly")
}
