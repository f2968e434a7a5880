package members

import (
	"context"
	"crypto/rand"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Consumer is a member of a consumer group (KIP-848).
type Consumer struct {
	member

	// HoldRevoke: told to give partitions up, it goes on with heartbeats and does not.
	HoldRevoke atomic.Bool

	held    atomic.Bool
	target  []int32  // the last assignment it was told
	topicID [16]byte // of the topic, as the assignment names it
	full    bool     // the next heartbeat says everything: the last one was lost or refused
	tell    bool     // what it owns has changed since it last said so
}

// NewConsumer starts a member; it commits if told to. Stop or Leave must be called.
func NewConsumer(ctx context.Context, name string, h *History, cfg Config) *Consumer {
	m := &Consumer{member: newMember(name, h, cfg)}
	m.set(rand.Text(), 0, nil)
	m.start(ctx, m.live)
	return m
}

// Held says whether it was ever told to give something up while it was held.
func (m *Consumer) Held() bool { return m.held.Load() }

func (m *Consumer) live(ctx context.Context) {
	for ctx.Err() == nil {
		if !m.heartbeat(ctx) {
			m.full = true
			wait(ctx, m.cfg.Backoff)
		} else if !m.tell {
			wait(ctx, m.cfg.Pace)
		}
	}
}

// heartbeat sends one and does what the answer asks for.
func (m *Consumer) heartbeat(ctx context.Context) (good bool) {
	id, epoch, owned := m.is()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = m.history.Group, id, epoch
	if m.full || epoch == 0 {
		req.RebalanceTimeoutMillis = int32(rebalanceTimeout / time.Millisecond)
		req.SubscribedTopicNames = []string{m.cfg.Topic}
	}
	if m.full || epoch == 0 || m.tell {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if len(owned) > 0 {
			t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			t.TopicID, t.Partitions = m.topicID, owned
			req.Topics = append(req.Topics, t)
		}
	}
	answer, from, err := m.beats.do(ctx, req)
	resp, ok := answer.(*kmsg.ConsumerGroupHeartbeatResponse)
	if err != nil || !ok {
		if ctx.Err() == nil {
			m.history.note("%s: heartbeat lost: %v", m.Name, err)
		}
		return false
	}
	if m.full && resp.ErrorCode == kerr.FencedMemberEpoch.Code && m.history.Churning.Load() {
		m.history.excused(m.Name, kmsg.ConsumerGroupHeartbeat, resp.ErrorCode)
	} else {
		m.history.code(m.Name, kmsg.ConsumerGroupHeartbeat, resp.ErrorCode)
	}
	m.beats.heed(from, resp.ErrorCode)
	if resp.ErrorCode != 0 {
		if thrownOut(resp.ErrorCode) {
			m.history.owns(m.Name, nil)
			m.set(id, 0, nil)
			m.target, m.tell = nil, false
		}
		return false
	}
	m.full, m.tell = false, false
	m.history.in(m.Name, id, resp.MemberEpoch)
	m.history.beat(m.Name)
	if a := resp.Assignment; a != nil {
		m.tell = true // what it owns by it, as Java's client does, also if nothing changes: an assignment before may have been missed
		m.target = nil
		for i := range a.Topics {
			m.topicID = a.Topics[i].TopicID
			m.target = append(m.target, a.Topics[i].Partitions...)
		}
		slices.Sort(m.target)
	}
	m.reconcile(id, resp.MemberEpoch, owned)
	return true
}

// reconcile gives up what it may not have any more, or else takes what it was given.
func (m *Consumer) reconcile(id string, epoch int32, owned []int32) {
	kept := slices.DeleteFunc(slices.Clone(owned), func(p int32) bool { return !slices.Contains(m.target, p) })
	switch {
	case len(kept) < len(owned) && m.HoldRevoke.Load():
		kept = owned
		m.held.Store(true)
	case len(kept) == len(owned) && len(m.target) > len(owned):
		kept = slices.Clone(m.target)
	}
	if !slices.Equal(kept, owned) {
		m.hush.Store(true)
		if m.busy.TryLock() { // else a commit is under way: after the next heartbeat
			m.set(id, epoch, kept)
			m.history.owns(m.Name, kept)
			m.tell = true
			m.busy.Unlock()
			m.hush.Store(false)
			return
		}
		m.set(id, epoch, owned)
		return
	}
	m.hush.Store(false)
	m.set(id, epoch, kept)
}

// Leave stops the member and has it leave.
func (m *Consumer) Leave(ctx context.Context) {
	m.end()
	m.running.Wait()
	id, _, _ := m.is()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = m.history.Group, id, -1
	m.history.out(m.Name) // before others are told
	for ctx.Err() == nil {
		answer, from, err := m.beats.do(ctx, req)
		resp, ok := answer.(*kmsg.ConsumerGroupHeartbeatResponse)
		if err != nil || !ok {
			wait(ctx, m.cfg.Backoff)
			continue
		}
		if resp.ErrorCode == 0 || resp.ErrorCode == kerr.UnknownMemberID.Code { // it may have been heard before
			break
		}
		m.history.code(m.Name, kmsg.ConsumerGroupHeartbeat, resp.ErrorCode)
		m.beats.heed(from, resp.ErrorCode)
		wait(ctx, m.cfg.Backoff)
	}
	m.Stop()
}
