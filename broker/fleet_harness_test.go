package broker

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage"
)

// lease is what a fake view says of one partition.
type heldLease struct{ node, epoch int32 }

// fakeView is a snapshot of fakeCluster.
type fakeView struct {
	version    int64
	nodes      []Node
	controller int32
	leases     map[catalog.TopicPartition]heldLease
}

func (v *fakeView) Version() int64    { return v.version }
func (v *fakeView) Nodes() []Node     { return v.nodes }
func (v *fakeView) Controller() int32 { return v.controller }

func (v *fakeView) LeaderOf(tp catalog.TopicPartition) (node, epoch int32) {
	if l, ok := v.leases[tp]; ok {
		return l.node, l.epoch
	}
	return -1, -1
}

// fakeCluster is three brokers, of which this one is testNode. Leases are what the test says.
type fakeCluster struct {
	log Log // of the broker under test, as it is
	// acquire is what happens to new partitions; nil: nothing, they stay free.
	acquire func(tps []catalog.TopicPartition)
	// asked has something when Settling was asked for a partition that is.
	asked chan struct{}
	mu    struct {
		sync.Mutex
		view    *fakeView
		changed chan struct{}
		told    int
		lost    map[catalog.TopicPartition]bool // the broker under test does not lead these
		known   map[catalog.TopicPartition]int64
		moving  map[catalog.TopicPartition]bool
	}
}

func (c *fakeCluster) View() ClusterView {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.view
}

func (c *fakeCluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.changed
}

func (c *fakeCluster) Settling(tp catalog.TopicPartition) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.moving[tp] {
		select {
		case c.asked <- struct{}{}:
		default:
		}
	}
	return c.mu.moving[tp]
}

// move has a partition be on its way, so that nobody leads it, or not any more.
func (c *fakeCluster) move(tp catalog.TopicPartition, moving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.moving[tp] = moving
	if moving {
		c.mu.lost[tp] = true
	}
}

func (c *fakeCluster) TopicsChanged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.told++
}

func (c *fakeCluster) Acquire(_ context.Context, tps []catalog.TopicPartition) error {
	if c.acquire != nil {
		c.acquire(tps)
	}
	return nil
}

// change replaces the view.
func (c *fakeCluster) change(f func(v *fakeView)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := *c.mu.view
	v.nodes = slices.Clone(v.nodes)
	v.leases = maps.Clone(v.leases)
	f(&v)
	v.version++
	c.mu.view = &v
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
}

// give says that another node leads a partition, or nobody (-1).
func (c *fakeCluster) give(tp catalog.TopicPartition, node, epoch int32) {
	c.mu.Lock()
	c.mu.lost[tp] = node != testNode
	c.mu.Unlock()
	c.change(func(v *fakeView) { v.leases[tp] = heldLease{node, epoch} })
}

// behind has the broker under test know a partition, which it does not lead, up to an offset only. -1: all of it.
func (c *fakeCluster) behind(tp catalog.TopicPartition, known int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known < 0 {
		delete(c.mu.known, tp)
		return
	}
	c.mu.known[tp] = known
}

// followerLog is an engine that leads only what the fake cluster leaves it.
type followerLog struct {
	Log
	c *fakeCluster
}

func (l followerLog) leads(tp catalog.TopicPartition) error {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.mu.lost[tp] {
		return storage.ErrNotLeader
	}
	return nil
}

func (l followerLog) Leader(tp catalog.TopicPartition) (int32, error) {
	if err := l.leads(tp); err != nil {
		return -1, err
	}
	return l.Log.Leader(tp)
}

func (l followerLog) Offsets(ctx context.Context, tp catalog.TopicPartition) (storage.Offsets, error) {
	if err := l.leads(tp); err != nil {
		return storage.Offsets{}, err
	}
	return l.Log.Offsets(ctx, tp)
}

func (l followerLog) DeleteRecords(ctx context.Context, tp catalog.TopicPartition, before int64) (int64, error) {
	if err := l.leads(tp); err != nil {
		return -1, err
	}
	return l.Log.DeleteRecords(ctx, tp, before)
}

func (l followerLog) Producers(ctx context.Context, tp catalog.TopicPartition) ([]storage.ProducerState, error) {
	if err := l.leads(tp); err != nil {
		return nil, err
	}
	return l.Log.Producers(ctx, tp)
}

func (l followerLog) Read(ctx context.Context, req storage.ReadRequest, r *storage.Read) error {
	if err := l.leads(req.TP); err != nil {
		return err
	}
	return l.Log.Read(ctx, req, r)
}

func (l followerLog) ReadFollower(ctx context.Context, req storage.ReadRequest, r *storage.Read) error {
	l.c.mu.Lock()
	known, behind := l.c.mu.known[req.TP]
	l.c.mu.Unlock()
	err := l.Log.Read(ctx, req, r) // the engine below leads it
	if behind && r.HighWatermark > known {
		r.Release()
		r.HighWatermark, r.LastStable = known, known
		if req.Offset > known {
			return fmt.Errorf("read: %w", storage.ErrOffsetOutOfRange)
		}
		return nil
	}
	return err
}

// The addresses that the fake brokers advertise.
const inside, outside = "PLAINTEXT", "OUTSIDE"

func fakeNode(id int32, rack string, listeners ...string) Node {
	n := Node{ID: id, Rack: rack}
	for i, name := range listeners {
		n.Listeners = append(n.Listeners, catalog.Listener{Name: name, Host: fmt.Sprintf("broker-%d.%s", id, name), Port: int32(9000 + i)})
	}
	return n
}

// startFleet runs a broker with node id testNode in rack a; brokers 3 in rack b and 11 in rack c exist only in its view.
// 11 has no outside listener. New partitions are led by the broker itself.
func startFleet(t *testing.T, change ...func(*Config)) (*testBroker, *fakeCluster) {
	t.Helper()
	c := &fakeCluster{asked: make(chan struct{}, 1)}
	c.mu.moving = map[catalog.TopicPartition]bool{}
	c.mu.changed = make(chan struct{})
	c.mu.lost, c.mu.known = map[catalog.TopicPartition]bool{}, map[catalog.TopicPartition]int64{}
	c.mu.view = &fakeView{version: 1, controller: 3, leases: map[catalog.TopicPartition]heldLease{}, nodes: []Node{
		fakeNode(11, "c", inside), fakeNode(3, "b", inside, outside), fakeNode(testNode, "a", inside, outside),
	}}
	tb := start(t, append([]func(*Config){func(cfg *Config) {
		c.log = cfg.Log
		cfg.Log, cfg.Cluster, cfg.Rack = followerLog{cfg.Log, c}, c, "a"
		cfg.Listeners[outside] = Endpoint{Host: "outside.example", Port: 19092}
	}}, change...)...)
	c.acquire = func(tps []catalog.TopicPartition) { c.lead(t, tps) }
	return tb, c
}

// lead has the broker under test lead partitions.
func (c *fakeCluster) lead(t *testing.T, tps []catalog.TopicPartition) {
	t.Helper()
	require.NoError(t, c.log.Acquire(context.Background(), tps))
	c.change(func(v *fakeView) {
		for _, tp := range tps {
			epoch, err := c.log.Leader(tp)
			require.NoError(t, err)
			v.leases[tp] = heldLease{testNode, epoch}
		}
	})
}

// dialOn connects to a listener that is made for it.
func (tb *testBroker) dialOn(listener string) *raw {
	tb.t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(tb.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb.t, err)
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.t.Context()))
	go func() { served <- tb.Serve(ctx, ln, listener) }()
	tb.t.Cleanup(func() {
		cancel()
		require.NoError(tb.t, <-served)
	})
	on := *tb
	on.addr = ln.Addr().String()
	return on.dial()
}

// epochOf is the lease epoch that the engine has.
func (c *fakeCluster) epochOf(t *testing.T, tp catalog.TopicPartition) int32 {
	t.Helper()
	e, err := c.log.Leader(tp)
	require.NoError(t, err)
	return e
}

func createTopic(tb *testBroker, name string, partitions int32, replication int16) catalog.TopicID {
	tb.t.Helper()
	req := createOf(name, func(rt *kmsg.CreateTopicsRequestTopic) {
		rt.NumPartitions, rt.ReplicationFactor = partitions, replication
	})
	resp := ask(tb.dial(), req, 7).(*kmsg.CreateTopicsResponse)
	require.Equal(tb.t, "NONE", names(resp.Topics[0].ErrorCode))
	return resp.Topics[0].TopicID
}
