package storage

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
)

// A lease that was seen as this broker's own, and that a fail-over undid, is not led under: its holder, or whoever acquires it
// next, does, and both would write.
func TestLeaseThatIsUndoneIsNotAdopted(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 2)
	a, b, c := f.joinDeaf(1), f.joinDeaf(2), f.joinDeaf(3)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	shown := f.leases(a.Epoch())
	for i := range shown { // as after a move to b
		shown[i].Holder, shown[i].Epoch = b.Epoch(), shown[i].Epoch+1
	}
	require.NoError(t, b.Adopt(ctx, shown))
	require.Empty(t, b.Held(), "a has them")
	for p, l := range f.logs {
		require.NoError(t, f.produce(ctx, a.Engine, l, value(p, 0, 10)))
	}

	// What is free then is acquired, so that nobody else can have it. What another broker acquired has the lease epoch that was
	// seen.
	epoch := a.Epoch()
	a.die()
	f.fence(epoch)
	taken := shown[1].TopicPartition
	require.NoError(t, c.Acquire(ctx, []catalog.TopicPartition{taken}))
	require.Equal(t, shown[1].Epoch, f.leases(c.Epoch())[0].Epoch)
	require.NoError(t, b.Adopt(ctx, shown))
	require.Equal(t, map[catalog.TopicPartition]catalog.LeaseEpoch{shown[0].TopicPartition: shown[0].Epoch}, b.Held())
	require.Equal(t, shown[:1], f.leases(b.Epoch()), "the catalog knows of it")
	for i, l := range f.logs {
		to := b
		if l.tp == taken {
			to = c
		}
		require.NoError(t, f.produce(ctx, to.Engine, l, value(i, 1, 10)))
	}
}

// Without an answer of the catalog nothing is adopted, and nothing is lost by asking again.
func TestAdoptIsAskedAgain(t *testing.T) {
	for _, kind := range []catfaulty.Kind{catfaulty.Refuse, catfaulty.Lost} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			ctx := t.Context()
			f := newFleet(t, 2)
			a := f.joinDeaf(1)
			b, _, plan := f.faultyMember(2)
			require.NoError(t, a.Acquire(ctx, f.tps()))
			f.produceAll(ctx, a)
			require.NoError(t, a.HandOver(ctx, f.tps(), b.Epoch()))
			given := f.leases(b.Epoch())
			plan.Next(catfaulty.Fault{Op: catfaulty.OpAcquireLeases, Kind: kind})
			require.ErrorIs(t, b.Adopt(ctx, given), ErrUnavailable)
			require.Empty(t, b.Held())
			_, err := f.send(ctx, b.Engine, f.logs[0], f.logs[0].seq, []byte("not yet"))
			require.ErrorIs(t, err, ErrNotLeader)

			require.NoError(t, b.Adopt(ctx, given))
			require.Equal(t, given, f.leases(b.Epoch()), "under the lease epochs of the move")
			f.produceAll(ctx, b)
			f.check(ctx, b.Engine)
			require.NoError(t, plan.Verify())
		})
	}
}

// A broker that was fenced since it was given leases finds out by adopting them.
func TestAFencedBrokerAdoptsNothing(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	a, b := f.joinDeaf(1), f.joinDeaf(2)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	require.NoError(t, a.HandOver(ctx, f.tps(), b.Epoch()))
	given, old := f.leases(b.Epoch()), b.term.Load()
	f.fence(old.epoch)
	require.ErrorIs(t, b.Adopt(ctx, given), ErrNotLeader)
	require.Empty(t, b.Held())
	require.Eventually(t, old.ended.Load, 10*time.Second, time.Millisecond)
}

// What a move in doubt still names is neither asked for nor led; the others are, in one call.
func TestAdoptLeavesMovesInDoubtAlone(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 3)
	a := f.joinDeaf(1)
	b, _, plan := f.faultyMember(2)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	require.NoError(t, a.HandOver(ctx, f.tps(), b.Epoch()))
	given, asked := f.leases(b.Epoch()), plan.Calls(catfaulty.OpAcquireLeases)
	p := b.Engine.lock(given[0].TopicPartition)
	p.mu.Unlock()
	doubt := []lead{{p: p}}
	b.term.Load().name(doubt)
	require.ErrorContains(t, b.Adopt(ctx, given), "take over 1 partitions: a move of them is not settled yet")
	require.Len(t, b.Held(), 2)
	require.NotContains(t, b.Held(), given[0].TopicPartition)
	require.Equal(t, asked+1, plan.Calls(catfaulty.OpAcquireLeases))
	require.ErrorIs(t, b.Adopt(ctx, given), ErrUnavailable)
	require.Equal(t, asked+1, plan.Calls(catfaulty.OpAcquireLeases), "nothing that may be led is new")

	b.term.Load().settled(doubt)
	require.NoError(t, b.Adopt(ctx, given))
	require.Len(t, b.Held(), 3)
	require.NoError(t, b.Adopt(ctx, given))
	require.Equal(t, asked+2, plan.Calls(catfaulty.OpAcquireLeases), "nothing is new")
}
