package metered_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
	"github.com/streamhouse/streamhouse/storage/objstore/objstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store {
		return metered.New(memory.New(), metered.Hooks{})
	})
}
