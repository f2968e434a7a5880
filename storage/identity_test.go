package storage

import (
	"testing"

	"github.com/stretchr/testify/require"

	catmem "github.com/streamhouse/streamhouse/catalog/memory"
)

// TestForeignStoreIsLeftAlone: a catalog that does not know a store's objects must not sweep them.
func TestForeignStoreIsLeftAlone(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	e := w.open()
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 0, 10)))
	e.Kill()

	c := w.config()
	c.Catalog = catmem.New(nil) // made anew
	_, err := Open(ctx, c)
	require.ErrorIs(t, err, ErrForeignStore)

	id, err := w.cat.ClusterID(ctx)
	require.NoError(t, err)
	require.NoError(t, w.store.Put(ctx, markerPrefix+id+"/000000000099", bodyOf("x"))) // as if the catalog were a backup
	before, err := w.cat.ListBrokers(ctx)
	require.NoError(t, err)
	for range 3 { // a start that is tried again and again does not catch up with the epoch
		_, err = Open(ctx, w.config())
		require.ErrorIs(t, err, ErrForeignStore)
		require.ErrorContains(t, err, "streamhouse restore")
	}
	after, err := w.cat.ListBrokers(ctx)
	require.NoError(t, err)
	require.Equal(t, before, after, "no epoch was taken")
	require.NoError(t, w.store.Delete(ctx, []string{markerPrefix + id + "/000000000099"}))

	e = w.open()
	w.check(ctx, e)
	infos, _, err := w.store.List(ctx, markerPrefix, "", 10)
	require.NoError(t, err)
	require.Len(t, infos, 1, "one note, of the latest epoch")
}
