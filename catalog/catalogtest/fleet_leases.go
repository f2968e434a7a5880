package catalogtest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func testMoveLeases(f *fleet) {
	a, b := f.register(), f.register()
	tps := f.held(a, 4)
	other := f.held(b, 1)
	version := f.version()

	got, err := f.a.MoveLeases(f.ctx(), a, b, f.named(tps[:2]...))
	f.ok(err)
	require.ElementsMatch(f, []catalog.Lease{
		{TopicPartition: tps[0], Holder: b, Epoch: 1}, {TopicPartition: tps[1], Holder: b, Epoch: 1},
	}, got)
	require.Greater(f, f.version(), version)
	leases := f.leases()
	require.Equal(f, catalog.Lease{TopicPartition: tps[1], Holder: b, Epoch: 1}, leases[tps[1]])
	require.Equal(f, catalog.Lease{TopicPartition: tps[2], Holder: a}, leases[tps[2]])
	require.Equal(f, catalog.Lease{TopicPartition: other[0], Holder: b}, leases[other[0]])

	// What is not held is left out: of a repeat, of others, of nobody, unknown.
	free := f.topic(1)
	unknown := catalog.TopicPartition{Topic: catalog.TopicID{99}, Partition: 1}
	version = f.version()
	for _, tp := range []catalog.TopicPartition{tps[0], other[0], free[0], unknown, {Topic: tps[0].Topic, Partition: 4}} {
		got, err = f.a.MoveLeases(f.ctx(), a, b, f.named(tp))
		f.ok(err)
		require.Empty(f, got)
	}
	got, err = f.a.MoveLeases(f.ctx(), a, b, nil)
	f.ok(err)
	require.Empty(f, got, "none named")
	require.Equal(f, version, f.version(), "nothing moved")
	got, err = f.a.MoveLeases(f.ctx(), a, b, f.named(tps[0], tps[2], tps[2], unknown))
	f.ok(err)
	require.Equal(f, []catalog.Lease{{TopicPartition: tps[2], Holder: b, Epoch: 1}}, got)

	// The epoch grows with each move, also of one lease there and back.
	got, err = f.b.MoveLeases(f.ctx(), b, a, f.named(tps[:1]...))
	f.ok(err)
	require.Equal(f, []catalog.Lease{{TopicPartition: tps[0], Holder: a, Epoch: 2}}, got)
	f.ok(f.a.ReleaseLeases(f.ctx(), a, tps[:1]))
	got, err = f.b.AcquireLeases(f.ctx(), b, tps[:1])
	f.ok(err)
	require.Equal(f, []catalog.Lease{{TopicPartition: tps[0], Holder: b, Epoch: 3}}, got)

	named := f.named(tps...)
	f.ok(f.a.DeleteTopic(f.ctx(), tps[0].Topic))
	got, err = f.b.MoveLeases(f.ctx(), b, a, named)
	f.ok(err)
	require.Empty(f, got, "the topic was deleted")
}

func testMoveLeasesRefused(f *fleet) {
	a, b := f.register(), f.register()
	tps := f.held(a, 2)
	nobody := b + 100
	f.fence(b)
	before, version := f.leases(), f.version()
	refused := func(epoch, to catalog.BrokerEpoch, want error) {
		f.Helper()
		got, err := f.a.MoveLeases(f.ctx(), epoch, to, f.named(tps...))
		f.is(err, want)
		require.Empty(f, got)
		require.Equal(f, before, f.leases())
		require.Equal(f, version, f.version())
	}
	refused(a, a, catalog.ErrInvalid)
	refused(b, b, catalog.ErrInvalid)
	refused(0, 0, catalog.ErrInvalid)
	refused(a, b, catalog.ErrUnknownBroker)
	refused(a, nobody, catalog.ErrUnknownBroker)
	refused(a, 0, catalog.ErrUnknownBroker)
	refused(b, a, catalog.ErrFenced)
	refused(nobody, a, catalog.ErrFenced)
	refused(0, a, catalog.ErrFenced)
	refused(b, nobody, catalog.ErrFenced)
}

// named names leases as they are now.
func (f *fleet) named(tps ...catalog.TopicPartition) []catalog.HeldLease {
	f.Helper()
	leases := f.leases()
	var out []catalog.HeldLease
	for _, tp := range tps {
		out = append(out, catalog.HeldLease{TopicPartition: tp, Epoch: leases[tp].Epoch})
	}
	return out
}

// testMoveLeasesLate: a move that is applied again, or for the first time, after its leases went and came back, takes nothing
// from a holder that may go on appending.
func testMoveLeasesLate(f *fleet) {
	a, b := f.register(), f.register()
	tps := f.held(a, 3)
	late := f.named(tps...)
	for range 2 {
		_, err := f.a.MoveLeases(f.ctx(), a, b, f.named(tps[:2]...))
		f.ok(err)
		_, err = f.b.MoveLeases(f.ctx(), b, a, f.named(tps[:2]...))
		f.ok(err)
	}
	before, version := f.leases(), f.version()
	for _, named := range [][]catalog.HeldLease{
		late[:2],                              // as they were
		{{TopicPartition: tps[0], Epoch: 3}},  // as they were at the other
		{{TopicPartition: tps[2], Epoch: 1}},  // as it never was
		{{TopicPartition: tps[2], Epoch: -1}}, // nor could be
		{{TopicPartition: tps[1], Epoch: 1 << 30}},
	} {
		got, err := f.b.MoveLeases(f.ctx(), a, b, named)
		f.ok(err)
		require.Empty(f, got, "%v", named)
	}
	require.Equal(f, before, f.leases())
	require.Equal(f, version, f.version())
	got, err := f.a.MoveLeases(f.ctx(), a, b, append(late, f.named(tps[1])...))
	f.ok(err)
	require.ElementsMatch(f, []catalog.Lease{
		{TopicPartition: tps[1], Holder: b, Epoch: 5}, {TopicPartition: tps[2], Holder: b, Epoch: 1},
	}, got, "those that are held as named")
}

// testMoveLeasesEveryOrder runs a move, a commit of the giver, and the fences of giver and receiver in each order, one
// after the other and all at once over two handles.
func testMoveLeasesEveryOrder(f *fleet) {
	names := []string{"move", "commit", "fence the giver", "fence the receiver"}
	const move, commit, fenceGiver, fenceReceiver = 0, 1, 2, 3
	for _, order := range permutations(len(names)) {
		for _, together := range []bool{false, true} {
			what := fmt.Sprintf("%v of %v, together: %t", order, names, together)
			giver, receiver := f.register(), f.register()
			if order[0]%2 == 1 { // both orders of locking
				giver, receiver = receiver, giver
			}
			tps := f.held(giver, 2)
			entry, named := f.entry(giver, 1), f.named(tps...)
			var moved []catalog.Lease
			errs := make([]error, len(names))
			calls := []func() error{
				func() (err error) {
					moved, err = f.a.MoveLeases(f.ctx(), giver, receiver, named)
					return err
				},
				func() error {
					_, err := f.b.Commit(f.ctx(), giver, []catalog.TailEntry{entry})
					return err
				},
				func() error { return f.b.FenceBroker(f.ctx(), giver, catalog.FenceProvenDead) },
				func() error { return f.b.FenceBroker(f.ctx(), receiver, catalog.FenceProvenDead) },
			}
			var wg sync.WaitGroup
			done := make(map[int]bool)
			for _, i := range order {
				if together {
					wg.Go(func() { errs[i] = calls[i]() })
					continue
				}
				errs[i] = calls[i]()
				switch {
				case i == move && done[fenceGiver], i == commit && done[fenceGiver]:
					f.is(errs[i], catalog.ErrFenced, what)
				case i == move && done[fenceReceiver]:
					f.is(errs[i], catalog.ErrUnknownBroker, what)
				default:
					f.ok(errs[i], what)
				}
				done[i] = true
			}
			wg.Wait()
			f.ok(errs[fenceGiver], what)
			f.ok(errs[fenceReceiver], what)
			epoch := catalog.LeaseEpoch(0)
			if errs[move] == nil {
				// A giver fenced first has no leases left, but then the move was refused.
				require.Len(f, moved, len(tps), what)
				epoch = 1
			} else {
				require.True(f, isAny(errs[move], catalog.ErrFenced, catalog.ErrUnknownBroker), "%s: %v", what, errs[move])
				require.Empty(f, moved, what)
			}
			require.Equal(f, errs[commit] == nil, len(f.tail(giver)) == 1, what)
			leases := f.leases()
			for _, tp := range tps {
				require.Equal(f, catalog.Lease{TopicPartition: tp, Epoch: epoch}, leases[tp], what)
			}
			next := f.register()
			taken, err := f.a.AcquireLeases(f.ctx(), next, tps)
			f.ok(err)
			for _, l := range taken {
				require.Equal(f, epoch+1, l.Epoch, what)
			}
			require.Len(f, taken, len(tps), what)
			f.fence(next)
		}
	}
}

// testMoveLeasesBothWays: moves to and fro between two brokers at the same time neither block each other nor give a
// lease two holders of one epoch.
func testMoveLeasesBothWays(f *fleet) {
	a, b := f.register(), f.register()
	tps := f.held(a, 6)
	_, err := f.a.MoveLeases(f.ctx(), a, b, f.named(tps[:3]...))
	f.ok(err)
	var mu sync.Mutex
	holders := make(map[catalog.Lease]catalog.BrokerEpoch) // by lease without holder
	failures := make(chan error, 1024)
	note := func(leases []catalog.Lease) {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range leases {
			key := catalog.Lease{TopicPartition: l.TopicPartition, Epoch: l.Epoch}
			if by, ok := holders[key]; ok && by != l.Holder {
				failures <- fmt.Errorf("%s epoch %d is held by %d and %d", l.TopicPartition, l.Epoch, by, l.Holder)
			}
			holders[key] = l.Holder
		}
	}
	var wg sync.WaitGroup
	for _, way := range []struct {
		h        FleetCatalog
		from, to catalog.BrokerEpoch
	}{{f.a, a, b}, {f.b, b, a}} {
		wg.Go(func() {
			for range 40 {
				set, err := way.h.LeaseSet(f.ctx(), 0)
				if err != nil {
					failures <- err
					return
				}
				var named []catalog.HeldLease // all of them, also those that move meanwhile
				for _, l := range set.Leases {
					named = append(named, catalog.HeldLease{TopicPartition: l.TopicPartition, Epoch: l.Epoch})
				}
				moved, err := way.h.MoveLeases(f.ctx(), way.from, way.to, named)
				if err != nil {
					failures <- err
					return
				}
				note(moved)
			}
		})
	}
	wg.Wait()
	close(failures)
	f.ok(<-failures)
	for tp, l := range f.leases() {
		require.Equal(f, l.Holder, holders[catalog.Lease{TopicPartition: tp, Epoch: l.Epoch}])
	}
}

// testCommitAfterMove says what a move does not do: stop commits of the old holder, which lives. It has committed its
// last object with data of the partitions before, and the receiver finds that.
func testCommitAfterMove(f *fleet) {
	a, b := f.register(), f.register()
	tps := f.held(a, 1)
	rows := f.commit(a, 1, 2)
	moved, err := f.a.MoveLeases(f.ctx(), a, b, f.named(tps...))
	f.ok(err)
	require.Greater(f, moved[0].Epoch, catalog.LeaseEpoch(0), "the receiver's is the larger lease epoch")
	seen, err := f.b.ReadTail(f.ctx(), a, 0, 10)
	f.ok(err)
	equalEntries(f, rows, seen)
	f.commit(a, 3, 1)
	f.fence(a)
	require.Equal(f, b, f.leases()[tps[0]].Holder, "the fence of a former holder takes nothing from the receiver")
	_, err = f.a.Commit(f.ctx(), a, []catalog.TailEntry{f.entry(a, 4)})
	f.is(err, catalog.ErrFenced)
}

func testAskMoves(f *fleet) {
	a, b, c := f.register(), f.register(), f.register()
	tps := f.held(a, 3)
	ask := func(moves ...catalog.Move) (grew bool) {
		f.Helper()
		before := f.version()
		f.ok(f.b.AskMoves(f.ctx(), c, moves))
		return f.version() > before
	}
	wanted := func() (out []catalog.BrokerEpoch) {
		leases := f.leases()
		for _, tp := range tps {
			require.Equal(f, a, leases[tp].Holder, "an ask is not a move")
			require.Zero(f, leases[tp].Epoch)
			out = append(out, leases[tp].Wanted)
		}
		return out
	}
	require.True(f, ask(catalog.Move{TopicPartition: tps[0], To: b}, catalog.Move{TopicPartition: tps[2], To: c}))
	require.Equal(f, []catalog.BrokerEpoch{b, 0, c}, wanted())
	require.False(f, ask(catalog.Move{TopicPartition: tps[0], To: b}), "asked before")
	require.True(f, ask(catalog.Move{TopicPartition: tps[0], To: c}), "another receiver")
	require.Equal(f, []catalog.BrokerEpoch{c, 0, c}, wanted())
	require.True(f, ask(catalog.Move{TopicPartition: tps[0]}), "withdrawn")
	require.Equal(f, []catalog.BrokerEpoch{0, 0, c}, wanted())
	require.False(f, ask(catalog.Move{TopicPartition: tps[0]}), "withdrawn before")
	require.False(f, ask())
	got, err := f.a.AcquireLeases(f.ctx(), a, tps[2:])
	f.ok(err)
	require.Equal(f, []catalog.Lease{{TopicPartition: tps[2], Holder: a, Wanted: c}}, got, "its holder is told too")
}

func testAskMovesIgnored(f *fleet) {
	a, b, dead := f.register(), f.register(), f.register()
	tps, free := f.held(a, 2), f.topic(1)
	f.fence(dead)
	f.ok(f.a.AskMoves(f.ctx(), b, []catalog.Move{{TopicPartition: tps[1], To: b}}))
	before, version := f.leases(), f.version()
	for _, m := range []catalog.Move{
		{TopicPartition: tps[0], To: a},
		{TopicPartition: tps[1], To: a}, // also does not withdraw the request
		{TopicPartition: tps[0], To: dead},
		{TopicPartition: tps[1], To: dead},
		{TopicPartition: tps[0], To: dead + 100},
		{TopicPartition: free[0], To: b},
		{TopicPartition: catalog.TopicPartition{Topic: tps[0].Topic, Partition: 2}, To: b},
		{TopicPartition: catalog.TopicPartition{Topic: catalog.TopicID{77}}, To: b},
	} {
		f.ok(f.a.AskMoves(f.ctx(), b, []catalog.Move{m}))
		require.Equal(f, before, f.leases())
	}
	require.Equal(f, version, f.version(), "nothing changed")

	f.ok(f.a.AskMoves(f.ctx(), b, []catalog.Move{{TopicPartition: free[0], To: b}, {TopicPartition: tps[0], To: b}}))
	require.Equal(f, b, f.leases()[tps[0]].Wanted, "beside an ignored one")

	twice := []catalog.Move{{TopicPartition: tps[0], To: b}, {TopicPartition: tps[0]}}
	f.is(f.a.AskMoves(f.ctx(), b, twice), catalog.ErrInvalid)
	f.is(f.a.AskMoves(f.ctx(), dead, twice), catalog.ErrInvalid, "found before the fence")
	for _, asker := range []catalog.BrokerEpoch{dead, dead + 100, 0} {
		f.is(f.a.AskMoves(f.ctx(), asker, []catalog.Move{{TopicPartition: tps[0]}}), catalog.ErrFenced)
		f.is(f.a.AskMoves(f.ctx(), asker, nil), catalog.ErrFenced)
	}
	require.Equal(f, b, f.leases()[tps[0]].Wanted)
}

// testRequestsEnd: a request lasts as long as the holding it asks to end.
func testRequestsEnd(f *fleet) {
	a, b, c := f.register(), f.register(), f.register()
	tps := f.held(a, 3)
	var moves []catalog.Move
	for _, tp := range tps {
		moves = append(moves, catalog.Move{TopicPartition: tp, To: b})
	}
	f.ok(f.a.AskMoves(f.ctx(), c, moves))
	moved, err := f.a.MoveLeases(f.ctx(), a, c, f.named(tps[:1]...)) // to somebody else than was asked for
	f.ok(err)
	require.Zero(f, moved[0].Wanted)
	f.ok(f.a.ReleaseLeases(f.ctx(), a, tps[1:2]))
	require.Equal(f, b, f.leases()[tps[2]].Wanted)
	f.fence(a)
	for tp, l := range f.leases() {
		require.Zero(f, l.Wanted, tp)
	}
	got, err := f.b.AcquireLeases(f.ctx(), c, tps)
	f.ok(err)
	for _, l := range got {
		require.Zero(f, l.Wanted)
	}
}

func testSetDraining(f *fleet) {
	reg := catalog.Registration{ID: 70, Incarnation: [16]byte{7, 1}, TTL: 1}
	first, err := f.a.RegisterBroker(f.ctx(), reg)
	f.ok(err)
	require.False(f, first.Draining)
	other := f.register()
	marks := func() map[catalog.BrokerEpoch]bool {
		brokers, err := f.b.ListBrokers(f.ctx())
		f.ok(err)
		out := make(map[catalog.BrokerEpoch]bool)
		for i := range brokers {
			if !brokers[i].Fenced {
				out[brokers[i].Epoch] = brokers[i].Draining
			}
		}
		return out
	}
	f.ok(f.a.SetDraining(f.ctx(), 70, false), "not marked")
	f.ok(f.a.SetDraining(f.ctx(), 70, true))
	require.Equal(f, map[catalog.BrokerEpoch]bool{first.Epoch: true, other: false}, marks())

	reg.Incarnation = [16]byte{7, 2}
	second, err := f.a.RegisterBroker(f.ctx(), reg)
	f.ok(err)
	require.True(f, second.Draining, "whatever its epoch")
	f.fence(first.Epoch)
	f.fence(second.Epoch)
	f.is(f.a.SetDraining(f.ctx(), 70, false), catalog.ErrUnknownBroker)
	f.is(f.a.SetDraining(f.ctx(), 71, true), catalog.ErrUnknownBroker)
	reg.Incarnation = [16]byte{7, 3}
	third, err := f.a.RegisterBroker(f.ctx(), reg)
	f.ok(err)
	require.True(f, third.Draining, "kept until taken back")
	f.ok(f.b.SetDraining(f.ctx(), 70, false))
	require.Equal(f, map[catalog.BrokerEpoch]bool{third.Epoch: false, other: false}, marks())
	tps := f.topic(1)
	f.ok(f.b.SetDraining(f.ctx(), 70, true))
	got, err := f.a.AcquireLeases(f.ctx(), third.Epoch, tps)
	f.ok(err)
	require.Len(f, got, 1, "a mark is not a fence")
}

// testFleetVersions: the version of the lease set tells of all that views are made of.
func testFleetVersions(f *fleet) {
	judge := f.register()
	version := f.version()
	grew := func(what string) {
		f.Helper()
		beat, err := f.b.Heartbeat(f.ctx(), judge)
		f.ok(err)
		set, err := f.a.LeaseSet(f.ctx(), version)
		f.ok(err)
		require.Equal(f, set.Version, beat.LeasesVersion)
		require.Greater(f, set.Version, version, what)
		version = set.Version
	}
	stood := func(what string) {
		f.Helper()
		set, err := f.a.LeaseSet(f.ctx(), version)
		f.ok(err)
		require.Equal(f, version, set.Version, what)
		require.Empty(f, set.Leases)
	}
	epoch := f.register()
	grew("registered")
	f.ok(f.a.SetDraining(f.ctx(), catalog.BrokerID(f.brokers), true))
	grew("draining")
	f.ok(f.a.SetDraining(f.ctx(), catalog.BrokerID(f.brokers), true))
	stood("draining before")
	f.ok(f.a.SetDraining(f.ctx(), catalog.BrokerID(f.brokers), false))
	grew("not draining")
	f.fence(epoch)
	grew("fenced, though it held nothing")
	f.fence(epoch)
	stood("fenced before")
	f.commit(judge, 1, 2)
	stood("commits")
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
