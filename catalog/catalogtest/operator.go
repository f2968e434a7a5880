package catalogtest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// OperatorCatalog is a catalog with what operators need.
type OperatorCatalog interface {
	catalog.Catalog
	catalog.Operator
}

// RunOperator checks [catalog.Operator]. open returns a new, empty catalog that reads the given clock; it is closed by the
// suite.
func RunOperator(t *testing.T, open func(t *testing.T, now func() time.Time) OperatorCatalog) {
	t.Helper()
	tests := []struct {
		name string
		run  func(*operator)
	}{
		{"Now", testNow},
		{"Restored", testRestored},
		{"RestoredEmpty", testRestoredEmpty},
		{"RestoredKeepsTheLog", testRestoredLog},
		{"RestoredRefused", testRestoredRefused},
		{"RestoredAgainstCommits", testRestoredRace},
		{"RestoredGroups", testRestoredGroups},
		{"ClosedOperator", testClosedOperator},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &operator{suite: suite{TB: t, clock: NewClock()}}
			o.o = open(t, o.clock.Now)
			o.c = o.o
			t.Cleanup(func() { require.NoError(t, o.o.Close()) })
			tt.run(o)
		})
	}
}

type operator struct {
	suite

	o OperatorCatalog
}

// sessionOver is more than the TTL of the suite's brokers.
const sessionOver = 11 * time.Second

func (o *operator) restored() catalog.Restoration {
	o.Helper()
	r, err := o.o.Restored(o.ctx())
	o.ok(err)
	return r
}

func testNow(o *operator) {
	for range 3 {
		now, err := o.o.Now(o.ctx())
		o.ok(err)
		require.True(o, o.clock.Now().Equal(now))
		o.clock.Advance(time.Minute)
	}
}

// testRestored: nothing that could have been handed out after a backup is handed out again.
func testRestored(o *operator) {
	tps := o.topic(3)
	a, b := o.register(), o.register()
	for range 3 { // epochs 0, 1, 2; the last partition is never held
		_, err := o.o.AcquireLeases(o.ctx(), a, tps[:2])
		o.ok(err)
		o.ok(o.o.ReleaseLeases(o.ctx(), a, tps[:1]))
	}
	objects, err := o.o.AllocateIDs(o.ctx(), catalog.IDObject, 10)
	o.ok(err)
	producers, err := o.o.AllocateIDs(o.ctx(), catalog.IDProducer, 10)
	o.ok(err)
	o.clock.Advance(time.Second)
	heard := o.clock.Now()
	_, err = o.o.Heartbeat(o.ctx(), b)
	o.ok(err)
	set, err := o.o.TopicSet(o.ctx(), 0)
	o.ok(err)
	leases, err := o.o.LeaseSet(o.ctx(), 0)
	o.ok(err)

	o.clock.Advance(sessionOver)
	r := o.restored()
	require.True(o, o.clock.Now().Equal(r.At))
	require.True(o, heard.Equal(r.LastHeartbeat), "%s", r.LastHeartbeat)
	require.Equal(o, []catalog.BrokerEpoch{a, b}, r.Fenced)
	require.Equal(o, catalog.Marks{
		BrokerEpoch: b, LeaseEpoch: 2, NextObject: catalog.ObjectID(objects) + 10, NextProducer: producers + 10,
		TopicsVersion: set.Version, LeasesVersion: leases.Version,
	}, r.Before)
	require.Equal(o, catalog.Marks{
		BrokerEpoch: b + catalog.RestoreEpochs, LeaseEpoch: 2 + catalog.RestoreEpochs,
		NextObject: r.Before.NextObject + catalog.RestoreIDs, NextProducer: r.Before.NextProducer + catalog.RestoreIDs,
		TopicsVersion: set.Version + catalog.RestoreIDs, LeasesVersion: leases.Version + catalog.RestoreIDs,
	}, r.After)

	for _, epoch := range r.Fenced {
		_, err = o.o.Heartbeat(o.ctx(), epoch)
		o.is(err, catalog.ErrFenced)
		_, err = o.o.Commit(o.ctx(), epoch, []catalog.TailEntry{o.entry(epoch, 1)})
		o.is(err, catalog.ErrFenced)
	}
	c := o.register()
	require.Equal(o, r.After.BrokerEpoch+1, c)
	held, err := o.o.AcquireLeases(o.ctx(), c, nil)
	o.ok(err)
	require.Len(o, held, 3, "all were free")
	for i, was := range []catalog.LeaseEpoch{2, 0, -1} {
		require.Equal(o, was+catalog.RestoreEpochs+1, held[i].Epoch, "partition %d", i)
	}
	first, err := o.o.AllocateIDs(o.ctx(), catalog.IDObject, 1)
	o.ok(err)
	require.EqualValues(o, r.After.NextObject, first)
	first, err = o.o.AllocateIDs(o.ctx(), catalog.IDProducer, 1)
	o.ok(err)
	require.Equal(o, r.After.NextProducer, first)
	first, err = o.o.AllocateIDs(o.ctx(), catalog.IDBroker, 2)
	o.ok(err)
	require.EqualValues(o, 1001+catalog.RestoreBrokerIDs, first, "also when none was handed out before")
	set, err = o.o.TopicSet(o.ctx(), 0)
	o.ok(err)
	require.Equal(o, r.After.TopicsVersion, set.Version)
	for epoch := range catalog.BrokerEpoch(3) {
		o.ok(o.o.FenceBroker(o.ctx(), a+epoch*catalog.RestoreEpochs/2, catalog.FenceProvenDead), "epochs skipped count as fenced")
	}

	o.clock.Advance(sessionOver)
	again := o.restored()
	require.Equal(o, []catalog.BrokerEpoch{c}, again.Fenced)
	require.Equal(o, c+catalog.RestoreEpochs, again.After.BrokerEpoch, "it may be repeated")
}

func testRestoredEmpty(o *operator) {
	r := o.restored()
	require.Empty(o, r.Fenced)
	require.True(o, r.LastHeartbeat.IsZero())
	require.EqualValues(o, -1, r.Before.LeaseEpoch)
	require.EqualValues(o, -1, r.After.LeaseEpoch, "there are no leases")
	require.EqualValues(o, catalog.RestoreEpochs+1, o.register())
}

// testRestoredLog: what the manifest names stays, and can be folded and edited by whoever comes.
func testRestoredLog(o *operator) {
	tps := o.topic(1)
	a := o.register()
	object := o.seed(a, tps[0])
	tail := o.commit(a, 2, 2)
	rows, before := o.rows(tps[0]), o.load(tps[0])
	o.clock.Advance(sessionOver)
	o.restored()
	require.Equal(o, rows, o.rows(tps[0]))
	require.Equal(o, before, o.load(tps[0]))
	equalEntries(o, tail, o.tail(a))
	found, err := o.o.ObjectsByID(o.ctx(), []catalog.ObjectID{object.ID})
	o.ok(err)
	require.Len(o, found, 1)

	b := o.register()
	f := foldOf(tail, 1)
	f.Replaces = []catalog.RowRef{ref(rows[0])}
	f.Rows = []catalog.PackedRow{packed(tps[0], 0, 200)}
	f.Partitions = []catalog.PartitionState{state(tps[0], 0, 200)}
	o.ok(o.o.Fold(o.ctx(), b, f))
	folded := o.rows(tps[0])
	require.Len(o, folded, 1)
	require.Greater(o, folded[0].Version, rows[0].Version+catalog.RestoreIDs/2, "versions move on, too")
}

// testRestoredRefused: not beside a broker whose session has not run out, and then nothing is changed.
func testRestoredRefused(o *operator) {
	tps := o.topic(1)
	a := o.register()
	o.clock.Advance(9 * time.Second)
	b := o.register()
	_, err := o.o.AcquireLeases(o.ctx(), a, tps)
	o.ok(err)
	o.clock.Advance(2 * time.Second) // a's ran out
	leases := o.leases()
	_, err = o.o.Restored(o.ctx())
	o.is(err, catalog.ErrBrokerAlive)
	require.ErrorContains(o, err, "broker 2 (epoch 2) renewed its session 2s ago, which lasts for another 8s")
	require.Equal(o, leases, o.leases())
	_, err = o.o.Heartbeat(o.ctx(), a)
	o.ok(err)
	next, err := o.o.AllocateIDs(o.ctx(), catalog.IDObject, 1)
	o.ok(err)
	require.EqualValues(o, 1, next)

	o.ok(o.o.FenceBroker(o.ctx(), a, catalog.FenceProvenDead))
	o.ok(o.o.FenceBroker(o.ctx(), b, catalog.FenceResigned))
	require.Empty(o, o.restored().Fenced, "those are dead, whenever they were heard of")
	first, err := o.o.AllocateIDs(o.ctx(), catalog.IDBroker, 1)
	o.ok(err)
	o.restored()
	second, err := o.o.AllocateIDs(o.ctx(), catalog.IDBroker, 1)
	o.ok(err)
	require.EqualValues(o, first+1+catalog.RestoreBrokerIDs, second)
}

// testRestoredRace: a broker that everybody thought dead goes on committing. Each commit is refused, or was there before.
func testRestoredRace(o *operator) {
	a := o.register()
	o.clock.Advance(sessionOver)
	entries := make([]catalog.TailEntry, 200)
	for i := range entries {
		entries[i] = o.entry(a, catalog.Sequence(i+1))
	}
	var wg sync.WaitGroup
	var acknowledged int
	begun := make(chan struct{})
	wg.Go(func() {
		for i := range entries {
			if i == 3 {
				close(begun)
			}
			if _, err := o.o.Commit(o.ctx(), a, entries[i:i+1]); err != nil {
				return
			}
			acknowledged++
		}
	})
	<-begun
	o.restored()
	there := o.tail(a)
	wg.Wait()
	require.Len(o, o.tail(a), len(there), "applied after everybody was fenced")
	require.Len(o, there, acknowledged)
}

// testRestoredGroups: groups stay, and a coordinator of after the backup can write nothing.
func testRestoredGroups(o *operator) {
	o.shards(1)
	co := o.coordinate(o.register(), 0)
	co.put("g")
	before := text(o.groupsOf(-1))
	later := *co // has the lease once more, after the backup was made
	later.lease++
	o.clock.Advance(sessionOver)
	o.restored()
	next := o.coordinate(o.register(), 0)
	require.Greater(o, next.lease, later.lease)
	for _, old := range []coordinator{*co, later, {s: &o.suite, holder: next.holder, lease: later.lease}} {
		o.is(old.try(catalog.GroupChange{ID: "g", Delete: true}), catalog.ErrFenced)
	}
	require.Equal(o, before, text(o.groupsOf(-1)))
	require.EqualValues(o, 0, next.number)
	next.write(catalog.GroupChange{ID: "g", Delete: true})
}

func testClosedOperator(o *operator) {
	o.ok(o.o.Close())
	_, err := o.o.Now(o.ctx())
	o.is(err, catalog.ErrClosed)
	_, err = o.o.Restored(o.ctx())
	o.is(err, catalog.ErrClosed)
}

// testRestoredAttached: a process that is connected keeps the catalog from being moved, whatever its session says.
func testRestoredAttached(f *fleet) {
	a := f.register()
	detach, lost, err := f.a.Attach(f.ctx(), a)
	f.ok(err)
	f.clock.Advance(sessionOver)
	b := f.b.(catalog.Operator)
	_, err = b.Restored(f.ctx())
	f.is(err, catalog.ErrBrokerAlive)
	require.ErrorContains(f, err, "the process of broker epoch 1 is connected")
	detach()
	<-lost
	f.until("nobody attached", func() bool {
		_, err := b.Restored(f.ctx())
		if err != nil {
			f.is(err, catalog.ErrBrokerAlive)
		}
		return err == nil
	})
}
