package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	catalogtest.Run(t, func(t *testing.T, now func() time.Time) catalog.Catalog {
		t.Helper()
		c, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), sqlite.Options{Now: now})
		require.NoError(t, err)
		return c
	})
}
