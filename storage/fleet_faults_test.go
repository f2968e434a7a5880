package storage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
)

// relayOps are the calls that giving and taking over makes, in an order that does not depend on time.
var relayOps = []catfaulty.Op{
	catfaulty.OpAcquireLeases, catfaulty.OpMoveLeases, catfaulty.OpBrokerTails, catfaulty.OpReadTail, catfaulty.OpReadMerges,
	catfaulty.OpLoadPartitions, catfaulty.OpSettledPartitions, catfaulty.OpCommit, catfaulty.OpFold, catfaulty.OpMergeTail,
}

// faultyMember joins a member whose catalog calls can fail, from now on.
func (f *fleet) faultyMember(id catalog.BrokerID) (*member, *catfaulty.Catalog, *catfaulty.Plan) {
	plan := catfaulty.NewPlan()
	handle := f.shared.Open()
	cat := catfaulty.New(handle, plan)
	m := f.joinDeaf(id, func(c *Config) { c.Catalog, c.Fleet = cat, cat.Fleet() })
	return m, cat, plan
}

// lead has a member lead partitions, as its lease manager does: again and again until it does.
func (f *fleet) lead(ctx context.Context, m *member, tps ...catalog.TopicPartition) error {
	for ctx.Err() == nil {
		_ = m.Adopt(ctx, f.leases(m.Epoch()))
		_ = m.Acquire(ctx, tps)
		if !slices.ContainsFunc(tps, func(tp catalog.TopicPartition) bool { _, err := m.Leader(tp); return err != nil }) {
			return nil
		}
		<-time.After(time.Millisecond)
	}
	return ctx.Err()
}

// move has a partition move from one member to another.
func (f *fleet) move(ctx context.Context, from, to *member, tp catalog.TopicPartition) error {
	for ctx.Err() == nil {
		if _, held := from.Held()[tp]; held {
			_ = from.HandOver(ctx, []catalog.TopicPartition{tp}, to.Epoch())
		}
		_ = to.Adopt(ctx, f.leases(to.Epoch()))
		if _, err := to.Leader(tp); err == nil {
			return nil
		}
		<-time.After(time.Millisecond)
	}
	return ctx.Err()
}

// put sends one record to a member that leads, until it is acknowledged.
func (f *fleet) put(ctx context.Context, m *member, l *plog) error {
	if len(l.maybe) == 0 {
		if err := f.produce(ctx, m.Engine, l, value(int(l.tp.Partition), len(l.acked), 300)); err == nil {
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return f.trySend(ctx, m.Engine, l)
}

// relay is what two brokers do to a partition between them: take it, write, give it away, and back, fold, with another that
// stays where it is. The one that no fault is for ends its merges also when the other dies: cut off after a PUT, it would
// leave an object that nobody may delete while it lives.
func (f *fleet) relay(ctx context.Context, a, b, healthy *member) error {
	tidy := func(m *member) {
		if m == healthy {
			_ = m.Tidy(context.WithoutCancel(ctx))
		} else {
			_ = m.Tidy(ctx)
		}
	}
	moving, staying := f.logs[0], f.logs[1]
	if err := f.lead(ctx, a, moving.tp, staying.tp); err != nil {
		return err
	}
	holder, other := a, b
	for range 4 {
		for range 2 {
			if err := f.put(ctx, holder, moving); err != nil {
				return err
			}
			if err := f.put(ctx, a, staying); err != nil {
				return err
			}
		}
		if err := f.move(ctx, holder, other, moving.tp); err != nil {
			return err
		}
		holder, other = other, holder
		tidy(other)
		tidy(holder)
	}
	return nil
}

// TestEveryCallOfAMoveFails puts one fault at every call that the giver, and the receiver, of a partition make, with the
// process dying there or going on, and checks the same invariants as [TestEveryCallFails].
func TestEveryCallOfAMoveFails(t *testing.T) {
	for _, giver := range []bool{true, false} {
		name := map[bool]string{true: "giver", false: "receiver"}[giver]
		f := newFleet(t, 2)
		m, _, plan := f.faultyMember(1)
		before := counts(plan)
		other := f.joinDeaf(2)
		require.NoError(t, f.relayOf(t.Context(), giver, m, other))
		after := counts(plan)
		total := 0
		var faults []catfaulty.Fault
		for _, op := range relayOps {
			total += after[op] - before[op]
			for _, kind := range []catfaulty.Kind{catfaulty.Refuse, catfaulty.Slow, catfaulty.Lost} {
				for _, crash := range []bool{true, false} {
					for i := before[op]; i < after[op]; i++ {
						faults = append(faults, catfaulty.Fault{Op: op, Index: i, Kind: kind, Delay: time.Millisecond, Crash: crash})
					}
				}
			}
		}
		require.Positive(t, after[catfaulty.OpMoveLeases])
		require.Positive(t, after[catfaulty.OpReadMerges], "a merge of the other's must be followed")
		t.Logf("the %s makes %d calls", name, total)
		work := make(chan catfaulty.Fault)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for fault := range work {
					if !t.Failed() {
						t.Run(fmt.Sprintf("%s, %s", name, fault), func(t *testing.T) { surviveMove(t, giver, fault) })
					}
				}
			})
		}
		for _, fault := range faults {
			work <- fault
		}
		close(work)
		wg.Wait()
	}
}

func (f *fleet) relayOf(ctx context.Context, giver bool, m, other *member) error {
	if giver {
		return f.relay(ctx, m, other, other)
	}
	return f.relay(ctx, other, m, other)
}

func counts(p *catfaulty.Plan) map[catfaulty.Op]int {
	out := make(map[catfaulty.Op]int)
	for _, op := range relayOps {
		out[op] = p.Calls(op)
	}
	return out
}

func surviveMove(t *testing.T, giver bool, fault catfaulty.Fault) {
	t.Helper()
	f := newFleet(t, 2)
	m, cat, plan := f.faultyMember(1)
	plan.Add(fault)
	other := f.joinDeaf(2)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-cat.Crashed():
			cancel()
		case <-ctx.Done():
		}
	})
	err := f.relayOf(ctx, giver, m, other)
	if !fault.Crash {
		require.NoError(t, err)
	}
	cancel()
	wg.Wait()
	epoch := m.Epoch()
	m.die()
	require.NoError(t, cat.Quiesce(t.Context()))
	require.NoError(t, plan.Verify())

	// The one that is left takes everything.
	ctx = t.Context()
	if epoch != 0 {
		f.fence(epoch)
	}
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	require.NoError(t, f.lead(limited, other, append(f.tps(), controllerLease)...))
	for _, l := range f.logs {
		f.resend(ctx, other.Engine, l)
		require.NoError(t, f.produce(ctx, other.Engine, l, []byte("after")))
	}
	f.check(ctx, other.Engine)
	for range 3 {
		require.NoError(t, other.Tidy(ctx))
	}
	f.check(ctx, other.Engine)
	requireNoOrphans(t, f.cat, f.store)
}
