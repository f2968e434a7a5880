package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Put implements [objstore.Store]. See the package's description for its steps.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	if err := s.check(ctx, "put", key); err != nil {
		return err
	}
	if s.readOnly {
		return fmt.Errorf("put %s: %w", key, objstore.ErrReadOnly)
	}
	if err := objstore.ValidateBody(body); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	err := s.put(ctx, key, body)
	if errors.Is(err, objstore.ErrNoSpace) {
		s.volumes.makeRoom()
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, body objstore.Body) error {
	reserved, err := s.volumes.reserve(ctx, key, true)
	if err != nil {
		return err
	}
	defer s.volumes.release(reserved)
	name := s.path(key)
	switch info, err := os.Lstat(name); {
	case err == nil && info.IsDir():
		return fmt.Errorf("%w: it is the front part of other keys", objstore.ErrInvalidKey)
	case err == nil:
		return objstore.ErrExists
	case !errors.Is(err, iofs.ErrNotExist):
		return translatePut(err)
	}
	if body.Size < s.volumes.most {
		if stored, err := s.volumes.put(ctx, key, body); stored || err != nil {
			return translatePut(err)
		}
	}
	return s.putFile(ctx, key, name, body)
}

// putFile stores body as a file of its own.
func (s *Store) putFile(ctx context.Context, key, name string, body objstore.Body) error {
	folder, err := s.folders.acquire(ctx, path.Dir(key))
	if err != nil {
		return translatePut(err)
	}
	defer s.folders.release(folder)
	if err := s.create(ctx, name, body); err != nil {
		if errors.Is(err, iofs.ErrNotExist) {
			s.folders.forget(path.Dir(key)) // somebody removed the folder behind our back
		}
		return translatePut(err)
	}
	if err := s.syncFolder(filepath.Dir(name)); err != nil {
		// Readers may have seen it; writers have not been told. Without a name it cannot come back as a surprise,
		// and if the name stays, Head syncs before it vouches for it. Not translated: this is in doubt, even when
		// the reason is a full disk.
		return fmt.Errorf("sync folder: %v: %w", err, errors.Join(objstore.ErrUnavailable, os.Remove(name))) //nolint:errorlint // see above
	}
	s.warm.add(name, body.Size)
	return nil
}

// verifyBelow is the size in bytes from which a body's checksum is taken on trust. For large bodies the pass over the bytes
// is a good part of what a Put costs the processor, and finds only what changed in memory since the caller's own pass.
// Nothing rests on it: Head sums the bytes that are stored.
const verifyBelow = 256 << 10

// create writes body to a file, syncs it and gives it its name.
func (s *Store) create(ctx context.Context, name string, body objstore.Body) error {
	n, err := s.openNew(name)
	if err != nil {
		return fmt.Errorf("open new file: %w", err)
	}
	sum, err := s.write(ctx, n.file, body)
	if err == nil && sum != body.Checksum {
		err = fmt.Errorf("%w: the bytes have %08x, the caller says %08x", objstore.ErrChecksum, sum, body.Checksum)
	}
	if err == nil {
		if err = syncData(n.file); err != nil {
			err = fmt.Errorf("sync: %w", err)
		}
	}
	if err == nil {
		err = ctx.Err() // the last chance to end without an effect
	}
	if err != nil {
		return errors.Join(err, n.discard())
	}
	return n.publish(name)
}

// newFile is an object that has no name yet.
type newFile struct {
	file *os.File
	tmp  string // its name under .tmp; empty if it is nameless
}

func (s *Store) openNew(name string) (newFile, error) {
	if s.nameless.Load() {
		f, err := openNameless(filepath.Dir(name))
		if err == nil {
			return newFile{file: f}, nil
		}
		if !isUnsupported(err) {
			return newFile{}, err
		}
		s.nameless.Store(false) // another file system is mounted below the root
	}
	tmp := filepath.Join(s.root, tmpName, strconv.FormatUint(s.tmpSeq.Add(1), 10))
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm) //nolint:gosec // a name of ours
	if err != nil {
		return newFile{}, err
	}
	return newFile{file: f, tmp: tmp}, nil
}

// publish gives the file its name, if that is free. The file is synced: closing it can lose nothing.
func (n newFile) publish(name string) error {
	if n.tmp == "" {
		err := linkNameless(n.file, name)
		_ = n.file.Close()
		return err
	}
	_ = n.file.Close()
	err := os.Link(n.tmp, name)
	// What stays under .tmp is a second name of an object: it costs space once that is deleted, until the next Open.
	_ = os.Remove(n.tmp)
	return err
}

func (n newFile) discard() error {
	err := n.file.Close()
	if n.tmp != "" {
		err = errors.Join(err, os.Remove(n.tmp))
	}
	return err
}

// translatePut maps an error of the system to the contract's, for a Put.
func translatePut(err error) error {
	switch {
	case isNoSpace(err):
		return fmt.Errorf("%w: %w", objstore.ErrNoSpace, err)
	case errors.Is(err, iofs.ErrExist):
		return fmt.Errorf("%w: %w", objstore.ErrExists, err)
	case isNotFolder(err), errors.Is(err, errKeyThroughObject):
		return fmt.Errorf("%w: %w", objstore.ErrInvalidKey, err)
	}
	return err
}

// copyBody writes body by way of a buffer, where there are no vectored writes, and returns its checksum, from
// verifyBelow on what the body says.
func copyBody(ctx context.Context, f *os.File, body objstore.Body) (uint32, error) {
	pooled := bufPool.Get().(*[]byte)
	defer bufPool.Put(pooled)
	buf := (*pooled)[:0]
	var sum uint32
	flush := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if body.Size < verifyBelow {
			sum = objstore.UpdateChecksum(sum, buf)
		}
		_, err := f.Write(buf)
		buf = buf[:0]
		return err
	}
	for _, slice := range body.Slices {
		for len(slice) > 0 {
			n := min(len(slice), cap(buf)-len(buf))
			buf = append(buf, slice[:n]...)
			slice = slice[n:]
			if len(buf) == cap(buf) {
				if err := flush(); err != nil {
					return 0, fmt.Errorf("write: %w", err)
				}
			}
		}
	}
	if err := flush(); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	if body.Size >= verifyBelow {
		sum = body.Checksum
	}
	return sum, nil
}
