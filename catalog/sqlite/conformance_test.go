package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/catalog/sqlite"
)

func TestConformance(t *testing.T) {
	catalogtest.Run(t, func(t *testing.T, now func() time.Time) catalog.Catalog {
		t.Helper()
		c, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), sqlite.Options{Now: now})
		require.NoError(t, err)
		return c
	})
}

func TestOperatorConformance(t *testing.T) {
	catalogtest.RunOperator(t, func(t *testing.T, now func() time.Time) catalogtest.OperatorCatalog {
		t.Helper()
		c, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), sqlite.Options{Now: now})
		require.NoError(t, err)
		return c
	})
}

func TestDurable(t *testing.T) {
	catalogtest.Durable(t, func(t *testing.T, place string, now func() time.Time) catalog.Catalog {
		t.Helper()
		c, err := sqlite.Open(t.Context(), filepath.Join(place, "catalog.db"), sqlite.Options{Now: now})
		require.NoError(t, err)
		return c
	})
}

func TestModelAgainstMemory(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			clock := catalogtest.NewClock()
			c, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), sqlite.Options{Now: clock.Now})
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Close()) }()
			catalogtest.Model(t, seed, 500, clock, memory.New(clock.Now), c)
		})
	}
}
