package coordinator

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// life is a group's life with one coordinator and the next: each step is tried until it succeeds, as clients do.
func life(t *testing.T, fault *faulty.Fault) (calls map[faulty.Op]int) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var faults []faulty.Fault
		if fault != nil {
			faults = append(faults, *fault)
		}
		a := w.start(nil, faults...)
		a.acquire()
		m := a.member("g")
		until(t, m.join)
		acked := int64(0)
		commit := func() {
			acked++
			until(t, func() error { return m.commit(3, acked) })
		}
		commit()
		commit()
		until(t, m.heartbeat)
		other := &member{n: a, group: besides("g"), gen: -1}
		until(t, func() error { return other.commit(1, 5) })
		commit()

		// What was acknowledged is in the catalog, and nothing older.
		rec, err := w.cat.ReadGroup(t.Context(), "g")
		require.NoError(t, err)
		require.Len(t, rec.Members, 1)
		require.Len(t, rec.Offsets, 1)
		require.Equal(t, acked, rec.Offsets[0].Offset)

		// kill -9; the next one, with the same faults to come, goes on.
		calls = map[faulty.Op]int{faulty.OpReadGroups: a.plan.Calls(faulty.OpReadGroups), faulty.OpWriteGroups: a.plan.Calls(faulty.OpWriteGroups)}
		a.fence()
		b := w.start(nil, faults...)
		b.acquire()
		m.n = b
		until(t, m.heartbeat) // under the generation of before: nobody had to join again
		got := int64(-1)
		until(t, func() (err error) { got, err = b.committed("g", 3); return err })
		require.Equal(t, acked, got)
		commit()
		commit()
		until(t, func() (err error) { got, err = b.committed("g", 3); return err })
		require.Equal(t, acked, got)
		if fault != nil {
			require.NoError(t, a.plan.Verify())
		}
		require.Equal(t, "Stable", b.phase("g"))
		for _, n := range []*node{a, b} {
			for i := range n.slots {
				if s := n.slots[i].shard.Load(); s != nil {
					require.Zero(t, s.mu.waiting, "everybody was answered")
					require.Empty(t, s.work.tokens)
				}
			}
		}
	})
	return calls
}

// until tries what may fail for a while.
func until(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for range 200 {
		if err = try(); err == nil {
			return
		}
		pauseFor(100 * time.Millisecond)
	}
	require.NoError(t, err)
}

// pauseFor lets virtual time pass.
func pauseFor(d time.Duration) { <-time.After(d) }

func TestEveryCallFails(t *testing.T) {
	calls := life(t, nil)
	require.Positive(t, calls[faulty.OpReadGroups])
	require.Greater(t, calls[faulty.OpWriteGroups], 4)
	for op, n := range calls {
		for index := range n {
			for _, kind := range []faulty.Kind{faulty.Refuse, faulty.Lost, faulty.Slow} {
				f := faulty.Fault{Op: op, Index: index, Kind: kind, Delay: 7 * time.Second}
				t.Run(f.String(), func(t *testing.T) { life(t, &f) })
			}
		}
	}
}

// badMachine says something that no catalog takes.
type badMachine struct {
	*group.Group
	bad bool
}

func (b *badMachine) Step(now time.Time, e group.Event) group.Effects {
	eff := b.Group.Step(now, e)
	if eff.Change != nil && b.bad {
		eff.Change.Members = append(eff.Change.Members, catalog.GroupMember{ID: ""})
	}
	return eff
}

func TestAChangeThatCannotBeWrittenDoesNotStopTheShard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bad := besides("g")
		n := w.start(func(c *Config) {
			c.newGroup = func(id string, shard int32, cfg group.Config, topics group.Topics, now time.Time) machine {
				return &badMachine{group.New(id, shard, cfg, topics, now), id == bad}
			}
			c.loadGroup = func(rec catalog.GroupRecord, cfg group.Config, topics group.Topics, now time.Time) (machine, error) {
				g, err := group.Load(rec, cfg, topics, now)
				return &badMachine{g, false}, err
			}
		})
		n.acquire()
		m := n.member("g")
		require.NoError(t, m.commit(0, 1))
		require.ErrorIs(t, n.member(bad).commit(0, 1), ErrNotCoordinator)
		until(t, func() error { return m.commit(0, 2) })
		require.ErrorIs(t, n.member(bad).commit(0, 1), ErrNotCoordinator)
		until(t, func() error { return m.commit(0, 3) })
		rec, err := w.cat.ReadGroup(t.Context(), "g")
		require.NoError(t, err)
		require.EqualValues(t, 3, rec.Offsets[0].Offset)
		_, err = w.cat.ReadGroup(t.Context(), bad)
		require.ErrorIs(t, err, catalog.ErrNotFound)
	})
}

func TestAGroupThatDoesNotDecodeIsRefusedAndKept(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		require.NoError(t, n.member("g").commit(0, 1))
		n.fence()
		b := w.start(func(c *Config) {
			c.loadGroup = func(catalog.GroupRecord, group.Config, group.Topics, time.Time) (machine, error) {
				return nil, errors.New("of a later version")
			}
		})
		b.acquire()
		require.ErrorIs(t, b.member("g").commit(0, 2), ErrUnreadable)
		_, err := b.committed("g", 0)
		require.ErrorIs(t, err, ErrUnreadable, "it is not said to have no offsets")
		require.NoError(t, b.member(besides("g")).commit(0, 2))
		rec, err := w.cat.ReadGroup(t.Context(), "g")
		require.NoError(t, err)
		require.EqualValues(t, 1, rec.Offsets[0].Offset)
	})
}
