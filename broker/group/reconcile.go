package group

import (
	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// holdings counts for each partition the members that may use it or were not yet seen to have given it up. It is one at most, but for
// partitions that the leader of a classic group gave to two members, before the group became a consumer group.
type holdings map[catalog.TopicID][]uint16

func (h holdings) add(a assignor.Assignment) {
	for _, ps := range a {
		of := h[ps.Topic]
		for _, p := range ps.Partitions {
			for int(p) >= len(of) {
				of = append(of, 0)
			}
			of[p]++
		}
		h[ps.Topic] = of
	}
}

func (h holdings) remove(a assignor.Assignment) {
	for _, ps := range a {
		of := h[ps.Topic]
		for _, p := range ps.Partitions {
			of[p]--
		}
	}
}

// free says that nobody holds a partition.
func (h holdings) free(topic catalog.TopicID, p int32) bool {
	of := h[topic]
	return int(p) >= len(of) || of[p] == 0
}

// owned is what a member says it owns; known is false if it said nothing, which is as good as everything.
type owned struct {
	known bool
	parts assignor.Assignment
}

// any says whether the member may still own one of the partitions.
func (o owned) any(of assignor.Assignment) bool {
	if len(of) == 0 {
		return false
	}
	return !o.known || len(o.parts.And(of)) > 0
}

// reconcile moves a member towards its target as far as it can go now, and says whether anything about it changed.
//
//	stable      its target changed: if it has to give partitions up, it is told so and stays at its epoch (unrevoked).
//	unrevoked   it waits until the member says that it does not own them any more; then they are free for others.
//	unreleased  it is at the epoch of its target, and gets the rest as others give it up.
//
// A partition is given to a member only when nobody holds it: this is the step that keeps it from having two owners.
func (c *consumer) reconcile(m *consumerMember, own owned) bool {
	if c.reconciled(m) {
		return false
	}
	epoch := m.epoch
	if m.state == memberUnrevoked {
		if own.any(m.revoking) {
			return false
		}
		c.held.remove(m.revoking)
		m.revoking = nil
		// The next epoch, and not that of the target: should the target want more of it, it is not yet there.
		epoch = min(epoch+1, c.assignedEpoch)
	}
	before := *m
	keep := m.assigned.And(m.target)
	if revoke := m.assigned.Minus(m.target); own.any(revoke) {
		m.state, m.assigned, m.revoking = memberUnrevoked, keep, revoke
	} else {
		c.held.remove(revoke)
		add := m.target.Minus(keep)
		free := add.Filter(c.held.free)
		c.held.add(free)
		m.assigned = keep.Plus(free)
		m.state, epoch = memberStable, c.assignedEpoch
		if free.Len() < add.Len() {
			m.state = memberUnreleased
		}
	}
	if m.epoch == epoch && m.state == before.state && m.assigned.Equal(before.assigned) && m.state != memberUnrevoked {
		return false // still waiting for others
	}
	m.previous, m.epoch = m.epoch, epoch
	if c.reconciled(m) {
		c.behind--
	}
	return true
}

// waiting says that a member waits for partitions that others hold.
func (c *consumer) waiting(m *consumerMember) bool {
	return len(m.target.Minus(m.assigned).Filter(func(t catalog.TopicID, p int32) bool { return !c.held.free(t, p) })) > 0
}
