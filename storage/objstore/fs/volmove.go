package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// moveBatch is how many objects become files at once. They share the file system's commits.
const moveBatch = 64

// moveOut makes ordinary files of a full volume's objects. Each is durable in its folder before the index forgets its record;
// readers see it throughout. After a failure the rest stays where it is.
func (v *volumes) moveOut(ctx context.Context, vol *volume) error {
	v.mu.Lock()
	var records []*record
	for _, r := range v.mu.index.byKey {
		if r.vol == vol {
			records = append(records, r)
		}
	}
	v.mu.Unlock()
	for len(records) > 0 {
		n := min(len(records), moveBatch)
		if err := v.moveSome(ctx, vol, records[:n]); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// moving is a record on its way to a file.
type moving struct {
	*record

	file   newFile
	folder *folder
}

func (v *volumes) moveSome(ctx context.Context, vol *volume, records []*record) (err error) {
	// From here on no Delete of these keys runs that could miss the file.
	var held []*reservation
	defer func() {
		for _, r := range held {
			v.release(r)
		}
	}()
	var batch []moving
	defer func() {
		for _, m := range batch {
			v.store.folders.release(m.folder)
			if m.file.file != nil {
				err = errors.Join(err, m.file.discard())
			}
		}
	}()
	for _, r := range records {
		reserved, err := v.reserve(ctx, r.key, false)
		if err != nil {
			return err
		}
		held = append(held, reserved)
		if !v.current(r) {
			continue
		}
		folder, err := v.store.folders.acquire(ctx, path.Dir(r.key))
		if err != nil {
			return fmt.Errorf("make folder of %s: %w", r.key, err)
		}
		batch = append(batch, moving{record: r, folder: folder})
		m := &batch[len(batch)-1]
		if m.file, err = v.copyOut(ctx, r); err != nil {
			return fmt.Errorf("copy %s: %w", r.key, err)
		}
	}
	// The disk works on all of them by now. When it is done the file system has noted for all where their bytes are, and the
	// first sync commits that for all.
	for _, m := range batch {
		writeOut(m.file.file, 0, m.size)
	}
	for _, m := range batch {
		if err := syncData(m.file.file); err != nil {
			return fmt.Errorf("sync %s: %w", m.key, err)
		}
	}
	folders := make(map[string]struct{})
	for i := range batch {
		m := &batch[i]
		folders[path.Dir(m.key)] = struct{}{}
		if err := v.publish(m); err != nil {
			return fmt.Errorf("name %s: %w", m.key, err)
		}
	}
	for name := range folders {
		if err := v.store.syncFolder(v.store.path(name)); err != nil {
			return fmt.Errorf("sync folder %s: %w", name, err)
		}
	}
	for _, m := range batch {
		// Or a later Delete, which finds only the file, would leave a record that the next Open finds.
		if err := v.markDead(vol, &m.recordHeader); err != nil {
			return err
		}
		v.mu.Lock()
		v.dropLocked(m.record)
		v.mu.Unlock()
	}
	return nil
}

// current tells whether r is what its key stands for.
func (v *volumes) current(r *record) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.index.byKey[r.key] == r
}

// copyOut writes the object to a file without a name, which is not synced.
func (v *volumes) copyOut(ctx context.Context, r *record) (newFile, error) {
	body := make([]byte, r.size)
	if err := r.readBody(r.vol.file, 0, body); err != nil {
		return newFile{}, err
	}
	if sum := objstore.Checksum(body); sum != r.sum {
		// Moved as it is: what reads it has checksums of its own and tells which part is sound.
		v.log.Error("an object in a volume is damaged", "key", r.key, "volume", r.vol.path, "offset", r.off)
	}
	n, err := v.store.openNew(v.store.path(r.key))
	if err != nil {
		return newFile{}, err
	}
	if _, err := v.store.write(ctx, n.file, objstore.Body{Slices: [][]byte{body}, Size: r.size}); err != nil {
		return newFile{}, errors.Join(err, n.discard())
	}
	startOut(n.file, 0, r.size)
	return n, nil
}

// publish names the file of m. If a crash left a file there, that is kept if it is the same, else replaced: the record
// is what readers saw.
func (v *volumes) publish(m *moving) error {
	name := v.store.path(m.key)
	if _, err := os.Lstat(name); err == nil {
		same, err := v.sameFile(m, name)
		if err != nil {
			return err
		}
		if same {
			err := m.file.discard()
			m.file = newFile{}
			return err
		}
		v.log.Warn("a file differs from the object in a volume and is replaced", "key", m.key, "volume", m.vol.path)
		if err := os.Remove(name); err != nil {
			return err
		}
		v.store.files.drop(m.key)
	}
	file := m.file
	m.file = newFile{}
	if err := file.publish(name); err != nil {
		return err
	}
	mod := time.Unix(0, m.mod)
	_ = os.Chtimes(filepath.Clean(name), mod, mod) // for people
	return nil
}

// sameFile tells whether a file has the bytes of m, and makes sure that they are durable.
func (v *volumes) sameFile(m *moving, name string) (bool, error) {
	f, err := v.store.openObject(m.key)
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := os.Lstat(name)
	if err != nil || info.Size() != m.size {
		return false, err
	}
	var buf []byte
	sum, err := sumRange(f, 0, m.size, &buf)
	if err != nil || sum != m.sum {
		return false, err
	}
	return true, f.Sync()
}
