package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// DefaultMaxOpenFiles is how many object files are kept open for reading, unless Options say otherwise.
const DefaultMaxOpenFiles = 256

const (
	tmpName     = ".tmp"
	filePerm    = 0o600
	folderPerm  = 0o750
	readBufSize = 256 << 10 // bytes read at a time to compute a checksum
)

// Options of a Store. The zero value is fine.
type Options struct {
	// MaxOpenFiles bounds the files kept open for reading while nobody reads them.
	MaxOpenFiles int
	// ReadOnly refuses Put and Delete with objstore.ErrReadOnly and changes nothing in the folder, so that a folder
	// in use by another process can be looked at. Its Head does not sync either, so it settles nothing.
	ReadOnly bool
}

// Store is an [objstore.Store] in a folder.
type Store struct {
	root     string
	readOnly bool
	closed   atomic.Bool
	folders  *folders
	files    *files

	// nameless is false once the file system refused O_TMPFILE.
	nameless atomic.Bool
	// tmpSeq numbers the files under .tmp.
	tmpSeq atomic.Uint64

	// Seams for tests: the two steps whose failure cannot be provoked without a disk of one's own.
	write      func(context.Context, *os.File, objstore.Body) (uint32, error)
	syncFolder func(string) error
}

var _ objstore.Store = (*Store)(nil)

// Open opens the store in root, which is made if it is missing, and clears what a crash left half-written. The caller
// holds a [Lock] that covers root, unless opts.ReadOnly.
func Open(root string, opts Options) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open object folder: %w", err)
	}
	if opts.MaxOpenFiles <= 0 {
		opts.MaxOpenFiles = DefaultMaxOpenFiles
	}
	s := &Store{
		root:       root,
		readOnly:   opts.ReadOnly,
		folders:    newFolders(root),
		files:      newFiles(opts.MaxOpenFiles),
		write:      writeBody,
		syncFolder: syncFolder,
	}
	if opts.ReadOnly {
		info, err := os.Stat(root)
		if err != nil {
			return nil, fmt.Errorf("open object folder: %w", err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("open object folder: %s is not a folder", root)
		}
		return s, nil
	}
	if err := makeFolders(root); err != nil {
		return nil, fmt.Errorf("make object folder: %w", err)
	}
	tmp := filepath.Join(root, tmpName)
	if err := os.RemoveAll(tmp); err != nil {
		return nil, fmt.Errorf("clear half-written objects: %w", err)
	}
	if err := os.Mkdir(tmp, folderPerm); err != nil {
		return nil, fmt.Errorf("make folder for half-written objects: %w", err)
	}
	s.nameless.Store(probeNameless(tmp))
	return s, nil
}

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	if err := s.check(ctx, "get", key); err != nil {
		return err
	}
	if off < 0 {
		return fmt.Errorf("get %s: %w: offset %d", key, objstore.ErrInvalidRange, off)
	}
	if len(p) == 0 {
		return nil
	}
	h, err := s.files.acquire(key, func() (*os.File, error) { return s.openObject(key) })
	if err != nil {
		return fmt.Errorf("get %s: %w", key, translate(err))
	}
	defer s.files.release(h)
	n, err := h.file.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("get %s: %d bytes at %d, %d are there: %w", key, len(p), off, n, io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("get %s: read %d bytes at %d: %w", key, len(p), off, err)
	}
}

// openObject opens the file of key, which must be a regular one.
func (s *Store) openObject(key string) (*os.File, error) {
	f, err := os.OpenFile(s.path(key), openFlags, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = iofs.ErrNotExist // a folder: the key is the front part of others
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Head implements [objstore.Store]. It reads the whole object, after making sure that it is durable.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := s.check(ctx, "head", key); err != nil {
		return objstore.Info{}, err
	}
	f, err := s.openObject(key)
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, translate(err))
	}
	defer f.Close() //nolint:errcheck // it was only read
	if !s.readOnly {
		if err := s.makeDurable(ctx, key, f); err != nil {
			return objstore.Info{}, fmt.Errorf("head %s: sync: %w", key, err)
		}
	}
	info := objstore.Info{Key: key, HasChecksum: true}
	buf := make([]byte, readBufSize)
	for {
		if err := ctx.Err(); err != nil {
			return objstore.Info{}, fmt.Errorf("head %s: %w", key, err)
		}
		n, err := f.Read(buf)
		info.Size += int64(n)
		info.Checksum = objstore.UpdateChecksum(info.Checksum, buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return objstore.Info{}, fmt.Errorf("head %s: read: %w", key, err)
		}
	}
	stat, err := f.Stat()
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, err)
	}
	info.ModTime = stat.ModTime()
	return info, nil
}

// makeDurable syncs what may be unsynced about an object that is visible: a Put of this process that failed in its
// last step or has not reached it, or one of a predecessor killed between link and sync.
func (s *Store) makeDurable(ctx context.Context, key string, f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	folder, err := s.folders.acquire(ctx, path.Dir(key))
	if err != nil {
		return err
	}
	defer s.folders.release(folder)
	return s.syncFolder(s.path(path.Dir(key)))
}

// Delete implements [objstore.Store].
func (s *Store) Delete(ctx context.Context, keys []string) error {
	if err := s.checkOpen(ctx, "delete objects"); err != nil {
		return err
	}
	if s.readOnly {
		return fmt.Errorf("delete objects: %w", objstore.ErrReadOnly)
	}
	if err := objstore.ValidateKeys(keys); err != nil {
		return fmt.Errorf("delete objects: %w", err)
	}
	var (
		failed   objstore.DeleteError
		emptied  = make(map[string]struct{})
		noteFail = func(key string, err error) {
			failed.Left = append(failed.Left, key)
			if failed.Err == nil {
				failed.Err = err
			}
		}
	)
	for i, key := range keys {
		if err := ctx.Err(); err != nil {
			failed.Left = append(failed.Left, keys[i:]...)
			if failed.Err == nil {
				failed.Err = err
			}
			break
		}
		removed, err := s.remove(key)
		if err != nil {
			noteFail(key, err)
		}
		if removed {
			emptied[path.Dir(key)] = struct{}{}
		}
	}
	s.folders.prune(ctx, emptied)
	if len(failed.Left) > 0 {
		return &failed
	}
	return nil
}

// remove tells whether there was something to remove.
func (s *Store) remove(key string) (removed bool, err error) {
	name := s.path(key)
	info, err := os.Lstat(name)
	if err == nil {
		if info.IsDir() {
			return false, nil // no object has this key
		}
		s.files.drop(key) // some systems do not remove an open file
		err = os.Remove(name)
	}
	if err != nil && !isAbsent(err) {
		return false, fmt.Errorf("delete %s: %w", key, err)
	}
	s.files.drop(key) // after the name is gone: nobody can open it again
	return err == nil, nil
}

// Close implements [objstore.Store]. Calls under way end; files they read are closed after them.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.files.close()
	return nil
}

func (s *Store) path(key string) string { return filepath.Join(s.root, filepath.FromSlash(key)) }

func (s *Store) checkOpen(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if s.closed.Load() {
		return fmt.Errorf("%s: %w", op, objstore.ErrClosed)
	}
	return nil
}

func (s *Store) check(ctx context.Context, op, key string) error {
	if err := s.checkOpen(ctx, op); err != nil {
		return err
	}
	if err := objstore.ValidateKey(key); err != nil {
		return fmt.Errorf("%s object: %w", op, err)
	}
	return nil
}

// translate maps an error of the system to the contract's.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case isNoSpace(err):
		return fmt.Errorf("%w: %w", objstore.ErrNoSpace, err)
	case isAbsent(err):
		return fmt.Errorf("%w: %w", objstore.ErrNotFound, err)
	}
	return err
}

// isAbsent tells that a name cannot be that of an object: it is missing, or a part of its path is a file.
func isAbsent(err error) bool { return errors.Is(err, iofs.ErrNotExist) || isNotFolder(err) }

// bufPool holds the copy buffers of the portable writer.
var bufPool = sync.Pool{New: func() any { b := make([]byte, 0, readBufSize); return &b }}
