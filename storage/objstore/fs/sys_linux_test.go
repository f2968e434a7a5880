package fs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// openUnder counts this process's open files below root, deleted ones too.
func openUnder(t *testing.T, root string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, root) {
			n++
		}
	}
	return n
}

func TestNoFileStaysOpen(t *testing.T) {
	for _, s := range bothWays(t) {
		p := make([]byte, 1)
		for i := range 20 {
			key := fmt.Sprintf("a/%d", i)
			body := objstore.NewBody([]byte("x"))
			require.NoError(t, s.Put(t.Context(), key, body))
			require.ErrorIs(t, s.Put(t.Context(), key, body), objstore.ErrExists)
			body.Checksum++
			require.ErrorIs(t, s.Put(t.Context(), key+"-wrong", body), objstore.ErrChecksum)
			require.NoError(t, s.GetRange(t.Context(), key, 0, p))
			_, err := s.Head(t.Context(), key)
			require.NoError(t, err)
			require.Error(t, s.GetRange(t.Context(), "a", 0, p))
			_, _, err = s.List(t.Context(), "", "", 0)
			require.NoError(t, err)
			if i%2 == 0 {
				require.NoError(t, s.Delete(t.Context(), []string{key}))
			}
		}
		require.Equal(t, 10, openUnder(t, s.root), "those kept for reading")
		require.NoError(t, s.Close())
		require.Zero(t, openUnder(t, s.root))
	}
}

func TestAdvanceSkipsWhatWasWritten(t *testing.T) {
	for n := range 7 {
		vector := advance([][]byte{[]byte("ab"), nil, []byte("c"), []byte("def")}, n)
		var left string
		for _, slice := range vector {
			left += string(slice)
		}
		require.Equal(t, "abcdef"[n:], left)
	}
}

func TestErrorsOfTheSystemAreTranslated(t *testing.T) {
	for _, err := range []error{unix.ENOSPC, unix.EDQUOT} {
		require.ErrorIs(t, translate(&os.PathError{Err: err}), objstore.ErrNoSpace)
		require.ErrorIs(t, translatePut(&os.PathError{Err: err}), objstore.ErrNoSpace)
	}
	require.ErrorIs(t, translate(unix.ENOTDIR), objstore.ErrNotFound)
	require.ErrorIs(t, translatePut(unix.ENOTDIR), objstore.ErrInvalidKey)
	require.ErrorIs(t, translatePut(&os.LinkError{Err: unix.EEXIST}), objstore.ErrExists)
	require.True(t, objstore.Retriable(translatePut(unix.EIO)))
	require.NoError(t, translate(nil))
}
