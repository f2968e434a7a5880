package load

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/history"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// The size of a load.
const (
	Partitions = 6
	Producers  = 3
	// pace is how often a producer sends one record to each partition: a gap can
	// be measured to about a third of it.
	pace = 30 * time.Millisecond
)

// Load is idempotent producers and readers of one topic, which go on over any
// number of faults.
type Load struct {
	Topic   string
	History *history.History

	generators []*record.Generator
	stopping   chan struct{}
	producing  sync.WaitGroup
	stopWatch  context.CancelFunc
	watching   sync.WaitGroup
	Failures   atomic.Int64 // records that a producer gave up
	observers  atomic.Int64
	hiccups    struct {
		sync.Mutex

		count map[string]int // by error
	}
}

// Options are how clients find out soon what became of a broker. Without them
// gaps would be those of the client: franz-go asks for metadata every 5 s at most.
func Options() []kgo.Opt { return append(RetryOptions(), kgo.DialTimeout(2*time.Second)) }

// RetryOptions are those of them that go with a dialer, too.
func RetryOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.RequestTimeoutOverhead(2 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		// A broker that is killed between a question and its answer ends the connection in good order. On a new connection franz-go
		// takes that for a wish for TLS, and gives records up; who knows that there is no TLS here tells it to try again.
		kgo.AlwaysRetryEOF(),
	}
}

// Start starts it on a new topic, until the test ends.
func Start(t *testing.T, s *stack.Stack) *Load {
	t.Helper()
	l := &Load{Topic: s.Topic(t, "chaos", Partitions), History: history.New(Partitions), stopping: make(chan struct{})}
	for i := range Producers {
		l.generators = append(l.generators, record.New(uint32(i)))
		codec := []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[i%3]
		cl := s.Client(t, append(Options(), kgo.DefaultProduceTopic(l.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(codec), kgo.MaxBufferedRecords(100_000), kgo.ProduceRequestTimeout(5*time.Second),
			// A sequence the brokers forgot, or an offset they took back, must fail the
			// load, not be papered over by a new producer id.
			kgo.StopProducerOnDataLossDetected(), kgo.UnknownTopicRetries(-1))...)
		l.producing.Go(func() { l.produce(t.Context(), cl, int32(i)) })
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.stopWatch = cancel
	t.Cleanup(func() { cancel(); l.watching.Wait() })
	l.watch(ctx, l.Reader(t, s), "reader", true)
	// A rack of its own makes this one read from a follower where there is one.
	l.watch(ctx, l.Reader(t, s, kgo.Rack("rack-2")), "near reader", false)
	admin := kadm.NewClient(s.Client(t, Options()...))
	l.watching.Go(func() { l.poll(ctx, admin) })
	return l
}

// produce sends at its pace until stopped, and returns when all is answered.
func (l *Load) produce(ctx context.Context, cl *kgo.Client, producer int32) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.stopping:
			_ = cl.Flush(ctx) // what it did not do is unknown to the history, which says so
			return
		case <-ctx.Done():
			return
		}
		for p := range int32(Partitions) {
			number := l.History.Send(producer, p)
			cl.Produce(ctx, l.make(producer, p, number), func(r *kgo.Record, err error) {
				if err != nil {
					l.History.Failed(producer, p, number)
					if ctx.Err() == nil && l.Failures.Add(1) == 1 {
						l.History.Violated("producer %d gave up record %d of partition %d: %v", producer, number, p, err)
					}
					return
				}
				l.History.Acked(producer, p, number, r.Offset, time.Now())
			})
		}
	}
}

// make is a function of what it is given: what is read can be compared with it.
// The first header says what it is.
func (l *Load) make(producer, partition, number int32) *kgo.Record {
	rec := l.generators[producer].Record(uint32(number)*Partitions+uint32(partition), record.Variant{})
	id := make([]byte, 0, 8)
	id = binary.BigEndian.AppendUint32(id, uint32(producer))
	id = binary.BigEndian.AppendUint32(id, uint32(number))
	rec.Headers = append([]record.Header{{Key: "id", Value: id}}, rec.Headers...)
	return client.KgoRecord(&rec, partition)
}

// identify is the reverse of make.
func (l *Load) identify(r *kgo.Record) (history.Record, error) {
	if len(r.Headers) == 0 || r.Headers[0].Key != "id" || len(r.Headers[0].Value) != 8 {
		return history.Record{}, fmt.Errorf("partition %d: a record that nobody sent is at offset %d", r.Partition, r.Offset)
	}
	id := r.Headers[0].Value
	got := history.Record{Producer: int32(binary.BigEndian.Uint32(id)), Number: int32(binary.BigEndian.Uint32(id[4:])), Sum: sum(r)}
	if got.Producer < 0 || int(got.Producer) >= len(l.generators) {
		return got, fmt.Errorf("partition %d: offset %d is of producer %d, which does not exist", r.Partition, r.Offset, got.Producer)
	}
	if want := sum(l.make(got.Producer, r.Partition, got.Number)); got.Sum != want {
		return got, fmt.Errorf("partition %d: the record at offset %d has other bytes than were sent", r.Partition, r.Offset)
	}
	return got, nil
}

func sum(r *kgo.Record) uint64 {
	rec := client.FromKgo(r)
	b := record.AppendCanonical(nil, 0, &rec)
	b = binary.BigEndian.AppendUint64(b, uint64(rec.Timestamp))
	s := sha256.Sum256(b)
	return binary.BigEndian.Uint64(s[:])
}

// Reader is a client that reads the whole topic from its start and resets nothing.
func (l *Load) Reader(t *testing.T, s *stack.Stack, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	offsets := map[int32]kgo.Offset{}
	for p := range int32(Partitions) {
		offsets[p] = kgo.NewOffset().At(0)
	}
	return l.readerOf(t, s, offsets, opts...)
}

// reader is one of a single partition.
func (l *Load) reader(t *testing.T, s *stack.Stack, partition int32) *kgo.Client {
	t.Helper()
	return l.readerOf(t, s, map[int32]kgo.Offset{partition: kgo.NewOffset().At(0)})
}

func (l *Load) readerOf(t *testing.T, s *stack.Stack, offsets map[int32]kgo.Offset, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	return s.Client(t, append(append(Options(), opts...), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepRetryableFetchErrors(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: offsets}))...)
}

// watch reads all there is while it is written. Only a reader that sticks to
// leaders sees a high watermark that must not go back.
func (l *Load) watch(ctx context.Context, cl *kgo.Client, observer string, high bool) {
	l.watching.Go(func() {
		for ctx.Err() == nil {
			l.Take(cl.PollFetches(ctx), observer, high)
		}
	})
}

// Again names an observer who starts to read from the beginning.
func (l *Load) Again(name string) string { return fmt.Sprintf("%s %d", name, l.observers.Add(1)) }

// hiccup counts an error that a reader gets over.
func (l *Load) hiccup(err error) {
	name := "other"
	var known *kerr.Error
	var network *net.OpError
	switch {
	case errors.As(err, &known):
		name = known.Message
	case errors.As(err, &network) || errors.Is(err, io.EOF):
		name = "network"
	}
	l.hiccups.Lock()
	defer l.hiccups.Unlock()
	if l.hiccups.count == nil {
		l.hiccups.count = map[string]int{}
	}
	l.hiccups.count[name]++
}

// Hiccups are the errors that readers saw and got over, by name.
func (l *Load) Hiccups() string {
	l.hiccups.Lock()
	defer l.hiccups.Unlock()
	var out []string
	for name, n := range l.hiccups.count {
		out = append(out, fmt.Sprintf("%d %s", n, name))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// Take tells the history of what was fetched.
func (l *Load) Take(fetches kgo.Fetches, observer string, high bool) {
	fetches.EachError(func(_ string, p int32, err error) {
		var lost *kgo.ErrDataLoss
		switch {
		case errors.Is(err, kerr.OffsetOutOfRange) || errors.As(err, &lost):
			l.History.Violated("partition %d: %s was told: %v", p, observer, err)
		case !errors.Is(err, context.Canceled):
			l.hiccup(err)
		}
	})
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		for _, r := range p.Records {
			got, err := l.identify(r)
			if err != nil {
				l.History.Violated("%s: %v", observer, err)
				continue
			}
			l.History.Read(observer, r.Partition, r.Offset, got)
		}
		if high && p.Err == nil {
			l.History.HighWatermark(observer, p.Partition, p.HighWatermark)
		}
	})
}

// poll asks for the ends of all partitions, from their leaders.
func (l *Load) poll(ctx context.Context, admin *kadm.Client) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		listed, err := admin.ListEndOffsets(asking, l.Topic)
		cancel()
		if err != nil {
			continue // brokers are away
		}
		listed.Each(func(o kadm.ListedOffset) {
			if o.Err == nil {
				l.History.HighWatermark("poller", o.Partition, o.Offset)
			}
		})
	}
}

// AwaitAcks waits until every partition acknowledged something sent or answered
// after since.
func (l *Load) AwaitAcks(ctx context.Context, since time.Time, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		quiet := l.History.Quiet(since)
		if len(quiet) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no write to partitions %v of %s was acknowledged within %s", quiet, l.Topic, within)
		}
	}
}

// listEnds asks until all leaders answer: leases may be moving yet, and the client does not ask again by itself.
func listEnds(ctx context.Context, adm *kadm.Client, topic string) (listed kadm.ListedOffsets, err error) {
	for range 100 {
		listed, err = adm.ListEndOffsets(ctx, topic)
		if err == nil {
			err = listed.Error()
		}
		if err == nil {
			return listed, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil, err
}

// End stops the producers once all they sent is answered, reads everything once
// more, and judges. It returns the number of records.
func (l *Load) End(t *testing.T, s *stack.Stack) (records int64) {
	t.Helper()
	close(l.stopping)
	l.producing.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // readAll finds out sooner when it does not get on
	defer cancel()
	listed, err := listEnds(ctx, kadm.NewClient(s.Client(t, Options()...)), l.Topic)
	require.NoError(t, err)
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset; records += o.Offset })
	l.readAll(ctx, t, s, ends)
	l.stopWatch()
	l.watching.Wait()
	l.History.Close("judge", ends)
	violations := l.History.Violations()
	require.Empty(t, violations, "the history is broken:\n%s", strings.Join(violations, "\n"))
	require.Equal(t, l.History.Acks(), records, "records acknowledged, and found")
	return records
}

// readAll reads every partition to its end, each with a consumer of its own: what
// lies in many small objects is fetched one after the other.
func (l *Load) readAll(ctx context.Context, t *testing.T, s *stack.Stack, ends map[int32]int64) {
	t.Helper()
	failed := make([]error, Partitions)
	var reading sync.WaitGroup
	for p, end := range ends {
		if end == 0 {
			continue
		}
		cl := l.reader(t, s, p)
		reading.Go(func() { failed[p] = l.readTo(ctx, cl, p, end) })
	}
	reading.Wait()
	require.NoError(t, errors.Join(failed...))
}

// readTo reads one partition to its end.
func (l *Load) readTo(ctx context.Context, cl *kgo.Client, partition int32, end int64) error {
	defer cl.Close()
	for next := int64(0); next < end; {
		poll, cancel := context.WithTimeout(ctx, readWithin)
		fetches := cl.PollFetches(poll)
		late := errors.Is(poll.Err(), context.DeadlineExceeded)
		cancel()
		l.Take(fetches, "judge", true)
		fetches.EachRecord(func(r *kgo.Record) { next = r.Offset + 1 })
		if late {
			return fmt.Errorf("reading partition %d of %s does not get on: read up to %d of %d", partition, l.Topic, next, end)
		}
	}
	return nil
}

// readWithin is how long a reader of the whole topic may get nothing.
const readWithin = 45 * time.Second
