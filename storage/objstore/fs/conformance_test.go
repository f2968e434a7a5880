package fs

import (
	"testing"
	"time"

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
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformance(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store { return openTest(t, Options{}) })
}

// tiny makes a store whose volumes are so small that all that can happen to them happens all the time.
func tiny() Options {
	return Options{VolumeBytes: minVolumeBytes, VolumeObjectBytes: 15 << 10, VolumeBudget: 3 * minVolumeBytes, tune: func(v *volumes) {
		v.mu.puts = warmPuts
		v.tendEvery, v.sparseAfter = time.Millisecond, 0
	}}
}

// inVolumes opens a store that has a volume ready.
func inVolumes(t *testing.T, root string, opts Options) *Store {
	t.Helper()
	tune := opts.tune
	opts.tune = func(v *volumes) {
		if tune != nil {
			tune(v)
		}
		if len(v.mu.ready) == 0 && v.mu.active == nil {
			require.NoError(t, v.prepare(t.Context()))
		}
	}
	s, err := Open(root, opts)
	require.NoError(t, err)
	return s
}

func TestConformanceInVolumes(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store { return inVolumes(t, t.TempDir(), Options{}) })
}

func TestConformanceInTinyVolumes(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store { return inVolumes(t, t.TempDir(), tiny()) })
}

func TestConformanceInTinyVolumesPortable(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store {
		s := inVolumes(t, t.TempDir(), tiny())
		s.nameless.Store(false)
		return s
	})
}

func TestConformanceWithoutVolumes(t *testing.T) {
	objstoretest.Run(t, func() objstore.Store { return openTest(t, Options{VolumeObjectBytes: -1}) })
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
