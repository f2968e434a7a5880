package lease_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
)

// world is a cluster without anything but brokers and leases.
type world struct {
	brokers []catalog.Broker
	leases  map[catalog.TopicPartition]catalog.Lease
	load    map[catalog.TopicPartition]float64
	leaving map[catalog.BrokerEpoch]bool
	version int64
	moved   map[catalog.TopicPartition]int
}

func newWorld() *world {
	return &world{
		leases: make(map[catalog.TopicPartition]catalog.Lease), load: make(map[catalog.TopicPartition]float64),
		leaving: make(map[catalog.BrokerEpoch]bool), moved: make(map[catalog.TopicPartition]int),
	}
}

func (w *world) add(rack string) catalog.BrokerEpoch {
	b := broker(catalog.BrokerEpoch(len(w.brokers)+1), catalog.BrokerID(len(w.brokers)+1))
	b.Rack = rack
	w.brokers = append(w.brokers, b)
	return b.Epoch
}

func (w *world) view() *lease.View {
	w.version++
	return lease.NewView(catalog.LeaseSet{Version: w.version, Leases: slices.Collect(maps.Values(w.leases))}, w.brokers)
}

func (w *world) plan(per int) []catalog.Move {
	return lease.Plan(lease.PlanInput{View: w.view(), PerBroker: per, Load: w.load, Leaving: w.leaving})
}

// ask notes moves, obey does those asked for, as the catalog and the holders would.
func (w *world) ask(t *testing.T, moves []catalog.Move) {
	t.Helper()
	for _, m := range moves {
		l := w.leases[m.TopicPartition]
		require.NotZero(t, l.Holder)
		require.NotEqual(t, l.Holder, m.To, "a move to its holder")
		require.NotEqual(t, l.Wanted, m.To, "asked for before")
		l.Wanted = m.To
		w.leases[m.TopicPartition] = l
	}
}

func (w *world) obey(choose func() bool) (n int) {
	for tp, l := range w.leases {
		if l.Wanted != 0 && choose() {
			l.Holder, l.Wanted = l.Wanted, 0
			l.Epoch++
			w.leases[tp] = l
			w.moved[tp]++
			n++
		}
	}
	return n
}

func always() bool { return true }

func (w *world) counts() map[catalog.BrokerEpoch]int {
	out := make(map[catalog.BrokerEpoch]int)
	for _, l := range w.leases {
		out[l.Holder]++
	}
	return out
}

func (w *world) loads() map[catalog.BrokerEpoch]float64 {
	out := make(map[catalog.BrokerEpoch]float64)
	for tp, l := range w.leases {
		out[l.Holder] += w.load[tp]
	}
	return out
}

// settle plans and obeys until there is nothing more to do, and returns the number of moves.
func (w *world) settle(t *testing.T, per int) (moves int) {
	t.Helper()
	for range 10_000 {
		planned := w.plan(per)
		if len(planned) == 0 {
			return moves
		}
		from := make(map[catalog.BrokerEpoch]int)
		draining := make(map[catalog.BrokerEpoch]bool)
		for i := range w.brokers {
			draining[w.brokers[i].Epoch] = w.brokers[i].Draining
		}
		for _, m := range planned {
			if holder := w.leases[m.TopicPartition].Holder; !draining[holder] {
				from[holder]++
			}
		}
		for b, n := range from {
			require.LessOrEqual(t, n, per, "moves under way from %d", b)
		}
		w.ask(t, planned)
		moves += w.obey(always)
	}
	t.Fatal("plans do not end")
	return 0
}

func TestPlanEvensCountsExactly(t *testing.T) {
	for _, brokers := range []int{1, 2, 3, 7} {
		for _, leases := range []int{0, 1, 2, 10, 101} {
			w := newWorld()
			for range brokers {
				w.add("")
			}
			for p := range leases {
				w.leases[tp(1, int32(p))] = catalog.Lease{TopicPartition: tp(1, int32(p)), Holder: 1}
			}
			moves := w.settle(t, 5)
			low := leases / brokers
			require.LessOrEqual(t, moves, leases-low, "moved more than the difference")
			for i := range brokers {
				n := w.counts()[catalog.BrokerEpoch(i+1)]
				require.True(t, n == low || n == low+1, "%d of %d leases at one of %d brokers", n, leases, brokers)
			}
		}
	}
}

func TestPlanOfAJoin(t *testing.T) {
	w := newWorld()
	for range 3 {
		w.add("")
	}
	for p := range int32(3000) {
		w.leases[tp(byte(p%10), p/10)] = catalog.Lease{TopicPartition: tp(byte(p%10), p/10), Holder: catalog.BrokerEpoch(1 + p%3)}
	}
	require.Empty(t, w.plan(20), "balanced")
	joined := w.add("")
	first := w.plan(20)
	require.Len(t, first, 60, "20 from each")
	moves := w.settle(t, 20)
	require.LessOrEqual(t, moves, 750)
	require.GreaterOrEqual(t, w.counts()[joined], 735, "its share, but for the slack")
	for tp, n := range w.moved {
		require.Equal(t, 1, n, "%s moved to and fro", tp)
	}
	for topic := range byte(10) {
		n := 0
		for tp, l := range w.leases {
			if tp.Topic[0] == topic && l.Holder == joined {
				n++
			}
		}
		require.InDelta(t, 75, n, 5, "of each topic alike")
	}
}

func TestPlanCountsAsksAsDone(t *testing.T) {
	w := newWorld()
	for range 2 {
		w.add("")
	}
	for p := range int32(100) {
		w.leases[tp(1, p)] = catalog.Lease{TopicPartition: tp(1, p), Holder: 1}
	}
	w.ask(t, w.plan(20))
	require.Empty(t, w.plan(20), "20 are under way")
	w.obey(func() bool { return len(w.moved) < 5 })
	require.Len(t, w.plan(20), 5)
	w.settle(t, 20)
	require.Equal(t, map[catalog.BrokerEpoch]int{1: 50, 2: 50}, w.counts())
}

func TestPlanEmptiesDrainingFirst(t *testing.T) {
	w := newWorld()
	for range 4 {
		w.add("")
	}
	for p := range int32(400) {
		w.leases[tp(1, p)] = catalog.Lease{TopicPartition: tp(1, p), Holder: catalog.BrokerEpoch(1 + p%4)}
	}
	w.leases[lease.ControllerLease()] = catalog.Lease{TopicPartition: lease.ControllerLease(), Holder: 2}
	w.brokers[1].Draining = true
	require.Equal(t, 101, w.settle(t, 5))
	require.Zero(t, w.counts()[2])
	w.brokers[1].Draining = false
	w.settle(t, 5)
	require.GreaterOrEqual(t, w.counts()[2], 98, "taken back: it gets its share again")

	for i := range w.brokers {
		w.brokers[i].Draining = true
	}
	require.Empty(t, w.plan(5), "nobody to move to")
}

func TestPlanLeavesTheControllerAlone(t *testing.T) {
	w := newWorld()
	w.add("")
	w.leases[lease.ControllerLease()] = catalog.Lease{TopicPartition: lease.ControllerLease(), Holder: 1}
	w.leases[tp(1, 0)] = catalog.Lease{TopicPartition: tp(1, 0), Holder: 1}
	w.add("")
	w.settle(t, 5)
	require.EqualValues(t, 1, w.leases[lease.ControllerLease()].Holder)
	require.EqualValues(t, 2, w.leases[tp(1, 0)].Holder)
}

func TestPlanWithdrawsWhatCannotBeDone(t *testing.T) {
	w := newWorld()
	for range 3 {
		w.add("")
	}
	for p := range int32(30) {
		w.leases[tp(1, p)] = catalog.Lease{TopicPartition: tp(1, p), Holder: catalog.BrokerEpoch(1 + p%3)}
	}
	stale := tp(1, 0)
	for _, spoil := range []func(){
		func() { w.ask(t, []catalog.Move{{TopicPartition: stale, To: 99}}) }, // fenced
		func() {
			w.ask(t, []catalog.Move{{TopicPartition: stale, To: 3}})
			w.leaving[3] = true
		},
	} {
		spoil()
		require.Equal(t, []catalog.Move{{TopicPartition: stale}}, w.plan(5))
		w.ask(t, w.plan(5))
		require.Empty(t, w.plan(5), "who leaves is neither given nor asked anything")
		clear(w.leaving)
	}
}

func TestPlanEvensLoad(t *testing.T) {
	w := newWorld()
	for range 3 {
		w.add("")
	}
	for p := range int32(30) {
		w.leases[tp(1, p)] = catalog.Lease{TopicPartition: tp(1, p), Holder: catalog.BrokerEpoch(1 + p%3)}
		if p%3 == 0 {
			w.load[tp(1, p)] = 10e6
		}
	}
	require.Equal(t, 100e6, w.loads()[1])
	w.settle(t, 20)
	for b, load := range w.loads() {
		require.InDelta(t, 33.3e6, load, 8e6, "broker %d", b)
	}
	require.Equal(t, map[catalog.BrokerEpoch]int{1: 10, 2: 10, 3: 10}, w.counts(), "swapped")

	// Noise moves nothing.
	for i := range 100 {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		noisy := maps.Clone(w.load)
		for tp := range noisy {
			noisy[tp] *= 0.99 + 0.02*rng.Float64()
		}
		require.Empty(t, lease.Plan(lease.PlanInput{View: w.view(), PerBroker: 20, Load: noisy}))
	}
	// What moved lately is left alone.
	for tp := range w.load {
		w.load[tp] = 0
	}
	for tp, l := range w.leases {
		if l.Holder == 1 {
			w.load[tp] = 5e6
		}
	}
	recent := func(catalog.TopicPartition) bool { return true }
	require.Empty(t, lease.Plan(lease.PlanInput{View: w.view(), PerBroker: 20, Load: w.load, Recent: recent}))
	require.NotEmpty(t, w.plan(20))
}

// TestPlanSpreadsOverZones: what moves evens out topics over zones, in proportion to their brokers.
func TestPlanSpreadsOverZones(t *testing.T) {
	w := newWorld()
	w.add("a")
	w.add("a")
	for topic := range byte(6) {
		for p := range int32(12) {
			w.leases[tp(topic, p)] = catalog.Lease{TopicPartition: tp(topic, p), Holder: catalog.BrokerEpoch(1 + (int32(topic)+p)%2)}
		}
	}
	require.Empty(t, w.plan(100))
	w.add("b")
	w.add("c")
	w.settle(t, 3)
	zones := map[catalog.BrokerEpoch]string{1: "a", 2: "a", 3: "b", 4: "c"}
	for topic := range byte(6) {
		n := make(map[string]int)
		for tp, l := range w.leases {
			if tp.Topic[0] == topic {
				n[zones[l.Holder]]++
			}
		}
		require.Equal(t, map[string]int{"a": 6, "b": 3, "c": 3}, n, "topic %d", topic)
	}

	// Load does not undo that: each topic keeps its share of each zone.
	for tp, l := range w.leases {
		if l.Holder == 3 {
			w.load[tp] = 20e6
		}
	}
	w.settle(t, 20)
	for topic := range byte(6) {
		n := make(map[string]int)
		for tp, l := range w.leases {
			if tp.Topic[0] == topic {
				n[zones[l.Holder]]++
			}
		}
		require.LessOrEqual(t, n["a"], 6)
		require.LessOrEqual(t, n["b"], 3)
		require.LessOrEqual(t, n["c"], 3)
	}
}

// TestPlanSwapsWhatFits: a busy lease finds a partner where every topic has its share of every zone already, and most of the
// idle ones are of other topics. Three real brokers with the internal topics came to stand so, and nothing moved.
func TestPlanSwapsWhatFits(t *testing.T) {
	w := newWorld()
	for _, zone := range []string{"a", "a", "b"} {
		w.add(zone)
	}
	for topic, counts := range map[byte][3]int{1: {17, 16, 17}, 2: {17, 17, 16}, 3: {4, 4, 4}} {
		p := int32(0)
		for b, n := range counts {
			for range n {
				w.leases[tp(topic, p)] = catalog.Lease{TopicPartition: tp(topic, p), Holder: catalog.BrokerEpoch(b + 1)}
				if topic == 3 && b == 2 && len(w.load) < 2 {
					w.load[tp(topic, p)] = 2e6
				}
				p++
			}
		}
	}
	require.Equal(t, 4e6, w.loads()[3])
	before := w.counts()
	w.settle(t, 20)
	require.Equal(t, 2e6, w.loads()[3])
	require.Equal(t, before, w.counts())
}

// TestPlanProperties: from any state plans come to an end, with the counts even, draining brokers empty, no lease moved
// for nothing, also when only some of the asks are obeyed between plans.
func TestPlanProperties(t *testing.T) {
	for seed := range long(uint64(50), uint64(1000)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			w := newWorld()
			for range 1 + rng.IntN(8) {
				w.add(string(rune('a' + rng.IntN(3))))
			}
			n, skew := rng.IntN(400), 1+rng.IntN(len(w.brokers))
			for i := range n {
				l := catalog.Lease{TopicPartition: tp(byte(rng.IntN(5)), int32(i)), Holder: catalog.BrokerEpoch(1 + rng.IntN(skew))}
				if rng.IntN(10) == 0 {
					l.Wanted = catalog.BrokerEpoch(1 + rng.IntN(len(w.brokers)+2)) // some of them unknown
					if l.Wanted == l.Holder {
						l.Wanted = 0
					}
				}
				w.leases[l.TopicPartition] = l
				if rng.IntN(3) == 0 {
					w.load[l.TopicPartition] = rng.ExpFloat64() * 1e6
				}
			}
			for i := range w.brokers {
				w.brokers[i].Draining = rng.IntN(6) == 0
			}
			active := 0
			for i := range w.brokers {
				if !w.brokers[i].Draining {
					active++
				}
			}
			// Obey some, plan again, in any order; and count plans until none comes.
			for range 3000 {
				moves := w.plan(1 + rng.IntN(20))
				pending := 0
				w.ask(t, moves)
				for _, l := range w.leases {
					if l.Wanted != 0 {
						pending++
					}
				}
				if pending == 0 || active == 0 {
					break
				}
				w.obey(func() bool { return rng.IntN(2) == 0 })
			}
			require.Empty(t, w.plan(20), "it comes to an end")
			if active == 0 {
				return
			}
			low, high := n/active, (n+active-1)/active
			slack := low / 50
			for i := range w.brokers {
				got := w.counts()[w.brokers[i].Epoch]
				if w.brokers[i].Draining {
					require.Zero(t, got)
					continue
				}
				require.GreaterOrEqual(t, got, low-slack-1)
				require.LessOrEqual(t, got, high+slack+1)
			}
			// Another broker: no lease moves twice for it, nor more than its share.
			clear(w.moved)
			w.load = map[catalog.TopicPartition]float64{}
			joined := w.add("b")
			moves := w.settle(t, 1+rng.IntN(20))
			require.LessOrEqual(t, moves, n/(active+1)+len(w.brokers))
			for tp, times := range w.moved {
				require.Equal(t, 1, times, tp)
			}
			require.GreaterOrEqual(t, w.counts()[joined], n/(active+1)-n/(active+1)/50-1)
		})
	}
}
