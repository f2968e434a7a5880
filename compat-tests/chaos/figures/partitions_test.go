package figures_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// writeAll writes one record to each of the partitions and waits for all; it
// returns how long that took.
func writeAll(t *testing.T, cl *kgo.Client, topic string, partitions []int32) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), recoverWithin)
	defer cancel()
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	for _, p := range partitions {
		all.Add(1)
		cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("x")}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
			all.Done()
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		require.NoError(t, *err)
	}
	return time.Since(begin)
}

// TestTakeOver kills one of two brokers that lead 1,000 partitions each, all of
// them written to just before.
func TestTakeOver(t *testing.T) {
	const each = 1000
	s := stack.Start(t, stack.Options{Brokers: 2})
	topic := s.Topic(t, "takeover", 2*each)
	awaitEven(t, s, topic)
	cl := s.Client(t, append(load.Options(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(10*each))...)
	all := make([]int32, 2*each)
	for p := range all {
		all[p] = int32(p)
	}
	t.Logf("one write to each of %d partitions: %s", len(all), writeAll(t, cl, topic, all).Round(time.Millisecond))
	t.Logf("and again: %s", writeAll(t, cl, topic, all).Round(time.Millisecond))

	leases, err := s.Leases(t.Context())
	require.NoError(t, err)
	dead := s.Brokers[0]
	var lost []int32
	for _, l := range leases {
		if l.Topic == topic && l.Broker == dead.ID {
			lost = append(lost, l.Partition)
		}
	}
	begin := time.Now()
	require.NoError(t, dead.Kill())
	var fenced, taken time.Duration
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for t.Context().Err() == nil {
			leases, err := s.Leases(t.Context())
			if err != nil {
				return
			}
			left, free := 0, 0
			for _, l := range leases {
				switch {
				case l.Topic == topic && l.Broker == dead.ID:
					left++
				case l.Topic == topic && l.Broker < 0:
					free++
				}
			}
			if left == 0 && fenced == 0 {
				fenced = time.Since(begin)
			}
			if left+free == 0 {
				taken = time.Since(begin)
				return
			}
		}
	}()
	wrote := writeAll(t, cl, topic, lost)
	<-watched
	t.Logf("FIGURE %d partitions of a broker killed: fenced after %s, all leases taken after %s, all written to after %s (wanted: taken over in 1 s)",
		len(lost), fenced.Round(time.Millisecond), taken.Round(time.Millisecond), wrote.Round(time.Millisecond))
}

// awaitEven waits until all brokers lead about as many partitions of topic.
func awaitEven(t *testing.T, s *stack.Stack, topic string) {
	t.Helper()
	require.Eventually(t, func() bool {
		count := leading(t, s, topic)
		total := 0
		for _, n := range count {
			total += n
		}
		for _, b := range s.Brokers {
			if count[b.ID] < total*9/10/len(s.Brokers) {
				return false
			}
		}
		return count[-1] == 0
	}, 10*time.Minute, 200*time.Millisecond, "the partitions do not spread evenly")
}

// metadataSize remembers how long answers to Metadata were, in bytes.
type metadataSize struct{ bytes atomic.Int64 }

func (m *metadataSize) OnBrokerRead(_ kgo.BrokerMetadata, key int16, read int, _, _ time.Duration, _ error) {
	if key == kmsg.Metadata.Int16() {
		m.bytes.Store(max(m.bytes.Load(), int64(read)))
	}
}

// TestBalance adds a third broker to two that lead all.
func TestBalance(t *testing.T) {
	count := number(t, "FIGURES_PARTITIONS", 5000)
	s := stack.Start(t, stack.Options{Brokers: 2})
	topic := s.Topic(t, "balance", int32(count))
	awaitEven(t, s, topic)
	var size metadataSize
	cl := s.Client(t, append(load.Options(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(2*count), kgo.WithHooks(&size))...)
	all := make([]int32, count)
	for p := range all {
		all[p] = int32(p)
	}
	t.Logf("one write to each of %d partitions: %s", count, writeAll(t, cl, topic, all).Round(time.Millisecond))
	begin := time.Now()
	_, err := s.Join(t)
	require.NoError(t, err)
	ready := time.Since(begin)
	awaitEven(t, s, topic)
	balanced := time.Since(begin)
	t.Logf("FIGURE %d partitions, a third broker: ready after %s, a tenth from even after %s", count,
		ready.Round(time.Millisecond), balanced.Round(time.Millisecond))
	t.Logf("one write to each of %d partitions: %s", count, writeAll(t, cl, topic, all).Round(time.Millisecond))
	t.Logf("FIGURE %d partitions, 3 brokers: Metadata answer %d bytes", count, size.bytes.Load())
	for _, b := range s.Brokers {
		rss, err := b.Memory()
		require.NoError(t, err)
		t.Logf("FIGURE %d partitions, 3 brokers: broker %d has %d MiB resident", count, b.ID, rss>>20)
	}
}
