package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// consumerProtocolType is what consumers say in JoinGroup: their metadata and assignments can be read.
const consumerProtocolType = "consumer"

// newMemberJoin bounds how long a member that waits for its first JoinGroup answer is kept: nobody heartbeats until then, and it
// may never learn its id (Kafka: 5 minutes, not a config).
const newMemberJoin = 5 * time.Minute

// classic is the membership of a classic group.
//
// The states and what leads from one to the other are Kafka's (ClassicGroupState):
//
//	Empty ──join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader's sync──▶ Stable
//	  ▲                    │  ▲                                                │                              │
//	  └── nobody is left ──┘  └──── join, leave, session over, no sync ────────┴──────────────────────────────┘
//
// What is written when: the generation with its members' subscriptions as soon as all have joined, before any is told of it;
// the assignments as the leader gives them; who leaves or is thrown out, at once; who takes the place of a static member, at
// once. Who is waiting to join is not written: a new coordinator finds the generation before, and they ask again. So a group
// is found in the state it was in, except that nobody waits for anything in it.
type classic struct {
	g *Group

	state      string // one of the phases
	generation int32
	kindOf     string // protocol type, by the first member
	protocol   string
	leader     *classicMember

	byID     map[string]*classicMember
	order    []*classicMember          // as they joined
	static   map[string]*classicMember // by instance id
	pending  map[string]*session       // ids given out (KIP-394), that have not joined yet
	supports map[string]int            // members that know each protocol
	joining  int                       // members that wait for a JoinGroup answer
	unsynced int                       // members that have not sent SyncGroup in this generation

	// topics are those the members subscribe to; known says that this group's subscriptions could be read.
	topics map[string]bool
	known  bool

	sessions sessions
	initial  bool // the rebalance is the first of an empty group: it waits for more members
	more     bool // a member joined since the initial delay was last extended
	delay    time.Duration
	left     time.Duration // by which the initial delay may still be extended
	joinAt   time.Time     // when the rebalance goes on without those that have not joined; zero: not rebalancing
	syncAt   time.Time     // when those that have not synced are thrown out; zero: all have
}

// classicMember is one member.
type classicMember struct {
	id        string
	instance  string // empty: dynamic
	client    Client
	session   time.Duration
	rebalance time.Duration
	protocols []kmsg.JoinGroupRequestProtocol

	assignment []byte

	clock    *session
	join     waiter // for a JoinGroup answer
	sync     waiter // for a SyncGroup answer
	unsynced bool
	isNew    bool // waits for its first JoinGroup answer
	saved    bool // has a row, once all writes issued are durable
	dirty    bool // differs from its row
}

// waiter is an answer that is due.
type waiter struct {
	on      bool
	gone    bool // whom the answer was due to does not wait any more
	token   Token
	version int16
}

func newClassic(g *Group, generation int32) *classic {
	return &classic{
		g: g, state: phaseEmpty, generation: generation,
		byID: make(map[string]*classicMember), static: make(map[string]*classicMember),
		pending: make(map[string]*session), supports: make(map[string]int),
	}
}

// loadClassic makes the membership from its rows.
func loadClassic(g *Group, rec catalog.GroupRecord, now time.Time) (*classic, error) {
	var state classicState
	if err := decodeState(rec.State, &state, &state.Version); err != nil {
		return nil, err
	}
	c := newClassic(g, rec.Epoch)
	c.kindOf, c.protocol = rec.ProtocolType, rec.Protocol
	for i := range rec.Members {
		m, err := loadClassicMember(&rec.Members[i])
		if err != nil {
			return nil, err
		}
		c.add(m)
		c.sessions.extend(m.clock, now, m.session)
	}
	if m := c.byID[rec.Leader]; m != nil {
		c.leader = m
	}
	c.readTopics()
	switch {
	case len(c.order) == 0:
	case rec.Phase == phasePreparing:
		c.state = phasePreparing
		c.joinAt = now.Add(c.rebalanceTimeout())
	case rec.Phase == phaseCompleting:
		c.state = phaseCompleting
		c.awaitSync(now)
	default:
		c.state = phaseStable
	}
	return c, nil
}

func (c *classic) kind() catalog.GroupKind { return catalog.GroupClassic }
func (c *classic) phase() string           { return c.state }
func (c *classic) epoch() int32            { return c.generation }
func (c *classic) protocolType() string    { return c.kindOf }

func (c *classic) idle() bool { return c.state == phaseEmpty && len(c.order)+len(c.pending) == 0 }

func (c *classic) size() int { return len(c.order) }

func (c *classic) fill(row *catalog.Group) {
	row.Protocol = c.protocol
	if c.leader != nil {
		row.Leader = c.leader.id
	}
	row.State = encodeState(classicState{Version: stateVersion})
}

// to changes the state.
func (c *classic) to(s *step, state string) {
	c.state = state
	c.g.changedAt = s.now
}

// add puts a member in. The first one decides the protocol type, and leads.
func (c *classic) add(m *classicMember) {
	c.byID[m.id] = m
	c.order = append(c.order, m)
	if m.instance != "" {
		c.static[m.instance] = m
	}
	if c.leader == nil {
		c.leader = m
	}
	c.count(m, 1)
}

// remove takes a member out, with its row if it has one; the answers it waits for are the caller's. Another member takes the
// lead.
func (c *classic) remove(s *step, m *classicMember) {
	delete(c.byID, m.id)
	c.order = slices.Delete(c.order, slices.Index(c.order, m), slices.Index(c.order, m)+1)
	c.forget(s, m)
}

// forget is the rest of remove, for a member that is in the order no more.
func (c *classic) forget(s *step, m *classicMember) {
	delete(c.byID, m.id)
	if c.static[m.instance] == m {
		delete(c.static, m.instance)
	}
	c.sessions.stop(m.clock)
	c.count(m, -1)
	if m.join.on {
		c.joining--
	}
	c.synced(m)
	if c.leader == m {
		if c.leader = nil; len(c.order) > 0 {
			c.leader = c.order[0]
		}
	}
	if m.saved {
		s.dropMember(m.id)
		s.saveGroup()
	}
	s.membersChanged()
}

// count notes the protocols of a member that comes (1) or goes (-1).
func (c *classic) count(m *classicMember, by int) {
	for i := range m.protocols {
		name := m.protocols[i].Name
		if c.supports[name] += by; c.supports[name] == 0 {
			delete(c.supports, name)
		}
	}
}

// synced notes that a member does not owe a SyncGroup in this generation any more.
func (c *classic) synced(m *classicMember) {
	if !m.unsynced {
		return
	}
	m.unsynced = false
	if c.unsynced--; c.unsynced == 0 {
		c.syncAt = time.Time{}
	}
}

// awaitSync makes all members owe a SyncGroup.
func (c *classic) awaitSync(now time.Time) {
	for _, m := range c.order {
		m.unsynced = true
	}
	c.unsynced = len(c.order)
	c.syncAt = now.Add(c.rebalanceTimeout())
}

// rebalanceTimeout is the longest of the members'.
func (c *classic) rebalanceTimeout() time.Duration {
	var d time.Duration
	for _, m := range c.order {
		d = max(d, m.rebalance)
	}
	return d
}

// allJoined says that nobody is waited for.
func (c *classic) allJoined() bool { return c.joining == len(c.order) && len(c.pending) == 0 }

// find checks who asks, in Kafka's order: a known instance id with another member id has been replaced.
func (c *classic) find(memberID string, instanceID *string) (*classicMember, int16) {
	if instanceID != nil && *instanceID != "" {
		switch m := c.static[*instanceID]; {
		case m == nil:
			return nil, codeUnknownMemberID
		case m.id != memberID:
			return nil, codeFencedInstanceID
		}
	}
	if m := c.byID[memberID]; m != nil {
		return m, codeNone
	}
	return nil, codeUnknownMemberID
}

// metadata is what a member says for a protocol.
func (m *classicMember) metadata(protocol string) []byte {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return m.protocols[i].Metadata
		}
	}
	return nil
}

// row is the member's row as it is.
func (m *classicMember) row() catalog.GroupMember {
	st := classicMemberState{
		Version: stateVersion, SessionMillis: millis(m.session), RebalanceMillis: millis(m.rebalance), Assignment: m.assignment,
		Protocols: make([]protocolState, len(m.protocols)),
	}
	for i := range m.protocols {
		st.Protocols[i] = protocolState{Name: m.protocols[i].Name, Metadata: m.protocols[i].Metadata}
	}
	return catalog.GroupMember{
		ID: m.id, InstanceID: m.instance, ClientID: m.client.ID, ClientHost: m.client.Host, State: encodeState(st),
	}
}

// save writes the member's row.
func (m *classicMember) save(s *step) {
	s.saveMember(m.row())
	m.saved, m.dirty = true, false
}

func loadClassicMember(row *catalog.GroupMember) (*classicMember, error) {
	var st classicMemberState
	if err := decodeState(row.State, &st, &st.Version); err != nil {
		return nil, err
	}
	m := &classicMember{
		id: row.ID, instance: row.InstanceID, client: Client{ID: row.ClientID, Host: row.ClientHost}, clock: newSession(row.ID),
		session: fromMillis(st.SessionMillis), rebalance: fromMillis(st.RebalanceMillis), assignment: st.Assignment, saved: true,
	}
	for _, p := range st.Protocols {
		m.protocols = append(m.protocols, kmsg.JoinGroupRequestProtocol{Name: p.Name, Metadata: p.Metadata})
	}
	return m, nil
}

func millis(d time.Duration) int32      { return int32(d / time.Millisecond) }
func fromMillis(ms int32) time.Duration { return time.Duration(max(ms, 0)) * time.Millisecond }

// request answers requests about membership. Those of KIP-848 come by [Group.consumerHeartbeat].
func (c *classic) request(s *step, r *Request) {
	switch req := r.Body.(type) {
	case *kmsg.JoinGroupRequest:
		c.joinGroup(s, r, req)
	case *kmsg.SyncGroupRequest:
		c.syncGroup(s, r, req)
	case *kmsg.HeartbeatRequest:
		c.heartbeat(s, r, req)
	case *kmsg.LeaveGroupRequest:
		c.leaveGroup(s, r, req)
	}
}
