package slow_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/objstoretest"
	"github.com/streamhouse/streamhouse/storage/objstore/slow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store {
		return slow.New(memory.New(), slow.Latency{Put: 50 * time.Microsecond, Get: 50 * time.Microsecond, Other: 50 * time.Microsecond})
	})
}
