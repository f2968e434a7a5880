package fs

import (
	"container/list"
	"os"
	"sync"
)

// files keeps the most recently read object files open. A file is closed when it has been dropped or displaced and
// its last reader is done. So at most limit files plus the readers under way are open.
type files struct {
	limit int
	mu    struct {
		sync.Mutex

		byKey  map[string]*openFile
		recent list.List // of *openFile, the most recent in front
		// drops counts calls of drop and close. A file opened before a drop is not kept: its name may have been
		// removed between the opening and now, and nobody would drop it again.
		drops uint64
	}
}

type openFile struct {
	file *os.File
	key  string
	// Guarded by files.mu:
	readers int
	elem    *list.Element // nil once it is no longer kept
}

func newFiles(limit int) *files {
	f := &files{limit: limit}
	f.mu.byKey = make(map[string]*openFile)
	return f
}

// acquire returns the file of key, by open if it is not kept. The caller releases it.
func (f *files) acquire(key string, open func() (*os.File, error)) (*openFile, error) {
	f.mu.Lock()
	if h, ok := f.mu.byKey[key]; ok {
		h.readers++
		f.mu.recent.MoveToFront(h.elem)
		f.mu.Unlock()
		return h, nil
	}
	drops := f.mu.drops
	f.mu.Unlock()

	file, err := open()
	if err != nil {
		return nil, err
	}
	h := &openFile{file: file, key: key, readers: 1}

	f.mu.Lock()
	var displaced []*os.File
	if _, ok := f.mu.byKey[key]; !ok && drops == f.mu.drops {
		h.elem = f.mu.recent.PushFront(h)
		f.mu.byKey[key] = h
		for f.mu.recent.Len() > f.limit {
			displaced = append(displaced, f.removeLocked(f.mu.recent.Back().Value.(*openFile))...)
		}
	} // else another reader was faster and its file is kept; this one is closed on release
	f.mu.Unlock()
	closeAll(displaced)
	return h, nil
}

func (f *files) release(h *openFile) {
	f.mu.Lock()
	h.readers--
	last := h.readers == 0 && h.elem == nil
	f.mu.Unlock()
	if last {
		closeAll([]*os.File{h.file})
	}
}

// drop stops keeping key. It is called after the name was removed.
func (f *files) drop(key string) {
	f.mu.Lock()
	f.mu.drops++
	var unused []*os.File
	if h, ok := f.mu.byKey[key]; ok {
		unused = f.removeLocked(h)
	}
	f.mu.Unlock()
	closeAll(unused)
}

// close stops keeping everything, now and later.
func (f *files) close() {
	f.mu.Lock()
	f.mu.drops++
	f.limit = 0
	var unused []*os.File
	for _, h := range f.mu.byKey {
		unused = append(unused, f.removeLocked(h)...)
	}
	f.mu.Unlock()
	closeAll(unused)
}

// kept returns how many files are kept open.
func (f *files) kept() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.recent.Len()
}

// removeLocked stops keeping h and returns its file if nobody reads it, for the caller to close without the lock.
func (f *files) removeLocked(h *openFile) []*os.File {
	f.mu.recent.Remove(h.elem)
	h.elem = nil
	delete(f.mu.byKey, h.key)
	if h.readers == 0 {
		return []*os.File{h.file}
	}
	return nil
}

// closeAll ignores errors: the files were only read.
func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close()
	}
}
