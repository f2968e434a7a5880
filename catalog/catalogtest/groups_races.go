package catalogtest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// testGroupsEveryOrder runs a write, a fence and a release of its holder, and its successor's take-over, in each order one
// after the other, and started in each order without waiting for each other.
func testGroupsEveryOrder(s *suite) {
	s.shards(1)
	names := []string{"write", "fence", "release", "take over"}
	const write, fence, release, takeOver = 0, 1, 2, 3
	for n, order := range permutations(len(names)) {
		for _, together := range []bool{false, true} {
			what := fmt.Sprintf("%v of %v, together: %t", order, names, together)
			co, heir := s.coordinate(s.register(), 0), s.register()
			id := fmt.Sprintf("group-%d-%t", n, together)
			w := co.next(catalog.GroupChange{ID: id, Group: groupRow(0, id), Offsets: []catalog.GroupOffset{groupOffset("t", 0, 1)}})
			errs := make([]error, len(names))
			there := make([]bool, len(names)) // whether the group was there after each
			look := func(i int, err error) error {
				if err != nil {
					return err
				}
				_, err = s.c.ReadGroup(s.ctx(), id)
				there[i] = err == nil
				if errors.Is(err, catalog.ErrNotFound) {
					err = nil
				}
				return err
			}
			var taken []catalog.Lease
			calls := []func() error{
				func() error {
					_, err := s.c.WriteGroups(s.ctx(), w)
					return err
				},
				func() error { return look(fence, s.c.FenceBroker(s.ctx(), co.holder, catalog.FenceProvenDead)) },
				func() error { return look(release, s.c.ReleaseLeases(s.ctx(), co.holder, shardLease(0))) },
				func() (err error) {
					taken, err = s.c.AcquireLeases(s.ctx(), heir, shardLease(0))
					return look(takeOver, err)
				},
			}
			var wg sync.WaitGroup
			gone := false
			for _, i := range order {
				if together {
					wg.Go(func() { errs[i] = calls[i]() })
					continue
				}
				errs[i] = calls[i]()
				if i == write && gone {
					s.is(errs[i], catalog.ErrFenced, what)
				}
				gone = gone || i == fence || i == release
			}
			wg.Wait()
			for i, err := range errs {
				if err != nil {
					s.is(err, catalog.ErrFenced, "%s: %s", what, names[i])
				}
			}
			s.ok(errs[fence], what)
			_, err := s.c.ReadGroup(s.ctx(), id)
			require.Equal(s, errs[write] == nil, err == nil, what)
			require.Equal(s, err == nil, there[fence], "%s: what is there after the fence is all there ever is", what)
			if errs[release] == nil {
				require.Equal(s, err == nil, there[release], what)
			}
			if len(taken) == 1 {
				require.Equal(s, err == nil, there[takeOver], what)
			}
			next := s.coordinate(heir, 0)
			require.Greater(s, next.lease, co.lease, what)
			_, err = s.c.WriteGroups(s.ctx(), w)
			s.is(err, catalog.ErrFenced, what)
			next.write(catalog.GroupChange{ID: id, Delete: true})
			s.fence(heir)
		}
	}
	require.Empty(s, s.groupsOf(-1))
}

// testGroupsFenceRace fences a coordinator in the midst of its writes. What is then read is all there ever is, and what was
// acknowledged is there.
func testGroupsFenceRace(s *suite) {
	s.shards(1)
	for round := range 5 {
		co := s.coordinate(s.register(), 0)
		id := fmt.Sprintf("group-%d", round)
		co.put(id)
		started, ended := make(chan struct{}), make(chan error, 1)
		acknowledged := int64(0)
		go func() {
			for {
				err := co.try(catalog.GroupChange{ID: id, Offsets: []catalog.GroupOffset{groupOffset("t", 0, acknowledged+1), groupOffset("t", 1, acknowledged+1)}})
				if err != nil {
					ended <- err
					return
				}
				if acknowledged++; acknowledged == 10 {
					close(started)
				}
			}
		}()
		select {
		case <-started:
		case err := <-ended:
			s.ok(err)
		}
		if round%2 == 0 {
			s.fence(co.holder)
		} else {
			s.ok(s.c.ReleaseLeases(s.ctx(), co.holder, shardLease(0)))
		}
		seen := s.group(id)
		s.is(<-ended, catalog.ErrFenced)
		require.Equal(s, acknowledged, seen.Offsets[0].Offset)
		require.Equal(s, acknowledged, seen.Offsets[1].Offset)
		s.equalGroups(seen, s.group(id))
	}
}

// testGroupWritesOverlap sends writes of one lease without waiting for each other, each again until it is due, and repeats of
// them. They are applied in order all the same, each looking at what the one before left.
func testGroupWritesOverlap(s *suite) {
	s.shards(1)
	co := s.coordinate(s.register(), 0)
	for round := range 30 {
		id := fmt.Sprintf("group-%d", round)
		changes := []catalog.GroupChange{
			{ID: id, Group: groupRow(0, id), Members: []catalog.GroupMember{groupMember("m")}, Offsets: []catalog.GroupOffset{groupOffset("t", 0, 1)}},
			{ID: id, AllMembersGone: true, Members: []catalog.GroupMember{groupMember("n")}, OffsetsGone: []catalog.GroupPartition{{Topic: "t"}}},
			{ID: id, MembersGone: []string{"n"}, Offsets: []catalog.GroupOffset{groupOffset("t", 1, 1)}},
			{ID: id, Delete: true},
		}
		if round%2 == 1 {
			changes = changes[:3]
		}
		var wg sync.WaitGroup
		failures := make(chan error, 64)
		for i := range changes {
			w := co.next(changes[i])
			w.Number += int64(i)
			var applied atomic.Bool
			for range 2 {
				wg.Go(func() {
					for !applied.Load() { // not due yet; or due no more, since its twin and the next one were applied
						_, err := s.c.WriteGroups(s.ctx(), w)
						if err == nil {
							applied.Store(true)
						} else if !errors.Is(err, catalog.ErrSequence) {
							failures <- err
							return
						}
					}
				})
			}
		}
		wg.Wait()
		close(failures)
		s.ok(<-failures)
		co.number += int64(len(changes))
		if len(changes) == 4 {
			s.noGroup(id, "round %d: the last write deleted it", round)
			continue
		}
		g := s.group(id)
		require.Empty(s, g.Members, "round %d", round)
		require.Len(s, g.Offsets, 1, "round %d", round)
		require.EqualValues(s, 1, g.Offsets[0].Partition)
	}
}

// testGroupsMoveEveryOrder runs a write, a move of its shard and the fence of its holder, over two handles, in each order.
// What the receiver finds when it has the lease is all there ever is of the giver's.
func testGroupsMoveEveryOrder(f *fleet) {
	f.shards(1)
	names := []string{"write", "move", "fence", "write again"}
	const write, move, fence, again = 0, 1, 2, 3
	for n, order := range permutations(len(names)) {
		for _, together := range []bool{false, true} {
			what := fmt.Sprintf("%v of %v, together: %t", order, names, together)
			co, to := f.coordinate(f.register(), 0), f.register()
			id := fmt.Sprintf("group-%d-%t", n, together)
			w := co.next(catalog.GroupChange{ID: id, Group: groupRow(0, id)})
			var moved []catalog.Lease
			var found bool
			errs := make([]error, len(names))
			calls := []func() error{
				func() error {
					_, err := f.a.WriteGroups(f.ctx(), w)
					return err
				},
				func() (err error) {
					moved, err = f.b.MoveLeases(f.ctx(), co.holder, to, co.held())
					if err == nil && len(moved) > 0 {
						groups, err := f.b.ReadGroups(f.ctx(), 0, "", 10)
						found = len(groups) > 0
						return err
					}
					return err
				},
				func() error { return f.b.FenceBroker(f.ctx(), co.holder, catalog.FenceProvenDead) },
				func() error {
					_, err := f.b.WriteGroups(f.ctx(), w) // the caller, who got no answer, on another connection
					return err
				},
			}
			var wg sync.WaitGroup
			gone := false
			for _, i := range order {
				if together {
					wg.Go(func() { errs[i] = calls[i]() })
					continue
				}
				errs[i] = calls[i]()
				if gone {
					if i == write || i == again {
						f.is(errs[i], catalog.ErrFenced, what)
					}
				}
				gone = gone || i == move || i == fence
			}
			wg.Wait()
			for i, err := range errs {
				if err != nil {
					f.is(err, catalog.ErrFenced, "%s: %s", what, names[i])
				}
			}
			f.ok(errs[fence], what)
			groups := f.groupsOf(0)
			require.Equal(f, errs[write] == nil || errs[again] == nil, len(groups) == 1, what)
			holder := to
			if len(moved) == 1 {
				require.Equal(f, found, len(groups) == 1, what)
				require.Equal(f, to, f.leases()[shardLease(0)[0]].Holder, what)
			}
			next := f.coordinate(holder, 0)
			require.Equal(f, co.lease+1, next.lease, what)
			next.write(catalog.GroupChange{ID: id, Delete: true})
			_, err := f.a.WriteGroups(f.ctx(), w)
			f.is(err, catalog.ErrFenced, what)
			require.Empty(f, f.groupsOf(0), what)
			f.fence(holder)
		}
	}
}

// testGroupsMoveRace moves a shard to and fro between two coordinators that write all the time. Each finds what the other
// had acknowledged.
func testGroupsMoveRace(f *fleet) {
	f.shards(1)
	brokers := [2]catalog.BrokerEpoch{f.register(), f.register()}
	handles := [2]FleetCatalog{f.a, f.b}
	co := f.coordinate(brokers[0], 0)
	co.put("g")
	acknowledged := int64(0)
	for turn := range 20 {
		at, to := turn%2, (turn+1)%2
		started, ended := make(chan struct{}), make(chan error, 1)
		begun := acknowledged
		go func() {
			for {
				_, err := handles[at].WriteGroups(f.ctx(), co.next(catalog.GroupChange{ID: "g", Offsets: []catalog.GroupOffset{groupOffset("t", 0, acknowledged+1)}}))
				if err != nil {
					ended <- err
					return
				}
				co.number++
				if acknowledged++; acknowledged == begun+3 {
					close(started)
				}
			}
		}()
		select {
		case <-started:
		case err := <-ended:
			f.ok(err)
		}
		moved, err := handles[at].MoveLeases(f.ctx(), brokers[at], brokers[to], f.named(shardLease(0)...))
		f.ok(err)
		require.Len(f, moved, 1)
		seen, err := handles[to].ReadGroup(f.ctx(), "g")
		f.ok(err)
		f.is(<-ended, catalog.ErrFenced)
		require.Equal(f, acknowledged, seen.Offsets[0].Offset)
		co = &coordinator{s: &f.suite, holder: brokers[to], lease: moved[0].Epoch}
	}
}
