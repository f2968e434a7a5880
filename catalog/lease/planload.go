package lease

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// evenLoad swaps a lease of the busiest broker for one of the idlest, of the second busiest for one of the second idlest,
// and so on. Counts stay what they are, or one lease goes where one less is.
func (p *planner) evenLoad() {
	order := make([]int, len(p.seats))
	mean := 0.0
	for i := range order {
		order[i] = i
		mean += p.seats[i].load / float64(len(p.seats))
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.seats[b].load, p.seats[a].load) })
	for i := range len(order) / 2 {
		hot, cold := order[i], order[len(order)-1-i]
		if p.seats[hot].load-p.seats[cold].load <= max(loadGap*mean, loadFloor) {
			return
		}
		p.swap(hot, cold)
	}
}

// swap finds the pair of leases whose exchange brings two brokers closest, if it is worth it.
func (p *planner) swap(hot, cold int) {
	gap := p.seats[hot].load - p.seats[cold].load
	gives, takes := p.byLoad(hot), p.byLoad(cold)
	if len(gives) > maxCandidates {
		gives = gives[len(gives)-maxCandidates:] // the busiest
	}
	bestGive, bestTake, best := -1, -1, gap*(1-loadGain)
	// left is how far apart the two are after load has gone over.
	try := func(give, take int, load float64) {
		if left := math.Abs(gap - 2*load); load > 0 && left < best {
			bestGive, bestTake, best = give, take, left
		}
	}
	for _, give := range gives {
		l := &p.leases[give]
		fits := p.fits(give, cold)
		if fits && p.seats[hot].count > p.seats[cold].count {
			try(give, -1, l.load)
		}
		// The best partner has the load that is too much of l's. On either side of that the nearest is taken that suits the
		// zones: many of them may be of a topic that has its share there. Two of one topic always do.
		want := l.load - gap/2
		at := sort.Search(len(takes), func(i int) bool { return p.leases[takes[i]].load >= want })
		suits := func(take int) bool {
			return p.leases[take].tp.Topic == l.tp.Topic || fits && p.fits(take, hot)
		}
		for i := at; i < min(len(takes), at+maxCandidates); i++ {
			if take := takes[i]; suits(take) {
				try(give, take, l.load-p.leases[take].load)
				break
			}
		}
		for i := at - 1; i >= max(0, at-maxCandidates); i-- {
			if take := takes[i]; suits(take) {
				try(give, take, l.load-p.leases[take].load)
				break
			}
		}
	}
	if bestGive < 0 || p.all[p.seats[hot].epoch].budget <= 0 || bestTake >= 0 && p.all[p.seats[cold].epoch].budget <= 0 {
		return
	}
	p.move(bestGive, cold)
	if bestTake >= 0 {
		p.move(bestTake, hot)
	}
}

// byLoad are the leases of a seat that may move for their load, idlest first.
func (p *planner) byLoad(seat int) []int {
	var out []int
	for _, i := range p.seats[seat].has {
		if p.in.Recent == nil || !p.in.Recent(p.leases[i].tp) {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(p.leases[a].load, p.leases[b].load) })
	return out
}

// fits tells whether a lease may go to a seat for load alone, without another of its topic coming back: its topic must not
// get more in that zone than the zone's share, rounded up.
func (p *planner) fits(i, seat int) bool {
	l := &p.leases[i]
	z := p.seats[seat].zone
	if z == p.seats[l.giver.seat].zone {
		return true
	}
	sp := p.spreadOf(l.tp.Topic)
	share := (sp.total*p.inZone[z] + len(p.seats) - 1) / len(p.seats)
	return sp.byZone[z]+1 <= share
}
