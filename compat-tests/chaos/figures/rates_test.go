package figures_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// counts are what a cluster's work costs, since its start.
type counts struct {
	at      time.Time
	puts    float64 // objects put by the broker
	commits int64   // rows added to the tail
	guards  int64   // updates of broker rows: commits and heartbeats
	folded  int64   // partition rows written by folds
	packed  int64   // packed rows written by folds
}

func count(t *testing.T, s *stack.Stack) (c counts) {
	t.Helper()
	conn, err := s.Postgres.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(context.Background()) // it answered
	// The statistics of a backend at work are sent at most once a second.
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT
		sum(n_tup_ins) FILTER (WHERE relname = 'catalog_tail'),
		sum(n_tup_upd) FILTER (WHERE relname = 'catalog_brokers'),
		sum(n_tup_upd) FILTER (WHERE relname = 'catalog_partitions'),
		sum(n_tup_ins + n_tup_upd) FILTER (WHERE relname = 'catalog_packed_rows')
		FROM pg_stat_user_tables`).Scan(&c.commits, &c.guards, &c.folded, &c.packed))
	c.at = time.Now()
	c.puts = sample(t, s.Brokers[0], `streamhouse_flush_objects_total`)
	return c
}

// sample is the sum of a metric's samples at a broker.
func sample(t *testing.T, b *stack.Broker, name string) (sum float64) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTP+"/metrics", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	seen := false
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		line := in.Text()
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			require.NoError(t, err)
			sum, seen = sum+v, true
		}
	}
	require.True(t, seen, "no metric %s", name)
	return sum
}

// TestRates counts what one broker puts and what it writes into the catalog a
// second, at one rate of records over 1, 100 and 10,000 partitions.
func TestRates(t *testing.T) {
	const perTick, tick = 10, 5 * time.Millisecond
	lasts := time.Duration(number(t, "FIGURES_SECONDS", 130)) * time.Second
	for _, partitions := range []int{1, 100, 10_000} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			s := stack.Start(t, stack.Options{Brokers: 1, Flags: []string{"--flush-interval=100ms"}})
			topic := s.Topic(t, "rates", int32(partitions))
			awaitEven(t, s, topic)
			cl := s.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1_000_000))
			all := make([]int32, partitions)
			for p := range all {
				all[p] = int32(p)
			}
			writeAll(t, cl, topic, all)
			value := make([]byte, 100)
			n := 0
			produce := func(lasts time.Duration) {
				ticker := time.NewTicker(tick)
				defer ticker.Stop()
				for end := time.Now().Add(lasts); time.Now().Before(end); {
					<-ticker.C
					for range perTick {
						n++
						cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(n % partitions), Value: value}, func(_ *kgo.Record, err error) {
							if err != nil {
								t.Error(err)
							}
						})
					}
				}
			}
			produce(10 * time.Second)
			before, records := count(t, s), n
			produce(lasts)
			require.NoError(t, cl.Flush(t.Context()))
			after := count(t, s)
			seconds := after.at.Sub(before.at).Seconds()
			active := min(partitions, n-records)
			t.Logf("FIGURE %d partitions, %.0f records/s: %.2f objects put/s, %.2f tail rows/s, %.2f updates of broker rows/s on the commit path; "+
				"folds: %.2f partition rows and %.2f packed rows per active partition and minute",
				partitions, float64(n-records)/seconds, (after.puts-before.puts)/seconds, float64(after.commits-before.commits)/seconds,
				float64(after.guards-before.guards)/seconds,
				float64(after.folded-before.folded)/float64(active)/seconds*60, float64(after.packed-before.packed)/float64(active)/seconds*60)
		})
	}
}
