package metered_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/catalog/metered"
)

type member struct {
	*metered.Catalog
	catalog.Fleet
	catalog.Operator

	inner *memory.Catalog
}

func TestFleetConformance(t *testing.T) {
	told := make(chan string, 100_000)
	t.Run("calls", func(t *testing.T) {
		catalogtest.RunFleet(t, func(_ *testing.T, now func() time.Time) catalogtest.Shared {
			first := memory.New(now)
			return catalogtest.Shared{
				Open: func(*testing.T) catalogtest.FleetCatalog {
					inner := first.Open()
					c := metered.New(inner, metered.Hooks{Start: func(op string) { told <- op }})
					return member{c, c.Fleet(), inner, inner}
				},
				Drop: func(_ *testing.T, h catalogtest.FleetCatalog) { h.(member).inner.Drop() },
			}
		})
	})
	close(told)
	ops := make(map[string]int)
	for op := range told {
		ops[op]++
	}
	for _, op := range metered.FleetOps() {
		require.Positive(t, ops[op], op)
	}
}

// plain hides that the memory catalog is one of a fleet.
type plain struct{ catalog.Catalog }

func TestNoFleet(t *testing.T) {
	require.Nil(t, metered.New(plain{memory.New(nil)}, metered.Hooks{}).Fleet())
}
