package lease_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// settling is how long a fleet of the tests takes at most until all is led and even.
const settling = 20 * time.Second

// long chooses how long something takes: `make fleet-sim` sets FLEET_SIM=long, other runs are to be quick.
func long[T any](quick, long T) T {
	if os.Getenv("FLEET_SIM") == "long" {
		return long
	}
	return quick
}

// sim is a fleet in one bubble.
type sim struct {
	t       *testing.T
	shared  *memory.Catalog
	history *history
	nodes   []*node // running
	total   int
	twins   sync.Map     // nodes told that another process has their id
	fences  sync.Map     // broker epochs fenced by managers; several may do so at once
	moves   atomic.Int64 // partitions handed over
	hooks   lease.Hooks  // Acquired and Adopted of brokers that start
	links   uint64
}

// node is one process.
type node struct {
	*engine

	m    *lease.Manager
	kill context.CancelFunc
	wg   sync.WaitGroup
}

// newSim makes a cluster with the internal topics and one of partitions, and brokers of these ids.
func newSim(t *testing.T, partitions int32, ids ...catalog.BrokerID) *sim {
	t.Helper()
	s := &sim{t: t, shared: memory.New(nil), history: &history{parts: make(map[catalog.TopicPartition]*committed)}}
	require.NoError(t, lease.EnsureInternal(t.Context(), s.shared))
	_, err := s.shared.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: partitions})
	require.NoError(t, err)
	s.total = int(partitions) + 101
	for _, id := range ids {
		s.start(id)
	}
	t.Cleanup(func() {
		for _, n := range slices.Clone(s.nodes) {
			s.crash(n)
		}
	})
	return s
}

// start starts a process of a broker id.
func (s *sim) start(id catalog.BrokerID) *node {
	s.t.Helper()
	s.links++
	ctx, kill := context.WithCancel(context.Background())
	n := &node{kill: kill}
	n.engine = &engine{
		link: newLink(s.shared.Open(), s.links), history: s.history, id: id, rack: string(rune('a' + id%3)), ctx: ctx, wg: &n.wg,
		flight: make(chan struct{}, 1), held: make(map[catalog.TopicPartition]*lead),
	}
	m, err := lease.New(lease.Config{
		Catalog: n.link, Fleet: n.link, Partitions: n.engine, Logger: slog.New(slog.DiscardHandler),
		Hooks: lease.Hooks{
			Acquired: s.hooks.Acquired, Adopted: s.hooks.Adopted,
			Superseded: func(catalog.Broker) { s.twins.Store(n, true) },
			Fenced:     func(b catalog.Broker, _ catalog.FenceReason) { s.fences.Store(b.Epoch, true) },
			HandedOver: func(partitions int, _ time.Duration, err error) {
				if err == nil {
					s.moves.Add(int64(partitions))
				}
			},
		},
	})
	require.NoError(s.t, err)
	n.m, n.begun, n.again = m, m.Beat, m.Wake
	n.wg.Go(func() { m.Run(ctx) })
	n.wg.Go(n.session)
	n.wg.Go(n.appends)
	n.wg.Go(n.speaks)
	s.nodes = append(s.nodes, n)
	return n
}

// crash ends a process without a word.
func (s *sim) crash(n *node) {
	s.t.Helper()
	n.kill()
	require.NoError(s.t, n.link.Close())
	n.link.resume()
	n.wg.Wait()
	s.nodes = slices.DeleteFunc(s.nodes, func(o *node) bool { return o == n })
}

// drain is what SIGTERM does.
func (s *sim) drain(n *node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := n.m.Drain(ctx)
	if epoch := n.Epoch(); epoch != 0 {
		_ = n.link.FenceBroker(ctx, epoch, catalog.FenceResigned)
	}
	s.crash(n)
	return err
}

// fenced are the broker epochs that managers fenced so far.
func (s *sim) fenced() (out []catalog.BrokerEpoch) {
	s.fences.Range(func(epoch, _ any) bool {
		out = append(out, epoch.(catalog.BrokerEpoch))
		return true
	})
	return out
}

func (s *sim) superseded() (out []*node) {
	s.twins.Range(func(n, _ any) bool {
		out = append(out, n.(*node))
		return true
	})
	return out
}

// node is the running process of a broker id.
func (s *sim) node(id catalog.BrokerID) *node {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *node) bool { return n.id == id })]
}

func (s *sim) pass(d time.Duration) {
	pause(context.Background(), d)
	synctest.Wait()
}

func (s *sim) sound() {
	s.t.Helper()
	s.history.mu.Lock()
	defer s.history.mu.Unlock()
	require.Empty(s.t, s.history.wrong)
}

// allLed checks that every partition is appended to, by the running.
func (s *sim) allLed(what string) {
	s.t.Helper()
	s.sound()
	running := make(map[catalog.BrokerEpoch]bool)
	for _, n := range s.nodes {
		running[n.Epoch()] = true
	}
	led := s.history.led()
	require.Len(s.t, led, s.total, what)
	for tp, last := range led {
		require.True(s.t, running[last.by], "%s: %s is led by broker epoch %d", what, tp, last.by)
	}
	for _, n := range s.nodes { // and all know it
		v := n.m.View()
		for tp, last := range led {
			b, lease, ok := v.LeaderOf(tp)
			require.True(s.t, ok, "%s: %s", what, tp)
			if lease <= last.lease { // otherwise it moved just now, and nothing was committed since
				require.Equal(s.t, last.by, b.Epoch, "%s: %s at broker %d", what, tp, n.id)
			}
		}
	}
}

func (s *sim) held() (out []int) {
	for _, n := range s.nodes {
		out = append(out, len(n.Held()))
	}
	return out
}

func (s *sim) balanced(what string) {
	s.t.Helper()
	counts := s.held()
	require.LessOrEqual(s.t, slices.Max(counts)-slices.Min(counts), 2+s.total/len(counts)/20, "%s: %v", what, counts)
}

func TestFleetStarts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 200, 1, 2, 3)
		s.pass(3 * time.Second)
		s.allLed("started")
		s.pass(20 * time.Second)
		s.allLed("balanced")
		s.balanced("balanced")
		moved := s.moves.Load()
		require.Less(t, moved, int64(40), "those that start together share what is free, before any of it moves")
		s.pass(long(2*time.Minute, 10*time.Minute))
		require.Equal(t, moved, s.moves.Load(), "nothing flaps")
		require.Empty(t, s.fenced())
		c, ok := s.nodes[0].m.View().Controller()
		require.True(t, ok)
		require.NotZero(t, c.Epoch)
	})
}

func TestCrashIsNoticedAtOnce(t *testing.T) {
	for _, brokers := range []int{2, 3, 10} {
		t.Run(fmt.Sprint(brokers), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var ids []catalog.BrokerID
				for i := range brokers {
					ids = append(ids, catalog.BrokerID(i+1))
				}
				s := newSim(t, 300, ids...)
				s.pass(settling)
				s.allLed("before")
				var dead []catalog.BrokerEpoch
				for range 3 { // also the controller, sooner or later
					s.history.mark()
					n := s.nodes[0]
					dead = append(dead, n.Epoch())
					s.crash(n)
					s.pass(2 * time.Second)
					require.Less(t, s.history.worst(), time.Second)
					s.allLed("after a crash")
					s.start(n.id)
					s.pass(settling)
				}
				require.ElementsMatch(t, dead, s.fenced(), "these and no others")
				s.balanced("after three crashes")
			})
		})
	}
}

func TestCrashOfAll(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 100, 1, 2, 3)
		s.pass(10 * time.Second)
		for _, n := range slices.Clone(s.nodes) {
			s.crash(n)
		}
		for id := range catalog.BrokerID(3) {
			s.start(id + 1)
		}
		s.history.mark()
		s.pass(2 * time.Second)
		s.allLed("the processes before are known to be dead: they had the same ids")
		require.Less(t, s.history.worst(), 1500*time.Millisecond)
	})
}

func TestSilentCut(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 200, 1, 2, 3)
		s.pass(settling)
		for i := range 3 {
			n := s.nodes[i]
			s.history.mark()
			n.link.cutOff()
			s.pass(12 * time.Second)
			require.Less(t, s.history.worst(), 10*time.Second)
			require.Greater(t, s.history.worst(), 3*time.Second, "nobody can know earlier")
			n.link.heal()
			s.pass(settling)
			s.allLed("healed")
			s.balanced("healed")
		}
		require.Len(t, s.fenced(), 3)
	})
}

// TestCutSeenByOthersFirst: the database finds a connection dead that its broker still believes in. The others fence it long
// before its session ends, and it says nothing of what they lead since.
func TestCutSeenByOthersFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 200, 1, 2, 3)
		s.pass(settling)
		for i := range 3 {
			n := s.nodes[i]
			s.history.mark()
			n.mu.Lock()
			before := n.said
			n.mu.Unlock()
			require.Greater(t, before, 50, "it speaks as long as it leads")
			n.link.cutOff()
			n.link.Drop()
			s.pass(1500 * time.Millisecond)
			require.Less(t, s.history.worst(), time.Second)
			require.Len(t, s.fenced(), i+1)
			s.pass(sessionTTL)
			s.sound()
			n.link.heal()
			s.pass(settling)
			s.allLed("healed")
			s.balanced("healed")
		}
	})
}

// TestAttachesWhileCallsHang: a broker that waits for an answer about something else, and loses its attachment meanwhile, is
// attached again before anybody takes it for dead.
func TestAttachesWhileCallsHang(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 100, 1, 2, 3)
		s.pass(settling)
		n := s.nodes[0]
		stuck := make(chan struct{})
		n.link.set(func() { n.link.mu.stuck = stuck })
		s.pass(1500 * time.Millisecond) // its manager waits for the leases
		n.link.Drop()
		s.pass(3 * time.Second)
		require.Empty(t, s.fenced())
		n.link.set(func() { n.link.mu.stuck = nil })
		close(stuck)
		s.pass(settling)
		require.Empty(t, s.fenced())
		s.allLed("after all")
	})
}

func TestStoppedProcessGoesOn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 200, 1, 2, 3)
		s.pass(settling)
		n := s.nodes[1]
		n.link.freeze()
		s.pass(15 * time.Second)
		old := n.Epoch()
		n.link.resume()
		s.pass(settling)
		require.Greater(t, n.Epoch(), old, "it registered anew")
		s.allLed("it goes on")
		s.balanced("it goes on")
	})
}

func TestDrain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 500, 1, 2, 3)
		s.pass(2 * settling)
		for range 4 { // a rolling restart, and the first once more
			n := s.nodes[0]
			s.history.mark()
			require.NoError(t, s.drain(n))
			s.pass(time.Second)
			require.Less(t, s.history.worst(), 250*time.Millisecond)
			s.pass(settling) // what is left is evened out: until then a lease may be on its way
			s.allLed("drained")
			s.start(n.id)
			s.pass(2 * settling)
			require.Less(t, s.history.worst(), 250*time.Millisecond, "it joins again")
			s.balanced("restarted")
		}
		require.Empty(t, s.fenced())
		require.NoError(t, s.drain(s.nodes[0]))
		require.NoError(t, s.drain(s.nodes[0]))
		require.ErrorIs(t, s.drain(s.nodes[0]), lease.ErrAlone)
	})
}

// A receiver may have read the leases for another reason a moment ago, a hand-over to somebody else perhaps. What counts for
// it must not have to wait because of that.
func TestDrainWhereReadingTakesTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 500, 1, 2, 3)
		s.pass(2 * settling)
		for _, n := range s.nodes {
			n.link.set(func() { n.link.mu.slow = 40 * time.Millisecond })
		}
		n := s.nodes[0]
		for _, other := range s.nodes[1:] {
			_, err := other.m.Refresh(t.Context())
			require.NoError(t, err)
		}
		s.history.mark()
		require.NoError(t, s.drain(n))
		s.pass(time.Second)
		require.Less(t, s.history.worst(), 250*time.Millisecond)
		s.pass(settling)
		s.allLed("drained")
	})
}

func TestJoin(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 899, 1, 2, 3)
		s.pass(time.Minute) // the first broker takes nearly all, and gives 20 a second away
		s.history.mark()
		n := s.start(4)
		s.pass(10 * time.Second)
		require.GreaterOrEqual(t, len(n.Held()), 235)
		s.balanced("joined")
		s.allLed("joined")
		require.Less(t, s.history.worst(), 250*time.Millisecond)
		before := s.moves.Load()
		s.pass(long(2*time.Minute, 10*time.Minute))
		require.Equal(t, before, s.moves.Load(), "nothing flaps")
	})
}

func TestOperatorDrains(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 300, 1, 2, 3)
		s.pass(settling)
		s.history.mark()
		require.NoError(t, s.shared.SetDraining(t.Context(), 2, true))
		s.pass(10 * time.Second)
		require.Empty(t, s.nodes[1].Held())
		require.Less(t, s.history.worst(), 250*time.Millisecond)
		s.crash(s.nodes[0])
		s.pass(5 * time.Second)
		require.Empty(t, s.nodes[0].Held(), "it takes nothing either") // the second is the first now
		require.NoError(t, s.shared.SetDraining(t.Context(), 2, false))
		s.pass(30 * time.Second)
		s.balanced("taken back")
		s.allLed("taken back")
	})
}

// TestDatabaseRestart: everybody loses everything at once, also for longer than sessions last, and nobody is fenced for it.
func TestDatabaseRestart(t *testing.T) {
	for _, away := range []time.Duration{0, 400 * time.Millisecond, 3 * time.Second, 2 * sessionTTL} {
		t.Run(away.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSim(t, 100, 1, 2, 3, 4)
				s.pass(settling)
				moved := s.moves.Load()
				for _, n := range s.nodes {
					n.link.cutOff()
				}
				for _, n := range s.nodes {
					n.link.Drop()
				}
				pause(t.Context(), away)
				s.shared.Restarted()
				for _, n := range s.nodes { // who comes back first sees nobody
					n.link.heal()
					pause(t.Context(), 500*time.Millisecond)
				}
				s.pass(30 * time.Second)
				require.Empty(t, s.fenced())
				require.Equal(t, moved, s.moves.Load())
				s.allLed("after the restart")
			})
		})
	}
}

// TestOutageEnds: when the database is back, all look at once, however long it refused to answer.
func TestOutageEnds(t *testing.T) {
	for _, away := range []time.Duration{time.Second, 20 * time.Second, 23 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSim(t, 100, 1, 2, 3)
				s.pass(settling)
				for _, n := range s.nodes {
					n.link.set(func() { n.link.mu.down = true })
					n.link.Drop()
				}
				s.pass(away)
				_, err := s.shared.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{2}, Name: "made meanwhile", Partitions: 1})
				require.NoError(t, err)
				s.shared.Restarted()
				for _, n := range s.nodes {
					n.link.heal()
				}
				s.pass(1500 * time.Millisecond)
				for _, n := range s.nodes {
					_, _, led := n.m.View().LeaderOf(catalog.TopicPartition{Topic: catalog.TopicID{2}})
					require.True(t, led, "at broker %d", n.id)
				}
				s.pass(settling)
				require.Empty(t, s.fenced())
			})
		})
	}
}

// TestWakeUpsLost: heartbeats and the tick do what announcements would have done.
func TestWakeUpsLost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 100, 1, 2, 3)
		for _, n := range s.nodes {
			n.link.set(func() { n.link.mu.deaf = true })
		}
		s.pass(settling)
		s.allLed("deaf")
		s.balanced("deaf")
		s.history.mark()
		s.crash(s.nodes[0])
		s.pass(4 * time.Second)
		require.Less(t, s.history.worst(), 3*time.Second)
		s.allLed("deaf")
		require.NoError(t, s.drain(s.nodes[0]))
		s.pass(3 * time.Second)
		s.allLed("drained")
	})
}
