package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

const (
	openFlags = os.O_RDONLY

	// maxVectorBytes is one write. It fits the second-level cache of most processors, so that the kernel copies
	// what the checksum has just read.
	maxVectorBytes = 1 << 20
	// maxVector is how many slices one write takes: IOV_MAX.
	maxVector = 1024
	// largeBody is the size in bytes from which allocating first and writing early pay.
	largeBody = 1 << 20
)

// writeBody writes body to the empty file f and returns its checksum, from verifyBelow on what the body says. The data
// need not be on disk.
func writeBody(ctx context.Context, f *os.File, body objstore.Body) (uint32, error) {
	fd := int(f.Fd())
	if body.Size >= largeBody {
		if err := allocate(f, body.Size); err != nil {
			return 0, fmt.Errorf("allocate: %w", err)
		}
	}
	var (
		sum    uint32
		off    int64
		size   int
		vector = make([][]byte, 0, min(len(body.Slices)+1, maxVector))
	)
	flush := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if body.Size < verifyBelow {
			for _, slice := range vector {
				sum = objstore.UpdateChecksum(sum, slice)
			}
		}
		start := off
		for rest := vector; size > 0; {
			n, err := unix.Pwritev(fd, rest, off)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err == nil && n <= 0 {
				err = unix.EIO
			}
			if err != nil {
				return fmt.Errorf("write: %w", err)
			}
			off += int64(n)
			size -= n
			rest = advance(rest, n)
		}
		vector = vector[:0]
		if body.Size >= largeBody {
			// A hint: fdatasync is what counts, and reports what went wrong.
			_ = unix.SyncFileRange(fd, start, off-start, unix.SYNC_FILE_RANGE_WRITE)
		}
		return nil
	}
	for _, slice := range body.Slices {
		for len(slice) > 0 {
			n := min(len(slice), maxVectorBytes-size)
			vector = append(vector, slice[:n])
			size += n
			slice = slice[n:]
			if size == maxVectorBytes || len(vector) == maxVector {
				if err := flush(); err != nil {
					return 0, err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return 0, err
	}
	if body.Size >= verifyBelow {
		sum = body.Checksum
	}
	return sum, nil
}

// allocate gives f its blocks, where the file system can. It tells a full disk before anything is written.
func allocate(f *os.File, size int64) error {
	err := retryInterrupted(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if isUnsupported(err) {
		return nil
	}
	return err
}

// writeOut has the disk write n bytes at off, and waits for it. What comes of it is told by the sync that follows.
func writeOut(f *os.File, off, n int64) {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	_ = unix.SyncFileRange(int(f.Fd()), off, n, all)
}

// startOut has the disk write n bytes at off.
func startOut(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// freeBytes tells how much the file system of dir has free for us.
func freeBytes(dir string) (int64, bool) {
	var stat unix.Statfs_t
	if err := retryInterrupted(func() error { return unix.Statfs(dir, &stat) }); err != nil {
		return 0, false
	}
	return int64(stat.Bavail) * stat.Bsize, true
}

// advance drops the first n bytes of vector, whose elements it may change: they are ours, what they point to is not.
func advance(vector [][]byte, n int) [][]byte {
	for len(vector) > 0 && n >= len(vector[0]) {
		n -= len(vector[0])
		vector = vector[1:]
	}
	if n > 0 {
		vector[0] = vector[0][n:]
	}
	return vector
}

func syncData(f *os.File) error {
	return retryInterrupted(func() error { return unix.Fdatasync(int(f.Fd())) })
}

func openNameless(folder string) (*os.File, error) {
	return os.OpenFile(folder, unix.O_TMPFILE|os.O_WRONLY, filePerm) //nolint:gosec // a folder of ours
}

// linkNameless goes by way of /proc: linking an open file directly (AT_EMPTY_PATH) asks for a privilege.
func linkNameless(f *os.File, name string) error {
	from := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	err := retryInterrupted(func() error {
		return unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	})
	if err != nil {
		return &os.LinkError{Op: "linkat", Old: from, New: name, Err: err}
	}
	return nil
}

// probeNameless tells whether nameless files can be made in folder and named later.
func probeNameless(folder string) bool {
	f, err := openNameless(folder)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // nothing was written
	name := filepath.Join(folder, "probe")
	return linkNameless(f, name) == nil && os.Remove(name) == nil
}

func syncFolder(folder string) error {
	d, err := os.Open(folder) //nolint:gosec // a folder of ours
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isUnsupported covers what file systems and old kernels answer to O_TMPFILE and fallocate.
func isUnsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.EISDIR)
}

func isNoSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func isNotFolder(err error) bool { return errors.Is(err, unix.ENOTDIR) }

// dropPages frees the clean pages of a file.
func dropPages(name string) error {
	f, err := os.Open(name) //nolint:gosec // a file of ours
	if err != nil {
		return err
	}
	err = retryInterrupted(func() error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) })
	return errors.Join(err, f.Close())
}

// memoryBytes is the machine's memory; 0 if it is not known.
func memoryBytes() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit) // Unit is of another type elsewhere
}
