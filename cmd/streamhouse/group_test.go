package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// jsonLines decodes one JSON object a line.
func jsonLines[T any](t *testing.T, text string) (all []T) {
	t.Helper()
	for line := range strings.Lines(text) {
		var v T
		require.NoError(t, json.Unmarshal([]byte(line), &v), line)
		all = append(all, v)
	}
	return all
}

// fill writes n records, in turn, to the partitions of a topic.
func fill(t *testing.T, addr, topic string, partitions, n int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer cl.Close()
	for i := range n {
		cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	require.NoError(t, cl.Flush(t.Context()))
}

// member joins a group and reads until n records have come, commits them, and stays.
func member(t *testing.T, addr, group, topic string, n int, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.ClientID("tester"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(100 * time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	await(t, cl, n)
	require.NoError(t, cl.CommitUncommittedOffsets(t.Context()))
	return cl
}

// await polls until n records have come, and returns them.
func await(t *testing.T, cl *kgo.Client, n int) (got []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(got) < n {
		fetches := cl.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "%d of %d records came", len(got), n)
		got = append(got, fetches.Records()...)
	}
	return got
}

func TestGroupCommands(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "orders"))
	addr := c.ListenAddrs()[0]
	group := func(args ...string) []string { return append([]string{"group"}, append(args, "--bootstrap", addr)...) }
	fill(t, addr, "orders", 2, 20)
	cl := member(t, addr, "reports", "orders", 20)
	fill(t, addr, "orders", 2, 6)

	require.Contains(t, ok(t, "", group("list")...), "reports")
	details := jsonLines[groupDetails](t, ok(t, "", group("describe", "reports", "--json")...))
	require.Len(t, details, 1)
	require.Len(t, details[0].Members, 1)
	require.Equal(t, map[string][]int32{"orders": {0, 1}}, details[0].Members[0].Assignment)
	require.Equal(t, "tester", details[0].Members[0].ClientID)
	require.Contains(t, ok(t, "", group("describe", "reports")...), "orders[0,1]")

	lags := jsonLines[groupLag](t, ok(t, "", group("lag", "--json", "--time")...))
	require.Len(t, lags, 1)
	require.Equal(t, int64(6), lags[0].TotalLag)
	for _, p := range lags[0].Partitions {
		require.Equal(t, int64(10), *p.CommittedOffset)
		require.Equal(t, int64(3), *p.Lag)
		require.Positive(t, *p.LagSeconds)
		require.Equal(t, details[0].Members[0].Member, p.Member)
	}
	require.Contains(t, ok(t, "", group("lag", "reports", "--topic", "orders:1")...), "total lag 3")

	refused := exec(t, "", group("reset", "reports", "--to", "start")...)
	require.Equal(t, exitFailed, refused.code)
	require.Contains(t, refused.stderr, "--online")
	refused = exec(t, "", group("delete", "reports")...)
	require.Equal(t, exitFailed, refused.code)
	require.Contains(t, refused.stderr, "NON_EMPTY_GROUP")

	planned := jsonLines[resetPlan](t, ok(t, "", group("reset", "reports", "--shift", "-4", "--dry-run", "--json")...))
	require.Len(t, planned, 2)
	require.Equal(t, resetPlan{Topic: "orders", Partition: 1, From: new(int64(10)), To: 6, Result: "planned"}, planned[1])

	// While it runs: what it has read is read again, from the new offset.
	await(t, cl, 6)
	moved := jsonLines[resetPlan](t, ok(t, "", group("reset", "reports", "--to", "4", "--topic", "orders:0", "--online", "--json")...))
	require.Equal(t, []resetPlan{{Topic: "orders", From: new(int64(10)), To: 4, Result: "reset"}}, moved)
	again := await(t, cl, 9+3)
	first := map[int32]int64{0: 99, 1: 99}
	for _, r := range again {
		first[r.Partition] = min(first[r.Partition], r.Offset)
	}
	require.Equal(t, map[int32]int64{0: 4, 1: 10}, first)
	cl.Close()

	moved = jsonLines[resetPlan](t, ok(t, "", group("reset", "reports", "--to", "end", "--wait", "10s", "--json")...))
	require.Len(t, moved, 2)
	require.Equal(t, int64(13), moved[0].To)
	ok(t, "", group("delete", "reports", "--topic", "orders:0")...)
	lags = jsonLines[groupLag](t, ok(t, "", group("lag", "reports", "--json")...))
	require.Len(t, lags[0].Partitions, 1)
	ok(t, "", group("delete", "reports")...)
	require.NotContains(t, ok(t, "", group("list")...), "reports")
	gone := exec(t, "", group("describe", "reports")...)
	require.Equal(t, exitFailed, gone.code)
	require.Contains(t, gone.stderr, "group list")
}

func TestResetByTimeAndOfNewGroups(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	addr := c.ListenAddrs()[0]
	fill(t, addr, "orders", 1, 5)
	reset := func(args ...string) []string {
		return append([]string{"group", "reset", "--json", "--bootstrap", addr}, args...)
	}
	none := exec(t, "", reset("new", "--to", "start")...)
	require.Equal(t, exitFailed, none.code)
	require.Contains(t, none.stderr, "--topic")
	got := jsonLines[resetPlan](t, ok(t, "", reset("new", "--topic", "orders", "--to", "@1h")...))
	require.Equal(t, []resetPlan{{Topic: "orders", To: 0, Result: "reset"}}, got)
	got = jsonLines[resetPlan](t, ok(t, "", reset("new", "--to", "-2")...))
	require.Equal(t, []resetPlan{{Topic: "orders", From: new(int64(0)), To: 3, Result: "reset"}}, got)
	missing := exec(t, "", reset("new", "--topic", "orders:7", "--to", "start")...)
	require.Contains(t, missing.stderr, "no partition 7")
}

func TestGroupUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"reset", "g"}, "say where to"},
		{[]string{"reset", "g", "--to", "yesterday"}, "--to"},
		{[]string{"reset", "g", "--to", "start", "--shift", "1"}, "can't be used together"},
		{[]string{"reset", "g", "--to", "start", "--online", "--wait", "1s"}, "can't be used together"},
		{[]string{"reset", "g", "--to", "start", "--topic", "a:x"}, "not a partition number"},
		{[]string{"lag", "--topic", ":1"}, "want TOPIC"},
		{[]string{"delete", "g", "--topic", "a", "--topic", "a:1"}, "named twice"},
	} {
		r := exec(t, "", append([]string{"group"}, tt.args...)...)
		require.Equal(t, exitUsage, r.code, tt.args)
		require.Contains(t, r.stderr, tt.want)
	}
}

func TestRanges(t *testing.T) {
	require.Equal(t, "0-2,5,7,8", ranges([]int32{0, 1, 2, 5, 7, 8}))
	require.Equal(t, "-", assignmentText(nil))
}
