package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// TestWaitsThatAreCancelled: somebody cancels a statement that waits for the synchronous standby, for which the server answers
// that it is done, with a warning. It is not: neither a write, nor a transaction, nor a read that vouches.
func TestWaitsThatAreCancelled(t *testing.T) {
	server, err := postgrestest.Start(postgrestest.Options{Settings: map[string]string{"wal_level": "replica", "max_wal_senders": "2"}})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Close()) }()
	url := server.NewDatabase(t)
	admin := connect(t, url)
	// Warnings that are not sent would not be seen.
	_, err = admin.Exec(t.Context(), "ALTER ROLE CURRENT_USER IN DATABASE "+admin.Config().Database+" SET client_min_messages = error")
	require.NoError(t, err)
	c := open(t, postgres.Options{URL: url, UrgentTimeout: time.Minute, StatementTimeout: time.Minute, PulseInterval: time.Hour})
	epoch := register(t, c, 1)
	settle(t, c, epoch, 1)
	co := coordinate(t, c, epoch, 1)
	next := lastRow(t, c, epoch) + 1
	calls := []struct {
		name string
		call func() error
	}{
		{"a commit", func() error { return commit(t.Context(), c, epoch, next) }},
		{"the read that settles it", func() error {
			_, err := c.TailAt(t.Context(), epoch, next)
			return err
		}},
		{"a write of groups", func() error {
			_, err := c.WriteGroups(t.Context(), co.next())
			return err
		}},
		{"the repeat that settles it", func() error {
			_, err := c.WriteGroups(t.Context(), co.next())
			return err
		}},
		{"a repeat that is refused", func() error {
			late := co.next()
			late.Number += 5
			_, err := c.WriteGroups(t.Context(), late)
			return err
		}},
		{"a topic", func() error {
			_, err := c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "orders", Partitions: 1})
			return err
		}},
		{"a heartbeat", func() error {
			_, err := c.Heartbeat(t.Context(), epoch)
			return err
		}},
	}
	waitFor := standbys(t, server)
	waitFor("*")
	inVain(t, "an id", func() error { // the server takes a moment to heed the setting
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := c.AllocateIDs(ctx, catalog.IDObject, 1)
		return err
	})
	for _, tt := range calls {
		done := make(chan error, 1)
		go func() { done <- tt.call() }()
		eventually(t, tt.name+" to be cancelled", func() bool {
			_, err := admin.Exec(t.Context(), "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = $1",
				c.ApplicationName())
			require.NoError(t, err)
			select {
			case err := <-done:
				require.ErrorIs(t, err, catalog.ErrUnavailable, "%s: nobody but this server has it", tt.name)
				return true
			default:
				return false
			}
		})
	}
	waitFor("")
	row, err := c.TailAt(t.Context(), epoch, next)
	require.NoError(t, err)
	require.Equal(t, entry(epoch, next).Object, row.Object)
	require.NoError(t, co.write(t.Context(), c), "the repeat settles it")
	// Other warnings are none of this: the server may say for weeks, at every write, that it wants to be vacuumed.
	_, err = admin.Exec(t.Context(), `CREATE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN RAISE WARNING 'look after me'; RETURN NULL; END$$;
		CREATE TRIGGER complain AFTER INSERT ON catalog_tail EXECUTE FUNCTION complain()`)
	require.NoError(t, err)
	require.NoError(t, commit(t.Context(), c, epoch, next+1))
}
