package storage

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catmem "github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

// controllerTopic stands for the topic whose one lease makes the controller.
var controllerTopic = catalog.TopicID{15: 1}

var controllerLease = catalog.TopicPartition{Topic: controllerTopic}

// fleet is a world that several engines share: one catalog, of which each has a handle, and one store.
type fleet struct {
	*world
	shared *catmem.Catalog
}

func newFleet(tb testing.TB, partitions int32) *fleet {
	tb.Helper()
	f := &fleet{world: newWorld(tb, partitions)}
	f.shared = f.cat.(*catmem.Catalog)
	_, err := f.cat.CreateTopic(tb.Context(), catalog.TopicSpec{ID: controllerTopic, Name: "__cluster_metadata", Partitions: 1, ReplicationFactor: 1})
	require.NoError(tb, err)
	return f
}

// member is one broker of a fleet.
type member struct {
	*Engine
	f      *fleet
	handle *catmem.Catalog
	deaf   context.CancelFunc
	wg     sync.WaitGroup
}

// join opens an engine that holds nothing yet. It hears what others announce, until it is deaf.
func (f *fleet) join(id catalog.BrokerID, change ...func(*Config)) *member {
	f.t.Helper()
	m := f.joinDeaf(id, change...)
	m.listen()
	return m
}

// joinDeaf opens an engine that never hears anything: not even that it should look at everything, which would make calls at
// any time.
func (f *fleet) joinDeaf(id catalog.BrokerID, change ...func(*Config)) *member {
	f.t.Helper()
	m := &member{f: f, handle: f.shared.Open(), deaf: func() {}}
	c := f.config()
	c.Catalog, c.Fleet, c.Controller, c.PredecessorsDead = m.handle, m.handle, controllerLease, false
	c.Registration = catalog.Registration{ID: id, TTL: time.Minute}
	c.MergeInterval, c.FoldInterval = time.Hour, time.Hour // tests drive, or change it
	for _, change := range change {
		change(&c)
	}
	var err error
	m.Engine, err = Open(f.t.Context(), c)
	require.NoError(f.t, err)
	f.t.Cleanup(m.die)
	return m
}

func (m *member) listen() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.f.t.Context()))
	m.deaf = cancel
	m.wg.Go(func() { _ = m.handle.Listen(ctx, m.Heard) })
}

// die ends the process as a crash would.
func (m *member) die() {
	m.deaf()
	m.Kill()
	m.wg.Wait()
	_ = m.handle.Close()
}

// fence has the catalog know that a member is dead.
func (f *fleet) fence(epoch catalog.BrokerEpoch) {
	require.NoError(f.t, f.shared.FenceBroker(f.t.Context(), epoch, catalog.FenceProvenDead))
}

func (f *fleet) tps() []catalog.TopicPartition {
	var tps []catalog.TopicPartition
	for _, l := range f.logs {
		tps = append(tps, l.tp)
	}
	return tps
}

// leases are the catalog's leases of an epoch.
func (f *fleet) leases(epoch catalog.BrokerEpoch) []catalog.Lease {
	set, err := f.shared.LeaseSet(f.t.Context(), 0)
	require.NoError(f.t, err)
	var out []catalog.Lease
	for _, l := range set.Leases {
		if l.Holder == epoch {
			out = append(out, l)
		}
	}
	return out
}

// give hands partitions over and has the receiver adopt what it holds.
func (f *fleet) give(from, to *member, tps ...catalog.TopicPartition) {
	f.t.Helper()
	require.NoError(f.t, from.HandOver(f.t.Context(), tps, to.Epoch()))
	require.NoError(f.t, to.Adopt(f.t.Context(), f.leases(to.Epoch())))
}

// readFollower reads a whole log as followers see it, and returns the high watermark.
func (f *fleet) readFollower(ctx context.Context, m *member, l *plog) (int64, error) {
	f.t.Helper()
	var r Read
	want := append(append([][]byte(nil), l.acked...), l.maybe...)
	err := m.ReadFollower(ctx, ReadRequest{TP: l.tp, Offset: l.logStart}, &r)
	hw := r.HighWatermark
	r.Release()
	if err != nil {
		return 0, err
	}
	for at := l.logStart; at < hw; {
		err := m.ReadFollower(ctx, ReadRequest{TP: l.tp, Offset: at, MaxBytes: 3000, MinOne: true}, &r)
		if err != nil {
			return 0, err
		}
		var raw []byte
		for _, s := range r.Records {
			raw = append(raw, s...)
		}
		r.Release()
		require.NotEmpty(f.t, raw, "nothing at offset %d below %d", at, hw)
		for len(raw) > 0 {
			var b []byte
			b, raw, err = recordbatch.Next(raw)
			require.NoError(f.t, err)
			require.True(f.t, recordbatch.ChecksumOK(b))
			h, err := recordbatch.ParseHeader(b)
			require.NoError(f.t, err)
			require.Equal(f.t, at, h.BaseOffset)
			for rec, err := range recordbatch.Records(b, 1<<20) {
				require.NoError(f.t, err)
				require.Equal(f.t, want[at], rec.Value, "offset %d", at)
				at++
			}
		}
	}
	return hw, nil
}

// follows waits until a member has everything that was acknowledged, and checks it.
func (f *fleet) follows(m *member) {
	f.t.Helper()
	w := m.NewWatcher()
	defer w.Close()
	w.Add(f.tps()...)
	for _, l := range f.logs {
		for {
			hw, err := f.readFollower(f.t.Context(), m, l)
			require.NoError(f.t, err)
			if hw >= int64(len(l.acked)) {
				break
			}
			select {
			case <-w.C():
				w.Take(nil)
			case <-time.After(10 * time.Second):
				require.FailNow(f.t, "the follower stays behind", "%s: %d of %d", l.tp, hw, len(l.acked))
			}
		}
	}
}

func TestPartitionsMoveBetweenBrokers(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 3)
	a, b := f.join(1), f.join(2)
	require.Empty(t, a.Held(), "in a fleet nobody takes leases by itself")
	require.NoError(t, a.Acquire(ctx, f.tps()))
	require.Len(t, a.Held(), 3)
	for i := range 5 {
		for p, l := range f.logs {
			require.NoError(t, f.produce(ctx, a.Engine, l, value(p, i, 500)))
		}
	}
	f.follows(b)
	_, err := b.Offsets(ctx, f.logs[0].tp)
	require.ErrorIs(t, err, ErrNotLeader, "only leaders speak for a partition")
	require.ErrorIs(t, b.Read(ctx, ReadRequest{TP: f.logs[0].tp, MaxBytes: 100}, new(Read)), ErrNotLeader)

	before, err := a.Leader(f.logs[0].tp)
	require.NoError(t, err)
	f.give(a, b, f.logs[0].tp, f.logs[1].tp)
	require.Len(t, a.Held(), 1)
	require.Len(t, b.Held(), 2)
	_, err = a.Leader(f.logs[0].tp)
	require.ErrorIs(t, err, ErrNotLeader)
	after, err := b.Leader(f.logs[0].tp)
	require.NoError(t, err)
	require.Equal(t, before+1, after)
	_, err = f.send(ctx, a.Engine, f.logs[0], f.logs[0].seq, []byte("no"))
	require.ErrorIs(t, err, ErrNotLeader)
	// The first copy of a resent batch was committed by the broker that led before.
	p, err := f.send(ctx, b.Engine, f.logs[0], 4, value(0, 4, 500))
	require.NoError(t, err)
	<-p.Done()
	done, err := p.Result()
	require.NoError(t, err)
	require.EqualValues(t, 4, done.BaseOffset)

	for i := range 5 {
		for p, l := range f.logs[:2] {
			require.NoError(t, f.produce(ctx, b.Engine, l, value(p, 5+i, 500)))
		}
	}
	f.follows(a)
	f.checkLog(ctx, b.Engine, f.logs[0])
	f.checkLog(ctx, b.Engine, f.logs[1])
	f.checkLog(ctx, a.Engine, f.logs[2])
	end, err := b.EndOfEpoch(ctx, f.logs[0].tp, before)
	require.NoError(t, err)
	require.Equal(t, EpochEnd{Epoch: before, End: 5}, end)

	// There and back.
	f.give(b, a, f.logs[0].tp)
	require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], value(0, 10, 500)))
	f.checkLog(ctx, a.Engine, f.logs[0])
	f.follows(b)
}

// Rows of a partition that moved wait until those of the older holder are folded.
func TestFoldsFollowMoves(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 2)
	a, b := f.join(1), f.join(2)
	require.NoError(t, a.Acquire(ctx, append(f.tps(), controllerLease)))
	n := 0
	put := func(m *member) {
		for range 3 {
			require.NoError(t, f.produce(ctx, m.Engine, f.logs[0], value(0, n, 100)))
			n++
		}
	}
	rows := func(m *member) int {
		rows, _ := m.term.Load().tailSize()
		return rows
	}
	put(a)
	f.give(a, b, f.logs[0].tp)
	put(b)
	f.give(b, a, f.logs[0].tp)
	put(a)
	require.NoError(t, b.Tidy(ctx))
	require.Positive(t, rows(b), "they wait for those of the other")
	require.NoError(t, a.Tidy(ctx)) // folds the first three, merged or not: the last three wait for b
	require.NoError(t, a.Tidy(ctx))
	f.checkLog(ctx, a.Engine, f.logs[0])
	f.follows(b)
	b.Heard(catalog.Announcement{})
	require.NoError(t, b.Tidy(ctx))
	require.Zero(t, rows(b))
	require.NoError(t, a.Tidy(ctx))
	require.Zero(t, rows(a))
	a.Heard(catalog.Announcement{})
	b.Heard(catalog.Announcement{})
	f.checkLog(ctx, a.Engine, f.logs[0])
	f.follows(b)

	// What a dead broker leaves is the controller's.
	f.give(a, b, f.logs[0].tp)
	put(b)
	epoch := b.Epoch()
	b.die()
	f.fence(epoch)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	put(a)
	require.NoError(t, a.Tidy(ctx))
	tails, err := f.cat.BrokerTails(ctx)
	require.NoError(t, err)
	for _, bt := range tails {
		require.Equal(t, bt.Last, bt.Folded, "of broker epoch %d", bt.Epoch)
	}
	f.checkLog(ctx, a.Engine, f.logs[0])
	for range 3 {
		require.NoError(t, a.Tidy(ctx))
	}
	f.checkLog(ctx, a.Engine, f.logs[0])
	requireNoOrphans(t, f.cat, f.store)
}

// The controller merges and sweeps what another broker leads, and others still have in mind.
func TestObjectsMergedAwayByAnother(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	a, b, c := f.join(1), f.join(2), f.join(3)
	require.NoError(t, a.Acquire(ctx, []catalog.TopicPartition{controllerLease}))
	require.NoError(t, b.Acquire(ctx, f.tps()))
	n := 0
	put := func() {
		for range 3 {
			require.NoError(t, f.produce(ctx, b.Engine, f.logs[0], value(0, n, 400)))
			n++
		}
	}
	for range 4 {
		put()
		f.follows(c)
		require.NoError(t, b.Tidy(ctx)) // merges, too: what the follower has in mind is retired
		require.NoError(t, a.Tidy(ctx)) // and swept, and segments merged
		b.DropBlocks()
		c.DropBlocks()
		b.tail.clear()
		f.checkLog(ctx, b.Engine, f.logs[0])
		f.follows(c)
	}
	put()
	require.NoError(t, a.Tidy(ctx))
	objs := b.term.Load().tailOf(b.Epoch())
	require.Len(t, objs, 3)
	f.follows(c)
	tm := b.term.Load()
	_, err := tm.mergeHot(ctx, objs, true)
	require.NoError(t, err)
	require.NoError(t, a.term.Load().sweep(ctx))
	c.DropBlocks()
	f.follows(c) // by the merged object, though nobody told of it
}

// What is held is looked at each time the lease manager is woken, and there may be many: nothing is copied while it stays the
// same, and each change shows at once.
func TestHeldIsNotCopied(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 3)
	a, b := f.join(1), f.join(2)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	held := a.Held()
	require.Len(t, held, 3)
	require.Zero(t, testing.AllocsPerRun(100, func() { a.Held() }))
	version := a.HeldVersion()
	require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("x")))
	require.Equal(t, version, a.HeldVersion(), "nothing changed hands")

	f.give(a, b, f.logs[0].tp)
	require.Len(t, held, 3, "what was told stays as it was")
	require.Greater(t, a.HeldVersion(), version)
	require.NotContains(t, a.Held(), f.logs[0].tp)
	require.Equal(t, map[catalog.TopicPartition]catalog.LeaseEpoch{f.logs[0].tp: 1}, b.Held(), "loaded with its tail")
	f.give(b, a, f.logs[0].tp)
	require.Equal(t, catalog.LeaseEpoch(2), a.Held()[f.logs[0].tp])
	require.Empty(t, b.Held())

	f.give(a, b, f.logs[1].tp)
	require.Len(t, b.Held(), 1)
	f.fence(b.Epoch())
	require.Error(t, b.Affirm(ctx))
	require.Eventually(t, func() bool { return len(b.Held()) == 0 }, 10*time.Second, time.Millisecond)
	require.Len(t, a.Held(), 2)
	a.DropTopic(f.logs[0].tp.Topic)
	require.Empty(t, a.Held())
}
