package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// TestReadOnly: somebody looks at the catalog of a broker, while it runs and after.
func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	_, err := Open(t.Context(), path, Options{ReadOnly: true})
	require.ErrorIs(t, err, catalog.ErrUnavailable, "nothing is made")
	require.NoFileExists(t, path)

	owner, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	epoch := register(t, owner)
	looks := func() {
		t.Helper()
		c, err := Open(t.Context(), path, Options{ReadOnly: true})
		require.NoError(t, err)
		brokers, err := c.ListBrokers(t.Context())
		require.NoError(t, err)
		require.Len(t, brokers, 1)
		now, err := c.Now(t.Context())
		require.NoError(t, err)
		require.False(t, now.Before(brokers[0].LastHeartbeat))
		id, err := c.ClusterID(t.Context())
		require.NoError(t, err)
		require.Equal(t, owner.clusterID, id)
		_, err = c.Heartbeat(t.Context(), epoch)
		require.ErrorIs(t, err, ErrReadOnly)
		_, err = c.Restored(t.Context())
		require.ErrorIs(t, err, ErrReadOnly)
		require.NoError(t, c.Close())
	}
	looks()
	_, err = owner.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, 1, nil)})
	require.NoError(t, err)
	looks()
	require.NoError(t, owner.Close())
	looks()
}

func TestMigrationStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	_, err := MigrationStatus(t.Context(), path)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	openTest(t, path, Options{})
	list, err := MigrationStatus(t.Context(), path)
	require.NoError(t, err)
	require.Len(t, list, schemaVersion)
	for _, m := range list {
		require.True(t, m.Applied, m.Name)
		require.False(t, m.AppliedAt.IsZero(), m.Name)
	}
}
