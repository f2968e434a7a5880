package group

import (
	"bytes"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

var (
	randomSeed = flag.Uint64("seed", 0, "the one seed to play in TestRandomClassic; 0: some")
	randomRuns = flag.Int("runs", 20, "how many seeds to play in TestRandomClassic")
)

// TestRandomClassic plays random lists of events, with clients that behave and clients that do not, writes that are slow, and
// coordinators that die at any point with any part of their writes done. It checks after every answer what the package's
// documentation promises. A seed gives the same run, twice.
func TestRandomClassic(t *testing.T) {
	if *randomSeed != 0 {
		playRandom(t, *randomSeed)
		return
	}
	for seed := range uint64(*randomRuns) {
		if first, second := playRandom(t, seed+1), playRandom(t, seed+1); first != second {
			t.Fatalf("seed %d: the same events gave other effects", seed+1)
		}
	}
}

// classicModel is what must be true, as clients have been told.
type classicModel struct {
	t    *testing.T
	seed uint64
	r    *rand.Rand
	sim  *sim

	clients []*randomClient
	of      map[Token]*randomClient
	commits map[Token]commitSent

	told    map[int32]generationTold
	last    int32                            // the newest generation anybody was told of
	owner   map[int32]map[string]string      // by generation and partition
	acked   map[catalog.GroupPartition]int64 // the newest commit that was acknowledged
	dropped int64                            // the same of the whole group
	deleted map[catalog.GroupPartition]int64 // the newest deletion that may have been done
	sends   int64                            // commits and deletions sent; the n-th commits offset n
	trace   io.Writer
}

// generationTold is what clients were told of a generation: by whom it was heard of, by member id.
type generationTold struct {
	protocol string
	by       map[string]bool
}

// commitSent is a commit of offset n.
type commitSent struct {
	n     int64
	parts []catalog.GroupPartition
}

// randomClient is a client; its name in the model is its instance id if it is static, so that one that came back is the same.
type randomClient struct {
	name, instance string
	version        int16
	id             string
	former         string // an id it had before
	generation     int32
	leads          bool
	members        []string
	waits          bool
}

func playRandom(t *testing.T, seed uint64) uint64 {
	t.Helper()
	sum := fnv.New64a()
	m := &classicModel{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 1)), sim: newSim(t), of: make(map[Token]*randomClient),
		commits: make(map[Token]commitSent),
		told:    make(map[int32]generationTold), owner: make(map[int32]map[string]string), acked: make(map[catalog.GroupPartition]int64),
		deleted: make(map[catalog.GroupPartition]int64), trace: sum,
	}
	if *randomSeed != 0 {
		m.trace = testWriter{t}
	}
	m.sim.cfg.OffsetCheck, m.sim.cfg.OffsetRetention = []time.Duration{20 * time.Second, never}[m.r.IntN(2)], time.Minute
	m.sim.cfg.MaxSize = 4 + m.r.IntN(4)
	m.sim.cfg.InitialRebalanceDelay = time.Duration(m.r.IntN(3)) * time.Second
	m.sim.group = New(m.sim.id, 0, m.sim.cfg, m.sim.topic, m.sim.now)
	m.sim.answers, m.sim.wrote, m.sim.done = m.answered, m.wrote, m.done
	for i := range 6 {
		c := &randomClient{name: fmt.Sprintf("c%d", i), generation: -1, version: []int16{3, 5, 9}[m.r.IntN(3)]}
		if i%2 == 1 {
			c.instance, c.version = fmt.Sprintf("i%d", i), []int16{5, 9}[m.r.IntN(2)]
		}
		m.clients = append(m.clients, c)
	}
	for range 300 {
		m.event()
		m.readsAreDurable()
	}
	m.end()
	return sum.Sum64()
}

// never is an interval that does not pass in a test.
const never = 1e6 * time.Hour

// testWriter shows the run of one seed.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func (m *classicModel) log(format string, args ...any) {
	fmt.Fprintf(m.trace, format+"\n", args...)
}

func (m *classicModel) require(ok bool, format string, args ...any) {
	m.t.Helper()
	if !ok {
		require.FailNow(m.t, fmt.Sprintf(format, args...), "go test ./broker/group -run TestRandomClassic -seed %d -v", m.seed)
	}
}

func (m *classicModel) event() {
	c := m.clients[m.r.IntN(len(m.clients))]
	switch n := m.r.IntN(100); {
	case n < 30:
		m.behave(c)
	case n < 45:
		m.heartbeat(c)
	case n < 60:
		m.commit(c)
	case n < 63:
		m.leave(c)
	case n < 66:
		m.forget(c)
	case n < 68:
		m.deleteOffsets()
	case n < 69:
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{m.sim.id}
		m.send(c, req)
	case n < 70:
		m.log("topics")
		m.sim.topic = m.sim.topic.with([]string{"foo"}, []string{"foo"})
		m.sim.step(TopicsChanged{Topics: m.sim.topic})
	case n < 81:
		d := time.Duration(m.r.IntN(1500)) * time.Millisecond
		m.log("pass %s", d)
		m.sim.pass(d)
	case n < 83:
		d := time.Duration(m.r.IntN(15)) * time.Second
		m.log("pass %s", d)
		m.sim.pass(d)
	case n < 86:
		m.sim.hold = !m.sim.hold
		if !m.sim.hold {
			m.sim.land()
		}
	case n < 92:
		if len(m.sim.flights) > 0 {
			m.sim.written()
		}
	case n < 95:
		m.crash()
	case n < 97:
		m.abandon(c)
	case n < 98:
		m.sim.step(Resumed{})
	default:
		m.badInput(c)
	}
}

// behave does what a client would do next.
func (m *classicModel) behave(c *randomClient) {
	switch {
	case c.waits:
	case c.generation < 0 || m.r.IntN(4) == 0:
		m.join(c, c.id)
	default:
		m.sync(c, c.id, c.generation)
	}
}

func (m *classicModel) send(c *randomClient, req kmsg.Request) {
	m.log("%s: %T v%d %s", c.name, req, req.GetVersion(), c.id)
	m.of[m.sim.token+1] = c
	m.sim.request(req, c.name)
}

func (m *classicModel) join(c *randomClient, id string) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = c.version, m.sim.id, id, consumerProtocolType
	req.SessionTimeoutMillis = 6000 + m.r.Int32N(6000)
	req.RebalanceTimeoutMillis = 3000 + m.r.Int32N(20000)
	if c.instance != "" {
		req.InstanceID = new(c.instance)
	}
	for _, p := range [][]string{{"range"}, {"sticky", "range"}, {"range", "sticky"}, {"sticky"}}[min(m.r.IntN(20), 3)] {
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: subscriptionOf("foo")})
	}
	c.waits = true
	m.send(c, req)
}

func (m *classicModel) sync(c *randomClient, id string, generation int32) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, m.sim.id, id, generation
	if c.instance != "" {
		req.InstanceID = new(c.instance)
	}
	if c.leads {
		// Eight partitions, each to one member, or to none.
		parts := make(map[string][]string)
		for p := range 4 {
			for _, topic := range []string{"foo", "bar"} {
				if who := m.r.IntN(len(c.members) + 1); who < len(c.members) {
					parts[c.members[who]] = append(parts[c.members[who]], fmt.Sprintf("%s/%d", topic, p))
				}
			}
		}
		for _, id := range c.members {
			if len(parts[id]) > 0 {
				req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{
					MemberID: id, MemberAssignment: assignment(strings.Join(parts[id], ",")),
				})
			}
		}
	}
	c.waits = true
	m.send(c, req)
}

func (m *classicModel) heartbeat(c *randomClient) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, m.sim.id, c.id, c.generation
	if c.instance != "" {
		req.InstanceID = new(c.instance)
	}
	m.send(c, req)
}

func (m *classicModel) commit(c *randomClient) {
	m.sends++
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 8, m.sim.id, c.id, c.generation
	if m.r.IntN(5) == 0 {
		req.MemberID, req.Generation = "", -1
	}
	sent := commitSent{n: m.sends}
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "foo"
	for p := range int32(4) {
		if m.r.IntN(2) == 0 {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset = p, sent.n
			rt.Partitions = append(rt.Partitions, rp)
			sent.parts = append(sent.parts, catalog.GroupPartition{Topic: "foo", Partition: p})
		}
	}
	req.Topics = append(req.Topics, rt)
	m.commits[m.sim.token+1] = sent
	m.send(c, req)
}

func (m *classicModel) leave(c *randomClient) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 3, m.sim.id
	who := kmsg.NewLeaveGroupRequestMember()
	who.MemberID = c.id
	if c.instance != "" {
		who.InstanceID = new(c.instance)
		if m.r.IntN(2) == 0 {
			who.MemberID = ""
		}
	}
	req.Members = append(req.Members, who)
	m.send(c, req)
}

// forget is a client that restarts.
func (m *classicModel) forget(c *randomClient) {
	c.former, c.id, c.generation, c.waits, c.leads = c.id, "", -1, false, false
}

func (m *classicModel) deleteOffsets() {
	m.sends++
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = m.sim.id
	rt := kmsg.NewOffsetDeleteRequestTopic()
	rt.Topic = "foo"
	for p := range int32(2) {
		rp := kmsg.NewOffsetDeleteRequestTopicPartition()
		rp.Partition = p
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	m.send(m.clients[0], req)
}

// badInput is a client that says what it should not.
func (m *classicModel) badInput(c *randomClient) {
	id := []string{c.id, c.former, "nobody", ""}[m.r.IntN(4)]
	generation := []int32{c.generation, c.generation - 1, c.generation + 1, -1}[m.r.IntN(4)]
	switch m.r.IntN(2) {
	case 0:
		m.join(c, id)
	default:
		leads := c.leads
		c.leads = c.leads && id == c.id && generation == c.generation
		m.sync(c, id, generation)
		c.leads = leads
	}
}

// abandon is a client whose connection breaks while it waits.
func (m *classicModel) abandon(c *randomClient) {
	for _, t := range slices.Sorted(keys(m.sim.due)) {
		if m.of[t] == c {
			delete(m.sim.due, t)
			m.sim.step(Abandoned{Token: t})
			m.removeLater(t)
			c.waits = false
		}
	}
}

// removeLater is what a coordinator does with an answer that nobody waits for.
func (m *classicModel) removeLater(t Token) {
	for i := range m.sim.flights {
		f := &m.sim.flights[i]
		f.later = slices.DeleteFunc(f.later, func(a Answer) bool { return a.Token == t })
	}
}

func keys[V any](in map[Token]V) func(func(Token) bool) {
	return func(yield func(Token) bool) {
		for k := range in {
			if !yield(k) {
				return
			}
		}
	}
}

// crash is the end of a coordinator, at any point of its writes: each of those on its way may have been done, in their order.
func (m *classicModel) crash() {
	done := 0
	if n := len(m.sim.flights); n > 0 {
		done = m.r.IntN(n + 1)
	}
	m.log("crash after %d of %d writes", done, len(m.sim.flights))
	for i := range done {
		m.sim.apply(m.sim.flights[i].change)
	}
	for t := range m.sim.due {
		if c := m.of[t]; c != nil {
			c.waits = false
		}
	}
	m.sim.crash()
	if m.sim.rows == nil {
		return
	}
	// Everybody who is in the rows goes on without a rejoin.
	for i := range m.sim.rows.Members {
		row := &m.sim.rows.Members[i]
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation = m.sim.id, row.ID, m.sim.rows.Epoch
		eff := m.sim.group.Step(m.sim.now, Request{Body: req, Token: 1 << 60})
		m.require(len(eff.Now) == 1 && eff.Change == nil, "a heartbeat after a crash has to be answered at once")
		code := eff.Now[0].Body.(*kmsg.HeartbeatResponse).ErrorCode
		if m.sim.rows.Phase == phasePreparing {
			m.require(code == codeRebalanceInProgress, "heartbeat of %s in a rebalance after a crash: %d", row.ID, code)
		} else {
			m.require(code == codeNone, "heartbeat of %s after a crash: %d", row.ID, code)
		}
	}
}

func (m *classicModel) wrote(n uint64, c *catalog.GroupChange) {
	m.log("  write %d: delete=%v %+v", n, c.Delete, c.MembersGone)
	for _, p := range c.OffsetsGone {
		m.deleted[p] = m.sends
	}
	if c.Delete {
		m.dropped = m.sends
	}
	if c.Group == nil {
		return
	}
	m.log("  %+v", *c.Group)
	for _, w := range slices.Backward(m.sim.flights) {
		f := w.change
		if f.Delete {
			return // generations start anew
		}
		m.require(f.Group == nil || c.Group.Epoch >= f.Group.Epoch, "a generation goes back")
	}
	m.require(m.sim.rows == nil || c.Group.Epoch >= m.sim.rows.Epoch, "a generation goes back")
}

// done forgets what was told of a group that is gone: the next one of that name starts anew.
func (m *classicModel) done(c *catalog.GroupChange) {
	if c.Delete {
		clear(m.told)
		clear(m.owner)
		m.last = 0
	}
}

// row is a member as it is durable.
func (m *classicModel) row(id string) *classicMember {
	if m.sim.rows == nil {
		return nil
	}
	for i := range m.sim.rows.Members {
		if m.sim.rows.Members[i].ID == id {
			out, err := loadClassicMember(&m.sim.rows.Members[i])
			require.NoError(m.t, err)
			return out
		}
	}
	return nil
}

func (m *classicModel) answered(a Answer, req kmsg.Request) {
	c := m.of[a.Token]
	switch resp := a.Body.(type) {
	case *kmsg.JoinGroupResponse:
		m.log("  %s joined: %d %s %d", c.name, resp.ErrorCode, resp.MemberID, resp.Generation)
		m.joined(c, resp)
	case *kmsg.SyncGroupResponse:
		m.log("  %s synced: %d", c.name, resp.ErrorCode)
		m.synced(c, req.(*kmsg.SyncGroupRequest), resp)
	case *kmsg.HeartbeatResponse:
		m.log("  %s heartbeat: %d", c.name, resp.ErrorCode)
		m.failed(c, resp.ErrorCode)
	case *kmsg.LeaveGroupResponse:
		m.log("  %s left: %d", c.name, resp.Members[0].ErrorCode)
		if resp.Members[0].ErrorCode == codeNone {
			m.require(m.row(resp.Members[0].MemberID) == nil, "%s left, and its row is still there", c.name)
			m.forget(c)
		}
	case *kmsg.OffsetCommitResponse:
		sent := m.commits[a.Token]
		if len(sent.parts) == 0 {
			return
		}
		code := resp.Topics[0].Partitions[0].ErrorCode
		m.log("  %s committed %d: %d", c.name, sent.n, code)
		for _, p := range sent.parts {
			if code == codeNone {
				m.acked[p] = max(m.acked[p], sent.n)
			}
		}
	}
}

func (m *classicModel) failed(c *randomClient, code int16) {
	switch code {
	case codeUnknownMemberID, codeFencedInstanceID:
		m.forget(c)
	case codeIllegalGeneration, codeRebalanceInProgress:
		c.generation, c.leads = -1, false
	}
}

func (m *classicModel) joined(c *randomClient, resp *kmsg.JoinGroupResponse) {
	c.waits = false
	if resp.ErrorCode == codeMemberIDRequired {
		c.id = resp.MemberID
		return
	}
	if m.failed(c, resp.ErrorCode); resp.ErrorCode != codeNone {
		return
	}
	m.require(m.sim.rows != nil && m.sim.rows.Epoch == resp.Generation, "%s was told of generation %d, which is not durable", c.name, resp.Generation)
	m.require(m.row(resp.MemberID) != nil, "%s was told that it is a member, which is not durable", c.name)
	m.require(resp.Generation >= m.last, "%s was told of generation %d after %d", c.name, resp.Generation, m.last)
	m.last = resp.Generation
	was, ok := m.told[resp.Generation]
	m.require(!ok || was.protocol == *resp.Protocol, "two protocols in one generation")
	if !ok {
		was = generationTold{protocol: *resp.Protocol, by: make(map[string]bool)}
		m.told[resp.Generation] = was
	}
	was.by[resp.MemberID] = true
	c.id, c.generation, c.leads, c.members = resp.MemberID, resp.Generation, false, nil
	if resp.LeaderID == resp.MemberID && !resp.SkipAssignment && len(resp.Members) > 0 {
		c.leads = true
		for _, o := range resp.Members {
			c.members = append(c.members, o.MemberID)
		}
		m.require(slices.Contains(c.members, c.id), "the leader is not among the members")
	}
}

func (m *classicModel) synced(c *randomClient, req *kmsg.SyncGroupRequest, resp *kmsg.SyncGroupResponse) {
	c.waits = false
	if m.failed(c, resp.ErrorCode); resp.ErrorCode != codeNone {
		return
	}
	m.require(m.sim.rows != nil && m.sim.rows.Epoch >= req.Generation, "an assignment of a generation that is not durable")
	m.require(m.told[req.Generation].by[req.MemberID], "%s synced in generation %d, which it was not told of", c.name, req.Generation)
	row := m.row(req.MemberID)
	if m.sim.rows.Epoch == req.Generation && row != nil {
		m.require(bytes.Equal(row.assignment, resp.MemberAssignment), "%s was told of an assignment that is not durable", c.name)
	}
	owner := m.owner[req.Generation]
	if owner == nil {
		owner = make(map[string]string)
		m.owner[req.Generation] = owner
	}
	for _, p := range assignedPartitions(resp.MemberAssignment) {
		key := fmt.Sprint(p)
		m.require(owner[key] == "" || owner[key] == c.name, "generation %d: %s belongs to %s and to %s", req.Generation, key, owner[key], c.name)
		owner[key] = c.name
	}
}

// readsAreDurable checks what OffsetFetch tells.
func (m *classicModel) readsAreDurable() {
	if !m.sim.group.exists() { // deleted, which may not be durable yet
		return
	}
	durable := make(map[catalog.GroupPartition]int64)
	if m.sim.rows != nil {
		for i := range m.sim.rows.Offsets {
			durable[m.sim.rows.Offsets[i].At()] = m.sim.rows.Offsets[i].Offset
		}
	}
	for o := range m.sim.group.Offsets() {
		m.require(durable[o.At()] == o.Offset, "%v reads as %d, durable is %d", o.At(), o.Offset, durable[o.At()])
		delete(durable, o.At())
	}
	m.require(len(durable) == 0, "committed and not to be read: %v", durable)
	for p, n := range m.acked {
		if n <= max(m.deleted[p], m.dropped) {
			continue
		}
		o, ok := m.sim.group.Offset(p.Topic, p.Partition)
		m.require(ok && o.Offset >= n, "%v was acknowledged at %d, and reads as %d", p, n, o.Offset)
	}
}

// end lets all go to sleep: every answer comes, and nobody stays a member.
func (m *classicModel) end() {
	m.sim.hold = false
	m.sim.land()
	m.sim.pass(10 * time.Minute)
	m.require(len(m.sim.due) == 0, "answers that never came: %v", m.sim.due)
	m.require(len(m.sim.group.Members()) == 0, "members that nobody hears of")
	m.require(m.sim.rows == nil || len(m.sim.rows.Members) == 0, "rows of members that are gone")
	m.require(m.sim.group.Gone() == (m.sim.rows == nil), "gone, but for its rows")
	m.require(m.sim.cfg.OffsetCheck < never || m.sim.rows == nil || m.sim.group.Next().After(m.sim.now.Add(time.Hour)), "nothing is left to wait for, but the group wants a tick")
}
