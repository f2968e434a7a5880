package memory_test

import (
	"testing"
	"time"

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
