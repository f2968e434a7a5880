package broker

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// traces follows all requests and keeps what it is told.
type traces struct {
	mu    sync.Mutex
	all   []*tracedRequest
	waits chan *tracedRequest // long polls, each time they begin to wait
	ended chan *tracedRequest
}

type tracedRequest struct {
	TracedRequest
	of      *traces
	phases  []string
	ends    int
	outcome TraceOutcome
}

type traceKey struct{}

func newTraces() *traces {
	return &traces{waits: make(chan *tracedRequest, 100), ended: make(chan *tracedRequest, 100)}
}

func (ts *traces) Begin(r TracedRequest) Trace {
	t := &tracedRequest{TracedRequest: r, of: ts}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.all = append(ts.all, t)
	return t
}

func (t *tracedRequest) ID() string { return "id of " + t.API }

func (t *tracedRequest) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

func (t *tracedRequest) Phase(name string) {
	t.phases = append(t.phases, name)
	if name == phaseWait {
		t.of.waits <- t
	}
}

func (t *tracedRequest) End(o TraceOutcome) {
	t.outcome = o
	t.ends++
	t.of.ended <- t
}

// tracedLog notes for whom it is asked.
type tracedLog struct {
	Log
	mu  sync.Mutex
	who []string
}

func (l *tracedLog) note(ctx context.Context, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := ctx.Value(traceKey{}).(*tracedRequest); ok {
		l.who = append(l.who, what+" for "+t.API)
	}
}

func (l *tracedLog) Append(ctx context.Context, tp catalog.TopicPartition, batch []byte, h recordbatch.Header, frame *slab.Buf) (storage.Pending, error) {
	l.note(ctx, "append")
	return l.Log.Append(ctx, tp, batch, h, frame)
}

func (l *tracedLog) Read(ctx context.Context, req storage.ReadRequest, dst *storage.Read) error {
	l.note(ctx, "read")
	return l.Log.Read(ctx, req, dst)
}

func TestTracesTellOfProduceAndFetch(t *testing.T) {
	ts, log := newTraces(), &tracedLog{}
	var ids []string
	tb := start(t, func(c *Config) {
		log.Log = c.Log
		c.Log, c.Tracer = log, ts
		c.Observer.ProduceAnswered = func(_ string, _ time.Duration, trace string) { ids = append(ids, trace) }
		c.Observer.FetchAnswered = func(_ string, _ time.Duration, trace string) { ids = append(ids, trace) }
	})
	id := tb.topic("t", 1)
	c := tb.dial()
	batch := batchOf(t, batchSpec(), "a", "b")
	ask(c, produceRequest("", id, 0, batch), 13)
	p := <-ts.ended
	require.Equal(t, "Produce", p.API)
	require.EqualValues(t, 13, p.Version)
	require.Equal(t, "raw", p.ClientID)
	require.WithinDuration(t, time.Now(), p.Received, time.Minute)
	require.Equal(t, []string{phaseAppend, phaseCommit, phaseSend}, p.phases)
	require.Equal(t, TraceOutcome{Topics: 1, Partitions: 1, Bytes: len(batch), Topic: "t"}, p.outcome)

	ask(c, fetchRequest("", id, 0), 17)
	f := <-ts.ended
	require.Equal(t, "Fetch", f.API)
	require.Equal(t, []string{phaseQueue, phaseRead, phaseSend}, f.phases)
	require.Equal(t, TraceOutcome{Topics: 1, Partitions: 1, Bytes: len(batch), Topic: "t"}, f.outcome)
	require.Equal(t, []string{"append for Produce", "read for Fetch"}, log.who)
	require.Equal(t, []string{"id of Produce", "id of Fetch"}, ids)

	ask(c, produceRequest("", id, 0, []byte("nonsense")), 13)
	bad := <-ts.ended
	require.Equal(t, "INVALID_RECORD", names(bad.outcome.Code))
	ask(c, produceRequest("gone", catalog.TopicID{}, 0, batch), 9)
	unknown := <-ts.ended
	require.Equal(t, "gone", unknown.outcome.Topic)
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(unknown.outcome.Code))
	ask(c, kmsg.NewPtrDescribeACLsRequest(), 1)
	require.Len(t, ts.all, 4, "other requests are not asked about")
	for _, one := range ts.all {
		require.Equal(t, 1, one.ends)
	}
}

func TestTracesTellOfALongPollAndOfItsEnd(t *testing.T) {
	ts := newTraces()
	tb := start(t, func(c *Config) { c.Tracer = ts })
	id := tb.topic("t", 1)
	poll := func(offset int64) *raw {
		c := tb.dial()
		req := fetchRequest("", id, 0)
		req.MaxWaitMillis, req.MinBytes = 60_000, 1
		req.Topics[0].Partitions[0].FetchOffset = offset
		c.send(req, 17)
		return c
	}
	poll(0)
	f := <-ts.waits
	ask(tb.dial(), produceRequest("", id, 0, batchOf(t, batchSpec(), "a")), 13)
	for range 2 { // one of them is the Produce
		<-ts.ended
	}
	require.Equal(t, []string{phaseQueue, phaseRead, phaseWait, phaseRead, phaseSend}, f.phases)
	require.NoError(t, f.outcome.Err)

	c := poll(1)
	f = <-ts.waits
	require.NoError(t, c.nc.Close())
	require.Same(t, f, <-ts.ended)
	require.Equal(t, ErrUnanswered, f.outcome.Err)
	require.Equal(t, []string{phaseQueue, phaseRead, phaseWait}, f.phases)
}

// The reader's half of a Produce may meet a defect, too: its request is over then, and its trace with it.
func TestATraceEndsWithAPanicOfTheReader(t *testing.T) {
	ts := newTraces()
	tb := start(t, func(c *Config) { c.Tracer, c.Log = ts, panicLog{c.Log} })
	id := tb.topic("t", 1)
	tb.dial().send(produceRequest("", id, 0, batchOf(t, batchSpec(), "v")), 13)
	var p *tracedRequest
	select {
	case p = <-ts.ended:
	case <-time.After(30 * time.Second):
		require.Fail(t, "the trace has not ended")
	}
	require.Equal(t, "Produce", p.API)
	require.ErrorIs(t, p.outcome.Err, errPanic)
	tb.lines.await(t, "panic while serving")
	require.Len(t, ts.ended, 0, "it ended twice")
}

// panicTracer panics when it is asked whether to follow a Fetch.
type panicTracer struct{}

func (panicTracer) Begin(r TracedRequest) Trace {
	if r.API == "Fetch" {
		panic("a defect of the tracer")
	}
	return nil
}

// A panic of the tracer costs the connection, and nothing else: the memory of the request, which most requests give back once they
// are decoded, is given back once.
func TestAPanicOfTheTracer(t *testing.T) {
	tb := start(t, func(c *Config) { c.Tracer = panicTracer{} })
	id := tb.topic("t", 1)
	c := tb.dial()
	c.send(fetchRequest("", id, 0), 13)
	c.closed()
	tb.lines.await(t, "panic while serving")
	require.Zero(t, tb.Usage().RequestBytes)
	resp := ask(tb.dial(), produceRequest("", id, 0, batchOf(t, batchSpec(), "v")), 13).(*kmsg.ProduceResponse)
	require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
}
