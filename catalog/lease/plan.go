package lease

import (
	"cmp"
	"math"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

// What keeps plans from flapping.
const (
	// slackShare: counts may differ from the mean by a fiftieth of it before anything moves.
	slackShare = 50
	// loadGap is by how much of the mean the busiest and the idlest broker may differ in bytes/s.
	loadGap = 0.25
	// loadFloor is the difference in bytes/s below which load moves nothing.
	loadFloor = 1 << 20
	// loadGain is the part of a difference that a swap must take away to be worth two moves.
	loadGain = 0.1
	// maxCandidates bounds how many leases of a broker are compared for one move.
	maxCandidates = 256
	// drainFactor: a broker that drains gives away this many times what others do.
	drainFactor = 5
)

// PlanInput is what a plan is made of.
type PlanInput struct {
	// View has the brokers and leases.
	View *View
	// Leaving are broker epochs that give all away on their own: nothing is planned from or to them.
	Leaving map[catalog.BrokerEpoch]bool
	// PerBroker is how many moves may be under way from one broker.
	PerBroker int
	// Load is in bytes/s, by partition; those absent have none. Nil: balance by count only.
	Load map[catalog.TopicPartition]float64
	// Recent tells which leases moved lately: they are not moved again for their load. Nil: none.
	Recent func(catalog.TopicPartition) bool
}

// Plan says which leases should move: a pure function, the same for the same input. In this order:
//
//   - Brokers that drain are emptied, into those that hold least.
//   - Counts are evened out once a broker is off the mean by more than 2 %: from who holds most to who holds least, never
//     more than it takes. So a broker that joined gets its share, and a move is never undone by a later plan.
//   - When nothing of that is to do or under way: bytes/s are evened out by swapping a busy lease for an idler one, once the
//     busiest and the idlest broker differ by more than 25 % of the mean and 1 MiB/s.
//
// Among leases that would do equally well, one is taken whose topic is spread worst over zones (racks), then over brokers,
// then one whose load evens out the two brokers. For load alone no topic gets more leases in a zone than the zone's share
// of brokers, rounded up.
//
// Moves asked for before and not done yet count as done, and towards PerBroker. Those that cannot be done any more, because
// the receiver is gone or drains, are withdrawn (To 0) or replaced. The controller's own lease moves only off brokers that
// drain.
func Plan(in PlanInput) []catalog.Move {
	p := newPlanner(&in)
	if len(p.seats) == 0 || !p.needed() {
		return nil
	}
	p.load()
	p.empty()
	p.evenCounts()
	if in.Load != nil && p.quiet() {
		p.evenLoad()
	}
	for i := range p.leases { // what nobody will do
		if l := &p.leases[i]; l.stale && !l.moved {
			p.moves = append(p.moves, catalog.Move{TopicPartition: l.tp})
		}
	}
	slices.SortFunc(p.moves, func(a, b catalog.Move) int { return a.Compare(b.TopicPartition) })
	return p.moves
}

// planner is a plan in the making.
type planner struct {
	in     *PlanInput
	seats  []place // that may hold leases
	all    map[catalog.BrokerEpoch]*giver
	leases []movable
	inZone []int // seats, by zone
	topics map[catalog.TopicID]*spread
	moves  []catalog.Move
}

// place is a seat with what it will hold.
type place struct {
	epoch catalog.BrokerEpoch
	zone  int
	count int
	load  float64
	has   []int // leases that can be moved, as index in planner.leases
}

// giver is a broker from which leases may move.
type giver struct {
	seat   int // -1: it drains
	budget int
	busy   bool // moves are under way
}

type movable struct {
	tp    catalog.TopicPartition
	giver *giver
	load  float64
	stale bool // it was asked for somebody who cannot have it
	moved bool
}

// spread is how the leases of a topic lie.
type spread struct {
	total  int
	byZone []int
	bySeat map[int]int
}

func newPlanner(in *PlanInput) *planner {
	p := &planner{in: in, all: make(map[catalog.BrokerEpoch]*giver), topics: make(map[catalog.TopicID]*spread)}
	zones := make(map[string]int)
	v := in.View
	for i := range v.brokers {
		b := &v.brokers[i]
		if int(v.byID[b.ID]) != i || in.Leaving[b.Epoch] {
			continue // an earlier epoch is about to be fenced; who leaves needs no advice
		}
		g := &giver{seat: -1, budget: in.PerBroker * drainFactor}
		if !b.Draining {
			z, ok := zones[b.Rack]
			if !ok {
				z = len(p.inZone)
				zones[b.Rack] = z
				p.inZone = append(p.inZone, 0)
			}
			p.inZone[z]++
			g.seat, g.budget = len(p.seats), in.PerBroker
			p.seats = append(p.seats, place{epoch: b.Epoch, zone: z})
		}
		p.all[b.Epoch] = g
	}
	return p
}

// needed looks at the leases quickly and tells whether there can be anything to plan: mostly there is not.
func (p *planner) needed() bool {
	counts, loads := make([]int, len(p.seats)), make([]float64, len(p.seats))
	for l := range p.in.View.All() {
		g := p.all[l.Holder]
		if g == nil {
			continue
		}
		if g.seat < 0 || l.Wanted != 0 {
			return true
		}
		counts[g.seat]++
		if p.in.Load != nil {
			loads[g.seat] += p.in.Load[l.TopicPartition]
		}
	}
	for i := range p.seats {
		p.seats[i].count = counts[i]
	}
	_, _, due := p.share()
	for i := range p.seats {
		p.seats[i].count = 0 // counted again, exactly
	}
	return due || slices.Max(loads)-slices.Min(loads) > loadFloor
}

// share is what each seat should hold, and whether they are far enough from it.
func (p *planner) share() (low, high int, due bool) {
	total, n := 0, len(p.seats)
	for i := range p.seats {
		total += p.seats[i].count
	}
	low, high = total/n, (total+n-1)/n
	slack := low / slackShare
	for i := range p.seats {
		due = due || p.seats[i].count > high+slack || p.seats[i].count < low-slack
	}
	return low, high, due
}

// load takes all leases in.
func (p *planner) load() {
	at := make(map[catalog.BrokerEpoch]int, len(p.seats))
	for i := range p.seats {
		at[p.seats[i].epoch] = i
	}
	for l := range p.in.View.All() {
		g := p.all[l.Holder]
		if g == nil {
			continue
		}
		seat := g.seat
		wanted, ok := at[l.Wanted]
		pending := ok && l.Wanted != l.Holder
		if pending {
			g.budget--
			g.busy = true
			seat = wanted
		}
		load := p.in.Load[l.TopicPartition]
		if seat >= 0 {
			s := &p.seats[seat]
			s.count++
			s.load += load
			p.spreadOf(l.Topic).add(seat, s.zone, 1)
		}
		if pending {
			continue
		}
		if g.seat >= 0 && l.TopicPartition != ControllerLease() {
			p.seats[seat].has = append(p.seats[seat].has, len(p.leases))
		}
		p.leases = append(p.leases, movable{tp: l.TopicPartition, giver: g, load: load, stale: l.Wanted != 0})
	}
}

func (p *planner) spreadOf(id catalog.TopicID) *spread {
	s := p.topics[id]
	if s == nil {
		s = &spread{byZone: make([]int, len(p.inZone)), bySeat: make(map[int]int)}
		p.topics[id] = s
	}
	return s
}

func (s *spread) add(seat, zone, n int) {
	s.total += n
	s.byZone[zone] += n
	s.bySeat[seat] += n
}

// quiet tells whether no move is planned or under way.
func (p *planner) quiet() bool {
	for _, g := range p.all {
		if g.busy {
			return false
		}
	}
	return len(p.moves) == 0
}

// move plans a move and counts it as done.
func (p *planner) move(i, to int) {
	l := &p.leases[i]
	sp := p.spreadOf(l.tp.Topic)
	if from := l.giver.seat; from >= 0 {
		s := &p.seats[from]
		s.count--
		s.load -= l.load
		sp.add(from, s.zone, -1)
		if at, ok := slices.BinarySearch(s.has, i); ok {
			s.has = slices.Delete(s.has, at, at+1)
		}
	}
	s := &p.seats[to]
	s.count++
	s.load += l.load
	sp.add(to, s.zone, 1)
	l.giver.budget--
	l.moved = true
	p.moves = append(p.moves, catalog.Move{TopicPartition: l.tp, To: s.epoch})
}

// crowd is how thick a topic's leases lie where seat is: in its zone, by broker, and at the broker itself.
func (p *planner) crowd(topic catalog.TopicID, seat int) (zone float64, own int) {
	sp := p.spreadOf(topic)
	z := p.seats[seat].zone
	return float64(sp.byZone[z]) / float64(p.inZone[z]), sp.bySeat[seat]
}

// least are the seats with the smallest count, at most four of a zone: enough to choose from.
func (p *planner) least() []int {
	smallest := math.MaxInt
	for i := range p.seats {
		smallest = min(smallest, p.seats[i].count)
	}
	var out []int
	taken := make([]int, len(p.inZone))
	for i := range p.seats {
		if s := &p.seats[i]; s.count == smallest && taken[s.zone] < 4 {
			taken[s.zone]++
			out = append(out, i)
		}
	}
	return out
}

// empty moves everything off brokers that drain.
func (p *planner) empty() {
	for i := range p.leases {
		l := &p.leases[i]
		if l.giver.seat >= 0 || l.giver.budget <= 0 {
			continue
		}
		best := -1
		for _, to := range p.least() {
			if best < 0 || p.worseFor(l.tp.Topic, best, to) {
				best = to
			}
		}
		p.move(i, best)
	}
}

// worseFor tells whether seat a suits a lease of the topic less than b does.
func (p *planner) worseFor(topic catalog.TopicID, a, b int) bool {
	az, ao := p.crowd(topic, a)
	bz, bo := p.crowd(topic, b)
	return cmp.Or(cmp.Compare(az, bz), cmp.Compare(ao, bo), cmp.Compare(p.seats[a].load, p.seats[b].load)) > 0
}

// evenCounts moves leases from who holds most to who holds least.
func (p *planner) evenCounts() {
	low, high, due := p.share()
	for due {
		to := p.least()
		from := -1
		for i := range p.seats {
			s := &p.seats[i]
			if p.all[s.epoch].budget > 0 && len(s.has) > 0 && (from < 0 || s.count > p.seats[from].count) {
				from = i
			}
		}
		if from < 0 {
			return
		}
		most, least := p.seats[from].count, p.seats[to[0]].count
		if most-least < 2 || most <= low || most <= high && least >= low {
			return // most <= low: those above their share have given what they may for now
		}
		lease, seat := p.bestMove(from, to)
		p.move(lease, seat)
	}
}

// bestMove picks the lease of from, and the receiver, that mend most of what is uneven beside the counts.
func (p *planner) bestMove(from int, to []int) (lease, seat int) {
	type score struct{ zone, own, load float64 }
	var best score
	lease = -1
	has := p.seats[from].has
	stride := max(1, len(has)/maxCandidates)
	for at := 0; at < len(has); at += stride {
		l := &p.leases[has[at]]
		fz, fo := p.crowd(l.tp.Topic, from)
		for _, s := range to {
			tz, to := p.crowd(l.tp.Topic, s)
			got := score{own: float64(fo - to), load: -math.Abs((p.seats[from].load-p.seats[s].load)/2 - l.load)}
			if p.seats[s].zone != p.seats[from].zone {
				got.zone = fz - tz
			}
			if lease < 0 || cmp.Or(cmp.Compare(got.zone, best.zone), cmp.Compare(got.own, best.own), cmp.Compare(got.load, best.load)) > 0 {
				best, lease, seat = got, has[at], s
			}
		}
	}
	return lease, seat
}
