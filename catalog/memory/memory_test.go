package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/memory"
)

func TestConformance(t *testing.T) {
	catalogtest.Run(t, func(t *testing.T, now func() time.Time) catalog.Catalog {
		t.Helper()
		return memory.New(now)
	})
}

func TestOperatorConformance(t *testing.T) {
	catalogtest.RunOperator(t, func(t *testing.T, now func() time.Time) catalogtest.OperatorCatalog {
		t.Helper()
		return memory.New(now)
	})
}

func TestFleetConformance(t *testing.T) {
	catalogtest.RunFleet(t, func(t *testing.T, now func() time.Time) catalogtest.Shared {
		t.Helper()
		first := memory.New(now)
		t.Cleanup(func() { require.NoError(t, first.Close()) })
		return catalogtest.Shared{
			Open: func(*testing.T) catalogtest.FleetCatalog { return first.Open() },
			Drop: func(t *testing.T, h catalogtest.FleetCatalog) {
				t.Helper()
				h.(*memory.Catalog).Drop()
			},
		}
	})
}
