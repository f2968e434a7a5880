package sqlite

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv makes the test binary a process that commits until it is killed.
const childEnv = "STREAMHOUSE_CATALOG_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		commitUntilKilled(path)
		return
	}
	goleak.VerifyTestMain(m)
}
