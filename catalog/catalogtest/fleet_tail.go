package catalogtest

import (
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// testHandlesAgree: what one handle did is what another reads, as soon as the call returned.
func testHandlesAgree(f *fleet) {
	idA, err := f.a.ClusterID(f.ctx())
	f.ok(err)
	idB, err := f.b.ClusterID(f.ctx())
	f.ok(err)
	require.Equal(f, idA, idB)
	epoch := f.register()
	tps := f.held(epoch, 2)
	rows := f.commit(epoch, 1, 3)
	got, err := f.b.ReadTail(f.ctx(), epoch, 0, 10)
	f.ok(err)
	equalEntries(f, rows, got)
	set, err := f.b.LeaseSet(f.ctx(), 0)
	f.ok(err)
	require.Len(f, set.Leases, len(tps))
	first, err := f.a.AllocateIDs(f.ctx(), catalog.IDObject, 10)
	f.ok(err)
	second, err := f.b.AllocateIDs(f.ctx(), catalog.IDObject, 10)
	f.ok(err)
	require.GreaterOrEqual(f, second, first+10)
	f.ok(f.b.FenceBroker(f.ctx(), epoch, catalog.FenceProvenDead))
	_, err = f.a.Commit(f.ctx(), epoch, []catalog.TailEntry{f.entry(epoch, 4)})
	f.is(err, catalog.ErrFenced)
	f.ok(f.a.Close())
	_, err = f.b.BrokerTails(f.ctx())
	f.ok(err, "another handle was closed")
}

func (f *fleet) tails(h FleetCatalog) map[catalog.BrokerEpoch]catalog.BrokerTail {
	f.Helper()
	tails, err := h.BrokerTails(f.ctx())
	f.ok(err)
	out := make(map[catalog.BrokerEpoch]catalog.BrokerTail, len(tails))
	for _, bt := range tails {
		out[bt.Epoch] = bt
	}
	return out
}

// testFleetMerges follows the hot merges of one broker by their numbers.
func testFleetMerges(f *fleet) {
	epoch := f.register()
	rows := f.commit(epoch, 1, 8)
	for _, r := range f.rowsOf(f.b, epoch) {
		require.Zero(f, r.Merge, "as committed")
	}
	merge := func(first, last catalog.Sequence, replaces ...catalog.ObjectID) catalog.TailEntry {
		f.Helper()
		e := f.entry(epoch, first)
		e.Last, e.Merge = last, 77 // set by the catalog
		f.ok(f.a.MergeTail(f.ctx(), epoch, catalog.TailMerge{Entry: e, Replaces: replaces}))
		e.CommittedAt = rows[last-1].CommittedAt
		return e
	}
	numbers := func(after int64, limit int) (out []int64) {
		f.Helper()
		got, err := f.b.ReadMerges(f.ctx(), epoch, after, limit)
		f.ok(err)
		for _, r := range got {
			out = append(out, r.Merge)
		}
		return out
	}
	require.Empty(f, numbers(0, 10))
	late := merge(5, 6, rows[4].Object, rows[5].Object)
	early := merge(1, 2, rows[0].Object, rows[1].Object)
	third := merge(7, 8, rows[6].Object, rows[7].Object)
	require.Equal(f, catalog.BrokerTail{Epoch: epoch, Last: 8, Merges: 3}, f.tails(f.b)[epoch])
	got, err := f.b.ReadMerges(f.ctx(), epoch, 0, 10)
	f.ok(err)
	equalEntries(f, []catalog.TailEntry{late, early, third}, got)
	require.Equal(f, []int64{1, 2, 3}, numbers(0, 10))
	require.Equal(f, []int64{1, 2, 3}, numbers(-5, 10), "rows as committed are no merges")
	require.Equal(f, []int64{2}, numbers(1, 1))
	require.Empty(f, numbers(3, 10))
	require.Empty(f, numbers(0, 0))
	at, err := f.b.TailAt(f.ctx(), epoch, 1)
	f.ok(err)
	require.EqualValues(f, 2, at.Merge)

	merge(5, 8, late.Object, third.Object)
	require.Equal(f, []int64{2, 4}, numbers(0, 10), "merged again")
	tail := f.rowsOf(f.b, epoch)
	f.ok(f.a.Fold(f.ctx(), epoch, foldOf(tail[:1], 1)))
	require.Equal(f, []int64{4}, numbers(0, 10), "folded")
	require.Equal(f, catalog.BrokerTail{Epoch: epoch, Folded: 2, Last: 8, Merges: 4}, f.tails(f.b)[epoch])
	require.Empty(f, f.merges(epoch+1), "no such epoch")

	// Somebody else's tail is merged under one's own epoch, and numbered in that tail.
	judge := f.register()
	f.fence(epoch)
	tail = f.rowsOf(f.b, epoch)
	e := f.entry(epoch, 3)
	e.Last = 8
	var ids []catalog.ObjectID
	for _, r := range tail {
		ids = append(ids, r.Object)
	}
	f.ok(f.b.MergeTail(f.ctx(), judge, catalog.TailMerge{Entry: e, Replaces: ids}))
	require.Equal(f, []int64{5}, numbers(4, 10))
	require.Zero(f, f.tails(f.a)[judge].Merges)
}

func (f *fleet) rowsOf(h FleetCatalog, epoch catalog.BrokerEpoch) []catalog.TailEntry {
	f.Helper()
	rows, err := h.ReadTail(f.ctx(), epoch, 0, 1_000_000)
	f.ok(err)
	return rows
}

func (f *fleet) merges(epoch catalog.BrokerEpoch) []catalog.TailEntry {
	f.Helper()
	rows, err := f.b.ReadMerges(f.ctx(), epoch, 0, 1_000_000)
	f.ok(err)
	return rows
}

// testEnds: log ends are for people who read the catalog. They come back from no method and need not be right.
func testEnds(f *fleet) {
	epoch := f.register()
	tps := f.held(epoch, 2)
	e := f.entry(epoch, 1)
	e.Ends = []catalog.PartitionEnd{
		{TopicPartition: tps[1], End: 7}, {TopicPartition: tps[0], End: 1 << 40}, {TopicPartition: catalog.TopicPartition{Topic: catalog.TopicID{9}}, End: 3},
	}
	_, err := f.a.Commit(f.ctx(), epoch, []catalog.TailEntry{e})
	f.ok(err)
	next := f.entry(epoch, 2)
	next.Ends = []catalog.PartitionEnd{{TopicPartition: tps[1], End: 5}}
	_, err = f.a.Commit(f.ctx(), epoch, []catalog.TailEntry{next})
	f.ok(err)
	merged := f.entry(epoch, 1)
	merged.Last, merged.Ends = 2, e.Ends
	rows := f.rowsOf(f.b, epoch)
	for _, r := range rows {
		require.Nil(f, r.Ends)
	}
	f.ok(f.a.MergeTail(f.ctx(), epoch, catalog.TailMerge{Entry: merged, Replaces: []catalog.ObjectID{rows[0].Object, rows[1].Object}}))
	at, err := f.b.TailAt(f.ctx(), epoch, 2)
	f.ok(err)
	require.Nil(f, at.Ends)
	require.Nil(f, f.merges(epoch)[0].Ends)
	require.Zero(f, f.load(tps[0]).LogEnd)
}

// testHeartbeatTails: a heartbeat tells the positions of all, so that a broker whose wake-ups were lost can follow.
func testHeartbeatTails(f *fleet) {
	a, b := f.register(), f.register()
	rows := f.commit(b, 1, 3)
	e := f.entry(b, 1)
	e.Last = 2
	f.ok(f.b.MergeTail(f.ctx(), b, catalog.TailMerge{Entry: e, Replaces: []catalog.ObjectID{rows[0].Object, rows[1].Object}}))
	f.commit(a, 1, 1)
	f.ok(f.a.Fold(f.ctx(), a, foldOf(f.rowsOf(f.a, a), 1)))
	dead := f.register()
	f.commit(dead, 1, 1)
	f.fence(dead)
	for _, epoch := range []catalog.BrokerEpoch{a, b} {
		beat, err := f.b.Heartbeat(f.ctx(), epoch)
		f.ok(err)
		tails, err := f.a.BrokerTails(f.ctx())
		f.ok(err)
		require.Equal(f, []catalog.BrokerTail{
			{Epoch: a, Folded: 1, Last: 1}, {Epoch: b, Last: 3, Merges: 1}, {Epoch: dead, Last: 1},
		}, beat.Tails)
		require.Equal(f, tails, beat.Tails)
	}
}
