package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	storefaulty "github.com/streamhouse/streamhouse/storage/objstore/faulty"
)

// hand is a member of a KIP-848 group that does only what the test says.
type hand struct {
	r         *running
	cl        *kgo.Client
	group, id string
	epoch     int32
	assigned  []kmsg.ConsumerGroupHeartbeatRequestTopic // by the last answer that told
}

func (r *running) hand(group string) *hand {
	return &hand{r: r, cl: r.client(), group: group, id: uuid.NewString()}
}

// beat sends a heartbeat that, unless change does, says nothing new.
func (h *hand) beat(change func(req *kmsg.ConsumerGroupHeartbeatRequest)) {
	h.r.t.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = h.group, h.id, h.epoch, -1
	if change != nil {
		change(req)
	}
	resp, err := req.RequestWith(h.r.t.Context(), h.cl)
	require.NoError(h.r.t, err)
	require.Zero(h.r.t, resp.ErrorCode, "%v", resp.ErrorMessage)
	h.epoch = resp.MemberEpoch
	if resp.Assignment == nil {
		return
	}
	h.assigned = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for _, topic := range resp.Assignment.Topics {
		own := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		own.TopicID, own.Partitions = topic.TopicID, topic.Partitions
		h.assigned = append(h.assigned, own)
	}
}

// join says for how long it may keep what it is to give up.
func (h *hand) join(rebalance time.Duration, topics ...string) {
	h.r.t.Helper()
	h.beat(func(req *kmsg.ConsumerGroupHeartbeatRequest) {
		req.MemberEpoch, req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 0, int32(rebalance.Milliseconds()), topics
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	})
}

// agree says that it has what it was last assigned.
func (h *hand) agree() {
	h.r.t.Helper()
	h.beat(func(req *kmsg.ConsumerGroupHeartbeatRequest) { req.Topics = h.assigned })
}

func (h *hand) leave() {
	h.r.t.Helper()
	h.beat(func(req *kmsg.ConsumerGroupHeartbeatRequest) { req.MemberEpoch = -1 })
}

// Each reason to rebalance is counted under its own name.
func TestWhyGroupsRebalanceIsMeasured(t *testing.T) {
	r := begin(t, settings(t, t.TempDir(), func(f *config.Flags) {
		f.GroupConsumerSessionTimeout, f.GroupConsumerHeartbeatInterval = 3*time.Second, 100*time.Millisecond
	}))
	_, err := r.admin.CreateTopics(t.Context(), 2, 1, nil, "t", "u")
	require.NoError(t, err)
	counted := func(s samples, kind string) map[string]int {
		got := make(map[string]int)
		for _, why := range []string{"other", "member_joins", "member_leaves", "session_timeout", "rebalance_timeout", "subscription", "topics", "protocol"} {
			if n := s[fmt.Sprintf("group_coordinator_rebalances_total{reason=%q,type=%q}", why, kind)]; n > 0 {
				got[why] = int(n)
			}
		}
		return got
	}
	want := map[string]int{}
	now := func(why string) {
		t.Helper()
		want[why]++
		require.Equal(t, want, counted(r.scrape(), "consumer"))
	}
	a := r.hand("g")
	a.join(500*time.Millisecond, "t") // the one that is to be too slow
	now("member_joins")
	a.agree()
	a.beat(func(req *kmsg.ConsumerGroupHeartbeatRequest) { req.SubscribedTopicNames = []string{"t", "u"} })
	now("subscription")
	a.agree()
	_, err = r.admin.CreatePartitions(t.Context(), 2, "t")
	require.NoError(t, err)
	r.eventually("it has the new partitions", func(s samples) bool {
		a.agree()
		return counted(s, "consumer")["topics"] > 0
	})
	now("topics")
	a.agree()

	b := r.hand("g")
	b.join(time.Minute, "t")
	now("member_joins")
	a.beat(nil) // it is told
	r.eventually("one that keeps what it should give up is thrown out", func(s samples) bool {
		b.agree()
		return counted(s, "consumer")["rebalance_timeout"] > 0
	})
	now("rebalance_timeout")
	c := r.hand("g")
	c.join(time.Minute, "t")
	now("member_joins")
	c.leave()
	now("member_leaves")
	c.join(time.Minute, "t")
	now("member_joins")
	r.eventually("one that is silent is thrown out", func(s samples) bool {
		b.agree() // gives up what the silent one gets
		return counted(s, "consumer")["session_timeout"] > 0
	})
	now("session_timeout")
	require.Empty(t, counted(r.scrape(), "classic"))
}

// Lag that cannot be told is counted as such: here all shards are being read, again and again.
func TestLagThatCannotBeToldIsMeasured(t *testing.T) {
	r := beginHindered(t, settings(t, t.TempDir()), catfaulty.Fault{Op: catfaulty.OpReadGroups, Count: 1 << 30, Kind: catfaulty.Refuse})
	r.eventually("a scrape without all groups", func(s samples) bool { return s[`consumer_lag_errors_total`] > 0 })
	require.Contains(t, r.log.String(), "cannot tell the lag of all groups")
}

// Commits are counted by partition and outcome, and show in the lag; positions of who commits nothing show, too; and reads
// of shards that fail are counted beside those that do not.
func TestOffsetsAndLoadsAreMeasured(t *testing.T) {
	r := beginHindered(t, settings(t, t.TempDir()), catfaulty.Fault{Op: catfaulty.OpReadGroups, Count: 2, Kind: catfaulty.Refuse})
	_, err := r.admin.CreateTopic(t.Context(), 2, 1, nil, "t")
	require.NoError(t, err)
	cl := r.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for range 3 {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t"}).FirstErr())
	}
	r.eventually("all shards are read", func(s samples) bool { return s[`group_coordinator_loads_total{status="ok"}`] == 50 })
	before := r.scrape()
	require.EqualValues(t, 2, before[`group_coordinator_loads_total{status="error"}`])
	require.EqualValues(t, 50, before[`group_coordinator_load_duration_seconds_count`])

	offsets := kadm.Offsets{}
	offsets.AddOffset("t", 0, 1, -1)
	offsets.AddOffset("t", 1, 0, -1)
	offsets.AddOffset("t", 9, 1, -1)
	_, err = r.admin.CommitOffsets(t.Context(), "g", offsets)
	require.NoError(t, err)
	s := r.scrape()
	require.EqualValues(t, 2, s[`group_coordinator_offset_commits_total{status="OK"}`])
	require.EqualValues(t, 1, s[`group_coordinator_offset_commits_total{status="UNKNOWN_TOPIC_OR_PARTITION"}`])
	grew := func(name string) float64 { return s[name] - before[name] }
	require.EqualValues(t, 1, grew(`group_coordinator_write_size_groups_sum`))
	require.EqualValues(t, 2, grew(`group_coordinator_write_size_offsets_sum`))
	require.Positive(t, grew(`group_coordinator_write_duration_seconds_sum`))
	r.eventually("the group is behind", func(s samples) bool {
		return s[`consumer_lag_records{group_id="g",partition="0",topic="t"}`] == 2 && s[`consumer_lag_seconds{group_id="g",partition="0",topic="t"}`] > 0
	})

	reader := r.client(kgo.ConsumerGroup("reader"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, reader.PollFetches(t.Context()).Err())
	r.eventually("where it is", func(s samples) bool {
		return s[`consumer_current_offset{group_id="reader",partition="0",topic="t"}`] > 0
	})
	require.False(t, r.scrape().has(`consumer_last_committed_offset{group_id="reader",partition="0",topic="t"}`))
	require.NoError(t, r.catalog.Verify())
}

// While the store does not answer nobody knows how old the oldest record is that a group has not read, but how many there are: alerts
// on lag must not end for that.
func TestLagIsToldWithoutTheStore(t *testing.T) {
	dir := t.TempDir()
	first := begin(t, settings(t, dir))
	first.produce("t", values("v", 10)...)
	cl := first.client(kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.Equal(t, 10, cl.PollFetches(t.Context()).NumRecords())
	done := make(chan error, 1)
	cl.CommitOffsetsSync(t.Context(), map[string]map[int32]kgo.EpochOffset{"t": {0: {Epoch: -1, Offset: 4}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) { done <- err })
	require.NoError(t, <-done)
	cl.Close()
	require.NoError(t, first.engine.Tidy(t.Context()))
	require.NoError(t, first.stop())

	r := beginHindered(t, settings(t, dir))
	r.refuseStore(storefaulty.OpGet, 1<<30)
	labels := `{group_id="g",partition="0",topic="t"}`
	r.eventually("it is told how many", func(s samples) bool { return s[`consumer_lag_records`+labels] == 6 })
	s := r.scrape()
	require.EqualValues(t, 4, s[`consumer_last_committed_offset`+labels])
	require.False(t, s.has(`consumer_lag_seconds`+labels))
	require.Positive(t, s[`consumer_lag_errors_total`])

	// One that hangs must not make the scrape late: Prometheus would take the broker for dead.
	require.NoError(t, r.stop())
	r = beginHindered(t, settings(t, dir))
	r.store.Add(storefaulty.Fault{Op: storefaulty.OpGet, Count: 1 << 30, Kind: storefaulty.Slow, Gate: make(chan struct{})})
	r.eventually("it is told how many", func(s samples) bool { return s[`consumer_lag_records`+labels] == 6 })
	began := time.Now()
	require.False(t, r.scrape().has(`consumer_lag_seconds`+labels))
	require.Less(t, time.Since(began), 4*time.Second)
}
