package group

import (
	"cmp"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// assign makes targets for the group epoch if there are none yet. When members of a big group join one after the other, a target
// for each of them would be most of the coordinator's work: so that it takes no more than about a tenth of it, another one is
// then made by a tick, later. Members keep what they have until then. now says to make it at once.
func (c *consumer) assign(s *step, now bool) {
	if c.groupEpoch == c.assignedEpoch {
		return
	}
	if len(c.members) == 0 {
		c.targetDue = time.Time{}
		return
	}
	if at := c.lastTarget.Add(c.targetPause()); !now && s.now.Before(at) {
		c.targetDue = at
		return
	}
	c.lastTarget, c.targetDue = s.now, time.Time{}
	topics, members := c.assignorInput()
	assign, ok := assignor.ByName(c.assignorName())
	if !ok {
		assign = assignor.Uniform
	}
	for i, target := range assign(topics, members) {
		if m := c.sorted[i]; !m.target.Equal(target) {
			m.target = target
			c.save(m)
		}
	}
	c.assignedEpoch = c.groupEpoch
	c.behind = 0
	for _, m := range c.sorted {
		if !c.reconciled(m) {
			c.behind++
		}
	}
	c.held.prune(c.seen)
	s.saveGroup()
}

// targetPause is how long to wait between targets: ten times what one takes, roughly a microsecond for each partition and, where
// members subscribe to different topics, for each subscription; zero where that is next to nothing.
func (c *consumer) targetPause() time.Duration {
	n := 0
	for _, t := range c.subscribedTopics() {
		n += int(t.Partitions)
	}
	if len(c.subs) > 1 {
		for _, sub := range c.subs {
			n += sub.members * (len(sub.names) + len(sub.matched))
		}
	}
	pause := 10 * time.Duration(n+len(c.members)) * time.Microsecond
	if pause < 20*time.Millisecond {
		return 0
	}
	return pause
}

// assignorInput is what an assignor is told: members in the order of c.sorted.
func (c *consumer) assignorInput() ([]assignor.Topic, []assignor.Member) {
	known := c.subscribedTopics()
	topics := make([]assignor.Topic, len(known))
	for i, t := range known {
		topics[i] = assignor.Topic{ID: t.ID, Partitions: t.Partitions, Racks: t.Racks}
	}
	indexes := make(map[*subscription][]int32, len(c.subs))
	for _, sub := range c.subs {
		var of []int32
		sub.each(c.seen, func(t Topic) {
			i, _ := slices.BinarySearchFunc(known, t.ID, func(t Topic, id catalog.TopicID) int { return assignor.Compare(t.ID, id) })
			of = append(of, int32(i))
		})
		slices.Sort(of)
		indexes[sub] = slices.Compact(of)
	}
	members := make([]assignor.Member, len(c.sorted))
	for i, m := range c.sorted {
		members[i] = assignor.Member{
			ID: m.id, InstanceID: m.instance, Rack: m.rack, Topics: indexes[m.sub], Target: m.target,
		}
	}
	return topics, members
}

// assignorName is the assignor that most members ask for, or the default; of several, the first in the config.
func (c *consumer) assignorName() string {
	names := c.g.cfg.ConsumerAssignors
	if len(names) == 0 {
		return assignor.UniformName
	}
	votes := make([]int, len(names))
	for _, m := range c.sorted {
		if i := slices.Index(names, m.assignor); i >= 0 {
			votes[i]++
		}
	}
	best := 0
	for i := range votes {
		if cmp.Compare(votes[i], votes[best]) > 0 {
			best = i
		}
	}
	return names[best]
}

// prune forgets topics that are gone, once nobody holds any partition of them.
func (h holdings) prune(topics Topics) {
	for id, of := range h {
		if _, ok := topics.ByID(id); ok {
			continue
		}
		if !slices.ContainsFunc(of, func(n uint16) bool { return n > 0 }) {
			delete(h, id)
		}
	}
}
