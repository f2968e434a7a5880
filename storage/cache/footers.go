package cache

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// footers is an LRU of opened footers, bounded by bytes. One flight per miss.
type footers struct {
	c   *Cache
	max int64

	mu struct {
		sync.Mutex
		m     map[catalog.ObjectID]*footerEntry
		lru   list.List // of *footerEntry that are loaded
		bytes int64
	}
}

type footerEntry struct {
	id     catalog.ObjectID
	done   chan struct{} // closed when loaded; footer and err may be read then
	footer *segment.Footer
	err    error
	elem   *list.Element // guarded by footers.mu; nil while loading
}

func (f *footers) init(c *Cache, limit int64) {
	f.c, f.max = c, limit
	if f.max <= 0 {
		f.max = DefaultFooterBytes
	}
	f.mu.m = make(map[catalog.ObjectID]*footerEntry)
}

// Footer returns the footer of an object of size bytes, from memory or from the store. Errors are those of
// segment.ReadFooter, ctx's, or [ErrClosed]; they are not cached.
func (c *Cache) Footer(ctx context.Context, id catalog.ObjectID, key string, size int64) (*segment.Footer, error) {
	return c.open(ctx, id, key, size, footerOnly)
}

// Open is Footer for somebody who will read the object's data, too: of a small object all is got at once.
func (c *Cache) Open(ctx context.Context, id catalog.ObjectID, key string, size int64) (*segment.Footer, error) {
	return c.open(ctx, id, key, size, withData)
}

// opening is what an object is opened for.
type opening int

const (
	footerOnly opening = iota
	withData           // for a reader
	aheadData          // for one that may come: room is made only where that costs nobody anything
)

func (c *Cache) open(ctx context.Context, id catalog.ObjectID, key string, size int64, what opening) (*segment.Footer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read footer of %s: %w", key, err)
	}
	f := &c.footers
	f.mu.Lock()
	e := f.mu.m[id]
	if e != nil {
		if e.elem != nil {
			f.mu.lru.MoveToFront(e.elem)
			f.mu.Unlock()
			return e.footer, nil
		}
	} else {
		if !c.begin() {
			f.mu.Unlock()
			return nil, fmt.Errorf("read footer of %s: %w", key, ErrClosed)
		}
		e = &footerEntry{id: id, done: make(chan struct{})}
		f.mu.m[id] = e
		go f.load(c.loading(ctx), e, key, size, what)
	}
	f.mu.Unlock()
	select {
	case <-e.done:
		return e.footer, e.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read footer of %s: %w", key, ctx.Err())
	}
}

// begin counts a load, unless the cache is closed. Lock order: footers.mu, then Cache.mu.
func (c *Cache) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return false
	}
	c.loads.Add(1)
	return true
}

func (f *footers) load(ctx context.Context, e *footerEntry, key string, size int64, what opening) {
	defer f.c.loads.Done()
	defer close(e.done)
	if e.footer = f.c.footerInUse(e.id); e.footer == nil {
		e.footer, e.err = f.c.fetch(ctx, e.id, key, size, what)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.m[e.id] != e { // dropped meanwhile
		return
	}
	if e.err != nil || e.footer.MemBytes() > f.max {
		delete(f.mu.m, e.id)
		return
	}
	e.elem = f.mu.lru.PushFront(e)
	f.mu.bytes += e.footer.MemBytes()
	for f.mu.bytes > f.max {
		f.removeLocked(f.mu.lru.Back().Value.(*footerEntry))
	}
}

func (f *footers) removeLocked(e *footerEntry) {
	delete(f.mu.m, e.id)
	if e.elem != nil {
		f.mu.lru.Remove(e.elem)
		f.mu.bytes -= e.footer.MemBytes()
	}
}

func (f *footers) drop(id catalog.ObjectID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.mu.m[id]; e != nil {
		f.removeLocked(e)
	}
}

func (f *footers) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.mu.m)
	f.mu.lru.Init()
	f.mu.bytes = 0
}

// countingReader tells the hook what was read.
type countingReader struct{ c *Cache }

func (r countingReader) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	err := r.c.store.GetRange(ctx, key, off, p)
	if err == nil && r.c.hooks.Read != nil {
		r.c.hooks.Read(len(p))
	}
	return err
}
