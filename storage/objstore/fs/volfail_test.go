package fs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

var errDisk = &os.PathError{Op: "sync", Path: "disk", Err: syscall.EIO}

// After a sync that failed nobody knows what the disk has: the Put is in doubt, its volume is not written to any more,
// and what is in it goes to files.
func TestSyncOfAVolumeFails(t *testing.T) {
	for _, cause := range []error{errDisk, syscall.ENOSPC} {
		s := still(t, tiny())
		v := s.volumes
		mustPut(t, s, "a/1", 100)
		vol := recordOf(t, s, "a/1").vol
		ok := v.sync
		v.sync = func(*os.File) error { return cause }
		body := objstore.NewBody(bodyOf("a/2", 100))
		err := s.Put(t.Context(), "a/2", body)
		require.True(t, objstore.InDoubt(err), "%v", err)
		require.True(t, objstore.Retriable(err))
		v.sync = ok
		outcome, err := objstore.Settle(t.Context(), s, "a/2", body.Size, body.Checksum)
		require.NoError(t, err)
		require.Equal(t, objstore.Absent, outcome)
		require.True(t, vol.suspect)
		mustPut(t, s, "a/2", 100)
		requireObject(t, s, "a/1", 100)
		work(t, v)
		require.NoFileExists(t, vol.path)
		require.ElementsMatch(t, []string{"a/1", "a/2"}, filesUnder(t, s.root))
		work(t, v)
		mustPut(t, s, "a/3", 100)
		s = reopen(t, s, tiny())
		require.Equal(t, []string{"a/1", "a/2", "a/3"}, keysOf(t, s))
		require.NoError(t, s.Close())
	}
}

func TestDiskFullInVolumes(t *testing.T) {
	s := still(t, tiny())
	v := s.volumes
	write := v.writeAt
	full := func(*os.File, []byte, int64) error {
		return &os.PathError{Op: "write", Path: "disk", Err: syscall.ENOSPC}
	}
	mustPut(t, s, "a/1", 100)
	v.writeAt = full
	err := s.Put(t.Context(), "a/2", objstore.NewBody(bodyOf("a/2", 100)))
	require.ErrorIs(t, err, objstore.ErrNoSpace)
	require.False(t, objstore.InDoubt(err))
	v.writeAt = write
	requireNone(t, s, "a/2")
	mustPut(t, s, "a/2", 100)

	// No room for a volume: files.
	v.writeAt = full
	work(t, v)
	require.True(t, v.mu.troubled)
	mustPut(t, s, "a/3", 100)
	v.writeAt = write
	v.free = func(string) (int64, bool) { return v.size, true }
	v.tick()
	work(t, v)
	require.Empty(t, v.mu.ready)
	entries, err := os.ReadDir(v.dir)
	require.NoError(t, err)
	require.Len(t, entries, len(v.mu.all), "nothing half-made is left")
	v.free = freeBytes
	v.tick()
	work(t, v)
	mustPut(t, s, "b/1", 100)

	// No room for the files of a volume's objects: they stay where they are.
	vol := recordOf(t, s, "b/1").vol
	toFile := s.write
	s.write = func(context.Context, *os.File, objstore.Body) (uint32, error) { return 0, syscall.ENOSPC }
	require.ErrorIs(t, v.moveOut(t.Context(), vol), syscall.ENOSPC)
	requireObject(t, s, "b/1", 100)
	s.syncFolder, s.write = func(string) error { return errDisk }, toFile
	require.ErrorIs(t, v.moveOut(t.Context(), vol), syscall.EIO)
	requireObject(t, s, "b/1", 100)
	recordOf(t, s, "b/1")
	s.syncFolder = syncFolder
	require.NoError(t, v.moveOut(t.Context(), vol))
	requireObject(t, s, "b/1", 100)
	require.Contains(t, filesUnder(t, s.root), "b/1")

	// A Put that finds the disk full gives the empty volumes up.
	v.mu.rolls = 2
	work(t, v)
	require.NotEmpty(t, v.mu.ready)
	s.write = func(context.Context, *os.File, objstore.Body) (uint32, error) { return 0, syscall.ENOSPC }
	require.ErrorIs(t, s.Put(t.Context(), "c/1", objstore.NewBody(bodyOf("c/1", 20_000))), objstore.ErrNoSpace)
	work(t, v)
	require.Empty(t, v.mu.ready)
	s.write = toFile
	mustPut(t, s, "c/1", 20_000)
	for key, n := range map[string]int{"a/1": 100, "a/2": 100, "a/3": 100, "b/1": 100, "c/1": 20_000} {
		requireObject(t, s, key, n)
	}
	require.NoError(t, s.Close())
}

func TestDamagedVolumes(t *testing.T) {
	var log bytes.Buffer
	opts := tiny()
	opts.Logger = slogTo(&log)
	s := still(t, opts)
	mustPut(t, s, "a/1", 100)
	mustPut(t, s, "a/2", 100)
	path := recordOf(t, s, "a/1").vol.path
	require.NoError(t, s.Close())

	damage := func(off int64, p []byte) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(p, off)
		require.NoError(t, errors.Join(err, f.Close()))
	}
	header, err := os.ReadFile(path)
	require.NoError(t, err)
	newer := volumeHeader{generation: 1, serial: 1}.encode()
	newer[8] = volumeVersion + 1
	copy(newer[32:], leChecksum(newer[:32]))
	damage(0, newer)
	for _, readOnly := range []bool{true, false} {
		_, err = Open(s.root, Options{ReadOnly: readOnly})
		require.ErrorContains(t, err, "volume of version 2")
	}

	damage(0, make([]byte, 10))
	reader, err := Open(s.root, Options{ReadOnly: true})
	require.NoError(t, err)
	requireObject(t, reader, "a/1", 100)
	require.Equal(t, []string{"a/1", "a/2"}, keysOf(t, reader))
	require.NoError(t, reader.Close())
	s, err = Open(s.root, opts)
	require.NoError(t, err)
	v := halt(s)
	work(t, v)
	require.Contains(t, log.String(), "header of a volume is damaged")
	require.Equal(t, []string{"a/1", "a/2"}, keysOf(t, s))
	require.Equal(t, []string{"a/1", "a/2"}, filesUnder(t, s.root))
	require.NoFileExists(t, path)

	// A body that changed on disk stays an object, as a file that changed would: who reads it has checksums.
	require.NoError(t, os.WriteFile(path, header, filePerm))
	require.NoError(t, s.Delete(t.Context(), []string{"a/1", "a/2"}))
	s = reopen(t, s, opts)
	halt(s)
	r := recordOf(t, s, "a/1")
	damage(r.bodyAt(), []byte{'X'})
	info, err := s.Head(t.Context(), "a/1")
	require.NoError(t, err)
	require.NotEqual(t, objstore.Checksum(bodyOf("a/1", 100)), info.Checksum)
	require.NoError(t, s.volumes.moveOut(t.Context(), r.vol))
	require.Contains(t, log.String(), "an object in a volume is damaged")
	info, err = s.Head(t.Context(), "a/1")
	require.NoError(t, err)
	require.NotEqual(t, objstore.Checksum(bodyOf("a/1", 100)), info.Checksum)

	// A file that is shorter than a volume, or no volume at all.
	for i, content := range [][]byte{nil, []byte("SHVOLUME"), header[:blockBytes], make([]byte, 3*blockBytes)} {
		require.NoError(t, os.WriteFile(volumePath(s.volumes.dir, uint64(1000+i)), content, filePerm))
	}
	require.NoError(t, os.WriteFile(filepath.Join(s.volumes.dir, "0000000000000009.vol.new"), header, filePerm))
	s = reopen(t, s, opts)
	require.Equal(t, []string{"a/1", "a/2"}, keysOf(t, s))
	work(t, halt(s))
	for i := range 4 {
		require.NoFileExists(t, volumePath(s.volumes.dir, uint64(1000+i)))
	}
	require.NoError(t, s.Close())
}
