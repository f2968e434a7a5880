package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// ErrLocked is the error of a folder that another process uses.
var ErrLocked = errors.New("folder is in use")

// lockName is the file that is locked. It stays when the lock is given up: removing it would let a third process lock
// a new file while a second one holds the old.
const lockName = "streamhouse.lock"

// maxLockBytes bounds what is read from a lock file.
const maxLockBytes = 64

// Lock makes dir if it is missing and takes it for this process, until Close. The lock is the system's on an open
// file: it ends with the process however that ends, so holding it proves that every predecessor is dead. If another
// process (or this one) has it, the error wraps [ErrLocked] and names the folder and the other's process id.
//
// It works between processes of one machine; a network file system may not pass it on to other machines.
func Lock(dir string) (io.Closer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := makeFolders(dir); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, filePerm) //nolint:gosec // the operator names the folder
	if err != nil {
		return nil, fmt.Errorf("open lock of data folder: %w", err)
	}
	held, err := tryLock(f)
	if err == nil && held {
		err = fmt.Errorf("%w: %s is used by %s; stop it, or choose another folder", ErrLocked, dir, holder(f))
	}
	if err == nil {
		err = writeHolder(f)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock data folder: %w", err), f.Close())
	}
	return &lock{file: f}, nil
}

type lock struct {
	once sync.Once
	file *os.File
	err  error
}

// Close gives the lock up.
func (l *lock) Close() error {
	l.once.Do(func() { l.err = errors.Join(l.file.Truncate(0), l.file.Close()) })
	return l.err
}

func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func holder(f *os.File) string {
	buf := make([]byte, maxLockBytes)
	n, _ := f.ReadAt(buf, 0) // what cannot be read is not known
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return "another process"
	}
	return "the process with id " + strconv.Itoa(pid)
}
