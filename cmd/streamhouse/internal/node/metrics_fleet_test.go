package node

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/miniotest"
)

// What brokers do with each other shows on the one that does it: leases that come and go, or should have; who is there, who
// leads, who is fenced and why; what comes in from others.
func TestABrokerAmongOthersIsMeasured(t *testing.T) {
	pg, err := postgrestest.Start(postgrestest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	url, store := pg.NewDatabase(t), "s3://"+miniotest.Bucket+"/log?endpoint=http://"+miniotest.Start(t)
	cfg := func() config.Config {
		return settings(t, t.TempDir(), func(f *config.Flags) { f.Catalog, f.Store = url, store })
	}
	moves := func(kind, status string) string {
		return `cluster_lease_moves_total{kind="` + kind + `",status="` + status + `"}`
	}
	const partitions, all = 8, 101 + 8 // groups, transactions and the controller have leases, too

	a := beginHindered(t, cfg(), catfaulty.Fault{Op: catfaulty.OpAcquireLeases, Count: 1, Kind: catfaulty.Refuse})
	_, err = a.admin.CreateTopic(t.Context(), partitions, 1, nil, "t")
	require.NoError(t, err)
	// A lease is held a moment before the move that brought it is counted.
	a.eventually("it leads everything", func(s samples) bool {
		return s[`agent_active_partitions{topic="t"}`] == partitions && s[moves("acquired", "ok")] >= all
	})
	s := a.scrape()
	require.Positive(t, s[moves("acquired", "error")])
	require.EqualValues(t, all, s[moves("acquired", "ok")])
	require.Positive(t, s[`cluster_lease_move_duration_seconds_sum{kind="acquired"}`])
	require.EqualValues(t, 1, s[`cluster_brokers`])
	a.eventually("it is the controller", func(s samples) bool { return s[`cluster_controller`] == 1 })
	for _, name := range []string{
		moves("adopted", "ok"), moves("adopted", "error"), moves("handed_over", "ok"), moves("handed_over", "error"),
		`cluster_moves_asked_total`, `cluster_followed_rows_total`, `cluster_follow_delay_seconds_count`,
		`cluster_fences_total{reason="expired"}`, `cluster_fences_total{reason="detached"}`,
	} {
		require.True(t, s.has(name), name)
		require.Zero(t, s[name], name)
	}

	a.refuse(catfaulty.OpMoveLeases, 1, catalog.ErrUnknownBroker)
	b := beginHindered(t, cfg())
	a.eventually("half of it goes to the other", func(s samples) bool { return s[`agent_active_partitions{topic="t"}`] == partitions/2 })
	b.eventually("who takes it", func(s samples) bool {
		return s[`agent_active_partitions{topic="t"}`] == partitions/2 && s[moves("adopted", "ok")] >= partitions/2
	})
	a.eventually("and has counted what it gave", func(s samples) bool { return s[moves("handed_over", "ok")] > 0 })
	s, other := a.scrape(), b.scrape()
	require.Positive(t, s[`cluster_moves_asked_total`])
	require.Positive(t, s[moves("handed_over", "error")])
	require.Positive(t, s[`cluster_lease_move_duration_seconds_sum{kind="handed_over"}`])
	require.Zero(t, s[moves("adopted", "ok")])
	require.Positive(t, other[`cluster_lease_move_duration_seconds_sum{kind="adopted"}`])
	require.Zero(t, other[moves("handed_over", "ok")])
	require.Zero(t, other[`cluster_moves_asked_total`], "that is the controller's")
	for _, s := range []samples{s, other} {
		require.EqualValues(t, 2, s[`cluster_brokers`])
	}
	require.EqualValues(t, 1, s[`cluster_controller`])
	require.Zero(t, other[`cluster_controller`])

	cl := a.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for _, r := range []*hindered{a, b} {
		// Written again and again: the catalog's clock, by which the delay is told, may be late in a process by what its last
		// answer took, and the delay 0 for that.
		r.eventually("what the other wrote came in", func(s samples) bool {
			for p := range int32(partitions) {
				cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: p})
			}
			return s[`cluster_followed_rows_total`] > 0 && s[`cluster_follow_delay_seconds_sum`] > 0
		})
	}

	c, err := Start(t.Context(), cfg(), "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.eventually("a third broker", func(s samples) bool { return s[`cluster_brokers`] == 3 })
	// Only who was seen attached is found dead before its session is over. What is asked next may have been under way.
	looks := a.catalog.Calls(catfaulty.OpDetached)
	require.Eventually(t, func() bool { return a.catalog.Calls(catfaulty.OpDetached) >= looks+3 }, patience, time.Millisecond)
	c.abort(t.Context()) // it dies
	fences := func(reason string) (n float64) {
		return a.scrape()[`cluster_fences_total{reason="`+reason+`"}`] + b.scrape()[`cluster_fences_total{reason="`+reason+`"}`]
	}
	a.eventually("it is found dead", func(s samples) bool { return s[`cluster_brokers`] == 2 })
	// The one of the two that fenced it counts that once it is answered; the other may have seen it before.
	a.eventually("one of them fenced it", func(samples) bool { return fences("detached") > 0 })
	require.Zero(t, fences("expired"))

	b.refuse(catfaulty.OpHeartbeat, 4, nil) // longer than its session lasts
	a.eventually("it is fenced", func(s samples) bool { return s[`cluster_fences_total{reason="expired"}`] == 1 })
	a.eventually("all that it had is led by the one that is left", func(s samples) bool {
		return s[`agent_active_partitions{topic="t"}`] == partitions
	})
	// How many failed, and whether one is told "lost", depends on where the fenced one hears of it first.
	require.Positive(t, b.scrape()[`agent_lease_renewals_total{status="error"}`])
	b.eventually("it comes back under a new epoch, and has its share", func(s samples) bool {
		return s[`cluster_brokers`] == 2 && s[`agent_active_partitions{topic="t"}`] > 0
	})
	require.NoError(t, a.catalog.Verify())
	require.NoError(t, b.catalog.Verify())
}

// A broker that hangs on the catalog, as when the database's machine freezes, leads nothing and controls nothing once its session is
// over. It must not go on telling what it did: alerts compare brokers by that.
func TestWhatIsLedIsToldWhileTheCatalogHangs(t *testing.T) {
	pg, err := postgrestest.Start(postgrestest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	r := beginHindered(t, settings(t, t.TempDir(), func(f *config.Flags) {
		f.Catalog, f.Store = pg.NewDatabase(t), "s3://"+miniotest.Bucket+"/log?endpoint=http://"+miniotest.Start(t)
	}))
	_, err = r.admin.CreateTopic(t.Context(), 3, 1, nil, "t")
	require.NoError(t, err)
	leads := func(s samples) bool {
		return s[`agent_active_partitions{topic="t"}`] == 3 && s[`cluster_controller`] == 1
	}
	r.eventually("it leads everything", leads)
	cl := r.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: 1}).FirstErr())
	const pending = `producer_pending_records{partition="1",topic="t"}`
	require.True(t, r.scrape().has(pending))

	back := make(chan struct{})
	hang := func(op catfaulty.Op) {
		r.catalog.Next(catfaulty.Fault{Op: op, Count: 1 << 30, Kind: catfaulty.Slow, Gate: back})
	}
	hang(catfaulty.OpTopicSet)
	hang(catfaulty.OpHeartbeat)
	r.eventually("it leads nothing, and says so", func(s samples) bool {
		return !s.has(`agent_active_partitions{topic="t"}`) && !s.has(pending) && s.has(`cluster_controller`) && s[`cluster_controller`] == 0
	})
	close(back)
	r.eventually("it is back", leads)
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: 1}).FirstErr())
	require.True(t, r.scrape().has(pending))
}
