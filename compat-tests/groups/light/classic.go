package light

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Classic is a member of a classic group on one topic, for one goroutine. It assigns ranges when it leads the group.
type Classic struct {
	Group, Topic string
	Partitions   int32 // of the topic
	Session      time.Duration
	Rebalance    time.Duration
	Board        *Board

	// What it is, once it has joined.
	ID         string
	Generation int32
	Owned      []int32

	conn   *Conn
	name   string // on the board
	commit *kmsg.OffsetCommitRequest
}

// NewClassic makes a member that talks over c; Join makes it one. name is its own on the board.
func NewClassic(c *Conn, name, group, topic string, board *Board) *Classic {
	return &Classic{Group: group, Topic: topic, Partitions: board.partitions, Session: 45 * time.Second, Rebalance: time.Minute, Board: board, conn: c, name: name}
}

// retriable says whether the coordinator asks to be asked again.
func retriable(code int16) bool {
	return code == kerr.CoordinatorLoadInProgress.Code || code == kerr.CoordinatorNotAvailable.Code || code == kerr.NotCoordinator.Code
}

// Join joins and syncs until the member has an assignment.
func (m *Classic) Join(ctx context.Context) error {
	for {
		resp, err := m.JoinOnly(ctx)
		if err != nil {
			return err
		}
		again, err := m.sync(resp)
		if err != nil || !again {
			return err
		}
	}
}

// JoinOnly joins and does not sync.
func (m *Classic) JoinOnly(ctx context.Context) (*kmsg.JoinGroupResponse, error) {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{m.Topic}
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", meta.AppendTo(nil)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.ProtocolType = 9, m.Group, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(m.Session.Milliseconds()), int32(m.Rebalance.Milliseconds())
	req.Protocols = append(req.Protocols, p)
	for {
		req.MemberID = m.ID
		r, err := m.conn.Do(req)
		if err != nil {
			return nil, err
		}
		resp := r.(*kmsg.JoinGroupResponse)
		switch code := resp.ErrorCode; {
		case code == 0:
			m.ID, m.Generation = resp.MemberID, resp.Generation
			return resp, nil
		case code == kerr.MemberIDRequired.Code:
			m.ID = resp.MemberID
		case code == kerr.UnknownMemberID.Code:
			m.ID = ""
		case code == kerr.RebalanceInProgress.Code:
		case retriable(code):
			if err := wait(ctx, 50*time.Millisecond); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("join: %w", kerr.ErrorForCode(code))
		}
	}
}

// sync gets the assignment; as leader it makes all. again: the member has to join again.
func (m *Classic) sync(join *kmsg.JoinGroupResponse) (again bool, err error) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.Generation, req.MemberID = 5, m.Group, m.Generation, m.ID
	req.ProtocolType, req.Protocol = join.ProtocolType, join.Protocol
	if join.LeaderID == m.ID {
		req.GroupAssignment = m.assign(join.Members)
	}
	r, err := m.conn.Do(req)
	if err != nil {
		return false, err
	}
	resp := r.(*kmsg.SyncGroupResponse)
	switch resp.ErrorCode {
	case 0:
	case kerr.RebalanceInProgress.Code:
		return true, nil
	case kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code:
		m.ID = ""
		return true, nil
	default:
		if retriable(resp.ErrorCode) {
			return true, nil
		}
		return false, fmt.Errorf("sync: %w", kerr.ErrorForCode(resp.ErrorCode))
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(resp.MemberAssignment); err != nil {
		return false, fmt.Errorf("decode an assignment: %w", err)
	}
	m.Owned = nil
	for _, t := range a.Topics {
		m.Owned = append(m.Owned, t.Partitions...)
	}
	m.Board.told(m.name, m.Generation, m.Owned)
	return false, nil
}

// assign gives each member a range.
func (m *Classic) assign(members []kmsg.JoinGroupResponseMember) (out []kmsg.SyncGroupRequestGroupAssignment) {
	slices.SortFunc(members, func(a, b kmsg.JoinGroupResponseMember) int {
		if a.MemberID < b.MemberID {
			return -1
		}
		return 1
	})
	each, more, next := int(m.Partitions)/len(members), int(m.Partitions)%len(members), int32(0)
	for i := range members {
		n := each
		if i < more {
			n++
		}
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic = m.Topic
		for range n {
			t.Partitions = append(t.Partitions, next)
			next++
		}
		a := kmsg.NewConsumerMemberAssignment()
		a.Topics = append(a.Topics, t)
		one := kmsg.NewSyncGroupRequestGroupAssignment()
		one.MemberID, one.MemberAssignment = members[i].MemberID, a.AppendTo(nil)
		out = append(out, one)
	}
	return out
}

// Heartbeat tells the code that the coordinator answers.
func (m *Classic) Heartbeat() (code int16, err error) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.Generation, req.MemberID = 4, m.Group, m.Generation, m.ID
	r, err := m.conn.Do(req)
	if err != nil {
		return 0, err
	}
	return r.(*kmsg.HeartbeatResponse).ErrorCode, nil
}

// Commit commits one offset, and tells the partition's code.
func (m *Classic) Commit(partition int32, offset int64) (code int16, err error) {
	if m.commit == nil {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.Partitions = m.Topic, append(t.Partitions, p)
		m.commit = kmsg.NewPtrOffsetCommitRequest()
		m.commit.Version, m.commit.Group, m.commit.Topics = 8, m.Group, append(m.commit.Topics, t)
	}
	m.commit.MemberID, m.commit.Generation = m.ID, m.Generation
	p := &m.commit.Topics[0].Partitions[0]
	p.Partition, p.Offset = partition, offset
	r, err := m.conn.Do(m.commit)
	if err != nil {
		return 0, err
	}
	return r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode, nil
}

// Leave ends the membership.
func (m *Classic) Leave() error {
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = m.ID
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group, req.Members = 5, m.Group, append(req.Members, one)
	m.Board.gone(m.name)
	r, err := m.conn.Do(req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(r.(*kmsg.LeaveGroupResponse).ErrorCode)
}

// Stay heartbeats at the interval, the first time after phase, and joins anew when told to, until ctx ends or leave is closed;
// then it leaves.
func (m *Classic) Stay(ctx context.Context, phase, interval time.Duration, leave <-chan struct{}) error {
	next := time.NewTimer(phase)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-leave:
			return m.Leave()
		case <-next.C:
		}
		code, err := m.Heartbeat()
		if err != nil {
			return err
		}
		next.Reset(interval)
		switch {
		case code == 0, retriable(code):
			continue
		case code == kerr.UnknownMemberID.Code, code == kerr.IllegalGeneration.Code:
			m.ID = ""
		case code != kerr.RebalanceInProgress.Code:
			return fmt.Errorf("heartbeat: %w", kerr.ErrorForCode(code))
		}
		if err := m.Join(ctx); err != nil {
			return err
		}
	}
}

// wait waits, or tells that ctx ended.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resume goes on over another connection: the coordinator must know the member at its generation.
func (m *Classic) Resume(c *Conn) error {
	m.conn = c
	for {
		code, err := m.Heartbeat()
		if err != nil || !retriable(code) {
			return errors.Join(err, kerr.ErrorForCode(code))
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // it asks to be asked again
	}
}
