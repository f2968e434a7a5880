package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// crowd is a group of many members at work.
type crowd struct {
	tb    testing.TB
	g     *Group
	now   time.Time
	ids   []string
	token Token
	put   int // member rows written
}

func (c *crowd) step(e Event) Effects {
	eff := c.g.Step(c.now, e)
	if eff.Change != nil {
		c.put += len(eff.Change.Members)
		c.g.Step(c.now, Written{Write: eff.Write})
	}
	return eff
}

func (c *crowd) send(body kmsg.Request) Effects {
	c.token++
	return c.step(Request{Body: body, Client: Client{ID: "c", Host: "/127.0.0.1"}, Token: c.token, NewMemberID: fmt.Sprintf("%036d", c.token)})
}

func (c *crowd) join(id string) Effects {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = 9, "g", id, consumerProtocolType
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 45_000, 300_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscriptionOf("foo")}, {Name: "sticky", Metadata: subscriptionOf("foo")}}
	return c.send(req)
}

func (c *crowd) sync(id string, generation int32, leads bool) Effects {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 3, "g", id, generation
	if leads {
		for i, id := range c.ids {
			req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: assignment(fmt.Sprintf("foo/%d", i))})
		}
	}
	return c.send(req)
}

// newCrowd makes n members that have joined at once and synced.
func newCrowd(tb testing.TB, n int) *crowd {
	tb.Helper()
	c := &crowd{tb: tb, now: time.Unix(1_000_000, 0)}
	c.g = New("g", 0, DefaultConfig(), newSimTopics(1, "foo"), c.now)
	for range n {
		eff := c.join("")
		c.ids = append(c.ids, strings.Clone(eff.Now[0].Body.(*kmsg.JoinGroupResponse).MemberID))
	}
	for _, id := range c.ids {
		c.join(id)
	}
	for c.g.Phase() != phaseCompleting {
		c.now = c.g.Next()
		c.step(Tick{})
	}
	c.syncAll()
	return c
}

func (c *crowd) syncAll() {
	generation := c.g.Epoch()
	for _, id := range c.ids[1:] {
		c.sync(id, generation, false)
	}
	eff := c.sync(c.ids[0], generation, true)
	require.Len(c.tb, eff.Later, len(c.ids))
	require.Equal(c.tb, phaseStable, c.g.Phase())
}

// rebalance is one that the leader asks for.
func (c *crowd) rebalance() {
	for _, id := range c.ids {
		c.join(id)
	}
	c.syncAll()
}

// TestCrowd: a thousand members, which is one write of their rows for the generation and one for the assignments; a rebalance
// in which nothing changes writes none.
func TestCrowd(t *testing.T) {
	c := newCrowd(t, 1000)
	require.Equal(t, 2000, c.put)
	c.put = 0
	c.rebalance()
	require.Zero(t, c.put)
	require.Equal(t, uint64(4), c.g.write)
}

func TestHeartbeatAllocates(t *testing.T) {
	c := newCrowd(t, 1000)
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, "g", c.ids[500], c.g.Epoch()
	allocs := testing.AllocsPerRun(1000, func() {
		c.now = c.now.Add(time.Millisecond)
		eff := c.g.Step(c.now, Request{Body: req, Token: 1})
		if eff.Now[0].Body.(*kmsg.HeartbeatResponse).ErrorCode != codeNone {
			t.Fatal("refused")
		}
	})
	require.LessOrEqual(t, allocs, 4.0, "the answer, the slice it is in, the event")
}

func BenchmarkHeartbeat(b *testing.B) {
	c := newCrowd(b, 1000)
	reqs := make([]*kmsg.HeartbeatRequest, len(c.ids))
	for i, id := range c.ids {
		reqs[i] = kmsg.NewPtrHeartbeatRequest()
		reqs[i].Version, reqs[i].Group, reqs[i].MemberID, reqs[i].Generation = 4, "g", id, c.g.Epoch()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.now = c.now.Add(time.Millisecond)
		c.g.Step(c.now, Request{Body: reqs[i%len(reqs)], Token: 1})
		if next := c.g.Next(); !next.After(c.now) {
			c.g.Step(c.now, Tick{})
		}
	}
}

// BenchmarkRebalance is a whole rebalance, per member: about the same for each size, if it is linear.
func BenchmarkRebalance(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				c.rebalance()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/member")
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	c := newCrowd(b, 1000)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 9, "g", c.ids[0], c.g.Epoch()
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "foo"
	for p := range int32(4) {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p, 1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	b.ReportAllocs()
	for b.Loop() {
		eff := c.step(Request{Body: req, Token: 1})
		if eff.Change == nil {
			b.Fatal("refused")
		}
	}
}
