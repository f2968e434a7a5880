package assignor

import (
	"cmp"
	"slices"
)

// Bounds on balancing, which can go on for long where subscriptions form a chain (each shares a topic with the next): passes
// over all topics that are always made, and the subscriptions looked at after which no further pass begins. Each pass leaves
// loads more balanced than before.
const (
	balancePasses = 16
	balanceWork   = 4 << 20
)

// mixed is the uniform assignor where members subscribe to different topics.
type mixed struct {
	own         owners
	before      owners // as the targets before say
	load        []int32
	subscribers [][]int32 // of each topic, members

	// Of the topic at hand, by member: how many it owns and how many it should.
	has, wants []int32
}

// assignMixed first gives free partitions to subscribers with the least load, topics with the fewest possible owners first, then
// levels topic by topic until nothing changes.
func assignMixed(topics []Topic, members []Member, own owners, load []int32) {
	x := &mixed{
		own: own, before: make(owners, len(own)), load: load, subscribers: make([][]int32, len(topics)),
		has: make([]int32, len(members)), wants: make([]int32, len(members)),
	}
	subscriptions := 0
	for m := range members {
		subscriptions += len(members[m].Topics)
		for _, t := range members[m].Topics {
			x.subscribers[t] = append(x.subscribers[t], int32(m))
		}
	}
	order := make([]int32, 0, len(topics))
	for t := range topics {
		x.before[t] = slices.Clone(own[t])
		if len(x.subscribers[t]) > 0 && len(own[t]) > 0 {
			order = append(order, int32(t))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		pa, pb := int64(len(own[a])), int64(len(own[b]))
		sa, sb := int64(len(x.subscribers[a])), int64(len(x.subscribers[b]))
		return cmp.Or(cmp.Compare(pb*sa, pa*sb), cmp.Compare(sa, sb)) // more partitions a subscriber first
	})
	for _, t := range order {
		x.level(t, false)
	}
	for pass, work := 0, 0; pass < balancePasses || work < balanceWork; pass++ {
		changed := false
		for _, t := range order {
			changed = x.level(t, true) || changed
		}
		if work += subscriptions; !changed {
			return
		}
	}
}

// level gives out the free partitions of a topic, and with move those that have owners again, such that the loads of its
// subscribers become as equal as this topic can make them (water filling). It says whether any partition changed its owner.
// With move, loads that are as equal as can be stay as they are.
func (x *mixed) level(t int32, move bool) bool {
	own, subs := x.own[t], x.subscribers[t]
	for _, m := range subs {
		x.has[m] = 0
	}
	left := int32(0) // to give out
	for _, m := range own {
		switch {
		case m == free:
			left++
		case move:
			x.has[m]++
			left++
		}
	}
	if left == 0 {
		return false
	}
	// The floor of a member is its load without what is to be given out. Water rises over the floors, lowest first.
	floor := func(m int32) int32 { return x.load[m] - x.has[m] }
	byFloor := slices.Clone(subs)
	slices.SortFunc(byFloor, func(a, b int32) int { return cmp.Or(cmp.Compare(floor(a), floor(b)), cmp.Compare(a, b)) })
	under, water := 1, floor(byFloor[0])
	for {
		if under < len(byFloor) && floor(byFloor[under]) == water {
			under++
			continue
		}
		rise := left / int32(under)
		if under < len(byFloor) {
			rise = min(rise, floor(byFloor[under])-water)
		}
		if rise == 0 {
			break
		}
		water += rise
		left -= rise * int32(under)
	}
	for i, m := range byFloor {
		x.wants[m] = 0
		if i < under {
			x.wants[m] = water - floor(m)
		}
	}
	// What is left, less than one each, goes to those who own more than the water gives them, then to the others by order.
	for _, owning := range []bool{true, false} {
		for _, m := range byFloor[:under] {
			if left > 0 && (x.has[m] > water-floor(m)) == owning {
				x.wants[m]++
				left--
			}
		}
	}
	return x.move(t, move)
}

// move makes the subscribers of a topic own as many as they want of what may move: what each owns already as far as it wants it,
// those it owned before first; then what it owned before, from others; then anything.
func (x *mixed) move(t int32, all bool) bool {
	own, before := x.own[t], x.before[t]
	room := x.wants // of each subscriber; what it keeps is taken off
	took := make([]int32, len(own))
	copy(took, own)
	if all {
		for _, mine := range []bool{true, false} {
			for p, m := range own {
				if m == free || (before[p] == m) != mine {
					continue
				}
				if room[m] > 0 {
					room[m]--
				} else {
					took[p] = free
				}
			}
		}
	}
	for p, m := range before {
		if took[p] == free && m != free && own[p] != m && room[m] > 0 {
			took[p] = m
			room[m]--
		}
	}
	next, subs := 0, x.subscribers[t]
	changed := false
	for p := range took {
		if took[p] == free {
			for room[subs[next]] == 0 {
				next = (next + 1) % len(subs)
			}
			took[p] = subs[next]
			room[subs[next]]--
			next = (next + 1) % len(subs)
		}
		if took[p] == own[p] {
			continue
		}
		changed = true
		if own[p] != free {
			x.load[own[p]]--
		}
		x.load[took[p]]++
		own[p] = took[p]
	}
	return changed
}
