package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
)

// readsHeard are the records that the observer heard of, by group.
type readsHeard struct {
	mu   sync.Mutex
	by   map[string]int
	gone []string
}

func (h *readsHeard) observe(c *Config) {
	h.by = map[string]int{}
	c.Observer.Fetched = func(group, topic string, _ int32, records, _ int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.by[group+" "+topic] += records
	}
	c.Observer.GroupGone = func(group string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gone = append(h.gone, group)
	}
}

// all is what was heard, once everything is told.
func (h *readsHeard) all(tb *testBroker) map[string]int {
	tb.t.Helper()
	tb.AttributeReads(tb.t.Context())
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.by)
}

func positionsOf(tb *testBroker) map[string]int64 {
	out := map[string]int64{}
	tb.Positions(func(group, topic string, partition int32, position int64) {
		out[fmt.Sprintf("%s %s/%d", group, topic, partition)] = position
	})
	return out
}

func TestReadsAreAttributedToGroups(t *testing.T) {
	var heard readsHeard
	tb := startGroups(t, quickGroups, heard.observe)
	tb.topic("t", 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := tb.client(kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	const n = 100
	for i := range n {
		require.NoError(t, p.ProduceSync(ctx, &kgo.Record{Value: fmt.Append(nil, i)}).FirstErr())
	}
	start := kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())
	next := context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true) //nolint:revive,staticcheck // franz-go's own key
	classic := tb.client(kgo.ClientID("one"), kgo.ConsumerGroup("classic"), kgo.ConsumeTopics("t"), start)
	modern := tb.client(kgo.ClientID("two"), kgo.ConsumerGroup("modern"), kgo.ConsumeTopics("t"), start, kgo.WithContext(next))
	alone := tb.client(kgo.ClientID("three"), kgo.ConsumeTopics("t"), start)
	for _, cl := range []*kgo.Client{classic, modern, alone} {
		consume(ctx, t, cl, n)
	}
	require.Equal(t, map[string]int{"classic t": n, "modern t": n, " t": n}, heard.all(tb))
	require.Equal(t, map[string]int64{"classic t/0": 49, "classic t/1": 49, "modern t/0": 49, "modern t/1": 49}, positionsOf(tb))
	lag, err := tb.GroupLag(ctx, "classic", nil)
	require.NoError(t, err)
	for _, p := range lag.Partitions {
		require.EqualValues(t, 49, p.Position)
	}

	for i := range n {
		require.NoError(t, p.ProduceSync(ctx, &kgo.Record{Value: fmt.Append(nil, n+i)}).FirstErr())
	}
	for _, cl := range []*kgo.Client{classic, modern, alone} {
		consume(ctx, t, cl, n)
	}
	require.Equal(t, map[string]int{"classic t": 2 * n, "modern t": 2 * n, " t": 2 * n}, heard.all(tb))

	// A group that is deleted is gone, with its positions.
	classic.Close()
	adm := kadm.NewClient(p)
	deleted, err := adm.DeleteGroups(ctx, "classic")
	require.NoError(t, err)
	require.NoError(t, deleted["classic"].Err)
	require.Eventually(t, func() bool {
		heard.all(tb)
		heard.mu.Lock()
		defer heard.mu.Unlock()
		return len(heard.gone) == 1
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, []string{"classic"}, heard.gone)
	require.Equal(t, map[string]int64{"modern t/0": 99, "modern t/1": 99}, positionsOf(tb))
}

// Two groups with one client id, on one host: nobody knows for which of them a partition is read that both have members for.
func TestReadsOfTwoGroupsWithOneClient(t *testing.T) {
	var heard readsHeard
	tb := startGroups(t, quickGroups, heard.observe)
	id := tb.topic("t", 3)
	c := tb.dial()
	for p := range int32(3) {
		ask(c, produceRequest("", id, p, batchOf(t, batchSpec(), "a", "b")), 13)
	}
	tb.joinAlone("one", "raw", "/127.0.0.1", "t", 0, 1)
	tb.joinAlone("two", "raw", "/127.0.0.1", "t", 1, 2)
	for range 2 {
		ask(c, fetchRequest("", id, 0, 1, 2), 17)
		tb.AttributeReads(t.Context())
	}
	require.Equal(t, map[string]int{"one t": 4, " t": 4, "two t": 4}, heard.all(tb))
	require.Equal(t, map[string]int64{"one t/0": 1, "two t/2": 1}, positionsOf(tb))
}

// A poll without a session, as librdkafka's, finds its slots again.
func TestReadsWithoutASession(t *testing.T) {
	var heard readsHeard
	tb := startGroups(t, quickGroups, heard.observe)
	id := tb.topic("t", 1)
	c := tb.dial()
	ask(c, produceRequest("", id, 0, batchOf(t, batchSpec(), "a", "b", "c")), 13)
	req := fetchRequest("", id, 0)
	req.Topics[0].Partitions[0].FetchOffset = 1
	for range 3 {
		resp := ask(c, req, 17).(*kmsg.FetchResponse)
		require.NotEmpty(t, resp.Topics[0].Partitions[0].RecordBatches)
	}
	require.Equal(t, map[string]int{" t": 6}, heard.all(tb), "the record before the offset asked for is not counted")
	require.Empty(t, positionsOf(tb))
}

// Who only wants to know that something is read pays for nothing else.
func TestNobodyAsksForWhomIsRead(t *testing.T) {
	var served atomic.Int64
	tb := startGroups(t, quickGroups, func(c *Config) { c.Observer.Served = func(bytes int) { served.Add(int64(bytes)) } })
	require.Nil(t, tb.reads)
	id := tb.topic("t", 2)
	c := tb.dial()
	ask(c, produceRequest("", id, 0, batchOf(t, batchSpec(), "a", "b", "c")), 13)
	resp := ask(c, fetchRequest("", id, 0, 1), 17).(*kmsg.FetchResponse)
	require.EqualValues(t, len(resp.Topics[0].Partitions[0].RecordBatches), served.Load())
	require.Positive(t, served.Swap(0))
	ask(c, fetchRequest("", id, 1), 17)
	require.Zero(t, served.Load())
}

// joinAlone makes a client the one member of a group of consumers, which owns partitions.
func (tb *testBroker) joinAlone(id, client, host, topic string, partitions ...int32) {
	tb.t.Helper()
	do := func(body kmsg.Request) kmsg.Response {
		tb.t.Helper()
		var resp kmsg.Response
		err := coordinator.ErrLoading // the broker has just started, and may be reading its groups yet
		for errors.Is(err, coordinator.ErrLoading) && tb.t.Context().Err() == nil {
			resp, err = tb.groups.Do(tb.t.Context(), id, body, group.Client{ID: client, Host: host})
		}
		require.NoError(tb.t, err)
		return resp
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 3, id, "consumer", 60_000, 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = "range"
	p.Metadata = (&kmsg.ConsumerMemberMetadata{Topics: []string{topic}}).AppendTo(nil)
	join.Protocols = append(join.Protocols, p)
	joined := do(join).(*kmsg.JoinGroupResponse)
	require.Zero(tb.t, joined.ErrorCode)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, id, joined.MemberID, joined.Generation
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID = joined.MemberID
	a.MemberAssignment = (&kmsg.ConsumerMemberAssignment{Topics: []kmsg.ConsumerMemberAssignmentTopic{{Topic: topic, Partitions: partitions}}}).AppendTo(nil)
	sync.GroupAssignment = append(sync.GroupAssignment, a)
	require.Zero(tb.t, do(sync).(*kmsg.SyncGroupResponse).ErrorCode)
}
