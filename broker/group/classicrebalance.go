package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// noneJoined is the least time until a rebalance that nobody joined is looked at again, whatever time-out members asked for.
const noneJoined = time.Second

// rebalanceOrGoOn starts a rebalance because of a member, or ends the one at work if nobody is waited for.
func (c *classic) rebalanceOrGoOn(s *step, why string, m *classicMember, reason *string) {
	if c.state == phasePreparing {
		c.goOn(s)
		return
	}
	s.note(why, m.id, reason)
	c.prepare(s)
}

// goOn ends a rebalance at work if nobody is waited for. The first one of an empty group waits for its time.
func (c *classic) goOn(s *step) {
	if c.state == phasePreparing && !c.initial && c.allJoined() {
		c.complete(s)
	}
}

// prepare starts a rebalance.
func (c *classic) prepare(s *step) {
	if c.state == phaseCompleting {
		for _, m := range c.order {
			m.dirty = m.dirty || m.assignment != nil
			m.assignment = nil
			if m.sync.on {
				c.endSync(s, m, codeRebalanceInProgress)
				c.sessions.extend(m.clock, s.now, m.session)
			}
		}
	}
	for _, m := range c.order {
		m.unsynced = false
	}
	c.unsynced, c.syncAt = 0, time.Time{}
	c.initial = c.state == phaseEmpty
	c.to(s, phasePreparing)
	switch {
	case c.initial:
		c.more = false
		c.delay = c.g.cfg.InitialRebalanceDelay
		c.left = max(c.rebalanceTimeout()-c.delay, 0)
		c.joinAt = s.now.Add(c.delay)
	case c.allJoined():
		c.complete(s)
	default:
		c.joinAt = s.now.Add(c.rebalanceTimeout())
	}
}

// joinTime is when the time to join is over: it is extended, or the rebalance goes on.
func (c *classic) joinTime(s *step) {
	if c.initial && c.more && c.left > 0 {
		c.more = false
		passed := c.delay
		c.delay = min(c.g.cfg.InitialRebalanceDelay, c.left)
		c.left = max(c.left-passed, 0)
		c.joinAt = s.now.Add(c.delay)
		return
	}
	c.complete(s)
}

// complete makes a generation of those that have joined. Static members stay in, joined or not, until their sessions end.
func (c *classic) complete(s *step) {
	c.joinAt = time.Time{}
	c.dropUnjoined(s)
	if len(c.order) > 0 && !c.electJoined() {
		c.joinAt = s.now.Add(max(c.rebalanceTimeout(), noneJoined))
		c.initial = false
		return
	}
	c.generation++
	c.initial = false
	s.saveGroup()
	s.membersChanged()
	if len(c.order) == 0 {
		c.protocol = ""
		c.readTopics()
		c.to(s, phaseEmpty)
		return
	}
	c.protocol = c.selectProtocol()
	c.readTopics()
	c.to(s, phaseCompleting)
	for _, m := range c.order {
		if m.dirty {
			m.save(s)
		}
		if a := c.takeJoin(m); a != nil {
			c.tell(a.resp, m, m == c.leader)
			s.later(a.token, a.resp)
		}
		m.isNew = false
		c.sessions.extend(m.clock, s.now, m.session)
	}
	c.awaitSync(s.now)
}

// dropUnjoined removes the dynamic members that have not joined, in one pass.
func (c *classic) dropUnjoined(s *step) {
	var gone []*classicMember
	kept := c.order[:0]
	for _, m := range c.order {
		if m.join.on || m.instance != "" {
			kept = append(kept, m)
		} else {
			gone = append(gone, m)
		}
	}
	clear(c.order[len(kept):])
	c.order = kept
	for _, m := range gone {
		s.note("member removed: it did not join again in its rebalance timeout", m.id, nil)
		c.forget(s, m)
	}
}

// electJoined sees that the leader is somebody who joined; false if nobody did.
func (c *classic) electJoined() bool {
	if c.leader.join.on {
		return true
	}
	for _, m := range c.order {
		if m.join.on {
			c.leader = m
			return true
		}
	}
	return false
}

// selectProtocol is the protocol most members prefer among those all know. In a draw the first member's order decides.
func (c *classic) selectProtocol() string {
	votes := make(map[string]int)
	for _, m := range c.order {
		for i := range m.protocols {
			if name := m.protocols[i].Name; c.supports[name] == len(c.order) {
				votes[name]++
				break
			}
		}
	}
	best := ""
	for i := range c.order[0].protocols {
		if name := c.order[0].protocols[i].Name; votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// tick throws out who was not heard of in time, and moves a rebalance on.
func (c *classic) tick(s *step) {
	for over := c.sessions.over(s.now); over != nil; over = c.sessions.over(s.now) {
		c.sessionOver(s, over)
	}
	if !c.joinAt.IsZero() && !s.now.Before(c.joinAt) {
		c.joinTime(s)
	}
	if !c.syncAt.IsZero() && !s.now.Before(c.syncAt) {
		c.syncTime(s)
	}
}

// sessionOver is the end of a member's session, or of an id that nobody joined with. Whoever waits for an answer, other than for
// its first, is alive by that; its clock starts again with the answer.
func (c *classic) sessionOver(s *step, over *session) {
	if c.pending[over.id] == over {
		delete(c.pending, over.id)
		if c.state == phasePreparing && c.allJoined() {
			c.complete(s)
		}
		return
	}
	m := c.byID[over.id]
	if !m.isNew && (m.join.on || m.sync.on) {
		return
	}
	s.note("member removed: its session is over", m.id, nil)
	c.endJoin(s, m, codeUnknownMemberID, "")
	c.endSync(s, m, codeUnknownMemberID)
	c.remove(s, m)
	switch {
	case c.state != phasePreparing:
		c.prepare(s)
	case c.allJoined():
		c.complete(s)
	}
}

// syncTime throws out who has joined and not sent SyncGroup in time (KAFKA-12720).
func (c *classic) syncTime(s *step) {
	var gone []*classicMember
	for _, m := range c.order {
		if m.unsynced {
			gone = append(gone, m)
		}
	}
	for _, m := range gone {
		s.note("member removed: it did not sync in its rebalance timeout", m.id, nil)
		c.remove(s, m)
	}
	c.prepare(s)
}

func (c *classic) next() time.Time {
	return minTime(c.sessions.next(), minTime(c.joinAt, c.syncAt))
}

func (c *classic) abandoned(token Token) {
	for _, m := range c.order {
		if m.join.on && m.join.token == token {
			m.join.gone = true
		}
		if m.sync.on && m.sync.token == token {
			m.sync.gone = true
		}
	}
}

func (c *classic) resumed(s *step) {
	c.sessions.restart(s.now)
	switch {
	case c.joinAt.IsZero():
	case c.initial:
		c.joinAt = s.now.Add(c.delay)
	default:
		c.joinAt = s.now.Add(c.rebalanceTimeout())
	}
	if !c.syncAt.IsZero() {
		c.syncAt = s.now.Add(c.rebalanceTimeout())
	}
}

func (c *classic) topicsChanged(*step) {}
func (c *classic) configChanged(*step) {}

// endSync gives a waiting SyncGroup an error, if one waits.
func (c *classic) endSync(s *step, m *classicMember, code int16) {
	if resp, token := m.takeSync(); resp != nil {
		resp.ErrorCode = code
		s.refuse(token, resp, code)
	}
}

// takeSync ends a member's waiting for SyncGroup; nil if nobody waits for the answer.
func (m *classicMember) takeSync() (*kmsg.SyncGroupResponse, Token) {
	w := m.sync
	m.sync = waiter{}
	if !w.on || w.gone {
		return nil, 0
	}
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = w.version
	return resp, w.token
}
