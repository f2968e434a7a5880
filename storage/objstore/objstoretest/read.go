package objstoretest

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func (t *suite) testRangeEdges() {
	s := t.store
	const size = 10_000
	data := random(1, size)
	put(t, s, "ranges", data)
	for _, r := range []struct{ off, n int }{{0, 1}, {0, size}, {1, size - 1}, {size - 1, 1}, {4095, 2}, {4096, 4096}, {0, 0}, {size, 0}} {
		p := make([]byte, r.n)
		require.NoError(t, s.GetRange(t.Context(), "ranges", int64(r.off), p), "%v", r)
		require.True(t, bytes.Equal(data[r.off:r.off+r.n], p), "%v", r)
	}
	for _, r := range []struct {
		off int64
		n   int
	}{{0, size + 1}, {1, size}, {size - 1, 2}, {size, 1}, {size + 1, 1}, {math.MaxInt64 - 10, 5}, {1 << 40, 1}} {
		err := s.GetRange(t.Context(), "ranges", r.off, make([]byte, r.n))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%v", r)
		require.False(t, objstore.Retriable(err))
	}
	for _, off := range []int64{-1, math.MinInt64} {
		require.ErrorIs(t, s.GetRange(t.Context(), "ranges", off, make([]byte, 1)), objstore.ErrInvalidRange)
	}
	put(t, s, "nothing", nil)
	require.ErrorIs(t, s.GetRange(t.Context(), "nothing", 0, make([]byte, 1)), io.ErrUnexpectedEOF)
}

func (t *suite) testNotFound() {
	s := t.store
	put(t, s, "here/a", []byte("x"))
	for _, key := range []string{"gone", "here/b", "here", "here/a/b", "other/a"} {
		requireAbsent(t, s, key)
		require.NoError(t, s.Delete(t.Context(), []string{key}))
	}
	requireContent(t, s, "here/a", []byte("x"))
	objects, more, err := s.List(t.Context(), "no-such/prefix", "", 10)
	require.NoError(t, err)
	require.False(t, more)
	require.Empty(t, objects)
}

func (t *suite) testHead() {
	s := t.store
	data := random(1, 1<<20+17)
	put(t, s, "head", data)
	info, err := s.Head(t.Context(), "head")
	require.NoError(t, err)
	require.False(t, info.ModTime.IsZero())
	require.Equal(t, objstore.Checksum(data), info.Checksum)
}

func (t *suite) testSettle() {
	s := t.store
	data := random(1, 3000)
	other := bytes.Clone(data)
	other[1500] ^= 1
	settle := func(p []byte) objstore.Outcome {
		outcome, err := objstore.Settle(t.Context(), s, "settle/me", int64(len(p)), objstore.Checksum(p))
		require.NoError(t, err)
		return outcome
	}
	require.Equal(t, objstore.Absent, settle(data))
	put(t, s, "settle/me", data)
	require.Equal(t, objstore.Stored, settle(data))
	require.Equal(t, objstore.Foreign, settle(other))
	require.Equal(t, objstore.Foreign, settle(data[:2999]))
	_, err := objstore.Settle(t.Context(), s, "..", 1, 1)
	require.ErrorIs(t, err, objstore.ErrInvalidKey)
}

// listKeys are in an order that only bytes give: '-' and '.' sort before '/', digits after.
func listKeys() []string {
	keys := []string{
		"a-b", "a-b/c", "a.b", "a/0", "a/b/1", "a/b/2", "a/c", "a0", "a=/x", "aa", "B/x", "Z", "_", "b/1/2/3", "b/1/2-3", "b/1/20",
	}
	slices.Sort(keys)
	// "a-b" cannot be with "a-b/c".
	return slices.DeleteFunc(keys, func(key string) bool { return key == "a-b" })
}

func putAll(t *suite, s objstore.Store, keys []string) {
	t.Helper()
	for _, key := range keys {
		put(t, s, key, []byte(key))
	}
}

func (t *suite) testListOrder() {
	s := t.store
	want := listKeys()
	shuffled := slices.Clone(want)
	slices.Reverse(shuffled)
	putAll(t, s, shuffled)
	objects, more, err := s.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, objects, len(want))
	for i, info := range objects {
		require.Equal(t, want[i], info.Key)
		require.EqualValues(t, len(want[i]), info.Size)
		require.False(t, info.ModTime.IsZero())
		if info.HasChecksum {
			require.Equal(t, objstore.Checksum([]byte(want[i])), info.Checksum)
		}
	}
}

func (t *suite) testListPages() {
	s := t.store
	want := listKeys()
	putAll(t, s, want)
	for limit := 1; limit <= len(want)+1; limit++ {
		got, err := listAll(t.Context(), s, "", limit)
		require.NoError(t, err)
		require.Equal(t, want, got, "limit %d", limit)
	}
	for _, limit := range []int{-1, 0, objstore.MaxList + 1, math.MaxInt} {
		got, err := listAll(t.Context(), s, "", limit)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	objects, more, err := s.List(t.Context(), "", "", len(want))
	require.NoError(t, err)
	require.Len(t, objects, len(want))
	require.False(t, more, "a full last page is the last")
}

func (t *suite) testListPrefixAndAfter() {
	s := t.store
	keys := listKeys()
	putAll(t, s, keys)
	prefixes := []string{"", "a", "a/", "a/b", "a/b/", "a/b/1", "a/b/10", "b/1/2", "b/1/2/", "zz", "/", "..", "a//", "\xff", "a\x00"}
	for _, prefix := range prefixes {
		for _, after := range append([]string{"", "/", "a/", "a/b", "a/b/", "a/b/1/", "zzz", "\x00", "..", "\xff"}, keys...) {
			var want []string
			for _, key := range keys {
				if len(key) >= len(prefix) && key[:len(prefix)] == prefix && key > after {
					want = append(want, key)
				}
			}
			objects, more, err := s.List(t.Context(), prefix, after, 0)
			require.NoError(t, err)
			require.False(t, more)
			var got []string
			for _, info := range objects {
				got = append(got, info.Key)
			}
			require.Equal(t, want, got, "prefix %q after %q", prefix, after)
		}
	}
}

// testListWhileChanging: objects that were there before and are there after are in every listing, once.
func (t *suite) testListWhileChanging() {
	s := t.store
	var stay []string
	for i := range 20 {
		stay = append(stay, fmt.Sprintf("l/%d/stay", i))
	}
	putAll(t, s, stay)
	done := make(chan struct{})
	var wg sync.WaitGroup
	changed := make(chan error, 1)
	wg.Go(func() {
		for i := 0; !ended(done); i++ {
			// A folder that comes and goes, and a file beside one that stays.
			keys := []string{fmt.Sprintf("l/%d/go", i%20), fmt.Sprintf("l/x%d/go", i%3)}
			for _, key := range keys {
				if err := s.Put(t.Context(), key, objstore.NewBody([]byte("go"))); err != nil {
					changed <- err
					return
				}
			}
			if err := s.Delete(t.Context(), keys); err != nil {
				changed <- err
				return
			}
		}
		changed <- nil
	})
	for i := range 30 {
		keys, err := listAll(t.Context(), s, "l/", 1+i%7)
		require.NoError(t, err)
		require.True(t, slices.IsSorted(keys))
		seen := slices.DeleteFunc(keys, func(key string) bool { return key[len(key)-2:] == "go" })
		slices.Sort(stay)
		require.Equal(t, stay, seen)
	}
	close(done)
	wg.Wait()
	require.NoError(t, <-changed)
}
