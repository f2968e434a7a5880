package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

const shards = 50

// coordinator holds the lease of one shard.
type coordinator struct {
	shard  int32
	holder catalog.BrokerEpoch
	lease  catalog.LeaseEpoch
	number int64
}

// coordinate gives a broker the lease of a shard. It makes the topic of shards if need be.
func coordinate(tb testing.TB, c *postgres.Catalog, holder catalog.BrokerEpoch, shard int32) *coordinator {
	tb.Helper()
	_, err := c.CreateTopic(tb.Context(), catalog.TopicSpec{ID: catalog.GroupsTopic, Name: "__consumer_offsets", Partitions: shards})
	require.NoError(tb, err)
	leases, err := c.AcquireLeases(tb.Context(), holder, shardLease(shard))
	require.NoError(tb, err)
	require.Len(tb, leases, 1)
	return &coordinator{shard: shard, holder: holder, lease: leases[0].Epoch}
}

func shardLease(shard int32) []catalog.TopicPartition {
	return []catalog.TopicPartition{{Topic: catalog.GroupsTopic, Partition: shard}}
}

func (co *coordinator) next(changes ...catalog.GroupChange) catalog.GroupWrite {
	return catalog.GroupWrite{Shard: co.shard, Holder: co.holder, Lease: co.lease, Number: co.number + 1, Changes: changes}
}

func (co *coordinator) write(ctx context.Context, c *postgres.Catalog, changes ...catalog.GroupChange) error {
	_, err := c.WriteGroups(ctx, co.next(changes...))
	if err == nil {
		co.number++
	}
	return err
}

func groupRow(id string, shard int32) *catalog.Group {
	return &catalog.Group{
		ID: id, Shard: shard, Kind: catalog.GroupClassic, ProtocolType: "consumer", Protocol: "range", Phase: "Stable", Epoch: 3, Leader: "m",
		State: []byte("{}"), ChangedAt: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func groupOffset(partition int32, offset int64) catalog.GroupOffset {
	return catalog.GroupOffset{
		Topic: "orders", Partition: partition, Offset: offset, LeaderEpoch: -1, CommittedAt: time.Date(2031, 1, 1, 0, 0, 1, 0, time.UTC),
	}
}

// TestGroupsOverlapped: a write waits for whatever takes its lease away, or writes before it, and then looks again.
func TestGroupsOverlapped(t *testing.T) {
	const lease = "topic = '73680000-0000-4000-8000-000000000002' AND partition = 1"
	for name, tt := range map[string]struct {
		under  string // way, not committed, when the write comes
		number int64  // of the write
		want   error
		left   bool // whether the group is there afterwards
	}{
		"moved":              {"UPDATE catalog_leases SET holder = $1, epoch = epoch + 1 WHERE " + lease, 1, catalog.ErrFenced, true},
		"freed":              {"UPDATE catalog_leases SET holder = NULL WHERE " + lease + " AND holder <> $1", 1, catalog.ErrFenced, true},
		"taken again":        {"UPDATE catalog_leases SET epoch = epoch + 1 WHERE " + lease + " AND holder <> $1", 1, catalog.ErrFenced, true},
		"asked for":          {"UPDATE catalog_leases SET wanted = $1 WHERE " + lease, 1, nil, false},
		"the same write":     {"UPDATE catalog_leases SET writes = 1, writes_epoch = epoch WHERE " + lease + " AND holder <> $1", 1, nil, true},
		"the write after":    {"UPDATE catalog_leases SET writes = 2, writes_epoch = epoch WHERE " + lease + " AND holder <> $1", 1, catalog.ErrSequence, true},
		"nothing but a lock": {"SELECT 1 FROM catalog_leases WHERE " + lease + " AND holder <> $1 FOR UPDATE", 1, nil, false},
	} {
		for _, committed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, committed: %t", name, committed), func(t *testing.T) {
				url := postgrestest.New(t)
				c := open(t, postgres.Options{URL: url, LockTimeout: 30 * time.Second, UrgentTimeout: 30 * time.Second})
				watch, other := connect(t, url), connect(t, url)
				holder, heir := register(t, c, 1), register(t, c, 2)
				co := coordinate(t, c, holder, 1)
				_, err := other.Exec(t.Context(), `INSERT INTO catalog_groups (id, shard, kind, protocol_type, protocol, phase, epoch, leader, state, changed_at)
					VALUES ('g', 1, 'classic', '', '', 'Empty', 0, '', '{}', now())`)
				require.NoError(t, err)

				tx, err := other.Begin(t.Context())
				require.NoError(t, err)
				_, err = tx.Exec(t.Context(), tt.under, int64(heir))
				require.NoError(t, err)
				w := co.next(catalog.GroupChange{ID: "g", OffsetsGone: []catalog.GroupPartition{{Topic: "orders"}}}, catalog.GroupChange{ID: "h", Group: groupRow("h", 1)})
				w.Number = tt.number
				var called error
				var wg sync.WaitGroup
				wg.Go(func() { _, called = c.WriteGroups(t.Context(), w) })
				waiting(t, watch, 1)
				want, applied := tt.want, tt.want == nil && !tt.left
				if committed {
					require.NoError(t, tx.Commit(t.Context()))
				} else {
					require.NoError(t, tx.Rollback(t.Context()))
					want, applied = nil, true
					if tt.number > 1 {
						want, applied = catalog.ErrSequence, false
					}
				}
				wg.Wait()
				require.ErrorIs(t, called, want)
				_, err = c.ReadGroup(t.Context(), "h")
				require.Equal(t, applied, err == nil, "%v", err)
				g, err := c.ReadGroup(t.Context(), "g")
				require.NoError(t, err)
				require.Empty(t, g.Offsets)
			})
		}
	}
}

// TestGroupsNotDueYet: a write that comes while the one before it is not committed is refused, and does not wait: its snapshot
// has not what that one puts.
func TestGroupsNotDueYet(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url})
	co := coordinate(t, c, register(t, c, 1), 1)
	tx, err := connect(t, url).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `WITH l AS (UPDATE catalog_leases SET writes = 1, writes_epoch = epoch WHERE holder IS NOT NULL RETURNING partition)
		INSERT INTO catalog_groups (id, shard, kind, protocol_type, protocol, phase, epoch, leader, state, changed_at)
		SELECT 'g', partition, 'classic', '', '', 'Empty', 0, '', '{}', now() FROM l`)
	require.NoError(t, err)
	co.number = 1
	require.ErrorIs(t, co.write(t.Context(), c, catalog.GroupChange{ID: "g", Delete: true}), catalog.ErrSequence)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, co.write(t.Context(), c, catalog.GroupChange{ID: "g", Delete: true}))
	_, err = c.ReadGroup(t.Context(), "g")
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

// TestGroupsAnswerLost: the server applies a write and nobody hears of it. The same again settles it.
func TestGroupsAnswerLost(t *testing.T) {
	direct := postgrestest.New(t)
	p := newProxy(t, postgrestest.Shared(t).Addr())
	c := open(t, postgres.Options{URL: p.url(direct, postgrestest.Shared(t)), PulseInterval: time.Hour})
	co := coordinate(t, c, register(t, c, 1), 1)
	require.NoError(t, co.write(t.Context(), c, catalog.GroupChange{ID: "g", Group: groupRow("g", 1)}))
	for n := range int64(5) {
		ch := catalog.GroupChange{ID: "g", Offsets: []catalog.GroupOffset{groupOffset(0, n)}}
		p.swallow.Store(true)
		err := co.write(t.Context(), c, ch)
		require.ErrorIs(t, err, catalog.ErrUnavailable)
		require.True(t, catalog.Retriable(err))
		p.swallow.Store(false)
		require.NoError(t, co.write(t.Context(), c, ch))
		g, err := c.ReadGroup(t.Context(), "g")
		require.NoError(t, err)
		require.Equal(t, n, g.Offsets[0].Offset)
	}
}

// TestGroupViews: what a person with psql sees.
func TestGroupViews(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url})
	epoch := register(t, c, 7)
	topic, err := c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{0xab}, Name: "orders", Partitions: 4})
	require.NoError(t, err)
	e := entry(epoch, 1)
	for p, end := range []int64{10, 20, 30} {
		e.Ends = append(e.Ends, catalog.PartitionEnd{TopicPartition: catalog.TopicPartition{Topic: topic.ID, Partition: int32(p)}, End: end})
	}
	_, err = c.Commit(t.Context(), epoch, []catalog.TailEntry{e})
	require.NoError(t, err)
	co := coordinate(t, c, epoch, 3)
	offsets := []catalog.GroupOffset{groupOffset(0, 4), groupOffset(1, 20), groupOffset(2, 99), groupOffset(3, 0), groupOffset(4, 1)}
	offsets[0].TopicID, offsets[0].LeaderEpoch, offsets[0].Metadata = topic.ID, 5, "here"
	offsets[1].TopicID = catalog.TopicID{0xee} // of an earlier topic of that name
	other := groupOffset(0, 1)
	other.Topic = "gone"
	require.NoError(t, co.write(t.Context(), c, catalog.GroupChange{
		ID: "g", Group: groupRow("g", 3), Offsets: append(offsets, other),
		Members: []catalog.GroupMember{{ID: "m", InstanceID: "i", ClientID: "c", ClientHost: "/::1", State: []byte(`{"a": 1}`)}, {ID: "n", State: []byte("{}")}},
	}, catalog.GroupChange{ID: "a", Group: groupRow("a", 3)}))
	conn := connect(t, url)
	show := func(sql string) []string {
		t.Helper()
		rows, err := conn.Query(t.Context(), "SELECT array_to_string(ARRAY(SELECT coalesce(v, '-') FROM json_each_text(row_to_json(v)) AS j (k, v)), ' ') FROM ("+sql+") v")
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return lines
	}
	groups := "SELECT group_id, type, state, protocol, generation, members, coordinator, extract(year FROM changed_at) AS year FROM consumer_groups"
	require.Equal(t, []string{"a classic Stable range 3 0 7 2031", "g classic Stable range 3 2 7 2031"}, show(groups))
	require.Equal(t, []string{"g m i c /::1 1", "g n    -"},
		show("SELECT group_id, member_id, instance_id, client_id, client_host, state->>'a' AS a FROM consumer_group_members"))
	require.Equal(t, []string{"g gone 0 1 - ", "g orders 0 4 5 here", "g orders 1 20 - ", "g orders 2 99 - ", "g orders 3 0 - ", "g orders 4 1 - "},
		show("SELECT group_id, topic, partition, committed_offset, leader_epoch, metadata FROM consumer_offsets"))
	require.Equal(t, []string{"g orders 0 4 10 6", "g orders 2 99 30 0", "g orders 3 0 0 0"}, show("SELECT * FROM consumer_lag"))
	require.NoError(t, c.FenceBroker(t.Context(), epoch, catalog.FenceResigned))
	require.Equal(t, []string{"a -", "g -"}, show("SELECT group_id, coordinator FROM consumer_groups"), "nobody coordinates them")
}

// TestGroupsAreMigratedOnline: brokers that do not know of groups go on while the schema gets them, and after.
func TestGroupsAreMigratedOnline(t *testing.T) {
	url := postgrestest.Shared(t).Empty(t)
	require.NoError(t, postgres.MigrateTo(t.Context(), postgres.Options{URL: url}, 1))
	conn := connect(t, url)
	_, err := conn.Exec(t.Context(), `
		INSERT INTO catalog_brokers (epoch, id, incarnation, last_sequence, last_heartbeat, registered_at, ttl_ns, rack, listeners)
			SELECT n, n, gen_random_uuid(), 0, now(), now(), 1, '', '[]' FROM generate_series(1, 3) n;
		INSERT INTO catalog_folds (epoch) SELECT epoch FROM catalog_brokers;
		INSERT INTO catalog_topics (id, name, partitions, replication_factor, configs, version, created_at)
			VALUES ('73680000-0000-4000-8000-000000000002', '__consumer_offsets', 50, 1, '{}', 1, now());
		INSERT INTO catalog_partitions (topic, partition) SELECT id, n FROM catalog_topics, generate_series(0, 49) n;
		INSERT INTO catalog_leases (topic, partition, holder, epoch) SELECT topic, partition, 3, 4 FROM catalog_partitions;
		UPDATE catalog_counters SET value = 3 WHERE name = 'broker_epoch'`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	stop, failures := make(chan struct{}), make(chan error, 2)
	done := make([]int64, 2)
	var wg sync.WaitGroup
	for i := range done {
		old := connect(t, url)
		wg.Go(func() { // what an old broker sends: a commit, and a move of a lease
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := old.Exec(t.Context(), postgres.HotStatements["commit"], nil, int64(i+1), done[i], done[i]+1, int64(1), int64(0), fmt.Sprintf("%d-%d", i, done[i]),
					[]byte{}, nil, nil, nil)
				if err == nil {
					_, err = old.Exec(t.Context(), "UPDATE catalog_leases l SET holder = 3 - l.holder % 2, epoch = l.epoch + 1, wanted = NULL WHERE partition = $1", i)
				}
				if err != nil {
					failures <- err
					return
				}
				done[i]++
			}
		})
	}
	applied, err := postgres.Migrate(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	require.NotEmpty(t, applied)
	c := open(t, postgres.Options{URL: url})
	co := &coordinator{shard: 7, holder: 3, lease: 4}
	for n := range int64(20) {
		require.NoError(t, co.write(t.Context(), c, catalog.GroupChange{ID: "g", Group: groupRow("g", 7), Offsets: []catalog.GroupOffset{groupOffset(0, n)}}))
	}
	close(stop)
	wg.Wait()
	close(failures)
	require.NoError(t, <-failures)
	require.Positive(t, min(done[0], done[1]))
	// An old broker moves the lease of a shard that was written to: it sets nothing back, and the numbers begin anew.
	_, err = conn.Exec(t.Context(), "UPDATE catalog_leases l SET epoch = l.epoch + 1 WHERE partition = 7")
	require.NoError(t, err)
	require.ErrorIs(t, co.write(t.Context(), c), catalog.ErrFenced)
	next := &coordinator{shard: 7, holder: 3, lease: 5}
	require.NoError(t, next.write(t.Context(), c, catalog.GroupChange{ID: "g", Delete: true}))
}
