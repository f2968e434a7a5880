package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Main(m)) }

func open(tb testing.TB, opts postgres.Options) *postgres.Catalog {
	tb.Helper()
	c, err := postgres.Open(tb.Context(), opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Close()) })
	return c
}

func TestConformance(t *testing.T) {
	catalogtest.Run(t, func(t *testing.T, now func() time.Time) catalog.Catalog {
		t.Helper()
		c, err := postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t), Now: now})
		require.NoError(t, err)
		return c
	})
}

func TestOperatorConformance(t *testing.T) {
	catalogtest.RunOperator(t, func(t *testing.T, now func() time.Time) catalogtest.OperatorCatalog {
		t.Helper()
		c, err := postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t), Now: now})
		require.NoError(t, err)
		return c
	})
}

func TestDurable(t *testing.T) {
	var mu sync.Mutex
	urls := make(map[string]string) // by place
	catalogtest.Durable(t, func(t *testing.T, place string, now func() time.Time) catalog.Catalog {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if urls[place] == "" {
			urls[place] = postgrestest.New(t)
		}
		c, err := postgres.Open(t.Context(), postgres.Options{URL: urls[place], Now: now})
		require.NoError(t, err)
		return c
	})
}

func TestModelAgainstMemory(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			clock := catalogtest.NewClock()
			c := open(t, postgres.Options{URL: postgrestest.New(t), Now: clock.Now})
			catalogtest.Model(t, seed, 400, clock, memory.New(clock.Now), c)
		})
	}
}

var handles atomic.Int64

// shared opens handles on one database, each known to the server by a name of its own.
func shared(t *testing.T, now func() time.Time) catalogtest.Shared {
	t.Helper()
	url := postgrestest.New(t)
	return catalogtest.Shared{
		Open: func(t *testing.T) catalogtest.FleetCatalog {
			t.Helper()
			c, err := postgres.Open(t.Context(), postgres.Options{URL: url, Now: now, ApplicationName: fmt.Sprintf("handle-%d", handles.Add(1))})
			require.NoError(t, err)
			return c
		},
		Drop: func(t *testing.T, h catalogtest.FleetCatalog) {
			t.Helper()
			terminate(t, url, h.(*postgres.Catalog).ApplicationName())
		},
	}
}

// terminate ends the connections that an application has now, as an administrator does, and waits until they are gone. New
// ones, which a client under load opens at once, are left alone.
func terminate(tb testing.TB, url, application string) {
	tb.Helper()
	conn := connect(tb, url)
	var pids []int32
	require.NoError(tb, conn.QueryRow(tb.Context(), "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()",
		application).Scan(&pids))
	_, err := conn.Exec(tb.Context(), "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids)
	require.NoError(tb, err)
	eventually(tb, "the terminated connections to be gone", func() bool {
		var left int
		require.NoError(tb, conn.QueryRow(tb.Context(), "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1) AND application_name = $2",
			pids, application).Scan(&left))
		return left == 0
	})
}

func connect(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, conn.Close(context.Background())) })
	return conn
}

func TestFleetConformance(t *testing.T) { catalogtest.RunFleet(t, shared) }
