package fs

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// The oldest files are let go of once more than the bound was written, and stay readable.
func TestPageCacheIsBounded(t *testing.T) {
	const size = 1 << 20
	s := openTest(t, Options{WarmBytes: 3*size + size/2})
	var dropped []string
	drop := s.warm.drop
	s.warm.drop = func(name string) error {
		key, err := filepath.Rel(s.root, name)
		require.NoError(t, err)
		dropped = append(dropped, key)
		return drop(name)
	}
	body := make([]byte, size)
	for i := range 6 {
		body[0] = byte(i)
		require.NoError(t, s.Put(t.Context(), fmt.Sprint("k", i), objstore.NewBody(body)))
		if i == 3 {
			require.NoError(t, s.Delete(t.Context(), []string{"k1"}))
		}
	}
	require.Equal(t, []string{"k0", "k1", "k2"}, dropped, "deleted ones count until their turn")
	for _, i := range []byte{0, 2, 5} {
		p := make([]byte, 1)
		require.NoError(t, s.GetRange(t.Context(), fmt.Sprint("k", i), 0, p))
		require.Equal(t, i, p[0])
	}
}

func TestPageCacheBound(t *testing.T) {
	require.Equal(t, memoryBytes()/warmShare, newWarm(0).limit)
	require.Zero(t, newWarm(-1).limit)
	w := newWarm(-1)
	w.drop = func(string) error { t.Error("dropped without a bound"); return nil }
	w.add("a", 1<<50)
	w = newWarm(10)
	var dropped []string
	w.drop = func(name string) error { dropped = append(dropped, name); return nil }
	w.add("larger than all", 11)
	w.add("small", 10)
	require.Equal(t, []string{"larger than all"}, dropped)
}
