package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// TestWritesThatOnlyShow: a write whose answer was lost is not settled by what can be seen of it while the synchronous
// standby does not have it; it is once the standby has it. Here no standby is there at all, and then none is wanted.
func TestWritesThatOnlyShow(t *testing.T) {
	server, err := postgrestest.Start(postgrestest.Options{Settings: map[string]string{"wal_level": "replica", "max_wal_senders": "2"}})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Close()) }()
	url := server.NewDatabase(t)
	c := open(t, postgres.Options{URL: url, UrgentTimeout: 500 * time.Millisecond, StatementTimeout: 500 * time.Millisecond, ConnectTimeout: time.Second})
	epoch := register(t, c, 1)
	settle(t, c, epoch, 1)
	co := coordinate(t, c, epoch, 1)
	topic := catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "orders", Partitions: 1}
	_, err = c.CreateTopic(t.Context(), topic)
	require.NoError(t, err)
	_, err = c.AcquireLeases(t.Context(), epoch, []catalog.TopicPartition{{Topic: topic.ID}})
	require.NoError(t, err)
	gone := register(t, c, 2)
	require.NoError(t, c.FenceBroker(t.Context(), gone, catalog.FenceProvenDead))
	fenced := register(t, c, 3)
	settle(t, c, fenced, 1) // which keeps its row
	require.NoError(t, c.FenceBroker(t.Context(), fenced, catalog.FenceProvenDead))
	require.NoError(t, c.SetDraining(t.Context(), 1, true))
	retireOne(t, c, epoch)
	_, err = c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{3}, Name: "deleted", Partitions: 1})
	require.NoError(t, err)
	require.NoError(t, c.DeleteTopic(t.Context(), catalog.TopicID{3}))
	looker := open(t, postgres.Options{URL: url, ReadOnly: true})
	waitFor := standbys(t, server)

	waitFor("*")
	var shown catalog.Sequence
	inVain(t, "a commit", func() error { // the first may come before its connection has heard of the setting
		shown = lastRow(t, c, epoch) + 1
		return commit(t.Context(), c, epoch, shown)
	})
	// Giving up cancels the statement, which ends the wait, not what it waited with.
	eventually(t, "its row to show all the same", func() bool { return lastRow(t, c, epoch) == shown })
	inVain(t, "a write of groups", func() error {
		return co.write(t.Context(), c, catalog.GroupChange{ID: "g", Group: groupRow("g", co.shard), Offsets: []catalog.GroupOffset{groupOffset(0, 7)}})
	})
	eventually(t, "it to show", func() bool {
		g, err := c.ReadGroup(t.Context(), "g")
		return err == nil && len(g.Offsets) == 1
	})
	settling := map[string]func() error{
		"a commit": func() error {
			_, err := c.TailAt(t.Context(), epoch, shown)
			return err
		},
		"offsets": func() error {
			_, err := c.WriteGroups(t.Context(), co.next())
			return err
		},
		"a topic": func() error {
			_, err := c.CreateTopic(t.Context(), topic)
			return err
		},
		"a deletion": func() error {
			err := c.DeleteTopic(t.Context(), catalog.TopicID{2})
			if errors.Is(err, catalog.ErrUnknownTopic) {
				return nil
			}
			return err
		},
		"partitions": func() error {
			_, err := c.AddPartitions(t.Context(), topic.ID, topic.Partitions)
			return err
		},
		"a fence": func() error { return c.FenceBroker(t.Context(), gone, catalog.FenceProvenDead) },
		"leases": func() error {
			_, err := c.AcquireLeases(t.Context(), epoch, nil)
			return err
		},
		"a lease that is adopted": func() error {
			leases, err := c.AcquireLeases(t.Context(), epoch, []catalog.TopicPartition{{Topic: topic.ID}})
			if err == nil {
				require.Equal(t, []catalog.Lease{{TopicPartition: catalog.TopicPartition{Topic: topic.ID}, Holder: epoch}}, leases, "as it was")
			}
			return err
		},
		"a log start": func() error {
			_, err := c.SetLogStart(t.Context(), epoch, catalog.TopicPartition{Topic: topic.ID}, 0)
			return err
		},
		"a drain": func() error { return c.SetDraining(t.Context(), 1, true) },
		// These are what files are deleted by.
		"a retired object": func() error {
			retired, err := c.ListRetired(t.Context(), 0, 10)
			if err == nil {
				require.NotEmpty(t, retired)
			}
			return err
		},
		"a log start that records are dropped by": func() error {
			_, err := c.SettledPartitions(t.Context(), []catalog.TopicPartition{{Topic: topic.ID}})
			return err
		},
		"a deletion that records are dropped by": func() error {
			deleted, err := c.DeletedTopics(t.Context())
			if err == nil {
				require.NotEmpty(t, deleted)
			}
			return err
		},
		"the fence of an orphan's broker": func() error { return c.FenceBroker(t.Context(), fenced, catalog.FenceExpired) },
		"an orphan": func() error {
			_, err := c.KnownObjects(t.Context(), []string{"nobody's"})
			return err
		},
	}
	_, err = c.TailAt(t.Context(), epoch, shown+5)
	require.ErrorIs(t, err, catalog.ErrUnavailable, "what is not there may come yet")
	for what, settle := range settling {
		assert.ErrorIs(t, settle(), catalog.ErrUnavailable, "%s: nobody but this server has it", what)
	}
	// Who only looks decides nothing by it, and writes nothing.
	_, err = looker.KnownObjects(t.Context(), []string{"nobody's"})
	require.NoError(t, err)
	deleted, err := looker.DeletedTopics(t.Context())
	require.NoError(t, err)
	require.Len(t, deleted, 1)

	waitFor("")
	for what, settle := range settling {
		eventually(t, what+" to count", func() bool { return settle() == nil })
	}
	_, err = c.TailAt(t.Context(), epoch, shown+5)
	require.ErrorIs(t, err, catalog.ErrNotFound)
	row, err := c.TailAt(t.Context(), epoch, shown)
	require.NoError(t, err)
	require.Equal(t, entry(epoch, shown).Object, row.Object)
}

// retireOne makes the catalog name an object no more: two rows become one.
func retireOne(t *testing.T, c *postgres.Catalog, epoch catalog.BrokerEpoch) {
	t.Helper()
	last := lastRow(t, c, epoch)
	require.NoError(t, commit(t.Context(), c, epoch, last+1))
	require.NoError(t, commit(t.Context(), c, epoch, last+2))
	merged := entry(epoch, last+2)
	merged.First, merged.Object, merged.Key = last+1, 1<<40, "merged"
	require.NoError(t, c.MergeTail(t.Context(), epoch, catalog.TailMerge{
		Entry: merged, Replaces: []catalog.ObjectID{entry(epoch, last+1).Object, entry(epoch, last+2).Object},
	}))
}

// standbys returns a function that sets for which standbys commits wait.
func standbys(t *testing.T, server *postgrestest.Server) func(names string) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), server.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close(context.Background()) }) // the server may be gone
	return func(names string) {
		for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
			_, err := admin.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		eventually(t, "the setting", func() bool {
			var now string
			require.NoError(t, admin.QueryRow(t.Context(), "SHOW synchronous_standby_names").Scan(&now))
			return now == names
		})
	}
}

// inVain makes writes until one gets no answer.
func inVain(t *testing.T, what string, write func() error) {
	t.Helper()
	eventually(t, what+" to wait in vain", func() bool {
		err := write()
		if err != nil {
			require.ErrorIs(t, err, catalog.ErrUnavailable)
		}
		return err != nil
	})
}

// lastRow is the last sequence that the tail shows.
func lastRow(t *testing.T, c *postgres.Catalog, epoch catalog.BrokerEpoch) catalog.Sequence {
	t.Helper()
	rows, err := c.ReadTail(t.Context(), epoch, 0, 1000)
	require.NoError(t, err)
	return rows[len(rows)-1].Last
}
