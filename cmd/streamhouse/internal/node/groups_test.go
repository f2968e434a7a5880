package node

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/catalog"
)

// groupFamilies are those that a group which lived leaves something in.
var groupFamilies = []string{
	`group_coordinator_groups{state="Stable",type="classic"}`,
	`group_coordinator_groups{state="Stable",type="consumer"}`,
	`group_coordinator_members{type="classic"}`,
	`group_coordinator_members{type="consumer"}`,
	`group_coordinator_shards`,
	`group_coordinator_loads_total{status="ok"}`,
	`group_coordinator_load_duration_seconds_count`,
	`group_coordinator_rebalances_total{reason="member_joins",type="classic"}`,
	`group_coordinator_rebalances_total{reason="member_joins",type="consumer"}`,
	`group_coordinator_rebalance_duration_seconds_count{type="classic"}`,
	`group_coordinator_rebalance_duration_seconds_count{type="consumer"}`,
	`group_coordinator_offset_commits_total{status="OK"}`,
	`group_coordinator_rebalance_duration_seconds_sum{type="classic"}`,
	`group_coordinator_write_duration_seconds_count`,
	`group_coordinator_write_size_groups_sum`,
	`group_coordinator_write_size_offsets_sum`,
	`consumer_current_offset{group_id="classic",partition="0",topic="t"}`,
	`consumer_last_committed_offset{group_id="classic",partition="0",topic="t"}`,
	`consumer_records_consumed_total{group_id="classic",partition="0",topic="t"}`,
	`consumer_records_consumed_total{group_id="consumer",partition="0",topic="t"}`,
	`consumer_bytes_consumed_total{group_id="consumer",topic="t"}`,
}

func TestGroupsAreMeasured(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	const n = 10
	r.produce("t", values("v", n)...)
	s := r.scrape()
	for _, name := range groupFamilies[:4] {
		require.NotContains(t, s, name, "nothing is made up")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	next := context.WithValue(context.WithoutCancel(ctx), "opt_in_kafka_next_gen_balancer_beta", true) //nolint:revive,staticcheck // franz-go's own key
	join := func(group string, opts ...kgo.Opt) *kgo.Client {
		cl := r.client(append(opts, kgo.ClientID(group), kgo.ConsumerGroup(group), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		for got := 0; got < n; {
			fs := cl.PollFetches(ctx)
			require.NoError(t, fs.Err())
			got += fs.NumRecords()
		}
		require.NoError(t, cl.CommitUncommittedOffsets(ctx))
		return cl
	}
	classic := join("classic")
	modern := join("consumer", kgo.WithContext(next))
	// A group whose members read and commit may be a heartbeat away from stable, and shards of others be read yet.
	r.eventually("both groups are stable, all shards are read", func(s samples) bool {
		return s[groupFamilies[0]] > 0 && s[groupFamilies[1]] > 0 &&
			s[`group_coordinator_shards`] == 50 && s[`group_coordinator_loads_total{status="ok"}`] == 50
	})
	s = r.scrape()
	for _, name := range groupFamilies {
		require.Positive(t, s[name], name)
	}
	require.EqualValues(t, 50, s[`group_coordinator_shards`])
	require.EqualValues(t, 50, s[`group_coordinator_loads_total{status="ok"}`])
	require.EqualValues(t, 2, s[`group_coordinator_offset_commits_total{status="OK"}`])
	require.EqualValues(t, n, s[`consumer_records_consumed_total{group_id="classic",partition="0",topic="t"}`])
	require.EqualValues(t, n-1, s[`consumer_current_offset{group_id="classic",partition="0",topic="t"}`])
	require.Zero(t, s[`consumer_lag_errors_total`])

	classic.Close()
	modern.Close()
	r.eventually("both left", func(s samples) bool {
		return s[`group_coordinator_groups{state="Empty",type="classic"}`] == 1 && s[`group_coordinator_groups{state="Empty",type="consumer"}`] == 1 &&
			s[`group_coordinator_members{type="classic"}`] == 0 && s[`group_coordinator_members{type="consumer"}`] == 0
	})
	_, err := r.admin.DeleteGroups(ctx, "classic", "consumer")
	require.NoError(t, err)
	r.eventually("their series are gone", func(s samples) bool {
		for name := range s {
			if strings.Contains(name, `group_id="c`) || strings.HasPrefix(name, "group_coordinator_groups") {
				return false
			}
		}
		return true
	})
}

// refusing is a catalog that takes no writes of groups while it is told to refuse them.
type refusing struct {
	catalog.Catalog
	refuse atomic.Bool
}

func (c *refusing) WriteGroups(ctx context.Context, w catalog.GroupWrite) (time.Time, error) {
	if c.refuse.Load() {
		return time.Time{}, fmt.Errorf("write groups: %w", catalog.ErrUnavailable)
	}
	return c.Catalog.WriteGroups(ctx, w)
}

// A write that the catalog refuses is counted each time it is made again, while it lasts: who is called then looks at the
// counter.
func TestWritesOfGroupsThatAreTriedAgainAreMeasured(t *testing.T) {
	cat := &refusing{}
	r := beginOn(t, settings(t, t.TempDir()), func(n *Node) { cat.Catalog, n.catalog = n.catalog, cat })
	r.produce("t", "v")
	const retries = `group_coordinator_write_retries_total`
	offsets := kadm.Offsets{}
	offsets.AddOffset("t", 0, 1, -1)
	require.NoError(t, r.admin.CommitAllOffsets(t.Context(), "g", offsets))
	before := r.scrape()
	require.Zero(t, before[retries])

	cat.refuse.Store(true)
	answered := make(chan error, 1)
	go func() { answered <- r.admin.CommitAllOffsets(context.WithoutCancel(t.Context()), "g", offsets) }()
	r.eventually("it is tried again, and again", func(s samples) bool { return s[retries] >= 3 })
	require.Empty(t, answered, "nothing is acknowledged that is not written")
	require.Equal(t, before[`group_coordinator_write_duration_seconds_count`], r.scrape()[`group_coordinator_write_duration_seconds_count`])
	cat.refuse.Store(false)
	require.NoError(t, <-answered)
	after := r.scrape()
	require.Equal(t, before[`group_coordinator_write_duration_seconds_count`]+1, after[`group_coordinator_write_duration_seconds_count`])
	require.NoError(t, r.admin.CommitAllOffsets(t.Context(), "g", offsets))
	require.Equal(t, after[retries], r.scrape()[retries])
}

// An id that no group can have is the fault of who asks.
func TestGroupsAfterWhatIsNoName(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	for _, after := range []string{"%ff", "a%00b", strings.Repeat("x", 1025)} {
		status, body := r.get("/v1/groups?after=" + after)
		require.Equal(t, 400, status, body)
	}
	status, body := r.get("/v1/groups/%ff/lag")
	require.Equal(t, 404, status, body)
}
