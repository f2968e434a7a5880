package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
)

// calls counts what a member asks of its catalog, announcements left out: they follow commits in their own time.
func calls(plan *catfaulty.Plan) map[catfaulty.Op]int {
	out := make(map[catfaulty.Op]int)
	for _, op := range append(catfaulty.Ops(), catfaulty.FleetOps()...) {
		if op != catfaulty.OpAnnounce {
			out[op] = plan.Calls(op)
		}
	}
	return out
}

func since(plan *catfaulty.Plan, before map[catfaulty.Op]int) string {
	var b strings.Builder
	for _, op := range append(catfaulty.Ops(), catfaulty.FleetOps()...) {
		if n := plan.Calls(op) - before[op]; n > 0 && op != catfaulty.OpAnnounce {
			fmt.Fprintf(&b, "  %s: %d\n", op, n)
		}
	}
	return b.String()
}

// TestCostOfTakingOver is a golden transcript: what giving away, taking over after a move, and taking over after a death
// ask of the catalog does not depend on the number of partitions.
func TestCostOfTakingOver(t *testing.T) {
	var out strings.Builder
	for _, n := range []int32{1, 100, 1000} {
		ctx := t.Context()
		f := newFleet(t, n)
		a, _, planA := f.faultyMember(1)
		b, _, planB := f.faultyMember(2)
		step := func(what string, plan *catfaulty.Plan, do func() error) {
			before := calls(plan)
			began := time.Now()
			require.NoError(t, do())
			took := time.Since(began)
			t.Logf("%s, %d partitions: %s", what, n, took)
			require.Less(t, took, 5*time.Second, "%s of %d partitions", what, n)
			fmt.Fprintf(&out, "%s, %d partitions\n%s", what, n, since(plan, before))
		}
		step("acquire new partitions", planA, func() error { return a.Acquire(ctx, f.tps()) })
		f.produceAll(ctx, a)
		step("hand over", planA, func() error { return a.HandOver(ctx, f.tps(), b.Epoch()) })
		step("adopt", planB, func() error { return b.Adopt(ctx, f.leases(b.Epoch())) })
		require.Len(t, b.Held(), int(n))
		f.produceAll(ctx, b)
		epoch := b.Epoch()
		b.die()
		f.fence(epoch)
		step("acquire what a dead broker had", planA, func() error { return a.Acquire(ctx, f.tps()) })
		require.Len(t, a.Held(), int(n))
		for _, l := range f.logs {
			off, err := a.Offsets(ctx, l.tp)
			require.NoError(t, err)
			require.EqualValues(t, len(l.acked), off.HighWatermark)
		}
		a.die()
	}
	golden := filepath.Join("testdata", "takeover.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), out.String())
}

// produceAll writes one record to every partition, into few objects.
func (f *fleet) produceAll(ctx context.Context, m *member) {
	pending := make([]Pending, len(f.logs))
	values := make([][]byte, len(f.logs))
	for i, l := range f.logs {
		values[i] = value(i, len(l.acked), 50)
		var err error
		pending[i], err = f.send(ctx, m.Engine, l, l.seq, values[i])
		require.NoError(f.t, err)
	}
	for i, l := range f.logs {
		<-pending[i].Done()
		a, err := pending[i].Result()
		require.NoError(f.t, err)
		l.ack(f.t, a.BaseOffset, values[i])
	}
}

// A move whose answer was lost, and whose receiver was fenced before it could be made again, is settled from the leases.
func TestMoveInDoubt(t *testing.T) {
	lost := func(plan *catfaulty.Plan, kind catfaulty.Kind, n int) {
		plan.Next(catfaulty.Fault{Op: catfaulty.OpMoveLeases, Count: n, Kind: kind})
	}
	for _, applied := range []bool{true, false} {
		t.Run(fmt.Sprint("applied ", applied), func(t *testing.T) {
			ctx := t.Context()
			f := newFleet(t, 2)
			a, _, plan := f.faultyMember(1)
			b := f.join(2)
			require.NoError(t, a.Acquire(ctx, f.tps()))
			for _, l := range f.logs {
				require.NoError(t, f.produce(ctx, a.Engine, l, []byte("before")))
			}
			kind := catfaulty.Refuse
			if applied {
				kind = catfaulty.Lost
			}
			lost(plan, kind, 1)
			gate := make(chan struct{})
			plan.Add(catfaulty.Fault{Op: catfaulty.OpMoveLeases, Index: 1, Kind: catfaulty.Slow, Gate: gate})
			plan.Next(catfaulty.Fault{Op: catfaulty.OpLeaseSet, Count: 2, Kind: catfaulty.Refuse})
			done := make(chan error)
			go func() { done <- a.HandOver(ctx, f.tps()[:1], b.Epoch()) }()
			require.Eventually(t, func() bool { return plan.Calls(catfaulty.OpMoveLeases) == 2 }, 10*time.Second, time.Millisecond)
			require.Contains(t, a.Held(), f.logs[0].tp, "in doubt is held")
			_, err := f.send(ctx, a.Engine, f.logs[0], f.logs[0].seq, []byte("in doubt"))
			require.ErrorIs(t, err, ErrNotLeader)
			_, err = a.Offsets(ctx, f.logs[0].tp)
			require.ErrorIs(t, err, ErrNotLeader)
			require.NoError(t, a.Read(ctx, ReadRequest{TP: f.logs[0].tp, MaxBytes: 100, MinOne: true}, new(Read)), "what is committed can be read")
			f.fence(b.Epoch())
			close(gate)
			require.Error(t, <-done)
			if applied {
				require.Eventually(t, func() bool { _, held := a.Held()[f.logs[0].tp]; return !held }, 10*time.Second, time.Millisecond)
				require.NoError(t, a.Acquire(ctx, f.tps()))
			}
			require.Eventually(t, func() bool { _, err := a.Leader(f.logs[0].tp); return err == nil }, 10*time.Second, time.Millisecond)
			require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("after")))
			f.check(ctx, a.Engine)
			require.NoError(t, plan.Verify())
		})
	}
}

// lateFleet keeps the first move back until late is called, and refuses all that come meanwhile.
type lateFleet struct {
	catalog.Fleet

	mu    sync.Mutex
	kept  func() error
	open  bool
	tries int
}

func (l *lateFleet) MoveLeases(ctx context.Context, epoch, to catalog.BrokerEpoch, leases []catalog.HeldLease) ([]catalog.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		return l.Fleet.MoveLeases(ctx, epoch, to, leases)
	}
	if l.tries++; l.kept == nil {
		l.kept = func() error {
			_, err := l.Fleet.MoveLeases(context.WithoutCancel(ctx), epoch, to, leases)
			return err
		}
	}
	return nil, fmt.Errorf("no answer: %w", catalog.ErrUnavailable)
}

// late has the server apply the first move now, and answer again.
func (l *lateFleet) late() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
	return l.kept()
}

// A move that nobody answered may be applied at any time: while it may, its partitions are not appended to, although the
// leases show them as ours.
func TestALateMoveFindsNoLeader(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	var late *lateFleet
	a := f.join(1, func(c *Config) {
		late = &lateFleet{Fleet: c.Fleet}
		c.Fleet = late
	})
	b := f.join(2)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], []byte("before")))
	asked, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- a.HandOver(asked, f.tps(), b.Epoch()) }()
	tries := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			late.mu.Lock()
			defer late.mu.Unlock()
			return late.tries >= n
		}, 10*time.Second, time.Millisecond)
	}
	tries(1)
	cancel()
	require.ErrorIs(t, <-done, ErrUnavailable)
	tries(4)
	require.Equal(t, a.Epoch(), f.leases(a.Epoch())[0].Holder, "the leases show it as ours")
	_, err := f.send(ctx, a.Engine, f.logs[0], f.logs[0].seq, []byte("too late"))
	require.ErrorIs(t, err, ErrNotLeader)
	require.ErrorIs(t, a.HandOver(ctx, f.tps(), b.Epoch()), ErrUnavailable, "still in doubt")
	require.NoError(t, late.late())
	require.NoError(t, b.Adopt(ctx, f.leases(b.Epoch())))
	require.NoError(t, f.produce(ctx, b.Engine, f.logs[0], []byte("after")))
	require.Eventually(t, func() bool { return len(a.Held()) == 0 }, 10*time.Second, time.Millisecond)
	f.check(ctx, b.Engine)
}

// What is in doubt and went to another broker is given up when the leases show it.
func TestLostLeases(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	a, b := f.join(1), f.join(2)
	tp := f.logs[0].tp
	require.NoError(t, a.Acquire(ctx, f.tps()))
	a.Lost([]catalog.Lease{{TopicPartition: tp, Holder: b.Epoch(), Epoch: 0}})
	require.Contains(t, a.Held(), tp, "not a later lease epoch")
	p := a.lookup(tp)
	p.mu.Lock()
	p.mu.closed, p.mu.doubt = true, true
	p.mu.Unlock()
	_, err := f.shared.MoveLeases(ctx, a.Epoch(), b.Epoch(), []catalog.HeldLease{{TopicPartition: tp}})
	require.NoError(t, err)
	epoch := a.Epoch()
	a.Lost(f.leases(b.Epoch()))
	require.Empty(t, a.Held())
	require.NoError(t, a.Adopt(ctx, []catalog.Lease{{TopicPartition: tp, Holder: epoch, Epoch: 0}}))
	require.Empty(t, a.Held(), "an old view does not bring back what was given away")

	// Without a hand-over of ours nothing but a fence moves a lease.
	require.NoError(t, b.Adopt(ctx, f.leases(b.Epoch())))
	old := b.term.Load()
	b.Lost([]catalog.Lease{{TopicPartition: tp, Holder: a.Epoch(), Epoch: 7}})
	require.Eventually(t, old.ended.Load, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { e := b.Epoch(); return e != 0 && e != old.epoch }, 10*time.Second, time.Millisecond)
	require.Empty(t, b.Held(), "a new epoch holds nothing in a fleet")
}
