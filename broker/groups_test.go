package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/broker/group"
)

// quickGroups do not wait for further members when a group begins.
func quickGroups(c *Config) {
	cfg := group.DefaultConfig()
	cfg.InitialRebalanceDelay = 0
	c.Group = &cfg
}

// consume polls a client until it has n records, and returns them by value.
func consume(ctx context.Context, t *testing.T, cl *kgo.Client, n int) map[string]int64 {
	t.Helper()
	seen := map[string]int64{}
	for len(seen) < n {
		fs := cl.PollFetches(ctx)
		require.Empty(t, fs.Errors())
		fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = r.Offset })
	}
	return seen
}

func TestAGroupOfFranzConsumers(t *testing.T) {
	tb := startGroups(t, quickGroups)
	tb.topic("t", 4)
	const n = 200
	p := tb.client(kgo.DefaultProduceTopic("t"))
	produce := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			require.NoError(t, p.ProduceSync(t.Context(), &kgo.Record{Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}).FirstErr())
		}
	}
	produce(0, n)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	one := tb.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit())
	consume(ctx, t, one, n)
	require.NoError(t, one.CommitUncommittedOffsets(ctx))

	adm := kadm.NewClient(p)
	groups, err := adm.ListGroups(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"g"}, groups.Groups())
	described, err := adm.DescribeGroups(ctx, "g")
	require.NoError(t, err)
	require.Equal(t, "Stable", described["g"].State)
	require.Len(t, described["g"].Members, 1)
	offsets, err := adm.FetchOffsets(ctx, "g")
	require.NoError(t, err)
	var sum int64
	offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
	require.EqualValues(t, n, sum)

	// A second member takes half of the partitions, and goes on where the first one committed.
	two := tb.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	polled := make(chan struct{})
	go func() { // so that it takes part in the rebalance
		defer close(polled)
		for {
			fs := one.PollFetches(ctx)
			if fs.IsClientClosed() || ctx.Err() != nil {
				return
			}
		}
	}()
	require.Eventually(t, func() bool {
		pollCtx, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		defer stop()
		two.PollFetches(pollCtx)
		d, err := adm.DescribeGroups(ctx, "g")
		require.NoError(t, err)
		return d["g"].State == "Stable" && len(d["g"].Members) == 2
	}, 30*time.Second, time.Millisecond)
	one.Close() // it leaves
	<-polled
	produce(n, 2*n)
	got := consume(ctx, t, two, n)
	for i := n; i < 2*n; i++ {
		require.Contains(t, got, fmt.Sprint(i))
	}
	require.NoError(t, two.CommitUncommittedOffsets(ctx))
	_, err = adm.DeleteGroups(ctx, "g")
	require.NoError(t, err) // per group
	two.Close()
	deleted, err := adm.DeleteGroups(ctx, "g")
	require.NoError(t, err)
	require.NoError(t, deleted["g"].Err)
	groups, err = adm.ListGroups(ctx)
	require.NoError(t, err)
	require.Empty(t, groups)
}
