package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// halt stops the background work of s; the test does it by hand from now on.
func halt(s *Store) *volumes {
	s.volumes.stop()
	<-s.volumes.tended
	return s.volumes
}

// work does all there is to do in the background.
func work(t *testing.T, v *volumes) {
	t.Helper()
	for v.step(t.Context()) {
	}
}

// bodyOf returns n bytes that depend on key.
func bodyOf(key string, n int) []byte {
	return []byte(strings.Repeat(key+"|", n/(len(key)+1)+1))[:n]
}

func mustPut(t *testing.T, s *Store, key string, n int) {
	t.Helper()
	require.NoError(t, s.Put(t.Context(), key, objstore.NewBody(bodyOf(key, n))))
}

func requireObject(t *testing.T, s *Store, key string, n int) {
	t.Helper()
	p := make([]byte, n)
	require.NoError(t, s.GetRange(t.Context(), key, 0, p))
	require.True(t, bytes.Equal(bodyOf(key, n), p), key)
	outcome, err := objstore.Settle(t.Context(), s, key, int64(n), objstore.Checksum(p))
	require.NoError(t, err)
	require.Equal(t, objstore.Stored, outcome)
}

func requireNone(t *testing.T, s *Store, key string) {
	t.Helper()
	require.ErrorIs(t, s.GetRange(t.Context(), key, 0, make([]byte, 1)), objstore.ErrNotFound)
	_, err := s.Head(t.Context(), key)
	require.ErrorIs(t, err, objstore.ErrNotFound)
	require.NotContains(t, keysOf(t, s), key)
}

func keysOf(t *testing.T, s *Store) []string {
	t.Helper()
	keys := []string{}
	for more := true; more; {
		after := ""
		if len(keys) > 0 {
			after = keys[len(keys)-1]
		}
		var page []objstore.Info
		var err error
		page, more, err = s.List(t.Context(), "", after, 7)
		require.NoError(t, err)
		for _, info := range page {
			keys = append(keys, info.Key)
		}
	}
	return keys
}

// recordOf returns where an object is.
func recordOf(t *testing.T, s *Store, key string) *record {
	t.Helper()
	s.volumes.mu.Lock()
	defer s.volumes.mu.Unlock()
	r := s.volumes.mu.index.byKey[key]
	require.NotNil(t, r, "%s is in no volume", key)
	return r
}

func reopen(t *testing.T, s *Store, opts Options) *Store {
	t.Helper()
	require.NoError(t, s.Close())
	s, err := Open(s.root, opts)
	require.NoError(t, err)
	return s
}

// still opens a store with a volume ready and nothing going on in the background.
func still(t *testing.T, opts Options) *Store {
	t.Helper()
	s := inVolumes(t, t.TempDir(), opts)
	halt(s)
	return s
}

func TestSmallObjectsAreInVolumes(t *testing.T) {
	s := still(t, Options{})
	mustPut(t, s, "log/a", 100)
	mustPut(t, s, "log/b", 5000)
	mustPut(t, s, "log/large", DefaultVolumeObjectBytes)
	require.Equal(t, []string{"log/large"}, filesUnder(t, s.root))
	require.NoError(t, s.Delete(t.Context(), []string{"log/a", "log/none"}))
	for range 3 {
		requireNone(t, s, "log/a")
		requireObject(t, s, "log/b", 5000)
		requireObject(t, s, "log/large", DefaultVolumeObjectBytes)
		reader, err := Open(s.root, Options{ReadOnly: true})
		require.NoError(t, err)
		requireNone(t, reader, "log/a")
		requireObject(t, reader, "log/b", 5000)
		requireObject(t, reader, "log/large", DefaultVolumeObjectBytes)
		require.NoError(t, reader.Close())
		require.ErrorIs(t, reader.GetRange(t.Context(), "log/b", 0, make([]byte, 1)), objstore.ErrClosed)
		s = reopen(t, s, Options{})
	}
	mustPut(t, s, "log/c", 100)
	require.Len(t, s.volumes.mu.all, 1, "what an earlier process began is used up")
	s = reopen(t, s, Options{VolumeObjectBytes: -1})
	work(t, halt(s))
	require.ElementsMatch(t, []string{"log/b", "log/c", "log/large"}, filesUnder(t, s.root), "volumes that are not wanted are emptied")
	require.Empty(t, s.volumes.mu.all)
	requireObject(t, s, "log/b", 5000)
	require.NoError(t, s.Close())
}

func TestNoVolumeIsMadeForAFewPuts(t *testing.T) {
	s := openTest(t, Options{VolumeBytes: minVolumeBytes})
	halt(s)
	for i := range warmPuts {
		require.False(t, s.volumes.step(t.Context()))
		mustPut(t, s, fmt.Sprintf("a/%d", i), 10)
	}
	work(t, s.volumes)
	mustPut(t, s, "a/x", 10)
	recordOf(t, s, "a/x")
	require.NoError(t, s.Close())
	require.Zero(t, len(s.volumes.mu.busy))
}

// What a power cut leaves of a record that nobody was told of: any part of its pages.
func TestTornRecordsNeverAppear(t *testing.T) {
	const size = 9000 // three blocks
	for _, test := range []struct {
		name  string
		lost  func(r *record) (off, n int64)
		whole bool
	}{
		{"all of it", func(r *record) (int64, int64) { return r.off, r.end() - r.off }, false},
		{"its first page", func(r *record) (int64, int64) { return r.off, blockBytes }, false},
		{"its second page", func(r *record) (int64, int64) { return r.off + blockBytes, blockBytes }, false},
		{"its last page", func(r *record) (int64, int64) { return r.end() - blockBytes, blockBytes }, false},
		{"a part of its header", func(r *record) (int64, int64) { return r.off + 8, 8 }, false},
		{"a byte of its body", func(r *record) (int64, int64) { return r.bodyAt() + 7, 1 }, false},
		{"a byte after its body", func(r *record) (int64, int64) { return r.bodyAt() + r.size, 1 }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := still(t, Options{VolumeBytes: minVolumeBytes * 4})
			for _, key := range []string{"a/1", "a/2", "a/3"} {
				mustPut(t, s, key, size)
			}
			torn := recordOf(t, s, "a/2")
			path := torn.vol.path
			require.NoError(t, s.Close())
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			require.NoError(t, err)
			off, n := test.lost(torn)
			_, err = f.WriteAt(make([]byte, n), off)
			require.NoError(t, errors.Join(err, f.Close()))

			look := func(s *Store) {
				requireObject(t, s, "a/1", size)
				requireObject(t, s, "a/3", size)
				if test.whole {
					requireObject(t, s, "a/2", size)
				} else {
					requireNone(t, s, "a/2")
				}
			}
			reader, err := Open(s.root, Options{ReadOnly: true})
			require.NoError(t, err)
			look(reader)
			require.NoError(t, reader.Close())

			opts := Options{VolumeBytes: minVolumeBytes * 4}
			s = reopen(t, s, opts)
			halt(s)
			look(s)
			if !test.whole {
				mustPut(t, s, "a/2", size+1)
			}
			// Full, so that it gets sealed, which must not vouch for what was torn.
			s.volumes.mu.Lock()
			s.volumes.retireLocked(s.volumes.mu.active)
			s.volumes.mu.Unlock()
			work(t, s.volumes)
			s = reopen(t, s, opts)
			halt(s)
			require.True(t, recordOf(t, s, "a/1").vol.sealed)
			requireObject(t, s, "a/1", size)
			requireObject(t, s, "a/3", size)
			if !test.whole {
				requireObject(t, s, "a/2", size+1)
			}
			require.NoError(t, s.Close())
		})
	}
}

// A volume that is used again shows nothing of its earlier life, also where a power cut leaves holes in the new one.
func TestRecycledVolumesForget(t *testing.T) {
	s := still(t, tiny())
	v := s.volumes
	var old []string
	for i := 0; len(old) < 8 || v.mu.active == nil; i++ {
		key := fmt.Sprintf("old/%d", i)
		mustPut(t, s, key, 3000)
		old = append(old, key)
	}
	vol := recordOf(t, s, old[0]).vol
	v.mu.Lock()
	v.retireLocked(vol)
	v.mu.Unlock()
	generation := vol.generation
	// The marks of the dead are lost as well.
	write := v.writeAt
	v.writeAt = func(f *os.File, p []byte, off int64) error {
		if len(p) == 4 {
			return nil
		}
		return write(f, p, off)
	}
	require.NoError(t, s.Delete(t.Context(), old))
	v.writeAt = write
	work(t, v)
	require.NotEqual(t, generation, vol.generation)
	v.mu.ready = []*volume{vol}
	mustPut(t, s, "new/1", 3000)
	require.Equal(t, vol, recordOf(t, s, "new/1").vol)

	s = reopen(t, s, tiny())
	require.Equal(t, []string{"new/1"}, keysOf(t, s))
	r := recordOf(t, s, "new/1")
	require.NoError(t, s.Close())
	f, err := os.OpenFile(r.vol.path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, blockBytes), r.off)
	require.NoError(t, errors.Join(err, f.Close()))
	s, err = Open(s.root, tiny())
	require.NoError(t, err)
	require.Empty(t, keysOf(t, s), "neither the lost record nor those of the old generation behind it")
	require.NoError(t, s.Close())
}

// Objects are moved to files when volumes take too much, and every one can be read at every moment.
func TestFullVolumesAreEmptiedAndUsedAgain(t *testing.T) {
	s := still(t, tiny())
	v := s.volumes
	var keys []string
	for i := range 60 {
		key := fmt.Sprintf("log/%d/%02d", i%3, i)
		mustPut(t, s, key, 4000)
		keys = append(keys, key)
		work(t, v)
		require.LessOrEqual(t, len(v.mu.all), v.budget)
	}
	require.NotEmpty(t, filesUnder(t, s.root))
	require.Less(t, len(filesUnder(t, s.root)), len(keys))
	for _, key := range keys {
		requireObject(t, s, key, 4000)
		require.ErrorIs(t, s.Put(t.Context(), key, objstore.NewBody()), objstore.ErrExists)
	}
	require.ElementsMatch(t, keys, keysOf(t, s))
	require.NoError(t, s.Delete(t.Context(), keys[:50]))
	s = reopen(t, s, tiny())
	require.ElementsMatch(t, keys[50:], keysOf(t, s))
	require.NoError(t, s.Delete(t.Context(), keys))
	halt(s)
	for range 4 {
		s.volumes.tick()
		work(t, s.volumes)
	}
	require.LessOrEqual(t, len(s.volumes.mu.all), 2, "at rest few volumes are kept")
	require.False(t, len(s.volumes.mu.ready) > 1)
	require.NoError(t, s.Close())
}

// A crash after an object was moved to a file and before its record was dead leaves both. They are one object.
func TestObjectInAVolumeAndAFile(t *testing.T) {
	for _, same := range []bool{true, false} {
		s := still(t, Options{})
		mustPut(t, s, "log/1", 4000)
		mustPut(t, s, "log/2", 4000)
		body := bodyOf("log/1", 4000)
		if !same {
			body = body[:100]
		}
		require.NoError(t, os.MkdirAll(filepath.Join(s.root, "log"), folderPerm))
		for _, key := range []string{"log/1", "log/2"} {
			require.NoError(t, os.WriteFile(filepath.Join(s.root, key), body, filePerm))
		}
		s = reopen(t, s, Options{})
		halt(s)
		requireObject(t, s, "log/1", 4000)
		require.Equal(t, []string{"log/1", "log/2"}, keysOf(t, s))
		require.NoError(t, s.Delete(t.Context(), []string{"log/2"}))
		requireNone(t, s, "log/2")
		require.NoError(t, s.volumes.moveOut(t.Context(), recordOf(t, s, "log/1").vol))
		require.Empty(t, s.volumes.mu.index.byKey)
		require.Equal(t, []string{"log/1"}, filesUnder(t, s.root))
		requireObject(t, s, "log/1", 4000)
		s = reopen(t, s, Options{})
		requireObject(t, s, "log/1", 4000)
		require.Equal(t, []string{"log/1"}, keysOf(t, s))
		require.NoError(t, s.Close())
	}
}

// A reader that has its place before a Delete reads the bytes of its object, whatever becomes of the volume.
func TestReadersKeepVolumesFromBeingUsedAgain(t *testing.T) {
	s := still(t, tiny())
	mustPut(t, s, "a/1", 4000)
	r, err := s.volumes.pin("a/1")
	require.NoError(t, err)
	s.volumes.mu.Lock()
	s.volumes.retireLocked(r.vol)
	s.volumes.mu.Unlock()
	require.NoError(t, s.Delete(t.Context(), []string{"a/1"}))
	for i := range 40 {
		work(t, s.volumes)
		mustPut(t, s, fmt.Sprintf("b/%d", i), 4000)
	}
	p := make([]byte, 4000)
	require.NoError(t, r.readBody(r.vol.file, 0, p))
	require.True(t, bytes.Equal(bodyOf("a/1", 4000), p))
	require.NoError(t, s.Close())
	require.NoError(t, r.readBody(r.vol.file, 0, p), "also after Close")
	s.volumes.unpin(r)
	require.Error(t, r.readBody(r.vol.file, 0, p))
}

// Everything at once, in volumes that are used again all the time, watched by readers within and without.
func TestReadersSeeNoOtherBytes(t *testing.T) {
	s := inVolumes(t, t.TempDir(), tiny())
	outside, err := Open(s.root, Options{ReadOnly: true})
	require.NoError(t, err)
	const writers, size = 3, 6000
	stay := []string{"stay/0", "stay/1", "stay/2"}
	for _, key := range stay {
		mustPut(t, s, key, size)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg, writing sync.WaitGroup
	errs := make(chan error, 10)
	var last [writers]atomic.Int64
	for w := range writers {
		writing.Go(func() {
			for i := range 120 {
				key := fmt.Sprintf("go/%d/%d", w, i)
				err := s.Put(t.Context(), key, objstore.NewBody(bodyOf(key, size+i)))
				if err == nil && i >= 12 {
					err = s.Delete(t.Context(), []string{fmt.Sprintf("go/%d/%d", w, i-12)})
				}
				if err != nil {
					errs <- err
					return
				}
				last[w].Store(int64(i))
			}
		})
	}
	for _, from := range []*Store{s, outside} {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w := n % writers
				i := int(last[w].Load()) - n%14
				for _, key := range []string{stay[n%3], fmt.Sprintf("go/%d/%d", w, max(i, 0))} {
					want := size + max(i, 0)
					if key == stay[n%3] {
						want = size
					}
					p := make([]byte, want)
					err := from.GetRange(ctx, key, 0, p)
					switch {
					case ctx.Err() != nil, errors.Is(err, objstore.ErrNotFound) && key != stay[n%3]:
					case err != nil:
						errs <- fmt.Errorf("get %s: %w", key, err)
						return
					case !bytes.Equal(p, bodyOf(key, want)):
						errs <- fmt.Errorf("%s has other bytes", key)
						return
					}
				}
				if n%5 == 0 {
					infos, _, err := from.List(ctx, "stay/", "", 0)
					if ctx.Err() == nil && (err != nil || len(infos) != len(stay)) {
						errs <- fmt.Errorf("list has %d of %d objects: %w", len(infos), len(stay), err)
						return
					}
				}
			}
		})
	}
	writing.Wait()
	cancel()
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	want := keysOf(t, s)
	require.Len(t, want, len(stay)+12*writers)
	require.Equal(t, want, keysOf(t, outside))
	require.NoError(t, outside.Close())
	require.NoError(t, s.Close())
}

// Of Puts of one key at once one wins, whichever way each goes.
func TestOnePutWinsAcrossVolumesAndFiles(t *testing.T) {
	s := inVolumes(t, t.TempDir(), tiny())
	for round := range 10 {
		key := fmt.Sprintf("race/%d", round)
		errs := make([]error, 6)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				errs[i] = s.Put(t.Context(), key, objstore.NewBody(bodyOf(key, 100+20_000*(i%2))))
			})
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				requireObject(t, s, key, 100+20_000*(i%2))
			} else {
				require.ErrorIs(t, err, objstore.ErrExists)
			}
		}
		require.Equal(t, 1, won)
	}
	require.Empty(t, s.volumes.mu.busy)
	require.NoError(t, s.Close())
}

// A key that is the front part of others is refused in volumes too: their objects may become files.
func TestKeysThroughObjectsInVolumes(t *testing.T) {
	s := still(t, tiny())
	mustPut(t, s, "x/y/z", 10)
	for _, key := range []string{"x", "x/y", "x/y/z/a", "x/y/z/a/b"} {
		for _, size := range []int{10, 20_000} {
			require.ErrorIs(t, s.Put(t.Context(), key, objstore.NewBody(make([]byte, size))), objstore.ErrInvalidKey, key)
		}
	}
	require.NoError(t, s.Delete(t.Context(), []string{"x/y/z"}))
	mustPut(t, s, "x", 10)
	require.Empty(t, s.volumes.mu.index.folders)
	require.NoError(t, s.Close())
}
