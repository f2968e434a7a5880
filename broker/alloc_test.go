package broker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// Allocations per batch on the way through the handlers, decoding and encoding included: what a broker at full load
// pays in garbage collection.
const (
	maxAllocsProduced = 20 // one request of one batch, without the engine's append
	maxAllocsFetched  = 8  // one session poll that returns one partition's batches, with the engine's read
)

// settledLog commits at once and keeps nothing.
type settledLog struct{ Log }

func (settledLog) Append(context.Context, catalog.TopicPartition, []byte, recordbatch.Header, *slab.Buf) (storage.Pending, error) {
	return storage.Settled(0, 0, nil), nil
}

// produceLoop makes a function that produces one batch of 100 records through decoding, both halves and encoding.
func produceLoop(tb *testBroker, id catalog.TopicID, values int) func() {
	vs := make([]string, values)
	for i := range vs {
		vs[i] = "0123456789"
	}
	req := produceRequest("", id, 0, batchOf(tb.t, batchSpec(), vs...))
	req.SetVersion(13)
	wire := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 1)[4:]
	c := &conn{b: tb.Broker, listener: "PLAINTEXT", ctx: tb.t.Context()}
	var out []byte
	return func() {
		buf := tb.pool.Get(len(wire))
		copy(buf.Bytes(), wire)
		r := &request{received: time.Now(), conn: c, frame: frame{buf: buf}}
		if err := c.decode(r); err != nil {
			tb.t.Fatal(err)
		}
		r.early = tb.startProduce(c.ctx, r)
		resp, err := tb.produce(c.ctx, r)
		if err != nil || firstCode(resp) != 0 {
			tb.t.Fatal(err, firstCode(resp))
		}
		out = kafkaproto.AppendResponse(out[:0], 1, resp)
		buf.Release()
	}
}

// fetchLoop makes a function that polls a session for a partition from offset 0 on.
func fetchLoop(tb *testBroker, id catalog.TopicID) func() {
	c := &conn{b: tb.Broker, listener: "PLAINTEXT", ctx: tb.t.Context()}
	poll := func(req *kmsg.FetchRequest) *fetchAnswer {
		r := &request{received: time.Now(), conn: c, version: 17, body: req}
		req.SetVersion(17)
		resp, err := tb.fetch(c.ctx, r)
		if err != nil || firstCode(resp) != 0 {
			tb.t.Fatal(err, firstCode(resp))
		}
		return resp.(*fetchAnswer)
	}
	first := fetchRequest("", id, 0)
	first.SessionEpoch = 0
	a := poll(first)
	session, epoch := a.SessionID, int32(1)
	a.release()
	next := moveTo(incremental(session, 0), id, 0, 0)
	return func() {
		next.SessionEpoch = epoch
		epoch++
		a := poll(next)
		if len(a.Records) != 1 || len(a.Records[0]) == 0 {
			tb.t.Fatal("nothing was fetched")
		}
		e, err := kafkaproto.EncodeFetch(1, 17, &a.FetchResponse)
		if err != nil {
			tb.t.Fatal(err)
		}
		e.Release()
		a.release()
	}
}

func TestAllocations(t *testing.T) {
	const runs = 5000 // so many that what the engine does meanwhile does not count
	sink := start(t, func(c *Config) { c.Log = settledLog{c.Log} })
	produced := testing.AllocsPerRun(runs, produceLoop(sink, sink.topic("t", 1), 100))
	tb := start(t)
	id := tb.topic("t", 1)
	produceLoop(tb, id, 100)()
	fetched := testing.AllocsPerRun(runs, fetchLoop(tb, id))
	// The same by a member of a group: who it is was found out once.
	told := map[string]int{}
	gb := startGroups(t, func(c *Config) {
		c.Observer.Fetched = func(group, _ string, _ int32, records, _ int) { told[group] += records }
	})
	id = gb.topic("t", 1)
	produceLoop(gb, id, 100)()
	gb.reads.Client("", "/").Slot("t", 0)
	gb.joinAlone("g", "", "/", "t", 0)
	gb.AttributeReads(t.Context())
	attributed := testing.AllocsPerRun(runs, fetchLoop(gb, id))
	require.Empty(t, told[""])
	require.GreaterOrEqual(t, told["g"], runs*100)
	t.Logf("allocations: %.0f per produced batch, %.0f per fetched partition, %.0f by a member", produced, fetched, attributed)
	if raceEnabled {
		return // the race detector allocates, and empties pools on purpose
	}
	require.LessOrEqual(t, produced, float64(maxAllocsProduced))
	require.LessOrEqual(t, fetched, float64(maxAllocsFetched))
	require.LessOrEqual(t, attributed, float64(maxAllocsFetched))
}

func BenchmarkProduceBatch(b *testing.B) {
	tb := start(b, func(c *Config) { c.Log = settledLog{c.Log} })
	produce := produceLoop(tb, tb.topic("t", 1), 100)
	b.ReportAllocs()
	for b.Loop() {
		produce()
	}
}

func BenchmarkFetchBatch(b *testing.B) {
	tb := start(b)
	id := tb.topic("t", 1)
	produceLoop(tb, id, 100)()
	fetch := fetchLoop(tb, id)
	b.ReportAllocs()
	for b.Loop() {
		fetch()
	}
}
