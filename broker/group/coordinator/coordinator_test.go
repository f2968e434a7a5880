package coordinator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// besides is another group of the same shard.
func besides(id string) string {
	for i := 0; ; i++ {
		if other := fmt.Sprint("other", i); ShardOf(other, testShards) == ShardOf(id, testShards) {
			return other
		}
	}
}

const whole = 10 * time.Second

func (n *node) member(groupID string) *member {
	return &member{n: n, group: groupID, gen: -1, session: whole}
}

func TestGroupsMoveWithTheirShards(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start(nil)
		m := a.member("g")
		require.ErrorIs(t, m.join(), ErrNotCoordinator, "nothing is led yet")
		a.acquire()
		require.NoError(t, m.join())
		require.NoError(t, m.commit(0, 42))

		b := w.start(nil)
		_, err := b.committed("g", 0)
		require.ErrorIs(t, err, ErrNotCoordinator)
		a.fence() // kill -9, as others see it
		b.acquire()
		got, err := b.committed("g", 0)
		require.NoError(t, err)
		require.EqualValues(t, 42, got)
		require.ErrorIs(t, m.commit(0, 41), ErrNotCoordinator, "a coordinator that is fenced and does not know cannot commit")

		// The member goes on with what it has, and has a full session from the take-over on.
		m.n = b
		<-time.After(whole - time.Millisecond)
		require.NoError(t, m.heartbeat())
		require.Equal(t, "Stable", b.phase("g"))
		<-time.After(whole + time.Millisecond)
		require.Equal(t, codeError(25), m.heartbeat(), "UNKNOWN_MEMBER_ID")
	})
}

func TestCommitsGatherWhileOneIsInFlight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		gate := make(chan struct{})
		n.plan.Next(faulty.Fault{Op: faulty.OpWriteGroups, Kind: faulty.Slow, Gate: gate})
		const members = 1000
		var acked atomic.Int64
		var all sync.WaitGroup
		all.Go(func() { require.NoError(t, n.member("g").commit(0, 7)) })
		synctest.Wait()
		for i := range members {
			all.Go(func() {
				require.NoError(t, n.member("g").commit(int32(i), int64(i)))
				acked.Add(1)
			})
		}
		synctest.Wait()
		require.Zero(t, acked.Load(), "nothing is durable yet")
		got, err := n.committed("g", 0)
		require.NoError(t, err)
		require.EqualValues(t, -1, got, "nor told")
		close(gate)
		all.Wait()
		require.Len(t, n.statements(), 2, "the one, and all others together")
		for i := range members {
			got, err := n.committed("g", int32(i))
			require.NoError(t, err)
			require.EqualValues(t, i, got)
		}
	})
}

func TestGroupsOfAShardShareStatements(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(func(c *Config) { c.MaxChanges = 10 })
		n.acquire()
		var all sync.WaitGroup
		const groups = 300
		for i := range groups {
			all.Go(func() { require.NoError(t, n.member(fmt.Sprint("g", i)).commit(0, int64(i))) })
		}
		all.Wait()
		total := 0
		for _, groups := range n.statements() {
			require.LessOrEqual(t, groups, 10)
			total += groups
		}
		require.Equal(t, groups, total)
		var seen int
		require.NoError(t, n.Each(t.Context(), func(*group.Group) { seen++ }))
		require.Equal(t, groups, seen)
	})
}

func TestNobodyIsThrownOutForAnOutageOfTheCatalog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		m, dead := n.member("g"), n.member(besides("g"))
		require.NoError(t, m.join())
		require.NoError(t, dead.join())

		// 30 s without a catalog. Its members heartbeat; their commits are answered after 5 s each, with something to try again.
		gone := n.plan.Calls(faulty.OpWriteGroups)
		n.plan.Add(faulty.Fault{Op: faulty.OpWriteGroups, Index: gone, Count: 36, Kind: faulty.Refuse})
		began := time.Now()
		refused := 0
		for time.Since(began) < 30*time.Second {
			asked := time.Now()
			require.ErrorIs(t, m.commit(0, 9), ErrUnavailable)
			require.Equal(t, 5*time.Second, time.Since(asked))
			refused++
			require.NoError(t, m.heartbeat(), "heartbeats are answered from memory")
		}
		require.Equal(t, 6, refused)
		require.NoError(t, m.commit(0, 10))
		got, err := n.committed("g", 0)
		require.NoError(t, err)
		require.EqualValues(t, 10, got)
		require.NoError(t, m.heartbeat())
		require.NoError(t, n.plan.Verify())

		// One that said nothing is gone, though: its session ran out, and the rest was durable.
		require.Equal(t, codeError(25), dead.heartbeat())
	})
}

func TestAMemberWhoseAnswerIsHeldUpKeepsItsMembership(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		gate := make(chan struct{})
		n.plan.Add(faulty.Fault{Op: faulty.OpWriteGroups, Count: 100, Kind: faulty.Slow, Gate: gate})
		m := n.member("g")
		joined := make(chan error, 1)
		go func() { joined <- m.join() }()
		synctest.Wait()
		// Its JoinGroup made it a member, and its session of 10 s runs; but it could not be told for 30 s.
		<-time.After(30 * time.Second)
		require.ErrorIs(t, <-joined, ErrUnavailable)
		require.Len(t, membersOf(t, n, "g"), 1)
		close(gate)
		synctest.Wait()
		<-time.After(whole - time.Second)
		require.Len(t, membersOf(t, n, "g"), 1, "a full session from when the write was durable")
		<-time.After(61 * time.Second)
		require.Empty(t, membersOf(t, n, "g"))
	})
}

func membersOf(t *testing.T, n *node, id string) (ids []string) {
	t.Helper()
	require.NoError(t, n.Read(t.Context(), id, func(g *group.Group) {
		for _, m := range g.Members() {
			ids = append(ids, m.ID)
		}
	}))
	return ids
}

func TestNobodyIsThrownOutForAStopOfTheProcess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		m := n.member("g")
		require.NoError(t, m.join())
		// SIGSTOP for 30 s, as far as it can be had in a bubble: whoever wants to do something waits at the engine. The member's
		// heartbeats of that time lie unread.
		stopped := make(chan struct{})
		n.e.mu.Lock()
		n.e.stopped = stopped
		n.e.mu.Unlock()
		<-time.After(30 * time.Second)
		n.e.mu.Lock()
		n.e.stopped = nil
		n.e.mu.Unlock()
		close(stopped)
		synctest.Wait()
		<-time.After(whole - time.Second)
		require.NoError(t, m.heartbeat())
		<-time.After(whole + time.Second)
		require.Equal(t, codeError(25), m.heartbeat())
	})
}

func TestALeaseThatIsNotTrustedSuspendsTheShard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		m := n.member("g")
		require.NoError(t, m.join())
		// A second one joins and waits for the first.
		second := n.member("g")
		waited := make(chan error, 1)
		go func() { waited <- second.join() }()
		synctest.Wait()
		loads := n.loads
		n.e.change(func() { n.e.doubtful = true })
		synctest.Wait()
		require.ErrorIs(t, <-waited, ErrNotCoordinator)
		require.ErrorIs(t, m.heartbeat(), ErrNotCoordinator)
		require.ErrorIs(t, m.commit(0, 1), ErrNotCoordinator)
		require.ErrorIs(t, n.Read(t.Context(), "g", func(*group.Group) {}), ErrNotCoordinator)
		<-time.After(30 * time.Second)
		n.e.change(func() { n.e.doubtful = false })
		synctest.Wait()
		require.Equal(t, loads, n.loads, "it was not read again: nobody else can have written")
		<-time.After(whole - time.Second)
		require.Equal(t, codeError(27), m.heartbeat(), "REBALANCE_IN_PROGRESS, as before: it is a member still")
	})
}

func TestAFencedCoordinatorServesAgainUnderItsNextLease(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		m := n.member("g")
		m.id, m.gen = "", -1
		require.NoError(t, m.commit(0, 1))
		n.fence()
		require.ErrorIs(t, m.commit(0, 2), ErrNotCoordinator)
		// The engine does not know yet. Nothing is read under the lease that is over.
		loads := n.loads
		<-time.After(10 * time.Second)
		_, err := n.committed("g", 0)
		require.ErrorIs(t, err, ErrNotCoordinator)
		require.Equal(t, loads, n.loads)
		n.register()
		n.acquire()
		got, err := n.committed("g", 0)
		require.NoError(t, err)
		require.EqualValues(t, 1, got)
		require.NoError(t, m.commit(0, 2))
	})
}

func TestLoadingIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := make(chan struct{})
		n := w.start(nil, faulty.Fault{Op: faulty.OpReadGroups, Count: 3, Kind: faulty.Slow, Gate: gate})
		n.acquire()
		require.ErrorIs(t, n.member("g").heartbeat(), ErrLoading)
		require.ErrorIs(t, n.Each(t.Context(), func(*group.Group) {}), ErrLoading)
		close(gate)
		synctest.Wait()
		require.Equal(t, codeError(25), n.member("g").heartbeat())
	})
}

func TestAnAbandonedJoinLeavesNothingBehind(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		m := n.member("g")
		require.NoError(t, m.join())
		second := kmsg.NewPtrJoinGroupRequest()
		second.Version, second.Group, second.ProtocolType, second.SessionTimeoutMillis, second.RebalanceTimeoutMillis = 3, "g", "consumer", 10_000, 60_000
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name = "range"
		second.Protocols = append(second.Protocols, p)
		ctx, gone := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, err := n.Do(ctx, "g", second, host)
			waited <- err
		}()
		synctest.Wait()
		gone()
		require.ErrorIs(t, <-waited, context.Canceled)
		synctest.Wait()
		s := n.slots[n.ShardOf("g")].shard.Load()
		require.Empty(t, s.work.tokens)
		require.Zero(t, s.mu.waiting)
	})
}

func TestRequestsBeyondTheBoundAreRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(func(c *Config) { c.MaxGroups, c.MaxWaiting = 5, 20 })
		n.acquire()
		for i := range 5 {
			require.NoError(t, n.member(fmt.Sprint("g", i)).commit(0, 1))
		}
		require.ErrorIs(t, n.member("g5").commit(0, 1), ErrUnavailable)
		require.NoError(t, n.member("g1").commit(0, 2))

		gate := make(chan struct{})
		n.plan.Next(faulty.Fault{Op: faulty.OpWriteGroups, Kind: faulty.Slow, Gate: gate})
		var all sync.WaitGroup
		var refused atomic.Int64
		for range 30 {
			all.Go(func() {
				if err := n.member("g1").commit(0, 3); err != nil {
					require.ErrorIs(t, err, ErrUnavailable)
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		require.EqualValues(t, 10, refused.Load())
		close(gate)
		all.Wait()
		require.EqualValues(t, 10, refused.Load())
	})
}

func TestGroupsThatAreGoneAreForgotten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		require.Equal(t, codeError(25), n.member("g").heartbeat())
		synctest.Wait() // it is answered before what it left is forgotten
		require.Zero(t, n.groups.Load(), "a heartbeat makes no group")
		require.NoError(t, n.member("g").commit(0, 1))
		require.EqualValues(t, 1, n.groups.Load())
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Version, del.Groups = 2, []string{"g"}
		resp, err := n.ask("g", del)
		require.NoError(t, err)
		require.Zero(t, resp.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode)
		synctest.Wait()
		require.Zero(t, n.groups.Load())
		_, err = w.cat.ReadGroup(t.Context(), "g")
		require.ErrorIs(t, err, catalog.ErrNotFound)
	})
}

func TestStopAnswersWhatWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.start(nil)
		n.acquire()
		require.NoError(t, n.member("g").join())
		waited := make(chan error, 2)
		go func() { waited <- n.member("g").join() }()
		gate := make(chan struct{})
		n.plan.Next(faulty.Fault{Op: faulty.OpWriteGroups, Kind: faulty.Slow, Gate: gate})
		go func() { waited <- n.member("h").commit(0, 1) }()
		synctest.Wait()
		n.stop()
		require.ErrorIs(t, <-waited, ErrNotCoordinator)
		require.ErrorIs(t, <-waited, ErrNotCoordinator)
		require.ErrorIs(t, n.member("g").heartbeat(), ErrNotCoordinator)
	})
}
