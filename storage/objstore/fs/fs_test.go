package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// filesUnder returns the paths of all files below root, those under .tmp too, but no folders and no volumes.
func filesUnder(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == volumesName {
			return filepath.SkipDir
		}
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, name)
			found = append(found, filepath.ToSlash(rel))
		}
		return err
	}))
	return found
}

// bothWays returns a store for each of the two ways of writing an object to a file.
func bothWays(t *testing.T) []*Store {
	t.Helper()
	native, portable := openTest(t, Options{VolumeObjectBytes: -1}), openTest(t, Options{VolumeObjectBytes: -1})
	portable.nameless.Store(false)
	portable.write = copyBody
	t.Cleanup(func() { require.NoError(t, errors.Join(native.Close(), portable.Close())) })
	return []*Store{native, portable}
}

func TestFullDiskLeavesNothing(t *testing.T) {
	for _, s := range bothWays(t) {
		write := s.write
		s.write = func(ctx context.Context, f *os.File, body objstore.Body) (uint32, error) {
			_, err := write(ctx, f, objstore.NewBody(body.Slices[0][:10]))
			return 0, errors.Join(err, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC})
		}
		err := s.Put(t.Context(), "log/a", objstore.NewBody(make([]byte, 1000)))
		require.ErrorIs(t, err, objstore.ErrNoSpace)
		require.True(t, objstore.Retriable(err))
		require.False(t, objstore.InDoubt(err))
		require.Empty(t, filesUnder(t, s.root))

		s.write = write
		require.NoError(t, s.Put(t.Context(), "log/a", objstore.NewBody(make([]byte, 1000))))
	}
}

func TestWrongChecksumLeavesNothing(t *testing.T) {
	for _, s := range bothWays(t) {
		for _, size := range []int{0, 100, verifyBelow - 1} {
			body := objstore.NewBody(make([]byte, size))
			body.Checksum++
			require.ErrorIs(t, s.Put(t.Context(), "log/a", body), objstore.ErrChecksum)
			require.Empty(t, filesUnder(t, s.root))
		}
	}
}

func TestContextThatEndsWhileWritingLeavesNothing(t *testing.T) {
	for _, s := range bothWays(t) {
		ctx, cancel := context.WithCancel(t.Context())
		write := s.write
		s.write = func(ctx context.Context, f *os.File, body objstore.Body) (uint32, error) {
			sum, err := write(ctx, f, body)
			cancel()
			return sum, err
		}
		require.ErrorIs(t, s.Put(ctx, "log/a", objstore.NewBody(make([]byte, 1000))), context.Canceled)
		require.Empty(t, filesUnder(t, s.root))
	}
}

func TestFolderSyncThatFailsIsInDoubt(t *testing.T) {
	for _, s := range bothWays(t) {
		s.syncFolder = func(string) error { return syscall.ENOSPC }
		body := objstore.NewBody([]byte("abc"))
		err := s.Put(t.Context(), "log/a", body)
		require.True(t, objstore.InDoubt(err), "%v", err)
		require.True(t, objstore.Retriable(err))

		// While folders cannot be synced nothing is vouched for; then the truth is told.
		require.Empty(t, filesUnder(t, s.root))
		outcome, err := objstore.Settle(t.Context(), s, "log/a", body.Size, body.Checksum)
		require.NoError(t, err)
		require.Equal(t, objstore.Absent, outcome)
		require.NoError(t, os.WriteFile(filepath.Join(s.root, "log", "a"), []byte("abc"), filePerm))
		_, err = objstore.Settle(t.Context(), s, "log/a", body.Size, body.Checksum)
		require.Error(t, err)
		s.syncFolder = syncFolder
		outcome, err = objstore.Settle(t.Context(), s, "log/a", body.Size, body.Checksum)
		require.NoError(t, err)
		require.Equal(t, objstore.Stored, outcome)
	}
}

func TestOpenClearsWhatACrashLeft(t *testing.T) {
	root := t.TempDir()
	s, err := Open(root, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), "log/a", objstore.NewBody([]byte("a"))))
	require.NoError(t, os.WriteFile(filepath.Join(root, tmpName, "7"), []byte("half"), filePerm))

	reader, err := Open(root, Options{ReadOnly: true})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{".tmp/7", "log/a"}, filesUnder(t, root))
	require.NoError(t, reader.GetRange(t.Context(), "log/a", 0, make([]byte, 1)))
	_, err = reader.Head(t.Context(), "log/a")
	require.NoError(t, err)
	require.ErrorIs(t, reader.Put(t.Context(), "log/b", objstore.NewBody()), objstore.ErrReadOnly)
	require.ErrorIs(t, reader.Delete(t.Context(), []string{"log/a"}), objstore.ErrReadOnly)
	require.NoError(t, reader.Close())
	require.NoError(t, s.Close())

	s, err = Open(root, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"log/a"}, filesUnder(t, root))
	require.NoError(t, s.Close())
}

func TestOpenRefusesWhatIsNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, filePerm))
	for _, opts := range []Options{{}, {ReadOnly: true}} {
		_, err := Open(file, opts)
		require.Error(t, err)
		_, err = Open(filepath.Join(file, "below"), opts)
		require.Error(t, err)
	}
	missing := filepath.Join(t.TempDir(), "a", "b", "c")
	_, err := Open(missing, Options{ReadOnly: true})
	require.ErrorIs(t, err, os.ErrNotExist)
	s, err := Open(missing, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func TestForeignFilesAreNoObjects(t *testing.T) {
	s := openTest(t, Options{})
	require.NoError(t, s.Put(t.Context(), "log/a", objstore.NewBody([]byte("a"))))
	require.NoError(t, os.Mkdir(filepath.Join(s.root, "lost+found"), 0))
	require.NoError(t, os.WriteFile(filepath.Join(s.root, "log", ".hidden"), nil, filePerm))
	require.NoError(t, os.WriteFile(filepath.Join(s.root, "log", "a b"), nil, filePerm))
	require.NoError(t, os.Symlink("a", filepath.Join(s.root, "log", "link")))
	objects, more, err := s.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, objects, 1)
	require.NoError(t, s.Delete(t.Context(), []string{"log/a"}))
	require.DirExists(t, filepath.Join(s.root, "log"), "it still holds what is not ours")
}

func TestEmptyFoldersAreRemovedUnlessInUse(t *testing.T) {
	s := openTest(t, Options{})
	body := objstore.NewBody([]byte("a"))
	for _, key := range []string{"a/b/c/1", "a/b/2", "x/y/1"} {
		require.NoError(t, s.Put(t.Context(), key, body))
	}
	require.NoError(t, s.Delete(t.Context(), []string{"a/b/c/1"}))
	require.NoDirExists(t, filepath.Join(s.root, "a", "b", "c"))
	require.DirExists(t, filepath.Join(s.root, "a", "b"))
	require.NoError(t, s.Delete(t.Context(), []string{"a/b/2"}))
	require.NoDirExists(t, filepath.Join(s.root, "a"))

	used, err := s.folders.acquire(t.Context(), "x/y")
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), []string{"x/y/1"}))
	require.DirExists(t, filepath.Join(s.root, "x", "y"))
	s.folders.release(used)
	require.NoError(t, s.Put(t.Context(), "x/y/2", body))
	require.NoError(t, s.Delete(t.Context(), []string{"x/y/2"}))
	require.NoDirExists(t, filepath.Join(s.root, "x"))
	require.DirExists(t, s.root)
}

func TestFolderRemovedBehindOurBackIsMadeAgain(t *testing.T) {
	for _, s := range bothWays(t) {
		body := objstore.NewBody([]byte("a"))
		require.NoError(t, s.Put(t.Context(), "a/b/1", body))
		require.NoError(t, os.RemoveAll(filepath.Join(s.root, "a")))
		err := s.Put(t.Context(), "a/b/2", body)
		require.True(t, objstore.Retriable(err), "%v", err)
		require.NoError(t, s.Put(t.Context(), "a/b/2", body))
	}
}

// Puts and deletes fight over folders; every Put must succeed, however its folder comes and goes.
func TestPutsAndPruningAtOnce(t *testing.T) {
	s := openTest(t, Options{})
	errs := make(chan error, 4)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("a/b%d/%d-%d", i%2, w, i)
				err := s.Put(t.Context(), key, objstore.NewBody([]byte("a")))
				if err == nil {
					err = s.Delete(t.Context(), []string{key})
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Empty(t, filesUnder(t, s.root))
	for name, f := range s.folders.mu.durable {
		require.Zero(t, f.users, name)
	}
}

func TestRememberedFoldersAreBounded(t *testing.T) {
	f := newFolders(t.TempDir())
	used, err := f.acquire(t.Context(), "used")
	require.NoError(t, err)
	for i := range maxFolders {
		f.mu.durable[fmt.Sprint("made-up-", i)] = &folder{}
	}
	made, err := f.acquire(t.Context(), "one/more")
	require.NoError(t, err)
	require.LessOrEqual(t, len(f.mu.durable), 4)
	require.Same(t, used, f.mu.durable["used"], "what is in use is not forgotten")
	f.release(used)
	f.release(made)
}

func TestOpenFilesAreBounded(t *testing.T) {
	s := openTest(t, Options{MaxOpenFiles: 3})
	p := make([]byte, 1)
	for i := range 10 {
		key := fmt.Sprintf("a/%d", i)
		require.NoError(t, s.Put(t.Context(), key, objstore.NewBody([]byte{byte(i)})))
		require.NoError(t, s.GetRange(t.Context(), key, 0, p))
		require.EqualValues(t, i, p[0])
		require.LessOrEqual(t, s.files.kept(), 3)
	}
	require.Equal(t, 3, s.files.kept())
	require.NoError(t, s.GetRange(t.Context(), "a/0", 0, p))
	require.NoError(t, s.Delete(t.Context(), []string{"a/0"}))
	require.Equal(t, 2, s.files.kept())
	require.NoError(t, s.Close())
	require.Zero(t, s.files.kept())
}

// A file opened before its deletion and kept after it would show a deleted object for ever.
func TestFileOpenedBeforeADeleteIsNotKept(t *testing.T) {
	s := openTest(t, Options{})
	require.NoError(t, s.Put(t.Context(), "a", objstore.NewBody([]byte("abc"))))
	h, err := s.files.acquire("a", func() (*os.File, error) {
		f, err := s.openObject("a")
		require.NoError(t, s.Delete(t.Context(), []string{"a"}))
		return f, err
	})
	require.NoError(t, err)
	require.Zero(t, s.files.kept())
	p, err := io.ReadAll(io.NewSectionReader(h.file, 0, 10))
	require.NoError(t, err)
	require.Equal(t, "abc", string(p), "the reader that was faster ends its read")
	s.files.release(h)
	require.ErrorIs(t, h.file.Close(), os.ErrClosed)
}
