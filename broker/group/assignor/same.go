package assignor

import "slices"

// assignSame is the uniform assignor where all subscribe to the same topics.
//
// The quota of each is the number of partitions over that of members, and one more for as many as are left over. Those who
// own more than the quota get that extra one first: each of them that does not would give one more up.
func assignSame(topics []Topic, members []Member, own owners, count []int32) {
	total := int32(0)
	for _, t := range members[0].Topics {
		total += topics[t].Partitions
	}
	quota, extra := total/int32(len(members)), total%int32(len(members))
	room := make([]int32, len(members)) // what a member may still get; below 0: has to give up
	for _, owning := range []bool{true, false} {
		for m := range members {
			if (count[m] > quota) != owning {
				continue
			}
			room[m] = quota - count[m]
			if extra > 0 {
				room[m]++
				extra--
			}
		}
	}
	// Giving up starts with what cannot be read in the member's rack.
	for _, far := range []bool{true, false} {
		for _, t := range slices.Backward(members[0].Topics) {
			for p := len(own[t]) - 1; p >= 0; p-- {
				m := own[t][p]
				if m == free || room[m] >= 0 || far && !isFar(&topics[t], int32(p), members[m].Rack) {
					continue
				}
				own[t][p] = free
				room[m]++
			}
		}
	}
	dealNear(topics, members, own, room)
	deal(members[0].Topics, own, room)
}

// isFar says whether a partition cannot be read in the rack; false where either is unknown.
func isFar(t *Topic, p int32, rack string) bool {
	if rack == "" || t.Racks == nil {
		return false
	}
	racks := t.Racks(p)
	return len(racks) > 0 && !slices.Contains(racks, rack)
}

// dealNear gives free partitions to members with room, of racks that they can be read in.
func dealNear(topics []Topic, members []Member, own owners, room []int32) {
	byRack := map[string][]int32{} // those with room, who is next first
	for m := range members {
		if rack := members[m].Rack; rack != "" && room[m] > 0 {
			byRack[rack] = append(byRack[rack], int32(m))
		}
	}
	if len(byRack) == 0 {
		return
	}
	for _, t := range members[0].Topics {
		if topics[t].Racks == nil {
			continue
		}
		for p, m := range own[t] {
			if m != free {
				continue
			}
			for _, rack := range topics[t].Racks(int32(p)) {
				queue := byRack[rack]
				if len(queue) == 0 {
					continue
				}
				m, queue := queue[0], queue[1:]
				own[t][p] = m
				if room[m]--; room[m] > 0 {
					queue = append(queue, m)
				}
				byRack[rack] = queue
				break
			}
		}
	}
}

// deal gives free partitions to members with room, one to each in turn: so the partitions of a topic are spread.
func deal(subscribed []int32, own owners, room []int32) {
	queue := make([]int32, 0, len(room))
	for m := range room {
		if room[m] > 0 {
			queue = append(queue, int32(m))
		}
	}
	for _, t := range subscribed {
		for p := range own[t] {
			if own[t][p] != free {
				continue
			}
			m := queue[0]
			queue = queue[1:]
			own[t][p] = m
			if room[m]--; room[m] > 0 {
				queue = append(queue, m)
			}
		}
	}
}
