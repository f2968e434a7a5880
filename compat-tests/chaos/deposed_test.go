package chaos_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// TestDeposedLeaderSaysNothing has Postgres find a leader's connections reset
// while the leader finds silence. It is fenced at once, another leads and
// appends, and for seconds it does not know and trusts its session. What only a
// leader may say, it must not: a consumer that believes an old end of the log, or
// that an offset is out of range, skips data.
func TestDeposedLeaderSaysNothing(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: 2, Flags: smallCaches})
	topic := s.Topic(t, "chaos-deposed", 1)
	old, err := s.Leader(t.Context(), topic, 0)
	require.NoError(t, err)
	heir := s.Brokers[0]
	if heir == old {
		heir = s.Brokers[1]
	}
	produce := func(b *stack.Broker, n int) {
		t.Helper()
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.MetadataMinAge(50*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
		require.NoError(t, err)
		defer cl.Close()
		for range n {
			require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
		}
	}
	produce(old, 3)
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(1, 10) // of Fetch: the last by which only leaders serve
	direct, err := kgo.NewClient(kgo.SeedBrokers(old.Addr), kgo.MaxVersions(versions))
	require.NoError(t, err)
	defer direct.Close()
	told := ask(t, direct, topic)
	require.Equal(t, answers{end: 3, list: "NONE", epochEnd: 3, epoch: "NONE", beyond: "OFFSET_OUT_OF_RANGE"}, told, "it leads")

	// Whoever was never seen attached may be on its way, and is fenced only when its session expires: six seconds, not one.
	<-time.After(time.Second)
	began := time.Now()
	old.Postgres.Forget()
	require.Eventually(t, func() bool {
		b, err := s.Leader(t.Context(), topic, 0)
		return err == nil && b == heir
	}, recoverWithin, 5*time.Millisecond, "nobody takes over")
	taken := time.Since(began)
	produce(heir, 20) // offset 9 exists now
	first := time.Since(began)
	asked := 0
	for ; time.Since(began) < 10*time.Second; asked++ {
		got := ask(t, direct, topic)
		require.NotEqual(t, "NONE", got.list, "it tells that the log ends at %d", got.end)
		require.NotEqual(t, "NONE", got.epoch, "it tells that its epoch ended at %d", got.epochEnd)
		require.NotEqual(t, "OFFSET_OUT_OF_RANGE", got.beyond)
	}
	t.Logf("another led after %s, had appended after %s; asked %d times since", taken.Round(time.Millisecond), first.Round(time.Millisecond), asked)
	require.Less(t, first, 4*time.Second, "it knew by then: nothing was tried")
	old.Postgres.Heal()
	require.NoError(t, s.Heal(t.Context()))
}

// answers are what a broker says of partition 0.
type answers struct {
	end      int64 // ListOffsets
	list     string
	epochEnd int64 // OffsetForLeaderEpoch, of the first leader epoch
	epoch    string
	beyond   string // Fetch at offset 9
}

// ask asks the one broker that a client knows.
func ask(t *testing.T, cl *kgo.Client, topic string) answers {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b := cl.SeedBrokers()[0]
	code := func(code int16) string {
		if err := kerr.TypedErrorForCode(code); err != nil {
			return err.Message
		}
		return "NONE"
	}
	var out answers

	list := kmsg.NewPtrListOffsetsRequest()
	lp := kmsg.NewListOffsetsRequestTopicPartition()
	lp.Timestamp = -1
	lt := kmsg.NewListOffsetsRequestTopic()
	lt.Topic, lt.Partitions = topic, append(lt.Partitions, lp)
	list.Topics = append(list.Topics, lt)
	resp, err := b.Request(ctx, list)
	require.NoError(t, err)
	l := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	out.end, out.list = l.Offset, code(l.ErrorCode)

	ends := kmsg.NewPtrOffsetForLeaderEpochRequest()
	ep := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	et := kmsg.NewOffsetForLeaderEpochRequestTopic()
	et.Topic, et.Partitions = topic, append(et.Partitions, ep)
	ends.Topics = append(ends.Topics, et)
	resp, err = b.Request(ctx, ends)
	require.NoError(t, err)
	e := resp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	out.epochEnd, out.epoch = e.EndOffset, code(e.ErrorCode)

	fetch := kmsg.NewPtrFetchRequest()
	fetch.MaxBytes, fetch.SessionEpoch = 1<<20, -1
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.FetchOffset, fp.PartitionMaxBytes = 9, 1<<20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.Partitions = topic, append(ft.Partitions, fp)
	fetch.Topics = append(fetch.Topics, ft)
	resp, err = b.Request(ctx, fetch)
	require.NoError(t, err)
	out.beyond = code(resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode)
	return out
}
