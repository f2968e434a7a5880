package light

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Consumer is a member of a KIP-848 group on one topic, for one goroutine. It gives up at once what it is told to, and says so
// in a heartbeat at once; otherwise it heartbeats at the interval that the coordinator tells.
type Consumer struct {
	Group, Topic string
	Board        *Board

	ID    string
	Epoch int32
	Owned []int32

	conn     *Conn
	name     string // on the board
	topicID  [16]byte
	interval time.Duration
}

// NewConsumer makes a member that talks over c; Stay makes it one. name is its own on the board. It asks for the topic's id.
func NewConsumer(c *Conn, name, group, topic string, board *Board) (*Consumer, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	r, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	found := r.(*kmsg.MetadataResponse).Topics[0]
	if found.ErrorCode != 0 {
		return nil, fmt.Errorf("look for topic %s: %w", topic, kerr.ErrorForCode(found.ErrorCode))
	}
	return &Consumer{Group: group, Topic: topic, Board: board, ID: rand.Text(), conn: c, name: name, topicID: found.TopicID}, nil
}

// Stay joins and heartbeats until ctx ends or leave is closed; then it leaves. phase (0 to 1) is when in the interval it
// heartbeats, once the board is told to spread members.
func (m *Consumer) Stay(ctx context.Context, phase float64, leave <-chan struct{}) error {
	next := time.NewTimer(0)
	defer next.Stop()
	full, owns, spread := true, true, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-leave:
			m.Board.gone(m.name)
			m.Epoch = -1
			_, err := m.heartbeat(false, false)
			return err
		case <-next.C:
		}
		resp, err := m.heartbeat(full, owns)
		if err != nil {
			return err
		}
		switch code := resp.ErrorCode; {
		case code == 0:
		case retriable(code):
			next.Reset(50 * time.Millisecond)
			continue
		case code == kerr.UnknownMemberID.Code, code == kerr.FencedMemberEpoch.Code:
			m.Epoch, m.Owned, full, owns = 0, nil, true, true
			m.Board.gone(m.name)
			next.Reset(0)
			continue
		default:
			return fmt.Errorf("heartbeat: %w", kerr.ErrorForCode(code))
		}
		full, owns = false, m.take(resp)
		switch {
		case owns:
			next.Reset(0)
		case !spread && m.Board.spread.Load():
			spread = true
			next.Reset(time.Duration(phase * float64(m.interval)))
		default:
			next.Reset(m.interval)
		}
	}
}

// take does what an answer says, and tells whether what the member owns is another now.
func (m *Consumer) take(resp *kmsg.ConsumerGroupHeartbeatResponse) (owns bool) {
	m.interval = time.Duration(resp.HeartbeatIntervalMillis) * time.Millisecond
	before := m.Owned
	if resp.Assignment != nil {
		var now []int32
		for _, t := range resp.Assignment.Topics {
			now = append(now, t.Partitions...)
		}
		slices.Sort(now)
		m.Owned = now
	}
	owns = !slices.Equal(before, m.Owned)
	if owns || resp.MemberEpoch != m.Epoch {
		m.Epoch = resp.MemberEpoch
		m.Board.told(m.name, m.Epoch, m.Owned)
	}
	return owns
}

// heartbeat sends what is said at the join too (full), and what the member owns (owns).
func (m *Consumer) heartbeat(full, owns bool) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = 1, m.Group, m.ID, m.Epoch, -1
	if full {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 300_000, []string{m.Topic}
	}
	if owns {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if len(m.Owned) > 0 {
			t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			t.TopicID, t.Partitions = m.topicID, m.Owned
			req.Topics = append(req.Topics, t)
		}
	}
	r, err := m.conn.Do(req)
	if err != nil {
		return nil, err
	}
	return r.(*kmsg.ConsumerGroupHeartbeatResponse), nil
}

// Join sends the first heartbeat, and no other.
func (m *Consumer) Join() error {
	resp, err := m.heartbeat(true, true)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
