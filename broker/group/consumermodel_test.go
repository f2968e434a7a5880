package group

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// The model check: clients of both protocols, that crash, lose answers, are slow to give partitions up, change what they subscribe to
// and come back, against one group whose coordinator crashes with writes on their way, in random order. After each event:
//
//   - no partition is used by two clients that are members (a client uses what it was told until it has given it up);
//   - no partition is with two members of the group, or in two targets, and a target is complete;
//   - group epochs, and the epochs of members, do not go back, also over crashes, as far as clients have seen them;
//   - the group as loaded from its rows is the group, when nothing is on its way.
//
// At the end all clients that are left behave well: then each partition that is subscribed to is used by exactly one.
type model struct {
	t       testing.TB
	rng     *rand.Rand
	sim     *sim
	clients []*modelClient
	of      map[Token]*modelClient
	nextID  int
	nextTop int
	lossy   bool
	told    int32 // the greatest epoch that any client was told
	fenced  int
	kinds   map[catalog.GroupKind]int
}

type modelPartition = catalog.TopicPartition

// modelClient is one process with a consumer. id is set once it is to be used in requests.
type modelClient struct {
	name, id, instance string
	classic, eager     bool
	topics             []string
	regex              string
	assignor           *string

	epoch    int32
	joined   bool
	full     bool // the next heartbeat has to say everything: an answer was lost
	owned    map[modelPartition]bool
	assigned map[modelPartition]bool // as last told
	waits    Token                   // 0: for no answer
	rejoin   bool                    // a classic client has to join (again)
	sync     bool                    // a classic client has joined and has to sync
	leader   []kmsg.JoinGroupResponseMember
	protocol string
	dead     bool // the process is gone, or it left
}

func newModel(tb testing.TB, seed uint64) *model {
	tb.Helper()
	m := &model{
		t: tb, rng: rand.New(rand.NewPCG(seed, 848)), sim: newSim(tb), of: map[Token]*modelClient{}, lossy: true, nextTop: 1,
		kinds: map[catalog.GroupKind]int{},
	}
	m.sim.answers = m.answered
	m.sim.cfg.Migration = []Migration{MigrationBidirectional, MigrationBidirectional, MigrationUpgrade, MigrationDowngrade, MigrationDisabled}[m.rng.IntN(5)]
	m.sim.cfg.InitialRebalanceDelay = 0
	m.sim.step(ConfigChanged{Config: m.sim.cfg})
	return m
}

func (m *model) one(n int) bool { return m.rng.IntN(n) == 0 }

func (m *model) subscription() []string {
	names := m.sim.topic.Names()
	var out []string
	for _, n := range names {
		if !m.one(3) {
			out = append(out, n)
		}
	}
	return append(out, "unknown")
}

func (m *model) newClient() *modelClient {
	m.nextID++
	c := &modelClient{
		name: fmt.Sprintf("c%d", m.nextID), topics: m.subscription(), owned: map[modelPartition]bool{}, full: true,
		assigned: map[modelPartition]bool{},
	}
	c.id = fmt.Sprintf("uuid-%d", m.nextID)
	if m.one(3) {
		c.classic, c.id, c.eager = true, "", m.one(2)
		c.rejoin = true
	} else if m.one(4) {
		c.regex = []string{"b.*", ".*", "foo|bar", "made-.+"}[m.rng.IntN(4)]
	}
	if m.one(4) {
		c.instance = fmt.Sprintf("instance-%d", m.rng.IntN(3))
		for _, other := range m.clients { // one process per instance id at a time, else they fence each other for ever
			if other.instance == c.instance && !other.dead {
				m.kill(other)
			}
		}
	}
	if m.one(3) {
		c.assignor = new(assignor.RangeName)
	}
	m.clients = append(m.clients, c)
	return c
}

// kill ends a process: it uses nothing any more, and its session goes on without it.
func (m *model) kill(c *modelClient) {
	c.dead = true
	clear(c.owned)
}

func (c *modelClient) instanceID() *string { return nullable(c.instance) }

// act lets a client do what is next for it.
func (m *model) act(c *modelClient) {
	if c.dead || c.waits != 0 {
		return
	}
	if c.classic {
		m.actClassic(c)
		return
	}
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = 1, m.sim.id, c.id, c.epoch, c.instanceID()
	if c.full || c.epoch == 0 || m.one(3) {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.ServerAssignor = 60_000, c.topics, c.assignor
		req.SubscribedTopicRegex = &c.regex
		req.Topics = c.reported()
	} else if m.one(2) {
		req.Topics = c.reported()
	}
	m.send(c, req)
}

// reported is what the client says it owns.
func (c *modelClient) reported() []kmsg.ConsumerGroupHeartbeatRequestTopic {
	byTopic := map[catalog.TopicID][]int32{}
	for p := range c.owned {
		byTopic[p.Topic] = append(byTopic[p.Topic], p.Partition)
	}
	out := []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for id, ps := range byTopic {
		out = append(out, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: id, Partitions: ps})
	}
	return out
}

func (m *model) send(c *modelClient, req kmsg.Request) {
	token := m.sim.token + 1
	m.of[token], c.waits = c, token
	m.sim.request(req, c.name)
}

// lost ends the wait for an answer that never comes.
func (c *modelClient) lost() {
	c.waits, c.full, c.sync = 0, true, false
	c.rejoin = c.rejoin || c.classic
}

func (m *model) answered(a Answer, req kmsg.Request) {
	c := m.of[a.Token]
	delete(m.of, a.Token)
	if c == nil || c.waits != a.Token {
		return
	}
	if c.waits = 0; c.dead {
		return
	}
	if m.lossy && m.one(8) {
		c.lost()
		return
	}
	switch resp := a.Body.(type) {
	case *kmsg.ConsumerGroupHeartbeatResponse:
		m.heartbeatAnswered(c, resp, req.(*kmsg.ConsumerGroupHeartbeatRequest))
	case *kmsg.JoinGroupResponse:
		m.joinAnswered(c, resp)
	case *kmsg.SyncGroupResponse:
		if resp.ErrorCode != 0 {
			m.classicError(c, resp.ErrorCode)
			return
		}
		c.sync = false
		assigned := map[modelPartition]bool{}
		for _, p := range assignedPartitions(resp.MemberAssignment) {
			if t, ok := m.sim.topic.ByName(p.Topic); ok {
				assigned[modelPartition{Topic: t.ID, Partition: p.Partition}] = true
			}
		}
		for p := range c.owned {
			if !assigned[p] { // a cooperative client gives it up and joins again
				delete(c.owned, p)
				c.rejoin = true
			}
		}
		maps.Copy(c.owned, assigned)
		c.assigned = assigned
	case *kmsg.HeartbeatResponse:
		m.classicError(c, resp.ErrorCode)
	}
}

func (m *model) heartbeatAnswered(c *modelClient, resp *kmsg.ConsumerGroupHeartbeatResponse, req *kmsg.ConsumerGroupHeartbeatRequest) {
	switch resp.ErrorCode {
	case codeNone:
	case codeFencedMemberEpoch, codeUnknownMemberID:
		m.fenced++
		clear(c.owned)
		c.epoch, c.joined, c.full = 0, false, true
		return
	case codeUnreleasedInstanceID, codeGroupIDNotFound, codeGroupMaxSizeReached:
		clear(c.owned)
		c.epoch, c.joined, c.full = 0, false, true
		return
	default:
		require.Failf(m.t, "heartbeat", "%s: %d %s", c.name, resp.ErrorCode, *resp.ErrorMessage)
	}
	if resp.MemberEpoch < 0 {
		return
	}
	require.GreaterOrEqual(m.t, resp.MemberEpoch, c.epoch, "%s: its epoch went back", c.name)
	require.Positive(m.t, resp.MemberEpoch)
	require.Equal(m.t, c.id, *resp.MemberID)
	c.epoch, c.joined, c.full = resp.MemberEpoch, true, false
	m.told = max(m.told, c.epoch)
	if resp.Assignment == nil {
		require.False(m.t, req.MemberEpoch == 0, "an answer to a join without assignment")
		return
	}
	clear(c.assigned)
	for _, t := range resp.Assignment.Topics {
		for _, p := range t.Partitions {
			tp := modelPartition{Topic: t.TopicID, Partition: p}
			c.assigned[tp], c.owned[tp] = true, true
		}
	}
	if m.one(2) {
		c.giveUp()
	}
}

// giveUp ends the use of what is not assigned any more.
func (c *modelClient) giveUp() {
	maps.DeleteFunc(c.owned, func(p modelPartition, _ bool) bool { return !c.assigned[p] })
}

// leave has a client leave the group in good order, if it can; what it owned is given up before.
func (m *model) leave(c *modelClient) {
	if c.dead || c.waits != 0 || !c.joined {
		return
	}
	m.kill(c)
	if c.classic {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group = 5, m.sim.id
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: c.id, InstanceID: c.instanceID()}}
		m.send(c, req)
		return
	}
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = 1, m.sim.id, c.id, epochLeave, c.instanceID()
	if c.instance != "" && m.one(2) {
		req.MemberEpoch = epochStaticLeave
	}
	m.send(c, req)
}

// members are the ids of the group's members.
func (m *model) members() map[string]bool {
	out := map[string]bool{}
	switch g := m.sim.group.m.(type) {
	case *consumer:
		for id := range g.members {
			out[id] = true
		}
	case *classic:
		for id := range g.byID {
			out[id] = true
		}
	}
	return out
}

// must is a cheap require.True.
func (m *model) must(ok bool, format string, args ...any) {
	if !ok {
		require.Failf(m.t, "model", format, args...)
	}
}

// check checks what has to be true at any time.
func (m *model) check() {
	members := m.members()
	users := map[modelPartition]string{}
	for _, c := range m.clients {
		if c.id == "" || !members[c.id] {
			continue
		}
		for p := range c.owned {
			m.must(users[p] == "", "%v is used by %s and %s", p, c.name, users[p])
			users[p] = c.name
		}
	}
	m.kinds[m.sim.group.Kind()]++
	c, ok := m.sim.group.m.(*consumer)
	if !ok {
		return
	}
	m.must(c.groupEpoch >= m.told, "the group epoch %d is behind what clients know, %d", c.groupEpoch, m.told)
	held, targets := holdings{}, holdings{}
	behind, classic := 0, 0
	for _, mem := range c.sorted {
		held.add(mem.assigned)
		held.add(mem.revoking)
		targets.add(mem.target)
		if !c.reconciled(mem) {
			behind++
		}
		if mem.classic != nil {
			classic++
		}
		m.must(mem.epoch <= c.assignedEpoch, "%s is at epoch %d, targets at %d", mem.id, mem.epoch, c.assignedEpoch)
		m.must(c.subs[mem.sub.key] == mem.sub, "%s has a subscription that the group does not know", mem.id)
	}
	m.must(behind == c.behind, "%d members behind, not %d", behind, c.behind)
	m.must(classic == c.classic, "%d classic members, not %d", classic, c.classic)
	subscribers := 0
	for _, sub := range c.subs {
		subscribers += sub.members
	}
	m.must(len(c.members) == subscribers, "%d subscribers", subscribers)
	for _, h := range []holdings{held, targets} {
		for id, of := range h {
			for p, n := range of {
				m.must(n <= 1, "%v/%d is with two members", id, p)
			}
		}
	}
	for id, of := range c.held {
		for p, n := range of {
			m.must(n > 0 == !held.free(id, int32(p)), "%v/%d is held by %d", id, p, n)
		}
	}
	if c.groupEpoch == c.assignedEpoch && !c.stale && len(c.members) > 0 {
		for _, t := range c.subscribedTopics() {
			for p := range t.Partitions {
				m.must(!targets.free(t.ID, p), "%s/%d is in no target", t.Name, p)
			}
		}
	}
	if len(m.sim.flights) == 0 && m.sim.rows != nil && m.one(8) {
		m.sameAsRows(c)
	}
}

// sameAsRows checks that what is durable is what the group is.
func (m *model) sameAsRows(c *consumer) {
	g, err := Load(*m.sim.rows, m.sim.cfg, m.sim.topic, m.sim.now)
	require.NoError(m.t, err)
	require.Equal(m.t, m.sim.group.DescribeConsumer(), g.DescribeConsumer())
	other := g.m.(*consumer)
	require.Len(m.t, other.sorted, len(c.sorted))
	for i, mem := range c.sorted {
		require.Equal(m.t, mem.row(), other.sorted[i].row())
	}
}

// event is one random event.
func (m *model) event() {
	alive := slices.DeleteFunc(slices.Clone(m.clients), func(c *modelClient) bool { return c.dead })
	pick := func() *modelClient {
		if len(alive) == 0 {
			return m.newClient()
		}
		return alive[m.rng.IntN(len(alive))]
	}
	switch n := m.rng.IntN(100); {
	case n < 4 && len(alive) < 8:
		m.newClient()
	case n < 6:
		m.leave(pick())
	case n < 7:
		m.kill(pick())
	case n < 9:
		if c := pick(); c.waits == 0 {
			c.topics, c.full, c.rejoin = m.subscription(), true, c.classic
		}
	case n < 11:
		m.topics()
	case n < 13:
		m.sim.hold = !m.sim.hold
	case n < 20:
		if len(m.sim.flights) > 0 {
			m.sim.written()
		}
	case n < 21:
		m.crash()
	case n < 30:
		m.sim.pass(time.Duration(m.rng.IntN(20)) * time.Second)
	case n < 45:
		if c := pick(); !c.classic {
			c.giveUp()
		}
	default:
		m.act(pick())
	}
	if c := pick(); c.waits != 0 && m.one(20) { // it does not wait any longer
		c.lost()
	}
}

// topics makes, deletes or makes anew a topic, or grows one.
func (m *model) topics() {
	names := m.sim.topic.Names()
	next := simTopics{version: m.sim.topic.version + 1, byName: maps.Clone(m.sim.topic.byName)}
	put := func(name string) {
		m.nextTop++
		next.byName[name] = Topic{ID: catalog.TopicID{0: 9, 15: byte(m.nextTop)}, Name: name, Partitions: int32(1 + m.rng.IntN(5))}
	}
	switch {
	case m.one(3) || len(names) == 0:
		put(fmt.Sprintf("made-%d", m.nextTop))
	case m.one(3):
		delete(next.byName, names[m.rng.IntN(len(names))])
	case m.one(2):
		put(names[m.rng.IntN(len(names))])
	default:
		t := next.byName[names[m.rng.IntN(len(names))]]
		t.Partitions++
		next.byName[t.Name] = t
	}
	next.names = slices.Sorted(maps.Keys(next.byName))
	m.sim.topic = next
	m.sim.step(TopicsChanged{Topics: next})
}

func (m *model) crash() {
	for len(m.sim.flights) > 0 && !m.one(3) {
		m.sim.written()
	}
	m.sim.crash()
	clear(m.of)
	for _, c := range m.clients {
		if c.waits != 0 {
			c.lost()
		}
	}
}

// settle lets the clients that are left behave well, and checks that all ends well.
func (m *model) settle() {
	m.lossy, m.sim.hold = false, false
	for len(m.sim.flights) > 0 {
		m.sim.written()
	}
	m.check()
	for range 60 {
		for _, c := range m.clients {
			if !c.classic {
				c.giveUp()
			}
			m.act(c)
			m.check()
		}
		m.sim.pass(3 * time.Second)
		m.check()
	}
	users := map[modelPartition]int{}
	subscribed := map[string]bool{}
	left := 0
	for _, c := range m.clients {
		if c.dead {
			continue
		}
		if !c.joined { // refused for good by the migration policy, or by what the group speaks
			require.NotEqual(m.t, MigrationBidirectional, m.sim.cfg.Migration, "%s did not get in", c.name)
			continue
		}
		left++
		for p := range c.owned {
			users[p]++
		}
		for _, name := range m.sim.topic.Names() {
			if slices.Contains(c.topics, name) || !c.classic && c.regex != "" && matches(m.t, c.regex, name) {
				subscribed[name] = true
			}
		}
	}
	if left == 0 {
		return
	}
	require.Equal(m.t, phaseStable, m.sim.group.Phase())
	for _, name := range m.sim.topic.Names() {
		t, _ := m.sim.topic.ByName(name)
		for p := range t.Partitions {
			n := users[modelPartition{Topic: t.ID, Partition: p}]
			if m.sim.group.Kind() == catalog.GroupClassic && n == 0 {
				continue // a classic group's leader did not see that topic yet
			}
			want := 0
			if subscribed[name] {
				want = 1
			}
			require.Equal(m.t, want, n, "%s/%d of a %s group", name, p, m.sim.group.Kind())
		}
	}
}

func matches(tb testing.TB, regex, name string) bool {
	tb.Helper()
	p, err := compilePattern(regex)
	require.NoError(tb, err)
	return p.MatchString(name)
}

var (
	modelRuns = flag.Uint64("model-runs", 15, "runs of TestConsumerModel")
	modelSeed = flag.Uint64("model-seed", 0, "the first run's seed")
)

// TestConsumerModel: -model-runs=5000 tries more; a run that failed is tried again by -model-seed=N -model-runs=1.
func TestConsumerModel(t *testing.T) {
	kinds := map[catalog.GroupKind]int{}
	fenced := 0
	for i := range *modelRuns {
		seed := *modelSeed + i
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(t, seed)
			for range 200 {
				m.event()
				m.check()
			}
			m.settle()
			for k, n := range m.kinds {
				kinds[k] += n
			}
			fenced += m.fenced
		}) {
			break
		}
	}
	t.Logf("checks by kind: %v; fenced %d times", kinds, fenced)
	if *modelRuns < 20 || t.Failed() {
		return
	}
	for _, k := range []catalog.GroupKind{catalog.GroupClassic, catalog.GroupConsumer} {
		require.Positive(t, kinds[k], "no run had a group of kind %s", k)
	}
}
