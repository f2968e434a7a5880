package chaos_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
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

// javaFaults are those of a short run; a full one has all.
var javaFaults = []string{"kill-leader", "cut-catalog"}

// TestJava breaks a cluster to which Apache Kafka's own producer writes, with its default idempotence: once in each way there
// is, in a full run. The leader of the one partition it writes to is who is hit, where a fault hits one. It cannot be asked
// what was acknowledged, but it sends until it succeeds; so all of it must be in the log, once and in order.
func TestJava(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3), Flags: smallCaches})
	l := load.Start(t, s)
	topic := s.Topic(t, "chaos-java", 1)
	job := client.Job{Bootstrap: strings.Join(s.Seeds(), ","), Topic: topic, Partitions: 1, Seed: 11, Codec: "lz4"}
	feed := startJava(t, s, job)
	feed.progress(t, 5*time.Minute) // a virtual machine starts first

	seed := number(t, "CHAOS_SEED", 1)
	usable := usableFaults(t, len(s.Brokers))
	rand.New(rand.NewPCG(uint64(seed), 1<<32)).Shuffle(len(usable), func(a, b int) { usable[a], usable[b] = usable[b], usable[a] })
	if !full() {
		usable = slices.DeleteFunc(usable, func(f fault) bool { return !slices.Contains(javaFaults, f.name) })
	}
	report := report{}
	for i, f := range usable {
		r := newRound(t, s, l, seed, i)
		r.victim, r.also = topic, func() { feed.progress(t, javaRecovers) }
		r.judge(f, report)
	}
	job.Count = feed.end(t)

	listed, err := feed.admin.ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	require.NoError(t, listed.Error())
	last, _ := listed.Lookup(topic, 0)
	got, err := client.Franz{}.Read(t.Context(), s.Seeds()[0], topic, map[int32]client.Range{0: {End: last.Offset}})
	require.NoError(t, err)
	require.Equal(t, client.ConsoleExpected(job).Digests, got.WithoutTimestamps())
	t.Logf("%d faults, seed %d, %d brokers: %d records of Java's, none lost, none twice, none out of order; franz-go's beside them: %d",
		len(usable), seed, len(s.Brokers), job.Count, l.End(t, s))
}

// javaFeed is kafka-console-producer and who feeds it.
type javaFeed struct {
	topic   string
	stack   *stack.Stack
	admin   *kadm.Client
	seen    int64 // end of the log when last asked for
	stop    atomic.Bool
	fed     chan int
	outcome chan error
}

func startJava(t *testing.T, s *stack.Stack, job client.Job) *javaFeed {
	t.Helper()
	f := &javaFeed{topic: job.Topic, stack: s, fed: make(chan int, 1), outcome: make(chan error, 1)}
	f.admin = kadm.NewClient(s.Client(t, load.Options()...))
	lines, input := io.Pipe()
	go func() {
		g := record.New(job.Seed)
		var b bytes.Buffer
		tick := time.NewTicker(2 * time.Millisecond) // a cluster of three on two processors has other things to do
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

// javaRecovers is how long the producer may take to get on: its own time-outs are 30 s.
const javaRecovers = 90 * time.Second

// progress waits until the log is longer than it was, which it must never fall behind.
func (f *javaFeed) progress(t *testing.T, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	first := int64(-1)
	for time.Now().Before(deadline) {
		select {
		case err := <-f.outcome:
			require.Fail(t, "java ended", "%v", err)
		default:
		}
		require.NoError(t, f.stack.Ended())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		listed, err := f.admin.ListEndOffsets(ctx, f.topic)
		cancel()
		if o, ok := listed.Lookup(f.topic, 0); err == nil && ok && o.Err == nil {
			require.GreaterOrEqual(t, o.Offset, f.seen, "the high watermark went back")
			f.seen = o.Offset
			switch {
			case first < 0:
				first = o.Offset + int64(rand.IntN(50))
			case o.Offset > first:
				return
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	require.Fail(t, "the producer does not get on", "the log ends at %d", f.seen)
}

// end returns how many records were sent, once the producer is done.
func (f *javaFeed) end(t *testing.T) int {
	t.Helper()
	f.stop.Store(true)
	n := <-f.fed
	require.NoError(t, <-f.outcome)
	return n
}
