package members

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Classic is a member of a classic group.
type Classic struct {
	member

	// HoldJoin: told of a rebalance, it goes on with heartbeats and does not join again.
	HoldJoin atomic.Bool
	// HoldSync: it has joined, and does not send SyncGroup.
	HoldSync atomic.Bool

	step     atomic.Int32 // one of the steps, for those who look
	leads    atomic.Bool
	members  []string // of the generation, for its leader
	metadata []byte
}

// The steps of a member's life.
const (
	joining int32 = iota
	syncing
	living
)

const (
	protocolType = "consumer"
	protocolName = "range"
)

// NewClassic starts a member, after it was prepared (nil: no need to). It commits if told to. Stop or Leave must be called.
func NewClassic(ctx context.Context, name string, h *History, cfg Config, prepare func(*Classic)) *Classic {
	m := &Classic{member: newMember(name, h, cfg)}
	if prepare != nil {
		prepare(m)
	}
	md := kmsg.NewConsumerMemberMetadata()
	md.Topics = []string{cfg.Topic}
	m.metadata = md.AppendTo(nil)
	m.set("", -1, nil)
	m.start(ctx, m.live)
	return m
}

// Joined says whether it was told of a generation whose assignment it has not been told.
func (m *Classic) Joined() bool { return m.step.Load() == syncing }

// HasID says whether it was given a member id.
func (m *Classic) HasID() bool {
	id, _, _ := m.is()
	return id != ""
}

// Joining says whether it waits for the answer of a JoinGroup.
func (m *Classic) Joining() bool { return m.step.Load() == joining }

// Leads says whether it leads the generation it was told of last.
func (m *Classic) Leads() bool { return m.leads.Load() }

func (m *Classic) live(ctx context.Context) {
	for ctx.Err() == nil {
		var good bool
		switch step := m.step.Load(); {
		case step == joining:
			good = m.join(ctx)
		case step == syncing && !m.HoldSync.Load():
			good = m.sync(ctx)
		default:
			if good = m.heartbeat(ctx); good {
				wait(ctx, m.cfg.Pace)
			}
		}
		if !good {
			wait(ctx, m.cfg.Backoff)
		}
	}
}

// join sends one JoinGroup; while a commit is under way, a heartbeat.
func (m *Classic) join(ctx context.Context) (good bool) {
	id, epoch, owned := m.is()
	m.hush.Store(true)
	if epoch < 0 {
		m.busy.Lock()
	} else if !m.busy.TryLock() {
		if good = m.heartbeat(ctx); good {
			wait(ctx, m.cfg.Pace)
		}
		return good
	}
	defer m.busy.Unlock()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = m.history.Group, id, protocolType
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(m.cfg.Session/time.Millisecond), int32(rebalanceTimeout/time.Millisecond)
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = protocolName, m.metadata
	req.Protocols = append(req.Protocols, p)
	asking, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	answer, from, err := m.beats.do(asking, req)
	resp, ok := answer.(*kmsg.JoinGroupResponse)
	if err != nil || !ok {
		// It goes on without commits: the coordinator may have got the request, count the member as joined, and begin the next
		// generation at any time, in which a commit of this one is refused.
		return false
	}
	m.hush.Store(false)
	switch code := resp.ErrorCode; {
	case code == 0:
	case code == kerr.MemberIDRequired.Code:
		m.set(resp.MemberID, -1, nil)
		return true
	case code == kerr.UnknownMemberID.Code && epoch < 0 && id != "": // it was given the id, and has joined nothing
		m.history.excused(m.Name, kmsg.JoinGroup, code)
		m.set("", -1, nil)
		return true
	default:
		m.history.code(m.Name, kmsg.JoinGroup, code)
		m.beats.heed(from, code)
		if thrownOut(code) {
			m.set("", -1, nil)
		}
		return false
	}
	m.history.in(m.Name, resp.MemberID, resp.Generation)
	m.members = nil
	for i := range resp.Members {
		m.members = append(m.members, resp.Members[i].MemberID)
	}
	m.leads.Store(resp.LeaderID == resp.MemberID)
	if resp.Generation == epoch { // it is told once more: it has what it had, until it is told otherwise
		m.set(resp.MemberID, resp.Generation, owned)
	} else {
		m.set(resp.MemberID, resp.Generation, nil)
	}
	m.step.Store(syncing)
	return true
}

// thrownOut are the codes after which a member joins anew. The history has them as contradictions.
func thrownOut(code int16) bool {
	return code == kerr.UnknownMemberID.Code || code == kerr.IllegalGeneration.Code || code == kerr.FencedInstanceID.Code ||
		code == kerr.FencedMemberEpoch.Code
}

// sync sends one SyncGroup; a leader gives every member its share.
func (m *Classic) sync(ctx context.Context) (good bool) {
	id, epoch, _ := m.is()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = m.history.Group, id, epoch
	req.ProtocolType, req.Protocol = new(protocolType), new(protocolName)
	for i, other := range m.members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = other, m.share(i, len(m.members))
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	asking, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	answer, from, err := m.beats.do(asking, req)
	resp, ok := answer.(*kmsg.SyncGroupResponse)
	if err != nil || !ok {
		return false
	}
	m.history.code(m.Name, kmsg.SyncGroup, resp.ErrorCode)
	m.beats.heed(from, resp.ErrorCode)
	switch {
	case resp.ErrorCode == 0:
	case thrownOut(resp.ErrorCode):
		m.set("", -1, nil)
		m.step.Store(joining)
		return false
	case resp.ErrorCode == kerr.RebalanceInProgress.Code:
		m.step.Store(joining)
		return true
	default:
		return false
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(resp.MemberAssignment); err != nil {
		m.history.note("%s: its assignment does not decode: %v", m.Name, err)
		return false
	}
	var owned []int32
	for i := range a.Topics {
		owned = append(owned, a.Topics[i].Partitions...)
	}
	m.history.assigned(m.Name, epoch, owned)
	m.set(id, epoch, owned)
	m.step.Store(living)
	return true
}

// share is the i-th of n parts of the topic.
func (m *Classic) share(i, n int) []byte {
	t := kmsg.NewConsumerMemberAssignmentTopic()
	t.Topic = m.cfg.Topic
	for p := range m.cfg.Partitions {
		if int(p)*n/int(m.cfg.Partitions) == i {
			t.Partitions = append(t.Partitions, p)
		}
	}
	a := kmsg.NewConsumerMemberAssignment()
	a.Topics = append(a.Topics, t)
	return a.AppendTo(nil)
}

// heartbeat sends one.
func (m *Classic) heartbeat(ctx context.Context) (good bool) {
	id, epoch, _ := m.is()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = m.history.Group, id, epoch
	answer, from, err := m.beats.do(ctx, req)
	resp, ok := answer.(*kmsg.HeartbeatResponse)
	if err != nil || !ok {
		if ctx.Err() == nil {
			m.history.note("%s: heartbeat lost: %v", m.Name, err)
		}
		return false
	}
	code := resp.ErrorCode
	if code != kerr.RebalanceInProgress.Code { // it is told so for as long as it holds
		m.history.code(m.Name, kmsg.Heartbeat, code)
	}
	m.beats.heed(from, code)
	switch {
	case code == 0:
	case code == kerr.RebalanceInProgress.Code:
		if !m.HoldJoin.Load() {
			m.step.Store(joining)
		}
	case thrownOut(code):
		m.set("", -1, nil)
		m.step.Store(joining)
		return false
	default:
		return false
	}
	m.history.beat(m.Name)
	return true
}

// Leave stops the member and has it leave.
func (m *Classic) Leave(ctx context.Context) {
	m.end()
	m.running.Wait()
	id, _, _ := m.is()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = m.history.Group, id
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = id
	req.Members = append(req.Members, one)
	for ctx.Err() == nil && id != "" {
		answer, from, err := m.beats.do(ctx, req)
		resp, ok := answer.(*kmsg.LeaveGroupResponse)
		if err != nil || !ok {
			wait(ctx, m.cfg.Backoff)
			continue
		}
		codes := []int16{resp.ErrorCode}
		for i := range resp.Members {
			codes = append(codes, resp.Members[i].ErrorCode)
		}
		code := codes[slices.IndexFunc(append(codes, 1), func(c int16) bool { return c != 0 })%len(codes)]
		if code == 0 || code == kerr.UnknownMemberID.Code { // it may have been heard before
			break
		}
		m.history.code(m.Name, kmsg.LeaveGroup, code)
		m.beats.heed(from, code)
		wait(ctx, m.cfg.Backoff)
	}
	m.history.out(m.Name)
	m.Stop()
}
