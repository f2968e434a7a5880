package chaos_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// TestJava kills, freezes, stops and cuts off the leader of the one partition
// that Apache Kafka's own producer writes to, with its default idempotence. It
// cannot be asked what was acknowledged, but it sends until it succeeds; so all
// of it must be in the log, once and in order.
func TestJava(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3), Flags: smallCaches})
	topic := s.Topic(t, "chaos-java", 1)
	job := client.Job{Bootstrap: s.Seeds()[0], Topic: topic, Partitions: 1, Seed: 11, Codec: "lz4"}
	feed := startJava(t, job)

	end := feed.progress(t, s, 0)
	for _, f := range []struct {
		name string
		do   func(b *stack.Broker) error
	}{
		{"killed", func(b *stack.Broker) error { return b.Kill() }},
		{"stopped", func(b *stack.Broker) error { _, err := b.Stop(); return err }},
		{"cut off from the catalog", func(b *stack.Broker) error { b.Postgres.Silence(); return nil }},
		{"frozen", func(b *stack.Broker) error { return b.Freeze() }},
		{"killed again", func(b *stack.Broker) error { return b.Kill() }},
	} {
		b, err := s.Leader(t.Context(), topic, 0)
		require.NoError(t, err)
		begin := time.Now()
		require.NoError(t, f.do(b))
		if len(s.Brokers) > 1 {
			// What was under way at a silent cut may still be acknowledged.
			require.Eventually(t, func() bool {
				now, err := s.Leader(t.Context(), topic, 0)
				return err == nil && now.ID != b.ID
			}, recoverWithin, 5*time.Millisecond, "nobody takes over")
			end = feed.progress(t, s, end)
			t.Logf("leader %s: the producer went on after %s", f.name, time.Since(begin).Round(time.Millisecond))
		}
		require.NoError(t, s.Heal(t.Context()))
		end = feed.progress(t, s, end)
	}
	job.Count = feed.end(t)

	listed, err := kadm.NewClient(s.Client(t, load.Options()...)).ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	require.NoError(t, listed.Error())
	last, _ := listed.Lookup(topic, 0)
	got, err := client.Franz{}.Read(t.Context(), s.Seeds()[0], topic, map[int32]client.Range{0: {End: last.Offset}})
	require.NoError(t, err)
	require.Equal(t, client.ConsoleExpected(job).Digests, got.WithoutTimestamps())
	t.Logf("%d records, none lost, none twice", job.Count)
}

// javaFeed is kafka-console-producer and who feeds it.
type javaFeed struct {
	topic   string
	stop    atomic.Bool
	fed     chan int
	outcome chan error
}

func startJava(t *testing.T, job client.Job) *javaFeed {
	t.Helper()
	f := &javaFeed{topic: job.Topic, fed: make(chan int, 1), outcome: make(chan error, 1)}
	lines, input := io.Pipe()
	go func() {
		g := record.New(job.Seed)
		var b bytes.Buffer
		tick := time.NewTicker(time.Millisecond) // a cluster of three on two processors has other things to do
		defer tick.Stop()
		n := 0
		for ; !f.stop.Load(); n++ {
			<-tick.C
			b.Reset()
			client.ConsoleLine(&b, g, uint32(n))
			if _, err := input.Write(b.Bytes()); err != nil {
				break
			}
		}
		input.Close()
		f.fed <- n
	}()
	go func() {
		out, err := client.JavaConsoleFrom(t.Context(), lines, job)
		lines.CloseWithError(io.ErrClosedPipe) // lets the feeder go when java died
		if err == nil && len(out) > 0 {
			t.Logf("java wrote: %s", out)
		}
		f.outcome <- err
	}()
	return f
}

// progress waits until the log is longer than from, which it must never fall
// behind, and returns its end.
func (f *javaFeed) progress(t *testing.T, s *stack.Stack, from int64) (end int64) {
	t.Helper()
	admin := kadm.NewClient(s.Client(t, load.Options()...))
	deadline := time.Now().Add(90 * time.Second) // Java's own time-outs are 30 s
	for time.Now().Before(deadline) {
		select {
		case err := <-f.outcome:
			require.Fail(t, "java ended", "%v", err)
		default:
		}
		require.NoError(t, s.Ended())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		listed, err := admin.ListEndOffsets(ctx, f.topic)
		cancel()
		if o, ok := listed.Lookup(f.topic, 0); err == nil && ok && o.Err == nil {
			require.GreaterOrEqual(t, o.Offset, from, "the high watermark went back")
			if o.Offset > from+int64(rand.IntN(50)) {
				return o.Offset
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	require.Fail(t, "the producer does not get on")
	return 0
}

// end returns how many records were sent, once the producer is done.
func (f *javaFeed) end(t *testing.T) int {
	t.Helper()
	f.stop.Store(true)
	n := <-f.fed
	require.NoError(t, <-f.outcome)
	return n
}

// TestCatalogRestoredToAnEarlierTime puts the catalog back to what it was a while
// ago, as somebody does who restores a backup and has not read the manual. What
// was acknowledged since is gone from it, and brokers would write it anew under
// the same offsets. They must stop, and say why.
func TestCatalogRestoredToAnEarlierTime(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3)})
	l := load.Start(t, s)
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	require.NoError(t, s.Postgres.Stop())
	require.NoError(t, s.Postgres.Save())
	require.NoError(t, s.Postgres.Up(t.Context()))
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now().Add(time.Second), recoverWithin))

	from := make([]int64, len(s.Brokers))
	for i, b := range s.Brokers {
		from[i] = b.LogSize()
	}
	require.NoError(t, s.Postgres.Stop())
	acks := l.History.Acks()
	require.NoError(t, s.Postgres.Restore())
	require.NoError(t, s.Postgres.Up(t.Context()))
	for i, b := range s.Brokers {
		code, err := b.AwaitEnd(time.Minute)
		require.NoError(t, err, "a broker goes on with a catalog that has lost what was acknowledged")
		require.NotZero(t, code, "broker %d ended as if all were well", b.ID)
		require.Contains(t, b.LogFrom(from[i]), "restore", "broker %d does not say what to do", b.ID)
	}
	// What was answered before Postgres was stopped may have come in late, by its
	// own goroutine; after that nothing is acknowledged.
	require.LessOrEqual(t, l.History.Acks()-acks, int64(load.Producers*load.Partitions), "written after the restore")
	require.Empty(t, l.History.Violations())
}
