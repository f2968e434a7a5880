package objstoretest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func (t *suite) testPutThenRead() {
	s := t.store
	for i, size := range []int{1, 511, 4096, 65537, 1 << 20, 1<<20 + 1, 5<<20 + 3} {
		key := fmt.Sprintf("log/2026-01-01T00/p%d", i)
		data := random(uint64(i), size)
		put(t, s, key, data)
		requireContent(t, s, key, data)
	}
}

func (t *suite) testPutEmpty() {
	s := t.store
	put(t, s, "empty", nil)
	require.NoError(t, s.Put(t.Context(), "empty2", objstore.NewBody()))
	requireContent(t, s, "empty", nil)
	requireContent(t, s, "empty2", nil)
}

func (t *suite) testPutManySlices() {
	s := t.store
	small := random(1, 100_000)
	slices := make([][]byte, 0, 10_001)
	for i := range 10_000 { // more than one vector of any system
		slices = append(slices, small[i*10:i*10+10])
	}
	require.NoError(t, s.Put(t.Context(), "tiny-slices", objstore.NewBody(slices...)))
	requireContent(t, s, "tiny-slices", small)

	big := random(2, 8<<20)
	require.NoError(t, s.Put(t.Context(), "mixed-slices", objstore.NewBody(split(big, 3, 300_000)...)))
	requireContent(t, s, "mixed-slices", big)

	require.NoError(t, s.Put(t.Context(), "empty-slices", objstore.NewBody(make([][]byte, 5000)...)))
	requireContent(t, s, "empty-slices", nil)
}

func (t *suite) testPutIfAbsent() {
	s := t.store
	first := random(1, 1000)
	put(t, s, "a/b/c", first)
	for _, again := range [][]byte{first, random(2, 1000), random(3, 5), nil, random(4, 2<<20)} {
		require.ErrorIs(t, s.Put(t.Context(), "a/b/c", objstore.NewBody(again)), objstore.ErrExists)
	}
	requireContent(t, s, "a/b/c", first)
}

func (t *suite) testPutRace() {
	s := t.store
	const writers, rounds = 8, 6
	for round := range rounds {
		key := fmt.Sprintf("race/%d/object", round)
		errs := make([]error, writers)
		bodies := make([][]byte, writers)
		for i := range bodies {
			bodies[i] = random(uint64(100+i), 30_000+i)
		}
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				<-start
				errs[i] = s.Put(t.Context(), key, objstore.NewBody(split(bodies[i], 1, 5000)...))
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil {
				require.Equal(t, -1, winner, "two puts won")
				winner = i
				continue
			}
			require.ErrorIs(t, err, objstore.ErrExists)
		}
		require.NotEqual(t, -1, winner, "no put won")
		requireContent(t, s, key, bodies[winner])
	}
}

func (t *suite) testPutsAtOnce() {
	s := t.store
	const writers, each = 4, 12
	var wg sync.WaitGroup
	errs := make(chan error, writers*each)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprintf("log/h%d/w%d/%03d", i%3, w, i)
				errs <- s.Put(t.Context(), key, objstore.NewBody(random(uint64(w*each+i), 2000)))
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	for w := range writers {
		for i := range each {
			requireContent(t, s, fmt.Sprintf("log/h%d/w%d/%03d", i%3, w, i), random(uint64(w*each+i), 2000))
		}
	}
}

// testPutAtomic reads the last byte and the listing of objects while they are put: whoever sees one sees all of it.
func (t *suite) testPutAtomic() {
	s := t.store
	const size = 3 << 20
	data := random(7, size)
	done := make(chan struct{})
	var wg sync.WaitGroup
	problems := make(chan error, 2)
	keys := make([]string, 5)
	for i := range keys {
		keys[i] = fmt.Sprintf("atomic/%d", i)
	}
	wg.Go(func() {
		p := make([]byte, 100)
		for i := 0; !ended(done); i++ {
			err := s.GetRange(t.Context(), keys[i%len(keys)], size-100, p)
			switch {
			case errors.Is(err, objstore.ErrNotFound):
			case err != nil:
				problems <- err
				return
			case !bytes.Equal(p, data[size-100:]):
				problems <- errors.New("a reader saw other bytes")
				return
			}
		}
	})
	wg.Go(func() {
		for !ended(done) {
			infos, _, err := s.List(t.Context(), "atomic/", "", 0)
			if err != nil {
				problems <- err
				return
			}
			for _, info := range infos {
				if info.Size != size {
					problems <- fmt.Errorf("the listing shows %d bytes of %d", info.Size, size)
					return
				}
			}
		}
	})
	for _, key := range keys {
		require.NoError(t, s.Put(t.Context(), key, objstore.NewBody(split(data, 9, 100_000)...)))
	}
	close(done)
	wg.Wait()
	close(problems)
	for err := range problems {
		require.NoError(t, err)
	}
}

func (t *suite) testPutWrongBodies() {
	s := t.store
	data := random(1, 3000)
	for _, size := range []int64{-1, 0, 2999, 3001, 1 << 62} {
		err := s.Put(t.Context(), "wrong", objstore.Body{Slices: [][]byte{data}, Size: size, Checksum: objstore.Checksum(data)})
		require.ErrorIs(t, err, objstore.ErrInvalidBody)
		require.False(t, objstore.InDoubt(err))
	}
	body := objstore.NewBody(data)
	body.Checksum ^= 1
	// An implementation that cannot verify stores what it was given, and Head must then tell the truth.
	if err := s.Put(t.Context(), "wrong", body); err == nil {
		requireContent(t, s, "wrong", data)
	} else {
		require.ErrorIs(t, err, objstore.ErrChecksum)
		requireAbsent(t, s, "wrong")
		put(t, s, "wrong", data)
	}
}

func (t *suite) testPutRetainsNothing() {
	s := t.store
	data := random(1, 50_000)
	given := bytes.Clone(data)
	slices := split(given, 2, 700)
	lengths := make([]int, len(slices))
	for i, slice := range slices {
		lengths[i] = len(slice)
	}
	require.NoError(t, s.Put(t.Context(), "mine", objstore.NewBody(slices...)))
	require.True(t, bytes.Equal(data, given), "put changed the caller's bytes")
	for i, slice := range slices {
		require.Len(t, slice, lengths[i], "put changed the caller's slices")
	}
	clear(given)
	requireContent(t, s, "mine", data)

	p := make([]byte, 100)
	require.NoError(t, s.GetRange(t.Context(), "mine", 0, p))
	clear(p)
	requireContent(t, s, "mine", data)
}

func invalidKeys() []string {
	return []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", ".hidden", "a/.b", ".tmp/1",
		"a b", "a\\b", "a\x00b", "a\nb", "ä", "a+b", "a:b", "a*", "~", "%2e%2e/a", "\xff",
		strings.Repeat("a", objstore.MaxSegmentBytes+1),
		strings.Repeat("aaaaaaa/", objstore.MaxKeyBytes/8) + "a",
	}
}

func (t *suite) testInvalidKeys() {
	s := t.store
	for _, key := range invalidKeys() {
		require.ErrorIs(t, s.Put(t.Context(), key, objstore.NewBody([]byte("x"))), objstore.ErrInvalidKey, "%q", key)
		require.ErrorIs(t, s.GetRange(t.Context(), key, 0, make([]byte, 1)), objstore.ErrInvalidKey, "%q", key)
		_, err := s.Head(t.Context(), key)
		require.ErrorIs(t, err, objstore.ErrInvalidKey, "%q", key)
		require.ErrorIs(t, s.Delete(t.Context(), []string{key}), objstore.ErrInvalidKey, "%q", key)
	}
	longest := strings.Repeat("abcdefg/", objstore.MaxKeyBytes/8-1) + "abcdefgh"
	require.Len(t, longest, objstore.MaxKeyBytes)
	for _, key := range []string{longest, strings.Repeat("a", objstore.MaxSegmentBytes), "A.b_c=d-e/0..9", "-/_/=", "a..b"} {
		put(t, s, key, []byte(key))
		requireContent(t, s, key, []byte(key))
	}

	put(t, s, "stays", []byte("x"))
	require.ErrorIs(t, s.Delete(t.Context(), []string{"stays", ".."}), objstore.ErrInvalidKey)
	requireContent(t, s, "stays", []byte("x"))
}

// testKeysThroughObjects: a store may refuse what a file system cannot hold, but says so and harms nothing.
func (t *suite) testKeysThroughObjects() {
	s := t.store
	put(t, s, "x/y", []byte("first"))
	for _, key := range []string{"x", "x/y/z", "x/y/z/deep"} {
		if err := s.Put(t.Context(), key, objstore.NewBody([]byte("second"))); err != nil {
			require.ErrorIs(t, err, objstore.ErrInvalidKey, key)
			requireAbsent(t, s, key)
			require.NoError(t, s.Delete(t.Context(), []string{key}))
		} else {
			requireContent(t, s, key, []byte("second"))
		}
	}
	requireContent(t, s, "x/y", []byte("first"))
}

func requireAbsent(t *suite, s objstore.Store, key string) {
	t.Helper()
	_, err := s.Head(t.Context(), key)
	require.ErrorIs(t, err, objstore.ErrNotFound)
	require.ErrorIs(t, s.GetRange(t.Context(), key, 0, make([]byte, 1)), objstore.ErrNotFound)
	keys, err := listAll(t.Context(), s, key, 0)
	require.NoError(t, err)
	require.NotContains(t, keys, key)
}
