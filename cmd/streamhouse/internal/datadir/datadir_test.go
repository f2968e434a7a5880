package datadir

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/catalog/sqlite"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The rules of serve decide: what they refuse beside locations must not get in the way.
func TestLocationsAreThoseOfServe(t *testing.T) {
	dir := t.TempDir()
	at, err := Flags{DataDir: dir}.Resolve()
	require.NoError(t, err)
	require.Equal(t, config.Location{Kind: config.KindSQLite, Path: filepath.Join(dir, "catalog.db")}, at.Catalog)
	require.Equal(t, config.Location{Kind: config.KindFile, Path: filepath.Join(dir, "objects")}, at.Store)
	_, err = Flags{DataDir: dir, Store: "nonsense"}.Resolve()
	require.ErrorContains(t, err, "--store")
}

func TestOpenMakesNothingAndLeavesNothingOpen(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	at, err := Flags{DataDir: dir}.Resolve()
	require.NoError(t, err)
	_, err = Open(t.Context(), at, log)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Mkdir(at.Store.Path, 0o700))
	_, err = Open(t.Context(), at, log)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoFileExists(t, at.Catalog.Path)
	require.NoError(t, os.Mkdir(at.Catalog.Path, 0o700))
	_, err = Open(t.Context(), at, log)
	require.ErrorContains(t, err, "is not a file")
	require.NoError(t, os.Remove(at.Catalog.Path))

	require.NoError(t, os.WriteFile(at.Catalog.Path, []byte("this is no database, by far"), 0o600))
	_, err = Open(t.Context(), at, log)
	require.Error(t, err)
	require.NoError(t, os.Remove(at.Catalog.Path))

	cat, err := sqlite.Open(t.Context(), at.Catalog.Path, sqlite.Options{})
	require.NoError(t, err)
	require.NoError(t, cat.Close())
	for range 2 { // the failures before gave their locks up, as does Close
		data, err := Open(t.Context(), at, log)
		require.NoError(t, err)
		_, err = Open(t.Context(), at, log)
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorIs(t, data.Store.Put(t.Context(), "k", objstore.NewBody()), objstore.ErrReadOnly)
		require.NoError(t, data.Close())
		require.NoError(t, data.Close())
	}
	require.NoError(t, os.RemoveAll(at.Store.Path))
	require.NoError(t, os.WriteFile(at.Store.Path, nil, 0o600))
	_, err = OpenStore(at)
	require.ErrorContains(t, err, "is not a folder")
}
