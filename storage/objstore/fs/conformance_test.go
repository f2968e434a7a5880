package fs

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/objstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openTest(t *testing.T, opts Options) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), opts)
	require.NoError(t, err)
	return s
}

func TestConformance(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store { return openTest(t, Options{}) })
}

func TestConformanceWithFewOpenFiles(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store { return openTest(t, Options{MaxOpenFiles: 1}) })
}

// The way of systems without nameless files and vectored writes.
func TestConformancePortable(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store {
		s := openTest(t, Options{})
		s.nameless.Store(false)
		s.write = copyBody
		return s
	})
}
