package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABrokerIDIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), propertiesName)
	_, err := readProperties(path, "cluster")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, writeProperties(path, "cluster", 1001))
	id, err := readProperties(path, "cluster")
	require.NoError(t, err)
	require.EqualValues(t, 1001, id)
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 1, "nothing else stays")

	_, err = readProperties(path, "other")
	require.ErrorContains(t, err, `keeps a broker id of cluster "cluster", the catalog is that of "other"`)
	require.NotErrorIs(t, err, os.ErrNotExist, "a new id would hide the mistake")
	for _, bad := range []string{"", "x", "-1", "4294967296"} {
		require.NoError(t, os.WriteFile(path, []byte("# kept\nversion=1\ncluster.id=cluster\nnode.id="+bad+"\n"), 0o600))
		_, err = readProperties(path, "cluster")
		require.ErrorContains(t, err, "no node.id that can be used", bad)
	}
	require.Error(t, writeProperties(filepath.Join(path, "below a file"), "cluster", 1))
}
