package postgres_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// TestOpenedAtOnce: many brokers start on an empty database. One migrates, all get the same cluster.
func TestOpenedAtOnce(t *testing.T) {
	url := postgrestest.Shared(t).Empty(t)
	list, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	require.Len(t, list, postgres.SchemaVersion)
	require.False(t, list[0].Applied)

	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := make(map[string]int)
	for range 5 {
		wg.Go(func() {
			c, err := postgres.Open(t.Context(), postgres.Options{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			id, err := c.ClusterID(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			ids[id]++
			mu.Unlock()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, ids, 1)
	for _, n := range ids {
		require.Equal(t, 5, n)
	}
	list, err = postgres.MigrationStatus(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	require.True(t, list[0].Applied)
	require.False(t, list[0].AppliedAt.IsZero())
	applied, err := postgres.Migrate(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	require.Empty(t, applied, "nothing to do")
}

func TestSchemaVersionIsTheNewestFile(t *testing.T) {
	files, err := fs.Glob(os.DirFS("migrations"), "*.sql")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(files[len(files)-1], fmt.Sprintf("%05d_", postgres.SchemaVersion)))
}

// TestNewerSchema: in a rolling upgrade programs of the old version start on the new schema, until one says that they may not.
func TestNewerSchema(t *testing.T) {
	url := postgrestest.New(t)
	conn := connect(t, url)
	_, err := conn.Exec(t.Context(), "INSERT INTO catalog_migrations (version_id, is_applied) VALUES ($1, true)", postgres.SchemaVersion+1)
	require.NoError(t, err)
	c, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = conn.Exec(t.Context(), "UPDATE catalog_counters SET value = $1 WHERE name = 'oldest_program'", postgres.SchemaVersion+1)
	require.NoError(t, err)
	_, err = postgres.Open(t.Context(), postgres.Options{URL: url})
	require.ErrorIs(t, err, postgres.ErrNewerSchema)
	require.False(t, catalog.Retriable(err))
	_, err = postgres.Migrate(t.Context(), postgres.Options{URL: url})
	require.ErrorIs(t, err, postgres.ErrNewerSchema)
	list, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: url})
	require.ErrorIs(t, err, postgres.ErrNewerSchema)
	require.Len(t, list, postgres.SchemaVersion)
}

// TestRefused: what the operator has to mend is said, and waiting is not suggested where it does not help.
func TestRefused(t *testing.T) {
	server := postgrestest.Shared(t)
	url := postgrestest.New(t)
	conn := connect(t, url)
	role := fmt.Sprintf("role_%d", conn.PgConn().PID())
	_, err := conn.Exec(t.Context(), "CREATE ROLE "+role+" LOGIN")
	require.NoError(t, err)
	closed := server.Empty(t)
	_, err = connect(t, closed).Exec(t.Context(), "REVOKE CREATE ON SCHEMA public FROM PUBLIC") // as it is since Postgres 15
	require.NoError(t, err)
	open := func(url string) error {
		c, err := postgres.Open(t.Context(), postgres.Options{URL: url})
		if err == nil {
			require.NoError(t, c.Close())
		}
		return err
	}
	for what, tt := range map[string]struct{ url, says string }{
		"no URL":              {"", "no URL"},
		"nonsense":            {"postgres://%zz", "parse"},
		"no such database":    {server.URL("nowhere"), "CREATE DATABASE"},
		"no such role":        {strings.Replace(url, "postgres@", "nobody_known@", 1), "user and password"},
		"not allowed":         {strings.Replace(closed, "postgres@", role+"@", 1), "CREATE and USAGE"},
		"asynchronous commit": {url + "&synchronous_commit=off", "synchronous_commit is off"},
	} {
		err := open(tt.url)
		require.ErrorContains(t, err, tt.says, what)
		require.False(t, catalog.Retriable(err), what)
	}
	require.ErrorIs(t, open(url+"&synchronous_commit=off"), postgres.ErrUnsafe)
	require.ErrorIs(t, open("postgres://postgres@127.0.0.1:1/x?sslmode=disable"), catalog.ErrUnavailable, "it may come up yet")
	require.NotContains(t, open("postgres://u:secret@127.0.0.1:1/x").Error(), "secret")

	// Changed under way, it reaches neither the connections that are open nor new ones.
	c, err := postgres.Open(t.Context(), postgres.Options{URL: url, ApplicationName: "pinned"})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	epoch := register(t, c, 1)
	var name string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&name))
	_, err = conn.Exec(t.Context(), "ALTER DATABASE "+name+" SET synchronous_commit = off")
	require.NoError(t, err)
	require.NoError(t, commit(t.Context(), c, epoch, 1))
	terminate(t, url, "pinned")
	eventually(t, "new connections", func() bool {
		err = commit(t.Context(), c, epoch, 2)
		require.ErrorIs(t, err, catalog.ErrUnavailable)
		return strings.Contains(err.Error(), "synchronous_commit is off")
	})
	_, err = conn.Exec(t.Context(), "ALTER DATABASE "+name+" RESET synchronous_commit")
	require.NoError(t, err)
	settle(t, c, epoch, 2)
}

// TestStandby: a server that takes no writes is passed over when connecting, and unavailable when it turns out later.
func TestStandby(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url})
	epoch := register(t, c, 1)
	conn := connect(t, url)
	var name string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&name))
	// A function that fails as a standby does stands in for one.
	_, err := conn.Exec(t.Context(), `CREATE OR REPLACE FUNCTION catalog_wall_clock() RETURNS timestamptz LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'cannot execute UPDATE in a read-only transaction' USING ERRCODE = '25006'; END $$`)
	require.NoError(t, err)
	require.ErrorIs(t, commit(t.Context(), c, epoch, 1), catalog.ErrUnavailable)
	_, err = conn.Exec(t.Context(), "CREATE OR REPLACE FUNCTION catalog_wall_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT clock_timestamp() $$")
	require.NoError(t, err)
	settle(t, c, epoch, 1)
	// Both hosts of the list are tried.
	addr := postgrestest.Shared(t).Addr()
	list := open(t, postgres.Options{URL: strings.Replace(url, addr, "127.0.0.1:1,"+addr, 1)})
	require.NoError(t, list.Ping(t.Context()))
}

// counter counts what is sent to the server.
type counter struct {
	mu   sync.Mutex
	sent []string
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, data.SQL)
	return ctx
}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, fmt.Sprintf("a batch of %d", data.Batch.Len()))
	return ctx
}

func (*counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (*counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (c *counter) TracePrepareStart(ctx context.Context, _ *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, "prepare "+data.SQL)
	return ctx
}

func (c *counter) TracePrepareEnd(_ context.Context, _ *pgx.Conn, data pgx.TracePrepareEndData) {
	if data.AlreadyPrepared {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent = c.sent[:len(c.sent)-1]
	}
}

func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.sent
	c.sent = nil
	return out
}

// TestRoundTrips: what each call costs. A new round trip is a red test.
func TestRoundTrips(t *testing.T) {
	var sent counter
	c := open(t, postgres.WithTracer(postgres.Options{URL: postgrestest.New(t), PulseInterval: time.Hour}, &sent))
	epoch := register(t, c, 1)
	topic, err := c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: 1000})
	require.NoError(t, err)
	tps := make([]catalog.TopicPartition, 1000)
	ends := make([]catalog.PartitionEnd, 1000)
	for i := range tps {
		tps[i] = catalog.TopicPartition{Topic: topic.ID, Partition: int32(i)}
		ends[i] = catalog.PartitionEnd{TopicPartition: tps[i], End: 5}
	}
	co := coordinate(t, c, epoch, 2)
	many := make([]catalog.GroupOffset, 1000)
	for i := range many {
		many[i] = groupOffset(int32(i), 1)
	}
	var seq catalog.Sequence
	calls := []struct {
		name  string
		trips int
		call  func() error
	}{
		{"commit of one object", 1, func() error {
			seq++
			e := entry(epoch, seq)
			e.Ends = ends
			_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{e})
			return err
		}},
		{"commit of three objects", 1, func() error {
			seq += 3
			_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, seq-2), entry(epoch, seq-1), entry(epoch, seq)})
			return err
		}},
		{"heartbeat", 1, func() error { _, err := c.Heartbeat(t.Context(), epoch); return err }},
		{"unfenced", 1, func() error { return c.Unfenced(t.Context(), epoch) }},
		{"log start", 1, func() error { _, err := c.SetLogStart(t.Context(), epoch, tps[0], 1); return err }},
		{"read the tail", 1, func() error { _, err := c.ReadTail(t.Context(), epoch, 0, 100); return err }},
		{"topics", 1, func() error { _, err := c.TopicSet(t.Context(), 0); return err }},
		{"leases", 1, func() error { _, err := c.LeaseSet(t.Context(), 0); return err }},
		{"load 1000 partitions", 1, func() error { _, err := c.LoadPartitions(t.Context(), tps); return err }},
		{"spans of 1000 partitions", 1, func() error {
			spans := make([]catalog.Span, len(tps))
			for i := range tps {
				spans[i] = catalog.Span{TopicPartition: tps[i], To: 1 << 40}
			}
			_, err := c.PackedSpans(t.Context(), spans, 100)
			return err
		}},
		{"object ids", 1, func() error { _, err := c.AllocateIDs(t.Context(), catalog.IDObject, 10); return err }},
		{"write groups with 1000 offsets", 1, func() error {
			return co.write(t.Context(), c, catalog.GroupChange{ID: "g", Group: groupRow("g", 2), AllMembersGone: true, Offsets: many})
		}},
		{"repeat a write of groups", 2, func() error { // refused, and why
			co.number--
			return co.write(t.Context(), c)
		}},
		{"read groups", 1, func() error { _, err := c.ReadGroups(t.Context(), 2, "", 100); return err }},
		{"read a group", 1, func() error { _, err := c.ReadGroup(t.Context(), "g"); return err }},
		{"acquire 1000 leases that are held", 1, func() error { // as a broker does before it adopts what it was given
			_, err := c.AcquireLeases(t.Context(), epoch, tps)
			return err
		}},
		{"acquire one lease of two that is free", 5, func() error { // held, begin, take, version, commit
			require.NoError(t, c.ReleaseLeases(t.Context(), epoch, tps[:1]))
			sent.take()
			_, err := c.AcquireLeases(t.Context(), epoch, tps[:2])
			return err
		}},
		{"release 1000 leases that are free", 4, func() error { return c.ReleaseLeases(t.Context(), epoch, tps) }},
	}
	for _, tt := range calls {
		for warm := range 2 {
			sent.take()
			require.NoError(t, tt.call(), tt.name)
			got := sent.take()
			if warm == 1 || strings.HasPrefix(tt.name, "commit of one") || tt.name == "heartbeat" || tt.name == "unfenced" { // prepared ahead
				require.Len(t, got, tt.trips, "%s: %q", tt.name, got)
			}
		}
	}

	// A fold of 1000 partitions is a handful of statements.
	fold := func() catalog.Fold {
		rows, err := c.ReadTail(t.Context(), epoch, 0, 1000)
		require.NoError(t, err)
		f := catalog.Fold{Tail: epoch, After: rows[0].First - 1, Through: rows[len(rows)-1].Last}
		for _, r := range rows {
			f.Objects = append(f.Objects, catalog.Object{ID: r.Object, Key: r.Key, Size: r.Size, Refs: 1, Live: 1})
		}
		return f
	}
	f := fold()
	for _, tp := range tps {
		f.Rows = append(f.Rows, catalog.PackedRow{TopicPartition: tp, Base: 0, End: 5, Extents: make([]byte, 50)})
		f.Partitions = append(f.Partitions, catalog.PartitionState{TopicPartition: tp, LogEnd: 5, LastStable: 5, Producers: make([]byte, 20)})
	}
	sent.take()
	require.NoError(t, c.Fold(t.Context(), epoch, f))
	var statements []string
	for _, sql := range sent.take() {
		if !strings.HasPrefix(sql, "prepare ") {
			statements = append(statements, sql)
		}
	}
	require.Len(t, statements, 10, "%q", statements) // begin, guard, position, topics, partitions, tail, rows, objects, forget, commit
}

// TestReadOnly: somebody looks at the catalog of a cluster.
func TestReadOnly(t *testing.T) {
	empty := postgrestest.Shared(t).Empty(t)
	_, err := postgres.Open(t.Context(), postgres.Options{URL: empty, ReadOnly: true})
	require.ErrorIs(t, err, postgres.ErrNoSchema)
	require.NotErrorIs(t, err, catalog.ErrUnavailable, "waiting does not help")
	require.ErrorContains(t, err, "streamhouse migrate up")
	list, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: empty})
	require.NoError(t, err)
	require.False(t, list[0].Applied, "nothing was made")

	url := postgrestest.New(t)
	looker := open(t, postgres.Options{URL: url, ReadOnly: true})
	id, err := looker.ClusterID(t.Context())
	require.NoError(t, err)
	require.Empty(t, id, "no broker has come yet")

	c := open(t, postgres.Options{URL: url})
	b, err := c.RegisterBroker(t.Context(), catalog.Registration{ID: 3, Incarnation: [16]byte{3}, TTL: time.Minute})
	require.NoError(t, err)
	conn := connect(t, url)
	_, err = conn.Exec(t.Context(), "ALTER ROLE CURRENT_USER IN DATABASE "+conn.Config().Database+" SET synchronous_commit = off")
	require.NoError(t, err)
	looker = open(t, postgres.Options{URL: url, ReadOnly: true}) // which has nothing to do with it
	brokers, err := looker.ListBrokers(t.Context())
	require.NoError(t, err)
	require.Len(t, brokers, 1)
	now, err := looker.Now(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, now, brokers[0].LastHeartbeat, time.Minute)
	_, err = looker.Heartbeat(t.Context(), b.Epoch)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	_, err = looker.Restored(t.Context())
	require.Error(t, err)
}
