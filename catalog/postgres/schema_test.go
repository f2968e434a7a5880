package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// TestViews: what a person with psql sees.
func TestViews(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url})
	epoch, idle := register(t, c, 7), register(t, c, 8)
	topic, err := c.CreateTopic(t.Context(), catalog.TopicSpec{
		ID: catalog.TopicID{0xab}, Name: "orders", Partitions: 3, ReplicationFactor: 3, Configs: map[string]string{"retention.ms": "1000"},
	})
	require.NoError(t, err)
	_, err = c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{0xac}, Name: "gone", Partitions: 1})
	require.NoError(t, err)
	require.NoError(t, c.DeleteTopic(t.Context(), catalog.TopicID{0xac}))
	tp := func(n int32) catalog.TopicPartition { return catalog.TopicPartition{Topic: topic.ID, Partition: n} }
	_, err = c.AcquireLeases(t.Context(), epoch, []catalog.TopicPartition{tp(0), tp(1)})
	require.NoError(t, err)
	require.NoError(t, c.AskMoves(t.Context(), epoch, []catalog.Move{{TopicPartition: tp(1), To: idle}}))
	for i, ends := range [][2]int64{{10, 5}, {25, 6}, {30, 6}} {
		e := entry(epoch, catalog.Sequence(i+1))
		e.Ends = []catalog.PartitionEnd{{TopicPartition: tp(1), End: ends[1]}, {TopicPartition: tp(0), End: ends[0]}}
		_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{e})
		require.NoError(t, err)
	}
	first := entry(epoch, 1)
	require.NoError(t, c.Fold(t.Context(), epoch, catalog.Fold{
		Tail: epoch, Through: 1, Objects: []catalog.Object{{ID: first.Object, Key: first.Key, Size: 100, Checksum: 0xab, Refs: 2, Live: 90}},
		Rows: []catalog.PackedRow{{TopicPartition: tp(0), End: 10}, {TopicPartition: tp(1), End: 5}},
		Partitions: []catalog.PartitionState{
			{TopicPartition: tp(0), LogEnd: 10, LastStable: 10, Bytes: 60}, {TopicPartition: tp(1), LogEnd: 5, LastStable: 5, Bytes: 30},
		},
	}))
	_, err = c.SetLogStart(t.Context(), epoch, tp(0), 3)
	require.NoError(t, err)

	conn := connect(t, url)
	show := func(sql string) (lines []string) {
		t.Helper()
		columns, from, _ := strings.Cut(sql, " FROM ")
		rows, err := conn.Query(t.Context(), "SELECT array_to_string(ARRAY["+columns+"], ' ', '-') FROM "+from)
		require.NoError(t, err)
		lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return lines
	}
	require.Equal(t, []string{"orders ab000000-0000-0000-0000-000000000000 3 3 1000"},
		show("name, topic_id::text, partitions::text, replication_factor::text, configs->>'retention.ms' FROM topics"))
	require.Equal(t, []string{"orders 0 7 0 3 30 60", "orders 1 7 0 0 6 30", "orders 2 - -1 0 0 0"},
		show("topic, partition::text, leader::text, leader_epoch::text, log_start::text, high_watermark::text, folded_bytes::text FROM partitions"))
	require.Equal(t, []string{"orders 0 7 0 -", "orders 1 7 0 8", "orders 2 - -1 -"},
		show("topic, partition::text, broker_id::text, lease_epoch::text, wanted_by::text FROM partition_leases"))
	require.Equal(t, []string{"7 2 3 1", "8 0 0 0"},
		show("broker_id::text, leases::text, last_sequence::text, folded_sequence::text FROM brokers"))
	require.Equal(t, []string{"folded 000000ab 90", "tail 00000000 -", "tail 00000000 -"},
		show("level, crc32c, live::text FROM objects ORDER BY object_id"))
	require.Equal(t, []string{"2 2 2", "3 3 2"}, show("first_sequence::text, last_sequence::text, partitions::text FROM log_tail"))
	require.Equal(t, []string{"orders 0 0 10", "orders 1 0 5"}, show("topic, partition::text, base_offset::text, end_offset::text FROM packed_rows"))
	require.Empty(t, show("key FROM retired_objects"))
	var alive bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT bool_and(expires_at - last_heartbeat = '2 s') FROM brokers").Scan(&alive))
	require.True(t, alive)
}

// TestEverythingIsCommented: each table, view, column and function says what it is.
func TestEverythingIsCommented(t *testing.T) {
	conn := connect(t, postgrestest.New(t))
	rows, err := conn.Query(t.Context(), `
		SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
			AND obj_description(c.oid, 'pg_class') IS NULL
		UNION ALL
		SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> 'catalog_migrations'
			AND col_description(c.oid, a.attnum) IS NULL
		UNION ALL
		SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL`)
	require.NoError(t, err)
	bare, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, bare)
}

// TestPlans: the statements that are run all the time go by an index, also when tables are large and were small when the
// statement was prepared.
func TestPlans(t *testing.T) {
	url := postgrestest.New(t)
	cfg, err := postgres.ConnConfig(postgres.Options{URL: url})
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	plans := func() map[string]string {
		out := make(map[string]string)
		for name, sql := range postgres.HotStatements {
			id := strings.ReplaceAll(name, " ", "_")
			stmt, err := conn.Prepare(t.Context(), id, sql)
			require.NoError(t, err, name)
			args := strings.TrimSuffix(strings.Repeat("NULL, ", len(stmt.ParamOIDs)), ", ")
			if args != "" {
				args = "(" + args + ")"
			}
			rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE "+id+args, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err, name)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err, name)
			out[name] = strings.Join(lines, "\n")
		}
		return out
	}
	check := func(when string) {
		t.Helper()
		for name, plan := range plans() {
			for _, table := range []string{"tail", "objects", "packed_rows", "partitions", "leases", "topics", "brokers", "groups", "group_members", "group_offsets"} {
				if name == "heartbeat" && table == "brokers" {
					continue // it lists them
				}
				require.NotContains(t, plan, "Seq Scan on catalog_"+table, "%s, %s:\n%s", name, when, plan)
			}
			require.NotContains(t, plan, "Sort Key: catalog_tail", "%s, %s:\n%s", name, when, plan)
		}
	}
	check("empty")
	_, err = conn.Exec(t.Context(), `
		INSERT INTO catalog_brokers (epoch, id, incarnation, last_sequence, last_heartbeat, registered_at, ttl_ns, rack, listeners)
			SELECT n, n, gen_random_uuid(), 1000, now(), now(), 1, '', '[]' FROM generate_series(1, 20) n;
		INSERT INTO catalog_folds (epoch) SELECT epoch FROM catalog_brokers;
		INSERT INTO catalog_topics (id, name, partitions, replication_factor, configs, version, created_at)
			SELECT gen_random_uuid(), 't' || n, 100, 1, '{}', 1, now() FROM generate_series(1, 100) n;
		INSERT INTO catalog_partitions (topic, partition) SELECT id, n FROM catalog_topics, generate_series(0, 99) n;
		INSERT INTO catalog_leases (topic, partition) SELECT topic, partition FROM catalog_partitions;
		INSERT INTO catalog_packed_rows SELECT topic, partition, n * 10, n * 10 + 10, 1, '' FROM catalog_partitions, generate_series(0, 2) n;
		INSERT INTO catalog_objects SELECT n, 'k' || n, n * 100, 0, n % 4, 1, 0, now() FROM generate_series(1, 30000) n;
		INSERT INTO catalog_groups SELECT 'g' || n, n % 50, 'classic', '', '', 'Empty', 0, '', '{}', now() FROM generate_series(1, 10000) n;
		INSERT INTO catalog_group_members SELECT shard, id, 'm' || n, '', '', '', '{}' FROM catalog_groups, generate_series(1, 3) n;
		INSERT INTO catalog_group_offsets SELECT shard, n, id, 't', NULL, 0, now(), NULL, -1, '' FROM catalog_groups, generate_series(1, 3) n;
		INSERT INTO catalog_tail (epoch, first_sequence, last_sequence, object, size, checksum, committed_at, key, extents)
			SELECT epoch, n, n, n, 1, 0, now(), 'l' || n, '' FROM catalog_brokers, generate_series(1, 1000) n`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	check("prepared before the rows came")
	_, err = conn.Exec(t.Context(), "ANALYZE")
	require.NoError(t, err)
	check("analysed")
}

// TestKnownObjectsAmongManyRetired asks what the search for orphans asks, while merges have retired more than the sweep could
// delete. Asked again and again the statement is planned without its parameter, and must still not compare each key with each.
func TestKnownObjectsAmongManyRetired(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url})
	const key = "'log/2026112716/99b9a65339ac4adbacf59c04bb50a19b/000000000025-' || lpad("
	_, err := connect(t, url).Exec(t.Context(), `INSERT INTO catalog_retired (id, at, keys)
		SELECT i / 1024, now(), array_agg(`+key+`i::text, 12, '0') || '-001') FROM generate_series(0, 99999) i GROUP BY 1`)
	require.NoError(t, err)
	asked := make([]string, 4096)
	for i := range asked {
		asked[i] = fmt.Sprintf("log/2026112716/99b9a65339ac4adbacf59c04bb50a19b/000000000025-%012d-001", 99990+i)
	}
	for range 7 { // from the sixth on Postgres may plan once for all
		known, err := c.KnownObjects(t.Context(), asked)
		require.NoError(t, err)
		require.Len(t, known, 10)
		require.True(t, known[asked[9]])
	}
}
