package fs

import "sync"

// warmShare of the memory is how much of what was written as files stays in the system's page cache, unless Options say
// otherwise.
const warmShare = 8

// warm bounds how much of the page cache the store's own writing fills. Readers who fall out of the broker's caches
// mostly want what was written lately, so that is kept; what is older is given back, and the next write takes the very
// pages. Without a bound, a log written once and seldom read again pushes everything else out of memory, and every
// write needs a page that was not in use: on a virtual machine that gives idle memory back to its host that is several
// times the cost of writing it (docs/adr/0017).
type warm struct {
	limit int64              // bytes; 0 = no bound
	drop  func(string) error // tells the system that a file's pages are not needed

	mu struct {
		sync.Mutex

		fifo  []warmFile // oldest first
		bytes int64
	}
}

type warmFile struct {
	name string
	size int64
}

func newWarm(limit int64) *warm {
	if limit == 0 {
		limit = memoryBytes() / warmShare
	}
	return &warm{limit: max(limit, 0), drop: dropPages}
}

// add notes a file just written and synced, and lets go of the oldest. One that was deleted meanwhile counts until it
// is the oldest: its pages are gone already, and too little is kept rather than too much. Failing does no harm.
func (w *warm) add(name string, size int64) {
	if w.limit == 0 {
		return
	}
	var old []warmFile
	w.mu.Lock()
	w.mu.fifo = append(w.mu.fifo, warmFile{name, size})
	w.mu.bytes += size
	n := 0
	for w.mu.bytes > w.limit && n < len(w.mu.fifo) {
		w.mu.bytes -= w.mu.fifo[n].size
		n++
	}
	if n > 0 {
		old = append(old, w.mu.fifo[:n]...)
		clear(w.mu.fifo[:n])
		w.mu.fifo = w.mu.fifo[n:]
	}
	w.mu.Unlock()
	for _, f := range old {
		_ = w.drop(f.name)
	}
}
