package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// consumerState is Group.State of a consumer group.
type consumerState struct {
	Version         int    `json:"v"`
	AssignmentEpoch int32  `json:"assignment_epoch"`
	TopicsHash      uint64 `json:"topics_hash"`
}

// consumerMemberState is GroupMember.State of a member of a consumer group. Its target is that of the group's assignment epoch.
type consumerMemberState struct {
	Version         int                 `json:"v"`
	Epoch           int32               `json:"epoch"`
	PreviousEpoch   int32               `json:"previous_epoch"`
	State           memberState         `json:"state"`
	RebalanceMillis int32               `json:"rebalance_timeout_ms"`
	Rack            string              `json:"rack,omitempty"`
	Assignor        string              `json:"assignor,omitempty"`
	Topics          []string            `json:"topics,omitempty"`
	Regex           string              `json:"regex,omitempty"`
	Assigned        assignor.Assignment `json:"assigned,omitempty"`
	Revoking        assignor.Assignment `json:"revoking,omitempty"`
	Target          assignor.Assignment `json:"target,omitempty"`
	Classic         *classicPartState   `json:"classic,omitempty"`
}

// classicPartState is what a member that speaks the classic protocol has beside.
type classicPartState struct {
	SessionMillis int32           `json:"session_timeout_ms"`
	Protocols     []protocolState `json:"protocols"`
}

func (c *consumer) fill(row *catalog.Group) {
	row.Protocol = c.assignorName()
	row.State = encodeState(consumerState{
		Version: stateVersion, AssignmentEpoch: c.assignedEpoch, TopicsHash: c.topicsHash,
	})
}

// row is the member's row as it is.
func (m *consumerMember) row() catalog.GroupMember {
	st := consumerMemberState{
		Version: stateVersion, Epoch: m.epoch, PreviousEpoch: m.previous, State: m.state, RebalanceMillis: millis(m.rebalance),
		Rack: m.rack, Assignor: m.assignor, Topics: m.sub.names, Regex: m.sub.regex,
		Assigned: m.assigned, Revoking: m.revoking, Target: m.target,
	}
	if m.classic != nil {
		st.Classic = &classicPartState{SessionMillis: millis(m.classic.session)}
		for i := range m.classic.protocols {
			p := &m.classic.protocols[i]
			st.Classic.Protocols = append(st.Classic.Protocols, protocolState{Name: p.Name, Metadata: p.Metadata})
		}
	}
	return catalog.GroupMember{
		ID: m.id, InstanceID: m.instance, ClientID: m.client.ID, ClientHost: m.client.Host, State: encodeState(st),
	}
}

// loadConsumer makes the membership from its rows. All sessions, and the time of members that have to give partitions up, begin anew.
// A member of the classic protocol that had to rejoin is told so again by its next heartbeat.
func loadConsumer(g *Group, rec catalog.GroupRecord, now time.Time) (*consumer, error) {
	var st consumerState
	if err := decodeState(rec.State, &st, &st.Version); err != nil {
		return nil, err
	}
	c := newConsumer(g, rec.Epoch)
	c.assignedEpoch, c.topicsHash = st.AssignmentEpoch, st.TopicsHash
	for i := range rec.Members {
		m, err := c.loadMember(&rec.Members[i])
		if err != nil {
			return nil, err
		}
		c.add(m)
		c.touch(&step{g: g, now: now}, m)
		if m.state == memberUnrevoked && m.classic == nil {
			c.sessions.extend(m.revoke, now, m.rebalance)
		}
	}
	c.stale = true // topics may have changed while nobody coordinated
	c.was = c.phase()
	return c, nil
}

func (c *consumer) loadMember(row *catalog.GroupMember) (*consumerMember, error) {
	var st consumerMemberState
	if err := decodeState(row.State, &st, &st.Version); err != nil {
		return nil, err
	}
	m := newConsumerMember(row.ID)
	m.instance, m.client = row.InstanceID, Client{ID: row.ClientID, Host: row.ClientHost}
	m.epoch, m.previous, m.state = st.Epoch, st.PreviousEpoch, st.State
	m.rack, m.assignor, m.rebalance = st.Rack, st.Assignor, fromMillis(st.RebalanceMillis)
	m.assigned, m.revoking, m.target = st.Assigned, st.Revoking, st.Target
	if st.Classic != nil {
		m.classic = &classicPart{session: fromMillis(st.Classic.SessionMillis)}
		for _, p := range st.Classic.Protocols {
			m.classic.protocols = append(m.classic.protocols, kmsg.JoinGroupRequestProtocol{Name: p.Name, Metadata: p.Metadata})
		}
	}
	var err error
	m.sub, err = c.subscribe(slices.Clone(st.Topics), st.Regex)
	return m, err
}
