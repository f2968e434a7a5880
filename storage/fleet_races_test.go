package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// muteFleet applies the first move and answers nothing; it refuses the next ones until it answers again.
type muteFleet struct {
	catalog.Fleet

	mu    sync.Mutex
	tries int
	open  bool
	again chan struct{} // closed when a move was answered
}

func (m *muteFleet) MoveLeases(ctx context.Context, epoch, to catalog.BrokerEpoch, leases []catalog.HeldLease) ([]catalog.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open {
		defer close(m.again)
		return m.Fleet.MoveLeases(ctx, epoch, to, leases)
	}
	if m.tries++; m.tries == 1 {
		if _, err := m.Fleet.MoveLeases(ctx, epoch, to, leases); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no answer: %w", catalog.ErrUnavailable)
}

func (m *muteFleet) answer() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = true
}

// A partition that went away in a move whose answer was lost, and came back, is not led before that move is settled. Made
// again, the move takes nothing: it names the lease epoch of then.
func TestAMoveInDoubtDoesNotMeetItsPartitionBack(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprint("told of the loss ", told), func(t *testing.T) {
			ctx := t.Context()
			f := newFleet(t, 1)
			mute := &muteFleet{again: make(chan struct{})}
			a := f.join(1, func(c *Config) { mute.Fleet, c.Fleet = c.Fleet, mute })
			b := f.join(2)
			require.NoError(t, a.Acquire(ctx, f.tps()))
			require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("before")))
			asked, cancel := context.WithCancel(ctx)
			done := make(chan error)
			go func() { done <- a.HandOver(asked, f.tps(), b.Epoch()) }()
			require.Eventually(t, func() bool {
				mute.mu.Lock()
				defer mute.mu.Unlock()
				return mute.tries > 0
			}, 10*time.Second, time.Millisecond)
			cancel()
			require.ErrorIs(t, <-done, ErrUnavailable)
			if told {
				a.Lost(f.leases(b.Epoch()))
			}
			require.NoError(t, b.Adopt(ctx, f.leases(b.Epoch())))
			require.NoError(t, f.produce(ctx, b.Engine, f.logs[0], []byte("there")))
			require.NoError(t, b.HandOver(ctx, f.tps(), a.Epoch()))
			require.Len(t, f.leases(a.Epoch()), 1)
			require.ErrorIs(t, a.Adopt(ctx, f.leases(a.Epoch())), ErrUnavailable, "the move may be made again at any time")
			mute.answer()
			<-mute.again
			require.Eventually(t, func() bool { return len(a.Held()) == 0 }, 10*time.Second, time.Millisecond)
			require.Len(t, f.leases(a.Epoch()), 1, "the late move names an earlier lease epoch")
			_, err := a.Leader(f.logs[0].tp)
			require.ErrorIs(t, err, ErrNotLeader)
			require.NoError(t, a.Adopt(ctx, f.leases(a.Epoch())), "the move is settled")
			require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("back")))
			f.check(ctx, a.Engine)
		})
	}
}

// lateAnswer holds the answers of some calls back.
type lateAnswer struct {
	catalog.Catalog

	mu    sync.Mutex
	loads chan struct{} // of the next LoadPartitions; nil: at once
	held  chan struct{} // closed when an answer is held back

	commits chan struct{} // of all commits
}

func (c *lateAnswer) LoadPartitions(ctx context.Context, tps []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	states, err := c.Catalog.LoadPartitions(ctx, tps)
	c.mu.Lock()
	gate := c.loads
	c.loads = nil
	c.mu.Unlock()
	if gate != nil {
		close(c.held)
		<-gate
	}
	return states, err
}

func (c *lateAnswer) Commit(ctx context.Context, epoch catalog.BrokerEpoch, entries []catalog.TailEntry) (time.Time, error) {
	at, err := c.Catalog.Commit(ctx, epoch, entries)
	if c.commits != nil {
		<-c.commits
	}
	return at, err
}

// A load that is under way while its partition goes to another broker and comes back must not undo what was appended since.
func TestALateLoadFindsThePartitionBack(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	l := f.logs[0]
	cat := &lateAnswer{held: make(chan struct{})}
	puts := make(chan struct{})
	put := sync.OnceFunc(func() { close(puts) })
	a := f.join(1, func(c *Config) {
		cat.Catalog, c.Catalog = c.Catalog, cat
		c.Store = &gatedStore{Store: f.store, gate: puts}
	})
	b := f.join(2)
	t.Cleanup(put)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	gate := make(chan struct{})
	cat.loads = gate
	loaded := make(chan error)
	go func() {
		_, err := a.Offsets(ctx, l.tp)
		loaded <- err
	}()
	<-cat.held
	f.give(a, b, l.tp)
	require.NoError(t, f.produce(ctx, b.Engine, l, []byte("there")))
	f.give(b, a, l.tp)
	first, err := f.send(ctx, a.Engine, l, 1, []byte("one"))
	require.NoError(t, err)
	close(gate)
	require.NoError(t, <-loaded)
	second, err := f.send(ctx, a.Engine, l, 2, []byte("two"))
	require.NoError(t, err)
	put()
	for i, p := range []Pending{first, second} {
		<-p.Done()
		got, err := p.Result()
		require.NoError(t, err)
		l.ack(t, got.BaseOffset, [][]byte{[]byte("one"), []byte("two")}[i])
	}
	f.check(ctx, a.Engine)
}

// Followers may learn of a commit before its leader hears the answer. Who read there and comes to the leader asks for an
// offset that exists.
func TestAFollowerAheadOfItsLeader(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	tp := f.logs[0].tp
	cat := &lateAnswer{commits: make(chan struct{})}
	answer := sync.OnceFunc(func() { close(cat.commits) })
	a := f.join(1, func(c *Config) { cat.Catalog, c.Catalog = c.Catalog, cat })
	b := f.join(2)
	t.Cleanup(answer)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	p, err := f.send(ctx, a.Engine, f.logs[0], 0, []byte("one"))
	require.NoError(t, err)
	var r Read
	require.Eventually(t, func() bool {
		require.NoError(t, b.term.Load().look(ctx, nil, time.Time{}))
		require.NoError(t, b.ReadFollower(ctx, ReadRequest{TP: tp}, &r))
		return r.HighWatermark == 1
	}, 10*time.Second, time.Millisecond)

	require.NoError(t, a.Read(ctx, ReadRequest{TP: tp, Offset: 1, MaxBytes: 100, MinOne: true}, &r), "a consumer would skip data")
	require.Zero(t, r.Bytes)
	require.Zero(t, r.HighWatermark)
	require.ErrorIs(t, a.Read(ctx, ReadRequest{TP: tp, Offset: 2, MaxBytes: 100}, &r), ErrOffsetOutOfRange)
	epoch, err := a.Leader(tp)
	require.NoError(t, err)
	end, err := a.EndOfEpoch(ctx, tp, epoch)
	require.NoError(t, err)
	require.Equal(t, EpochEnd{Epoch: epoch, End: 1}, end, "a consumer would believe in a truncation")

	answer()
	<-p.Done()
	got, err := p.Result()
	require.NoError(t, err)
	f.logs[0].ack(t, got.BaseOffset, []byte("one"))
	f.check(ctx, a.Engine)
}

// fromLater answers with a producer snapshot of one partition that a later binary wrote.
type fromLater struct {
	catalog.Catalog

	tp catalog.TopicPartition
}

func (c *fromLater) LoadPartitions(ctx context.Context, tps []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	states, err := c.Catalog.LoadPartitions(ctx, tps)
	for i := range states {
		if states[i].TopicPartition == c.tp {
			states[i].Producers = appendChecksum([]byte{producersVersion + 1, 0})
		}
	}
	return states, err
}

// A partition that cannot be led keeps no other from being led.
func TestADamagedPartitionHoldsUpNoOther(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 3)
	a := f.join(1)
	b := f.join(2, func(c *Config) { c.Catalog = &fromLater{c.Catalog, f.logs[0].tp} })
	require.NoError(t, a.Acquire(ctx, f.tps()))
	f.produceAll(ctx, a)
	require.NoError(t, a.HandOver(ctx, f.tps(), b.Epoch()))
	require.ErrorContains(t, b.Adopt(ctx, f.leases(b.Epoch())), f.logs[0].tp.String())
	require.NotContains(t, b.Held(), f.logs[0].tp)
	for _, l := range f.logs[1:] {
		require.NoError(t, f.produce(ctx, b.Engine, l, []byte("goes on")))
		f.checkLog(ctx, b.Engine, l)
	}
}
