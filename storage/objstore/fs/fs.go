package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// DefaultMaxOpenFiles is how many object files are kept open for reading, unless Options say otherwise.
const DefaultMaxOpenFiles = 256

// Defaults of the volumes, in bytes. See [Options].
const (
	DefaultVolumeObjectBytes = 256 << 10
	DefaultVolumeBytes       = 16 << 20
	DefaultVolumeBudget      = 1 << 30
)

const (
	minVolumeBytes = 16 * blockBytes
	minBudget      = 2 // volumes

	tmpName     = ".tmp"
	filePerm    = 0o600
	folderPerm  = 0o750
	readBufSize = 256 << 10 // bytes read at a time to compute a checksum
)

// Options of a Store. The zero value is fine.
type Options struct {
	// MaxOpenFiles bounds the files kept open for reading while nobody reads them.
	MaxOpenFiles int
	// VolumeObjectBytes is the size from which objects are files of their own; smaller ones share volumes. At most a
	// quarter of VolumeBytes. Negative: every object is a file, and volumes that are there are emptied.
	VolumeObjectBytes int64
	// VolumeBytes is the size of a volume. Between 64 KiB and 1 GiB.
	VolumeBytes int64
	// VolumeBudget bounds what all volumes take. Above it the objects of the oldest are moved to files.
	VolumeBudget int64
	// WarmBytes is how much of what was written as files is left in the system's page cache for readers; older is given
	// back. 0: an eighth of the machine's memory. Negative: no bound. Linux only.
	WarmBytes int64
	// Logger hears of damage that was found, of volumes that failed, and why small objects are not stored in volumes. Nil:
	// nobody does.
	Logger *slog.Logger
	// ReadOnly refuses Put and Delete with objstore.ErrReadOnly and changes nothing in the folder, so that a folder
	// in use by another process can be looked at. Its Head does not sync either, so it settles nothing.
	ReadOnly bool

	tune func(*volumes) // for tests: runs before the volumes are used
}

// complete fills in defaults and brings what is out of bounds within them.
func (o *Options) complete() {
	if o.MaxOpenFiles <= 0 {
		o.MaxOpenFiles = DefaultMaxOpenFiles
	}
	if o.VolumeBytes <= 0 {
		o.VolumeBytes = DefaultVolumeBytes
	}
	o.VolumeBytes = min(max(o.VolumeBytes, minVolumeBytes), maxVolumeBytes) &^ (blockBytes - 1)
	if o.VolumeObjectBytes == 0 {
		o.VolumeObjectBytes = DefaultVolumeObjectBytes
	}
	o.VolumeObjectBytes = min(o.VolumeObjectBytes, o.VolumeBytes/4)
	if o.VolumeBudget <= 0 {
		o.VolumeBudget = DefaultVolumeBudget
	}
	o.VolumeBudget = max(o.VolumeBudget, minBudget*o.VolumeBytes)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Store is an [objstore.Store] in a folder.
type Store struct {
	root     string
	readOnly bool
	closed   atomic.Bool
	folders  *folders
	files    *files
	warm     *warm
	volumes  *volumes // nil if readOnly
	view     *view    // of the volumes, if readOnly

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
	opts.complete()
	s := &Store{
		root:       root,
		readOnly:   opts.ReadOnly,
		folders:    newFolders(root),
		files:      newFiles(opts.MaxOpenFiles),
		warm:       newWarm(opts.WarmBytes),
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
		s.view = newView(root)
		if err := s.view.refresh(); err != nil {
			s.view.close()
			return nil, fmt.Errorf("open object folder: read volumes: %w", err)
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
	if s.volumes, err = openVolumes(s, opts); err != nil {
		return nil, fmt.Errorf("open object folder: %w", err)
	}
	if opts.tune != nil {
		opts.tune(s.volumes)
	}
	s.volumes.start()
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
	found, err := s.volumeGet(key, off, p)
	if !found && err == nil {
		err = s.fileGet(key, off, p)
	}
	if s.view != nil && isAbsent(err) {
		// Put into a volume since it was last looked at; or moved out of one, behind our back.
		if found, err = s.viewAgain(key, func(r *record) error { return r.readBody(r.vol.file, off, p) }); !found && err == nil {
			err = s.fileGet(key, off, p)
		}
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", key, translate(err))
	}
	return nil
}

// volumeGet tells whether key is in a volume.
func (s *Store) volumeGet(key string, off int64, p []byte) (bool, error) {
	if s.view != nil {
		return s.view.read(key, func(r *record) error { return r.readBody(r.vol.file, off, p) })
	}
	return s.volumes.get(key, off, p)
}

// viewAgain looks at the volumes anew.
func (s *Store) viewAgain(key string, use func(*record) error) (bool, error) {
	if err := s.view.refresh(); err != nil {
		return false, err
	}
	return s.view.read(key, use)
}

func (s *Store) fileGet(key string, off int64, p []byte) error {
	h, err := s.files.acquire(key, func() (*os.File, error) { return s.openObject(key) })
	if err != nil {
		return err
	}
	defer s.files.release(h)
	n, err := h.file.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%d bytes at %d, %d are there: %w", len(p), off, n, io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
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
	info, err := s.head(ctx, key)
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, translate(err))
	}
	return info, nil
}

func (s *Store) head(ctx context.Context, key string) (objstore.Info, error) {
	if s.view == nil {
		if info, found, err := s.volumes.head(key); found || err != nil {
			return info, err
		}
		return s.fileHead(ctx, key)
	}
	var info objstore.Info
	use := func(r *record) (err error) {
		info, err = r.headBody()
		return err
	}
	found, err := s.view.read(key, use)
	if found || err != nil {
		return info, err
	}
	if info, err = s.fileHead(ctx, key); !isAbsent(err) {
		return info, err
	}
	if found, err = s.viewAgain(key, use); found || err != nil {
		return info, err
	}
	return s.fileHead(ctx, key)
}

func (s *Store) fileHead(ctx context.Context, key string) (objstore.Info, error) {
	f, err := s.openObject(key)
	if err != nil {
		return objstore.Info{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	if !s.readOnly {
		if err := s.makeDurable(ctx, key, f); err != nil {
			return objstore.Info{}, fmt.Errorf("sync: %w", errors.Join(ctx.Err(), objstore.ErrUnavailable, unknownError{err}))
		}
	}
	info := objstore.Info{Key: key, HasChecksum: true}
	buf := make([]byte, readBufSize)
	for {
		if err := ctx.Err(); err != nil {
			return objstore.Info{}, err
		}
		n, err := f.Read(buf)
		info.Size += int64(n)
		info.Checksum = objstore.UpdateChecksum(info.Checksum, buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return objstore.Info{}, fmt.Errorf("read: %w", err)
		}
	}
	stat, err := f.Stat()
	if err != nil {
		return objstore.Info{}, err
	}
	info.ModTime = stat.ModTime()
	return info, nil
}

// unknownError hides what kind an error is: a folder that is missing or a disk that is full while an object is synced says
// nothing about the object.
type unknownError struct{ err error }

func (e unknownError) Error() string { return e.err.Error() }

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
		removed, err := s.deleteOne(ctx, key)
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

// deleteOne tells whether there was a file to remove. After a crash a key may be in a volume and a file.
func (s *Store) deleteOne(ctx context.Context, key string) (removed bool, err error) {
	reserved, err := s.volumes.reserve(ctx, key, false)
	if err != nil {
		return false, err
	}
	defer s.volumes.release(reserved)
	if err := s.volumes.remove(key); err != nil {
		return false, fmt.Errorf("delete %s: %w", key, err)
	}
	return s.remove(key)
}

// remove tells whether there was a file to remove.
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

// Close implements [objstore.Store]. Calls under way end; files they read are closed after them. It waits for what is
// done in the background to come to a safe stop.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	if s.view != nil {
		s.view.close()
	} else {
		s.volumes.close()
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
