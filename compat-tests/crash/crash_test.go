package crash_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/record"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestKillNine is the promise the project makes: see the package comment.
func TestKillNine(t *testing.T) {
	const partitions, producers = 6, 4
	kills := 50
	if s := os.Getenv("COMPAT_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err, "COMPAT_KILLS")
		kills = n
	}
	broker := target.Start(t)
	topic := broker.Topic(t, "killed", partitions, nil)
	admin := kadm.NewClient(broker.Client(t))
	w := watch(t, broker, topic, partitions)
	l := startLoad(t, broker, topic, partitions, producers)

	high := map[int32]int64{}
	observe := func() {
		got, err := ends(t.Context(), admin, topic)
		require.NoError(t, err)
		for p, end := range got {
			require.GreaterOrEqual(t, end, high[p], "the high watermark of partition %d went back", p)
			high[p] = end
		}
	}
	var slowest time.Duration
	for range kills {
		// A crash proves nothing unless something was acknowledged since the last.
		acked := l.acks.Load()
		require.Eventually(t, func() bool { return l.acks.Load() > acked || l.failed.Load() != nil },
			30*time.Second, time.Millisecond, "no record is acknowledged any more")
		l.requireHealthy(t)
		moment := time.After(time.Duration(rand.IntN(400_000)) * time.Microsecond)
		for waiting := true; waiting; {
			observe()
			select {
			case <-moment:
				waiting = false
			case <-time.After(5 * time.Millisecond):
			}
		}
		broker.Kill(t)
		slowest = max(slowest, broker.Restart(t))
		observe()
	}
	l.end(t)
	w.end()
	require.NoError(t, w.failed)
	records := verify(t, broker, l, w)
	require.Greater(t, records, kills)
	t.Logf("%d kills, %d records, none lost, none twice; slowest restart %s", kills, records, slowest)

	// And once more after an orderly stop.
	broker.Stop(t)
	broker.Restart(t)
	require.Equal(t, records, verify(t, broker, l, w))
}

// TestKillNineJava does the same under Apache Kafka's own producer with its
// default idempotence. It cannot be asked what was acknowledged, but it says
// which records failed; the rest must be in the log once and in order.
func TestKillNineJava(t *testing.T) {
	const kills = 8
	broker := target.Start(t)
	topic := broker.Topic(t, "killed-java", 1, nil)
	admin := kadm.NewClient(broker.Client(t))
	job := client.Job{Bootstrap: broker.Bootstrap, Topic: topic, Partitions: 1, Seed: 11, Codec: "lz4"}

	lines, input := io.Pipe()
	var stop atomic.Bool
	fed := make(chan int, 1)
	go func() {
		g := record.New(job.Seed)
		var b bytes.Buffer
		n := 0
		for ; !stop.Load(); n++ {
			b.Reset()
			client.ConsoleLine(&b, g, uint32(n))
			if _, err := input.Write(b.Bytes()); err != nil {
				break
			}
		}
		input.Close()
		fed <- n
	}()
	outcome := make(chan error, 1)
	go func() {
		out, err := client.JavaConsoleFrom(t.Context(), lines, job)
		lines.CloseWithError(io.ErrClosedPipe) // lets the feeder go when java died
		if err == nil && len(out) > 0 {
			t.Logf("java wrote: %s", out)
		}
		outcome <- err
	}()

	high := int64(0)
	progress := func() {
		from := high
		require.Eventually(t, func() bool {
			got, err := ends(t.Context(), admin, topic)
			require.NoError(t, err)
			require.GreaterOrEqual(t, got[0], high, "the high watermark went back")
			high = got[0]
			return high > from
		}, time.Minute, 5*time.Millisecond, "the producer does not get on")
	}
	for range kills {
		progress()
		<-time.After(time.Duration(rand.IntN(400_000)) * time.Microsecond)
		broker.Kill(t)
		broker.Restart(t)
	}
	progress()
	stop.Store(true)
	job.Count = <-fed
	require.NoError(t, <-outcome)

	got, err := client.Kcat{}.Read(t.Context(), broker.Bootstrap, topic, broker.Ends(t, topic))
	require.NoError(t, err)
	require.Equal(t, client.ConsoleExpected(job).Digests, got.WithoutTimestamps())
	t.Logf("%d kills, %d records, none lost, none twice", kills, job.Count)
}
