package day_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestDay plays the records of a day; see the package comment.
func TestDay(t *testing.T) {
	total := int64(12_000_000)
	if text := os.Getenv("DAY_RECORDS"); text != "" {
		var err error
		total, err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err, "DAY_RECORDS")
	}
	batches := total / batchRecords / partitions // of a partition
	require.Positive(t, batches, "DAY_RECORDS is less than a batch for each partition")
	total = batches * batchRecords * partitions

	broker := target.Start(t)
	topic := broker.Topic(t, "day", partitions, nil)
	producers := make([]*producer, partitions)
	var raw, packed int64
	for p := range producers {
		producers[p] = newProducer(t, broker, topic, int32(p))
		raw += batches * int64(producers[p].raw)
		packed += batches * int64(len(producers[p].batch))
	}
	report(t, "day: %d records in batches of %d, %.1f MB uncompressed, %.1f MB as sent", total, batchRecords, mb(raw), mb(packed))
	var limits bounds
	took := load(t, producers, total, func(records int64) {
		u := measure(t, broker)
		report(t, "%3d %% %s", records*100/total, u.row())
		limits.check(t, u)
	})
	report(t, "sent in %s: %.0f records/s, %.1f MB/s as sent, %.1f MB/s uncompressed; %d objects put", took.Round(time.Second),
		float64(total)/took.Seconds(), mb(packed)/took.Seconds(), mb(raw)/took.Seconds(), metric(t, broker, "streamhouse_flush_objects_total"))

	requireQuickStart(t, broker)
	requireEnds(t, broker, topic, batches)
	began := time.Now()
	var read int64
	for _, p := range producers {
		read += requireWhole(t, broker, topic, p, batches)
	}
	require.Equal(t, packed, read)
	report(t, "all %d records read back and compared, byte by byte, in %s", total, time.Since(began).Round(time.Millisecond))
	report(t, "after: %s", measure(t, broker).row())
}

// readyWithin is how long a start may take, of which the target is 0.3 s; the
// rest is for a machine that does other things, too.
const readyWithin = time.Second

// startReads is how many bytes of the store a start may read: a footer or two,
// none of the log.
const startReads = 4 << 20

// requireQuickStart kills the broker, starts it again, and looks at what that
// cost.
func requireQuickStart(t *testing.T, b *target.Broker) {
	t.Helper()
	tail := metric(t, b, "streamhouse_tail_objects")
	b.Kill(t)
	before := measureFiles(t, b)
	ready := b.Restart(t)
	read := metric(t, b, "streamhouse_objstore_bytes_total", `op="get`)
	resident := metric(t, b, "process_resident_memory_bytes")
	report(t, "killed with %d objects in the tail and %d files of %.1f MB; ready %s after the start, %d bytes read from the store, RSS %.0f MB",
		tail, before.files, mb(before.bytes), ready.Round(time.Millisecond), read, mb(resident))
	require.Less(t, ready, readyWithin, "time to ready")
	require.Less(t, read, int64(startReads), "bytes of the store read by a start")
	require.Less(t, resident, int64(100<<20), "resident memory after a start")
}
