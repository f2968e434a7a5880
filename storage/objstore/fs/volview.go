package fs

import (
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// maxLooks is how often a reader looks again for an object that moves while it is read.
const maxLooks = 8

// view reads volumes that another process may be writing to. It relies on no lock, only on the order in which the writer does
// things: an object's file is named before its record is dead, a record is dead before its volume gets a new
// generation, and the generation is new before a byte of the old one is overwritten. So what was read between two looks
// at the same generation is what the record held; and who does not find a record that was there finds the file.
type view struct {
	dir string

	mu struct {
		sync.Mutex

		index  index
		vols   map[uint64]*viewed
		closed bool
	}
}

// viewed is a volume as last looked at.
type viewed struct {
	*volume // file, path, size, and header; nothing else of it is used

	end int64 // up to where it was scanned
}

func newView(root string) *view {
	w := &view{dir: filepath.Join(root, volumesName)}
	w.mu.index = newIndex()
	w.mu.vols = make(map[uint64]*viewed)
	return w
}

// refresh looks for what has changed since the last one.
func (w *view) refresh() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed {
		return objstore.ErrClosed
	}
	numbers, _, err := volumeFiles(w.dir)
	if err != nil {
		return err
	}
	there := make(map[uint64]bool, len(numbers))
	for _, number := range numbers {
		there[number] = true
		if err := w.lookLocked(number); err != nil {
			return err
		}
	}
	for number, vol := range w.mu.vols {
		if !there[number] {
			w.forgetLocked(vol)
		}
	}
	return nil
}

func (w *view) lookLocked(number uint64) error {
	vol := w.mu.vols[number]
	if vol == nil {
		path := volumePath(w.dir, number)
		f, err := os.Open(path) //nolint:gosec // a name of ours
		if errors.Is(err, iofs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		size := min(info.Size(), maxVolumeBytes) &^ (blockBytes - 1)
		vol = &viewed{volume: &volume{path: path, number: number, file: f, size: size}, end: blockBytes}
		w.mu.vols[number] = vol
	}
	for range maxLooks {
		header, err := readVolumeHeader(vol.file)
		if errors.Is(err, errVolume) {
			header, err = latestGeneration(vol.file, vol.size)
			if err == nil && vol.generation == 0 {
				vol.suspect = true
			}
		}
		if err != nil {
			return err
		}
		if header.generation != vol.generation {
			w.dropLocked(vol)
			vol.volumeHeader, vol.end = volumeHeader{generation: header.generation, serial: header.serial}, blockBytes
		} else if vol.sealed {
			return nil // as it was, but for dead marks, which are looked at with each read
		}
		if err := w.scanLocked(vol, header.sealed); err != nil {
			return err
		}
		again, err := readVolumeHeader(vol.file)
		if vol.suspect || err == nil && again.generation == header.generation {
			vol.sealed = header.sealed
			return nil
		}
	}
	w.dropLocked(vol) // reused again and again: nothing in it stays long enough to be read
	vol.volumeHeader = volumeHeader{}
	return nil
}

// scanLocked adds what is new. A volume that is being written to is scanned anew from the first record that is not whole
// yet, or the first hole: either may be whole later.
func (w *view) scanLocked(vol *viewed, sealed bool) error {
	known := vol.end
	gap := false
	scan := volumeScan{file: vol.file, size: vol.size, generation: vol.generation, verify: !sealed}
	_, err := scan.run(vol.end, func(h recordHeader, torn bool) {
		if torn || h.off != known {
			gap = true
		}
		if !gap {
			known = h.end()
		}
		if torn || h.dead {
			return
		}
		r := &record{recordHeader: h, vol: vol.volume}
		if other := w.mu.index.byKey[r.key]; other != nil {
			if other.seq >= r.seq {
				return
			}
			w.mu.index.drop(other)
		}
		w.mu.index.add(r)
	})
	vol.end = known
	return err
}

func (w *view) dropLocked(vol *viewed) {
	for _, r := range w.mu.index.byKey {
		if r.vol == vol.volume {
			w.mu.index.drop(r)
		}
	}
}

func (w *view) forgetLocked(vol *viewed) {
	w.dropLocked(vol)
	delete(w.mu.vols, vol.number)
	vol.gone = true
	if vol.pins == 0 {
		_ = vol.file.Close()
	}
}

// pin returns the record of key as last looked at, whose volume stays open until unpin; nil if there is none.
func (w *view) pin(key string) (*record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed {
		return nil, objstore.ErrClosed
	}
	r := w.mu.index.byKey[key]
	if r != nil {
		r.vol.pins++
	}
	return r, nil
}

func (w *view) unpin(r *record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.vol.pins--; r.vol.pins == 0 && r.vol.gone {
		_ = r.vol.file.Close()
	}
}

// forget drops a record that is not there any more.
func (w *view) forget(r *record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.index.byKey[r.key] == r {
		w.mu.index.drop(r)
	}
}

// alive tells whether the record is there, and not dead.
func (r *record) alive() (bool, error) {
	p := make([]byte, r.bytes())
	if _, err := r.vol.file.ReadAt(p, r.off); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	h, ok := decodeRecordHeader(p, r.generation, r.off, r.vol.size)
	return ok && !h.dead && h.same(&r.recordHeader), nil
}

// unchanged tells whether nothing of the record's generation has been overwritten yet.
func (r *record) unchanged() bool {
	if r.vol.suspect {
		ok, err := r.alive() // nobody writes to such a volume
		return ok && err == nil
	}
	h, err := readVolumeHeader(r.vol.file)
	return err == nil && h.generation == r.generation
}

// read calls use with a record of key that is alive, and again with another one if that was overwritten meanwhile. It
// tells whether there was one that stayed.
func (w *view) read(key string, use func(*record) error) (bool, error) {
	for range maxLooks {
		r, err := w.pin(key)
		if r == nil {
			return false, err
		}
		done, err := func() (bool, error) {
			defer w.unpin(r)
			if ok, err := r.alive(); !ok || err != nil {
				return false, err
			}
			useErr := use(r)
			return r.unchanged(), useErr
		}()
		if done {
			return true, err
		}
		w.forget(r)
		if err := w.refresh(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// list returns what [index.after] has, without what is dead by now.
func (w *view) list(prefix, after string, limit int) ([]objstore.Info, error) {
	if err := w.refresh(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var alive []*record
	for len(alive) < limit {
		some := w.mu.index.after(prefix, after, limit)
		if len(some) == 0 {
			break
		}
		after = some[len(some)-1].key
		for _, r := range some {
			ok, err := r.alive()
			if err != nil {
				return nil, err
			}
			if !ok {
				w.mu.index.drop(r)
			} else if alive = append(alive, r); len(alive) == limit {
				break
			}
		}
	}
	return listed(alive), nil
}

func (w *view) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.closed = true
	for _, vol := range w.mu.vols {
		vol.gone = true
		if vol.pins == 0 {
			_ = vol.file.Close()
		}
	}
}
