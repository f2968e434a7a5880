package assignor

import (
	"cmp"
	"slices"
	"strings"

	"github.com/streamhouse/streamhouse/catalog"
)

// Topic is a topic that somebody subscribes to.
type Topic struct {
	ID         catalog.TopicID
	Partitions int32
	// Racks are those that a partition can be read in; nil: unknown.
	Racks func(partition int32) []string
}

// Member is a member and what it subscribes to.
type Member struct {
	ID         string
	InstanceID string // KIP-345; empty: none
	Rack       string // empty: unknown
	// Topics are the member's: indexes into the topics, ascending. Members may share a slice.
	Topics []int32
	// Target is what it should own by the target before.
	Target Assignment
}

// Assignor makes a target: for each member, in their order, what it should own. Topics are by id, in byte order, and members
// by id; each once.
type Assignor func(topics []Topic, members []Member) []Assignment

// Names of assignors, Kafka's.
const (
	RangeName   = "range"
	UniformName = "uniform"
)

// ByName finds an assignor.
func ByName(name string) (Assignor, bool) {
	switch name {
	case RangeName:
		return Range, true
	case UniformName:
		return Uniform, true
	}
	return nil, false
}

// Range is the assignor "range".
func Range(topics []Topic, members []Member) []Assignment {
	order := make([]int32, len(members))
	subscribers := make([]int32, len(topics))
	for m := range members {
		order[m] = int32(m)
		for _, t := range members[m].Topics {
			subscribers[t]++
		}
	}
	slices.SortFunc(order, func(x, y int32) int {
		a, b := &members[x], &members[y]
		switch {
		case a.InstanceID != "" && b.InstanceID != "":
			return strings.Compare(a.InstanceID, b.InstanceID)
		case a.InstanceID != "":
			return -1
		case b.InstanceID != "":
			return 1
		}
		return cmp.Compare(x, y)
	})
	type state struct{ next, quota, extra int32 }
	states := make([]state, len(topics))
	for t := range topics {
		if n := subscribers[t]; n > 0 {
			states[t] = state{quota: topics[t].Partitions / n, extra: topics[t].Partitions % n}
		}
	}
	out := make([]Assignment, len(members))
	for _, m := range order {
		for _, t := range members[m].Topics {
			s := &states[t]
			n := s.quota
			if s.extra > 0 {
				n++
				s.extra--
			}
			if n == 0 {
				continue
			}
			ps := make([]int32, n)
			for i := range ps {
				ps[i] = s.next + int32(i)
			}
			s.next += n
			out[m] = append(out[m], Partitions{topics[t].ID, ps})
		}
	}
	return out
}

// owners says for each topic (by index) and partition which member (by index) owns it; free is nobody.
type owners [][]int32

const free = -1

// load returns who owns what by the members' targets, and how many each owns. Of a partition in the targets of two, which only
// a classic group's leader can make, the first keeps it.
func load(topics []Topic, members []Member) (owners, []int32) {
	own := make(owners, len(topics))
	for t := range topics {
		own[t] = slices.Repeat([]int32{free}, int(topics[t].Partitions))
	}
	count := make([]int32, len(members))
	for m := range members {
		subscribed := members[m].Topics
		for _, p := range members[m].Target {
			i, ok := slices.BinarySearchFunc(subscribed, p.Topic, func(t int32, id catalog.TopicID) int {
				return Compare(topics[t].ID, id)
			})
			if !ok {
				continue
			}
			of := own[subscribed[i]]
			for _, n := range p.Partitions {
				if int(n) < len(of) && of[n] == free {
					of[n] = int32(m)
					count[m]++
				}
			}
		}
	}
	return own, count
}

// assignments turns owners into what each owns.
func (own owners) assignments(topics []Topic, members []Member) []Assignment {
	out := make([]Assignment, len(members))
	count := make([]int32, len(members))
	for t := range own {
		for _, m := range own[t] {
			if m != free {
				count[m]++
			}
		}
		for p, m := range own[t] {
			if m == free {
				continue
			}
			if count[m] > 0 { // its first of this topic: makes room for all
				out[m] = append(out[m], Partitions{topics[t].ID, make([]int32, 0, count[m])})
				count[m] = 0
			}
			of := &out[m][len(out[m])-1]
			of.Partitions = append(of.Partitions, int32(p))
		}
	}
	return out
}

// Uniform is the assignor "uniform".
func Uniform(topics []Topic, members []Member) []Assignment {
	if len(members) == 0 {
		return nil
	}
	own, count := load(topics, members)
	if sameTopics(members) {
		assignSame(topics, members, own, count)
	} else {
		assignMixed(topics, members, own, count)
	}
	return own.assignments(topics, members)
}

// sameTopics says whether all members subscribe to the same topics.
func sameTopics(members []Member) bool {
	first := members[0].Topics
	for m := range members[1:] {
		ts := members[m+1].Topics
		if len(ts) != len(first) || len(ts) > 0 && &ts[0] != &first[0] && !slices.Equal(ts, first) {
			return false
		}
	}
	return true
}
