package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	leases "github.com/streamhouse/streamhouse/catalog/lease"
	catmem "github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/objstore"
	storemem "github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/slab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testNode = 7

// testBroker is a broker on a real engine over the in-memory catalog and store.
type testBroker struct {
	*Broker
	t     testing.TB
	e     *storage.Engine
	cat   *catmem.Catalog
	addr  string
	lines *logLines
	pool  *slab.Pool
}

// logLines collects what the broker logs.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
	got chan struct{} // capacity 1
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.got <- struct{}{}:
	default:
	}
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// await waits for a line with the text.
func (l *logLines) await(tb testing.TB, text string) {
	tb.Helper()
	limit := time.After(10 * time.Second)
	for !bytes.Contains([]byte(l.String()), []byte(text)) {
		select {
		case <-l.got:
		case <-limit:
			require.Contains(tb, l.String(), text)
		}
	}
}

// start runs a broker. change may alter its config; wrap, if any, its Log.
func start(tb testing.TB, change ...func(*Config)) *testBroker {
	tb.Helper()
	return startOn(tb, storemem.New(), change...)
}

// startOn runs a broker on a store, without groups.
func startOn(tb testing.TB, store objstore.Store, change ...func(*Config)) *testBroker {
	tb.Helper()
	return startWith(tb, store, catmem.New(nil), change...)
}

// startGroups runs a broker with groups, and so with internal topics.
func startGroups(tb testing.TB, change ...func(*Config)) *testBroker {
	tb.Helper()
	cat := catmem.New(nil)
	require.NoError(tb, leases.EnsureInternal(tb.Context(), cat))
	return startWith(tb, storemem.New(), cat, change...)
}

func startWith(t testing.TB, store objstore.Store, cat *catmem.Catalog, change ...func(*Config)) *testBroker { //nolint:thelper // tb is the broker
	t.Helper()
	ctx := t.Context()
	pool := slab.NewPool(4 * mib)
	lines := &logLines{got: make(chan struct{}, 1)}
	sc := storage.Config{
		Catalog: cat, Store: store, Logger: slog.New(slog.DiscardHandler), Pool: pool,
		Registration: catalog.Registration{ID: testNode, TTL: time.Minute}, PredecessorsDead: true,
		FlushInterval: time.Millisecond / 4,
	}
	_, _ = rand.Read(sc.Process[:])
	e, err := storage.Open(ctx, sc)
	require.NoError(t, err)
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := Config{
		Leases: coordinator.EngineLeases(e),
		Log:    e, Catalog: cat, Pool: pool, Logger: slog.New(slog.NewTextHandler(lines, nil)),
		NodeID: testNode, ClusterID: "test-cluster",
		Listeners: map[string]Endpoint{"PLAINTEXT": {Host: "127.0.0.1", Port: int32(ln.Addr().(*net.TCPAddr).Port)}},
	}
	for _, f := range change {
		f(&cfg)
	}
	b, err := New(cfg)
	require.NoError(t, err)
	require.NoError(t, b.RefreshTopics(ctx))
	served := make(chan error, 1)
	go func() { served <- b.Serve(context.WithoutCancel(ctx), ln, "PLAINTEXT") }()
	coordinated := make(chan struct{})
	go func() {
		defer close(coordinated)
		b.Coordinate(context.WithoutCancel(ctx))
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, b.Shutdown(ctx))
		require.NoError(t, <-served)
		<-coordinated
		require.NoError(t, e.Close(ctx))
	})
	return &testBroker{Broker: b, t: t, e: e, cat: cat, addr: ln.Addr().String(), lines: lines, pool: pool}
}

// gatedStore holds uploads back while its gate is shut.
type gatedStore struct {
	objstore.Store
	mu   sync.Mutex
	gate chan struct{} // closed: open
}

func newGatedStore() *gatedStore {
	g := &gatedStore{Store: storemem.New(), gate: make(chan struct{})}
	close(g.gate)
	return g
}

// shut holds uploads back until the function it returns is called.
func (g *gatedStore) shut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gate := make(chan struct{})
	g.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

func (g *gatedStore) Put(ctx context.Context, key string, body objstore.Body) error {
	g.mu.Lock()
	gate := g.gate
	g.mu.Unlock()
	select {
	case <-gate:
		return g.Store.Put(ctx, key, body)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// client is a franz-go client of the broker.
func (tb *testBroker) client(opts ...kgo.Opt) *kgo.Client {
	tb.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(tb.addr), kgo.RetryTimeout(10 * time.Second)}, opts...)...)
	require.NoError(tb.t, err)
	tb.t.Cleanup(cl.Close)
	return cl
}

// topic creates a topic and returns its id.
func (tb *testBroker) topic(name string, partitions int32, configs ...string) catalog.TopicID {
	tb.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10_000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], &configs[i+1]
		rt.Configs = append(rt.Configs, c)
	}
	req.Topics = append(req.Topics, rt)
	resp := ask(tb.dial(), req, 7).(*kmsg.CreateTopicsResponse)
	require.EqualValues(tb.t, 0, resp.Topics[0].ErrorCode, "%v", resp.Topics[0].ErrorMessage)
	return resp.Topics[0].TopicID
}

// raw is a connection that speaks frames.
type raw struct {
	t  testing.TB
	nc net.Conn
	n  int32
}

func (tb *testBroker) dial() *raw {
	tb.t.Helper()
	nc, err := (&net.Dialer{}).DialContext(tb.t.Context(), "tcp", tb.addr)
	require.NoError(tb.t, err)
	tb.t.Cleanup(func() { _ = nc.Close() })
	require.NoError(tb.t, nc.SetDeadline(time.Now().Add(60*time.Second)))
	return &raw{t: tb.t, nc: nc}
}

// frameOf encodes a request.
func (c *raw) frameOf(req kmsg.Request, version int16) []byte {
	c.n++
	req.SetVersion(version)
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, c.n)
}

func (c *raw) send(req kmsg.Request, version int16) {
	c.t.Helper()
	_, err := c.nc.Write(c.frameOf(req, version))
	require.NoError(c.t, err)
}

// receive reads the answer to req (as it was sent), which must have the correlation id n.
func (c *raw) receive(req kmsg.Request, n int32) kmsg.Response {
	c.t.Helper()
	b, err := c.read()
	require.NoError(c.t, err)
	require.EqualValues(c.t, n, int32(binary.BigEndian.Uint32(b)), "answers come in order")
	b = b[4:]
	resp := req.ResponseKind()
	if resp.IsFlexible() && req.Key() != apiVersionsKey {
		require.Zero(c.t, b[0])
		b = b[1:]
	}
	require.NoError(c.t, resp.ReadFrom(b))
	return resp
}

func (c *raw) read() ([]byte, error) {
	var l [4]byte
	if _, err := io.ReadFull(c.nc, l[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(l[:]))
	_, err := io.ReadFull(c.nc, b)
	return b, err
}

// closed requires that the broker ends the connection without an answer.
func (c *raw) closed() {
	c.t.Helper()
	_, err := c.read()
	require.Error(c.t, err)
	var ne net.Error
	require.False(c.t, errors.As(err, &ne) && ne.Timeout(), "the connection is still open")
}

// ask sends one request and reads its answer.
func ask(c *raw, req kmsg.Request, version int16) kmsg.Response {
	c.t.Helper()
	c.send(req, version)
	return c.receive(req, c.n)
}

// batchOf builds a batch of records with these values; a nil value is a null.
func batchOf(tb testing.TB, spec recordbatch.Spec, values ...string) []byte {
	tb.Helper()
	if spec.FirstTimestamp == 0 {
		spec.FirstTimestamp = time.Now().UnixMilli()
	}
	recs := make([]recordbatch.Record, len(values))
	for i, v := range values {
		recs[i] = recordbatch.Record{OffsetDelta: int32(i), Key: []byte("k"), Value: []byte(v)}
	}
	b, err := recordbatch.Build(spec, recs)
	require.NoError(tb, err)
	return b
}

// produceRequest asks for one batch in one partition.
func produceRequest(topic string, id catalog.TopicID, partition int32, batch []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// produceOne produces a batch and returns its partition's answer.
func produceOne(c *raw, topic string, batch []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	resp := ask(c, produceRequest(topic, catalog.TopicID{}, 0, batch), 9).(*kmsg.ProduceResponse)
	return resp.Topics[0].Partitions[0]
}

// fetchRequest asks for partitions of a topic from offset 0 on, without a session.
func fetchRequest(topic string, id catalog.TopicID, partitions ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 0, 1, 10*mib, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	for _, p := range partitions {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = p, mib, -1, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

func names(code int16) string { return kafkaproto.ErrorName(code) }
