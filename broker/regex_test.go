package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/broker/group"
)

// Members that subscribe by an expression (KIP-848) get topics that are made afterwards, and lose those that are deleted, with their
// next heartbeat.
func TestRegexSubscriptionsFollowTheTopics(t *testing.T) {
	tb := startGroups(t, func(c *Config) {
		cfg := group.DefaultConfig()
		cfg.ConsumerHeartbeatInterval = 200 * time.Millisecond
		c.Group = &cfg
	})
	tb.topic("orders-1", 2)
	tb.topic("other", 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := context.WithValue(context.WithoutCancel(ctx), "opt_in_kafka_next_gen_balancer_beta", true) //nolint:revive,staticcheck // franz-go's own key
	cl := tb.client(kgo.WithContext(next), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders-.*"), kgo.ConsumeRegex(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	p := tb.client()
	adm := kadm.NewClient(p)
	assigned := func() string {
		all, err := adm.DescribeConsumerGroups(ctx, "g")
		require.NoError(t, err)
		for _, m := range all["g"].Members {
			require.NotNil(t, m.SubscribedTopicRegex, "the broker is who evaluates it")
			return fmt.Sprint(m.Assignment.Sorted())
		}
		return ""
	}
	read := func(topic string) {
		t.Helper()
		require.NoError(t, p.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(topic)}).FirstErr())
		for got := ""; got != topic; {
			fs := cl.PollFetches(ctx)
			require.NoError(t, ctx.Err())
			fs.EachRecord(func(r *kgo.Record) { got = r.Topic })
		}
	}
	read("orders-1")
	before := assigned()
	tb.topic("orders-2", 1)
	tb.topic("another", 1)
	began := time.Now()
	require.Eventually(t, func() bool { return assigned() != before }, 30*time.Second, 10*time.Millisecond)
	t.Logf("a new topic was assigned after %v", time.Since(began))
	require.Contains(t, assigned(), "orders-2")
	require.NotContains(t, assigned(), "other")
	require.NotContains(t, assigned(), "another")
	read("orders-2")

	_, err := adm.DeleteTopics(ctx, "orders-1")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		all, err := adm.DescribeConsumerGroups(ctx, "g")
		require.NoError(t, err)
		now := assigned()
		return all["g"].State == "Stable" && strings.Contains(now, "orders-2") && !strings.Contains(now, "orders-1")
	}, 30*time.Second, 10*time.Millisecond)
	tb.topic("orders-1", 1) // another one of that name
	require.Eventually(t, func() bool { return strings.Contains(assigned(), "orders-1") }, 30*time.Second, 10*time.Millisecond)
}
