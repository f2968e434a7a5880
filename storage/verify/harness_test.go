package verify

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/catalog"
	catmem "github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/objstore"
	storemem "github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/slab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// life is a catalog and a store that a real engine fills.
type life struct {
	t     *testing.T
	rnd   *mathrand.Rand
	cat   catalog.Catalog
	store objstore.Store
	e     *storage.Engine
	tps   []catalog.TopicPartition
	seq   map[catalog.TopicPartition]int32
	grace time.Duration
}

func newLife(t *testing.T, seed uint64) *life {
	t.Helper()
	l := &life{
		t: t, rnd: mathrand.New(mathrand.NewPCG(seed, 1)), cat: catmem.New(nil), store: storemem.New(),
		seq: make(map[catalog.TopicPartition]int32), grace: time.Hour,
	}
	t.Cleanup(l.stop)
	return l
}

// start opens an engine: a new broker epoch, and new leader epochs.
func (l *life) start() {
	l.t.Helper()
	l.stop()
	c := storage.Config{
		Catalog: l.cat, Store: l.store, Logger: slog.New(slog.DiscardHandler), Pool: slab.NewPool(1 << 20),
		Registration: catalog.Registration{ID: 1, TTL: time.Minute}, PredecessorsDead: true,
		FlushInterval: time.Millisecond / 4, MergeInterval: time.Hour, ObjectGrace: l.grace, TailCacheBytes: 1 << 20, MergeFanIn: 2,
	}
	_, _ = rand.Read(c.Process[:])
	var err error
	l.e, err = storage.Open(l.t.Context(), c)
	require.NoError(l.t, err)
}

// stop ends the engine as a crash does.
func (l *life) stop() {
	if l.e != nil {
		l.e.Kill()
		l.e = nil
	}
}

func (l *life) topic(partitions int32) catalog.TopicID {
	l.t.Helper()
	var id catalog.TopicID
	_, _ = rand.Read(id[:])
	_, err := l.cat.CreateTopic(l.t.Context(), catalog.TopicSpec{ID: id, Name: "t-" + id.String()[:8], Partitions: partitions, ReplicationFactor: 1})
	require.NoError(l.t, err)
	var tps []catalog.TopicPartition
	for p := range partitions {
		tps = append(tps, catalog.TopicPartition{Topic: id, Partition: p})
	}
	l.tps = append(l.tps, tps...)
	if l.e != nil {
		require.NoError(l.t, l.e.Acquire(l.t.Context(), tps))
	}
	return id
}

// produce appends one batch to each of some partitions and waits for all.
func (l *life) produce(tps ...catalog.TopicPartition) {
	l.t.Helper()
	var pending []storage.Pending
	for _, tp := range tps {
		n := 1 + l.rnd.IntN(5)
		var records []recordbatch.Record
		for i := range n {
			v := make([]byte, l.rnd.IntN(3000))
			_, _ = rand.Read(v)
			records = append(records, recordbatch.Record{
				OffsetDelta: int32(i), TimestampDelta: int64(i), Key: fmt.Append(nil, i), Value: v,
				Headers: []recordbatch.RecordHeader{{Key: "h", Value: nil}},
			})
		}
		spec := recordbatch.Spec{FirstTimestamp: 1_000_000 + l.rnd.Int64N(1000)}
		if l.rnd.IntN(4) > 0 {
			spec.Producer = &recordbatch.Producer{ID: 7, Sequence: l.seq[tp]}
			l.seq[tp] += int32(n)
		}
		b, err := recordbatch.Build(spec, records)
		require.NoError(l.t, err)
		h, err := recordbatch.Validate(b, recordbatch.Limits{})
		require.NoError(l.t, err)
		p, err := l.e.Append(l.t.Context(), tp, b, h, nil)
		require.NoError(l.t, err)
		pending = append(pending, p)
	}
	for _, p := range pending {
		<-p.Done()
		_, err := p.Result()
		require.NoError(l.t, err)
	}
}

func (l *life) tidy() { require.NoError(l.t, l.e.Tidy(l.t.Context())) }

// verify runs over what is there, through a catalog and a store that may lie.
func (l *life) verify(opts Options) *Result {
	l.t.Helper()
	res, err := Run(l.t.Context(), l.cat, l.store, opts)
	require.NoError(l.t, err)
	return res
}

func (l *life) tailRows() (rows []catalog.TailEntry) {
	l.t.Helper()
	require.NoError(l.t, eachTailRow(l.t.Context(), l.cat, func(_ catalog.BrokerTail, r *catalog.TailEntry) error {
		rows = append(rows, *r)
		return nil
	}))
	return rows
}

func (l *life) folded() (objs []catalog.Object) {
	l.t.Helper()
	require.NoError(l.t, eachFolded(l.t.Context(), l.cat, func(o *catalog.Object) error {
		objs = append(objs, *o)
		return nil
	}))
	return objs
}

// rewrite puts other bytes under a key, as no engine would.
func (l *life) rewrite(key string, size int64, change func([]byte) []byte) {
	l.t.Helper()
	b := make([]byte, size)
	require.NoError(l.t, l.store.GetRange(l.t.Context(), key, 0, b))
	require.NoError(l.t, l.store.Delete(l.t.Context(), []string{key}))
	require.NoError(l.t, l.store.Put(l.t.Context(), key, objstore.NewBody(change(b))))
}

// liar changes what a catalog answers. Fields that are nil change nothing.
type liar struct {
	catalog.Catalog

	tail    func(*catalog.TailEntry) bool // false: leave it out
	folded  func(*catalog.Object) bool
	rows    func(*catalog.PackedRow) bool
	state   func(*catalog.PartitionState) bool
	lease   func(*catalog.Lease) bool
	retired []string
	tails   func(*catalog.BrokerTail)
}

func filter[T any](list []T, change func(*T) bool) []T {
	if change == nil {
		return list
	}
	var out []T
	for i := range list {
		if change(&list[i]) {
			out = append(out, list[i])
		}
	}
	return out
}

func (c *liar) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	list, err := c.Catalog.BrokerTails(ctx)
	if c.tails != nil {
		for i := range list {
			c.tails(&list[i])
		}
	}
	return list, err
}

func (c *liar) ReadTail(ctx context.Context, epoch catalog.BrokerEpoch, after catalog.Sequence, limit int) ([]catalog.TailEntry, error) {
	list, err := c.Catalog.ReadTail(ctx, epoch, after, limit)
	return filter(list, c.tail), err
}

func (c *liar) FoldedObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	list, err := c.Catalog.FoldedObjects(ctx, after, limit)
	return filter(list, c.folded), err
}

func (c *liar) ObjectsByID(ctx context.Context, ids []catalog.ObjectID) ([]catalog.Object, error) {
	list, err := c.Catalog.ObjectsByID(ctx, ids)
	return filter(list, c.folded), err
}

func (c *liar) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	list, err := c.Catalog.PackedRows(ctx, tp, from, limit)
	return filter(list, c.rows), err
}

func (c *liar) LoadPartitions(ctx context.Context, tps []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	list, err := c.Catalog.LoadPartitions(ctx, tps)
	return filter(list, c.state), err
}

func (c *liar) LeaseSet(ctx context.Context, version int64) (catalog.LeaseSet, error) {
	set, err := c.Catalog.LeaseSet(ctx, version)
	set.Leases = filter(set.Leases, c.lease)
	return set, err
}

func (c *liar) ListRetired(ctx context.Context, grace time.Duration, limit int) ([]catalog.Retired, error) {
	list, err := c.Catalog.ListRetired(ctx, grace, limit)
	if c.retired != nil {
		list = append(list, catalog.Retired{ID: 1 << 40, Keys: c.retired})
	}
	return list, err
}
