package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// bigGroup is a group of members that subscribe to 100 topics with 100 partitions each, with clients that do what they are told at
// their next heartbeat.
type bigGroup struct {
	tb      testing.TB
	g       *Group
	now     time.Time
	token   Token
	names   []string
	clients []*bigClient
	targets int // changes of the assignment epoch
	rows    int // of members, written
}

type bigClient struct {
	id    string
	epoch int32
	owned []kmsg.ConsumerGroupHeartbeatRequestTopic
	heard bool
}

func newBigGroup(tb testing.TB) *bigGroup {
	tb.Helper()
	st := simTopics{version: 1, byName: map[string]Topic{}}
	byID := map[catalog.TopicID]Topic{}
	for i := range 100 {
		t := Topic{ID: catalog.TopicID{15: byte(i + 1)}, Name: fmt.Sprintf("t%03d", i), Partitions: 100}
		st.byName[t.Name], byID[t.ID] = t, t
		st.names = append(st.names, t.Name)
	}
	now := time.Unix(1_800_000_000, 0)
	return &bigGroup{tb: tb, now: now, g: New("g", 0, DefaultConfig(), indexedTopics{st, byID}, now), names: st.names}
}

// indexedTopics finds topics by id without a search, as real snapshots do.
type indexedTopics struct {
	simTopics
	byID map[catalog.TopicID]Topic
}

func (t indexedTopics) ByID(id catalog.TopicID) (Topic, bool) { got, ok := t.byID[id]; return got, ok }

// heartbeat sends one, and lets the client do what the answer says.
func (b *bigGroup) heartbeat(c *bigClient) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, "g", c.id, c.epoch
	if c.epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 60_000, b.names, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	} else if c.heard {
		req.Topics, c.heard = c.owned, false
	}
	b.step(Request{Body: req, Token: b.token, NewMemberID: "x"}, c)
}

func (b *bigGroup) step(e Event, c *bigClient) {
	eff := b.g.Step(b.now, e)
	if eff.Change != nil {
		b.rows += len(eff.Change.Members)
		b.g.Step(b.now, Written{Write: eff.Write})
	}
	for _, a := range append(eff.Now, eff.Later...) {
		resp := a.Body.(*kmsg.ConsumerGroupHeartbeatResponse)
		require.Zero(b.tb, resp.ErrorCode)
		c.epoch = resp.MemberEpoch
		if resp.Assignment != nil {
			c.heard = true
			c.owned = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			for _, t := range resp.Assignment.Topics {
				c.owned = append(c.owned, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.TopicID, Partitions: t.Partitions})
			}
		}
	}
}

func (b *bigGroup) join() *bigClient {
	c := &bigClient{id: fmt.Sprintf("member-%04d", len(b.clients))}
	b.clients = append(b.clients, c)
	b.heartbeat(c)
	return c
}

// settle has all heartbeat every 5 s until the group is stable, and returns how many rounds that took.
func (b *bigGroup) settle() (rounds int) {
	for ; b.g.Phase() != phaseStable; rounds++ {
		require.Less(b.tb, rounds, 20)
		b.tick()
		for _, c := range b.clients {
			b.heartbeat(c)
		}
		b.now = b.now.Add(5 * time.Second)
	}
	return rounds
}

func (b *bigGroup) tick() {
	before := b.g.m.(*consumer).assignedEpoch
	b.step(Tick{}, nil)
	if b.g.m.(*consumer).assignedEpoch != before {
		b.targets++
	}
}

// TestJoinStorm: 1,000 members that join within two seconds cost no target each. When all have been assigned, each has ten of 10,000
// partitions.
func TestJoinStorm(t *testing.T) {
	b := newBigGroup(t)
	targets := int32(0)
	last := int32(-1)
	for range 1000 {
		b.now = b.now.Add(2 * time.Millisecond)
		if next := b.g.Next(); !next.After(b.now) {
			b.step(Tick{}, nil)
		}
		b.join()
		if c := b.g.m.(*consumer); c.assignedEpoch != last {
			last = c.assignedEpoch
			targets++
		}
	}
	require.Less(t, targets, int32(100), "targets for 1,000 joins")
	b.now = b.g.Next()
	b.step(Tick{}, nil)
	rounds := b.settle()
	t.Logf("%d targets, %d rounds of heartbeats, %d rows", targets, rounds, b.rows)
	for _, m := range b.g.m.(*consumer).sorted {
		require.Equal(t, 10, m.assigned.Len())
		require.True(t, m.assigned.Equal(m.target))
	}
}

func settled(tb testing.TB, members int) *bigGroup {
	tb.Helper()
	b := newBigGroup(tb)
	for range members {
		b.join()
	}
	b.now = b.now.Add(time.Minute / 2)
	b.tick()
	b.settle()
	return b
}

// BenchmarkConsumerHeartbeat is a heartbeat of one of 1,000 members with 10,000 partitions when nothing changes.
func BenchmarkConsumerHeartbeat(b *testing.B) {
	g := settled(b, 1000)
	for _, c := range g.clients { // the last word about what they own
		g.heartbeat(c)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		g.heartbeat(g.clients[i%len(g.clients)])
		i++
	}
}

// BenchmarkConsumerRebalance is a member that joins a group of 1,000 with 10,000 partitions, and leaves again, with all heartbeats until all
// have what they should.
func BenchmarkConsumerRebalance(b *testing.B) {
	g := settled(b, 1000)
	rows, joins := g.rows, 0
	for b.Loop() {
		c := g.join()
		g.settle()
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, "g", c.id, epochLeave
		g.step(Request{Body: req}, c)
		g.clients = g.clients[:len(g.clients)-1]
		g.settle()
		joins++
	}
	b.ReportMetric(float64(g.rows-rows)/float64(joins), "rows/op")
}

// BenchmarkLoadConsumer loads a group of 1,000 members from its rows.
func BenchmarkLoadConsumer(b *testing.B) {
	g := settled(b, 1000)
	rec := catalog.GroupRecord{Group: *g.g.groupRow()}
	for _, m := range g.g.m.(*consumer).sorted {
		rec.Members = append(rec.Members, m.row())
	}
	for b.Loop() {
		if _, err := Load(rec, g.g.cfg, g.g.topics, g.now); err != nil {
			b.Fatal(err)
		}
	}
}
