package storage

import "sync"

// tailCache keeps the very buffers that were uploaded, oldest out first, within a budget. Only the cache's own
// references are counted here: a reader's pin may outlive the eviction for as long as its answer is being written.
type tailCache struct {
	budget int64
	mu     struct {
		sync.Mutex
		bytes   int64
		evicted int64 // objects, to make room
		fifo    []*tailObject
	}
}

// add caches a committed object that has frames; its first reference is the cache's.
func (c *tailCache) add(o *tailObject) {
	o.refs.Store(1)
	c.mu.Lock()
	c.mu.fifo = append(c.mu.fifo, o)
	c.mu.bytes += o.cached
	out := c.evictLocked()
	c.mu.Unlock()
	release(out)
}

// replace swaps a run of objects for the one they were merged into, at the place of the last.
func (c *tailCache) replace(old []*tailObject, by *tailObject) {
	gone := make(map[*tailObject]bool, len(old))
	for _, o := range old {
		gone[o] = true
	}
	var out []*tailObject
	cached := by.frames != nil // once it is in, others may release it
	c.mu.Lock()
	kept := c.mu.fifo[:0:0]
	at := -1
	for _, o := range c.mu.fifo {
		if gone[o] {
			out = append(out, o)
			c.mu.bytes -= o.cached
			at = len(kept)
			continue
		}
		kept = append(kept, o)
	}
	if cached && at >= 0 {
		by.refs.Store(1)
		kept = append(kept, nil)
		copy(kept[at+1:], kept[at:])
		kept[at] = by
		c.mu.bytes += by.cached
	}
	c.mu.fifo = kept
	out = append(out, c.evictLocked()...)
	c.mu.Unlock()
	release(out)
	if cached && at < 0 { // all inputs were evicted meanwhile: nothing to keep for
		by.refs.Store(1)
		by.Release()
	}
}

// drop evicts objects that no read will ask for again: those that were folded.
func (c *tailCache) drop(old []*tailObject) {
	gone := make(map[*tailObject]bool, len(old))
	for _, o := range old {
		gone[o] = true
	}
	var out []*tailObject
	c.mu.Lock()
	kept := c.mu.fifo[:0:0]
	for _, o := range c.mu.fifo {
		if gone[o] {
			out = append(out, o)
			c.mu.bytes -= o.cached
			continue
		}
		kept = append(kept, o)
	}
	c.mu.fifo = kept
	c.mu.Unlock()
	release(out)
}

func (c *tailCache) evictLocked() []*tailObject {
	n := 0
	for c.mu.bytes > c.budget && n < len(c.mu.fifo) {
		c.mu.bytes -= c.mu.fifo[n].cached
		n++
	}
	c.mu.evicted += int64(n)
	out := append([]*tailObject(nil), c.mu.fifo[:n]...)
	clear(c.mu.fifo[:n])
	c.mu.fifo = c.mu.fifo[n:]
	return out
}

// clear empties the cache.
func (c *tailCache) clear() {
	c.mu.Lock()
	out := c.mu.fifo
	c.mu.fifo, c.mu.bytes = nil, 0
	c.mu.Unlock()
	release(out)
}

func (c *tailCache) bytes() int64 {
	held, _ := c.stats()
	return held
}

// stats are the bytes held now, and the objects dropped so far to make room.
func (c *tailCache) stats() (held, evicted int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.bytes, c.mu.evicted
}

func release(objs []*tailObject) {
	for _, o := range objs {
		o.Release()
	}
}
