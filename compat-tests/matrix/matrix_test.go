package matrix_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/record"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// row is one line of the report.
type row struct {
	producer, codec string
	records, bytes  int64
	took            time.Duration
	readers         []string
	ok              bool
}

// TestMatrix is producer × codec, read by others. What a reader saw must equal,
// record by record, what the generator made, or, where the producer makes its
// own payload, what another reader saw.
func TestMatrix(t *testing.T) {
	broker := target.Get(t)
	count := recordsPerCell(t)
	var mu sync.Mutex
	var rows []*row
	t.Cleanup(func() { report(t, rows) })

	for i, producer := range client.Producers() {
		for j, codec := range client.Codecs {
			r := &row{producer: producer.Name(), codec: codec}
			mu.Lock()
			rows = append(rows, r)
			mu.Unlock()
			t.Run(producer.Name()+"/"+codec, func(t *testing.T) {
				t.Parallel()
				cell(t, broker, r, producer, readers(producer, i+j), client.Job{
					Bootstrap: broker.Bootstrap, Seed: uint32(1000*i + j), Count: count, Codec: codec,
				})
			})
		}
	}
}

func cell(t *testing.T, broker *target.Broker, r *row, producer client.Producer, readers []client.Reader, job client.Job) {
	t.Helper()
	begin := time.Now()
	job.Partitions = 2
	if most := producer.Partitions(); most > 0 {
		job.Partitions = most
	}
	job.Topic = broker.Topic(t, "matrix-"+producer.Name()+"-"+job.Codec, job.Partitions, nil)

	want, err := producer.Produce(t.Context(), job)
	require.NoError(t, err)
	ranges := broker.Ends(t, job.Topic)
	require.Len(t, ranges, int(job.Partitions))

	var first record.Digests
	for _, reader := range readers {
		got, err := reader.Read(t.Context(), job.Bootstrap, job.Topic, ranges)
		require.NoError(t, err, "read by %s", reader.Name())
		require.Equal(t, want.Total, got.Total(), "records seen by %s", reader.Name())
		blurs := client.Blurs(reader) && want.Digests != nil // what a client makes up by itself has no nulls but all keys
		sent := want.Digests
		if blurs {
			sent = want.Blurred
		}
		switch {
		case sent == nil:
			require.Equal(t, want.Total*client.PerfRecordSize, got.Bytes(), "bytes seen by %s", reader.Name())
		case want.Timestamps:
			require.Equal(t, sent, got, "sent, and seen by %s", reader.Name())
		default:
			require.Equal(t, sent, got.WithoutTimestamps(), "sent, and seen by %s", reader.Name())
		}
		if first == nil {
			first = got // of a reader that does not blur: see readers
		}
		if !blurs {
			require.Equal(t, first, got, "seen by %s, and by %s", readers[0].Name(), reader.Name())
		}
		r.readers = append(r.readers, reader.Name())
	}
	r.records, r.bytes, r.took, r.ok = first.Total(), first.Bytes(), time.Since(begin), true
}

// readers chooses who reads what producer sent: never itself.
func readers(producer client.Producer, turn int) []client.Reader {
	var others []client.Reader
	for _, r := range client.Readers() {
		if r.Name() != producer.Name() {
			others = append(others, r)
		}
	}
	if os.Getenv("COMPAT_READERS") == "all" {
		return others
	}
	var fixed client.Reader = client.Franz{}
	if producer.Name() == fixed.Name() {
		fixed = client.Python{Client: "confluent-kafka"}
	}
	var rest []client.Reader
	for _, r := range others {
		if r.Name() != fixed.Name() {
			rest = append(rest, r)
		}
	}
	return []client.Reader{fixed, rest[turn%len(rest)]}
}

func recordsPerCell(t *testing.T) int {
	t.Helper()
	s := os.Getenv("COMPAT_RECORDS")
	if s == "" {
		return 2000
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, "COMPAT_RECORDS")
	require.Positive(t, n, "COMPAT_RECORDS")
	return n
}

// report writes the table to $COMPAT_REPORT, or else to the test's log.
func report(t *testing.T, rows []*row) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "producer\tcodec\trecords\tkey+value bytes\tseconds\tread back and compared by")
	totals := map[string]int64{}
	var order []string
	for _, r := range rows {
		readers := strings.Join(r.readers, ", ")
		if !r.ok {
			readers = "FAILED after: " + readers
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.1f\t%s\n", r.producer, r.codec, r.records, r.bytes, r.took.Seconds(), readers)
		if _, known := totals[r.producer]; !known {
			order = append(order, r.producer)
		}
		totals[r.producer] += r.records
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "producer\trecords in all codecs")
	for _, p := range order {
		fmt.Fprintf(w, "%s\t%d\n", p, totals[p])
	}
	require.NoError(t, w.Flush())
	path := os.Getenv("COMPAT_REPORT")
	if path == "" {
		t.Log("\n" + b.String())
		return
	}
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
}
