package cache

import (
	"context"
	"fmt"
	"hash/crc32"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/slab"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunk is consecutive blocks of one object in one buffer.
type chunk struct {
	id     catalog.ObjectID
	key    string
	footer *segment.Footer
	first  int64 // block
	blocks int
	length int64 // bytes; the last block of an object may be short
	buf    *slab.Buf
	charge int64 // bytes of memory

	// counted: it is charged to the budget and was put under the object's blocks. Set once.
	counted bool
	// done is closed when loading ended; err and bad may be read then. An uncounted chunk is its reader's alone and
	// has none.
	done chan struct{}
	err  error
	bad  uint32 // bit i: block first+i does not match its checksum

	// Guarded by Cache.mu.
	refs       int   // readers, the load, and being in the cache
	cached     bool  // it is in a list, and under those of its blocks that are not bad
	loaded     bool  // done without error
	waited     bool  // its first reader waited for it although it finds it here
	lastStart  int64 // byte offset in the object where the last read of it started
	prev, next *chunk
	ring       *ring
}

func (ch *chunk) endBlock() int64 { return ch.first + int64(ch.blocks) }

// endOfGood is where the blocks from b on end of which none is known to be bad. Cache.mu must be held.
func (ch *chunk) endOfGood(b int64) int64 {
	if ch.loaded && ch.bad != 0 {
		for e := b; e < ch.endBlock(); e++ {
			if ch.bad&(1<<(e-ch.first)) != 0 {
				return e
			}
		}
	}
	return ch.endBlock()
}

// firstBad tells the first bad block among those that hold bytes [from, to) of the object.
func (ch *chunk) firstBad(from, to int64) (block int64, bad bool) {
	if ch.bad == 0 {
		return 0, false
	}
	for b := from / segment.BlockSize; b*segment.BlockSize < to; b++ {
		if ch.bad&(1<<(b-ch.first)) != 0 {
			return b, true
		}
	}
	return 0, false
}

// chargeOf is the memory of a buffer for so many blocks: slab's classes are a block apart up to 2 MiB, then two.
func chargeOf(blocks int) int64 {
	if blocks > 8 {
		blocks = (blocks + 1) / 2 * 2
	}
	return int64(blocks) * segment.BlockSize
}

// createLocked makes a chunk of n missing blocks, without its memory: load gets that. If the budget has no room for
// it and nothing can be evicted, it is uncounted, or nil unless through is set. Its references are those of the cache.
func (c *Cache) createLocked(r *request, first int64, n int, through bool) *chunk {
	charge := chargeOf(n)
	fits := c.reserveLocked(charge, through)
	if !fits && !through {
		return nil
	}
	ch := &chunk{id: r.id, key: r.key, footer: r.footer, first: first, blocks: n, charge: charge, lastStart: -1}
	ch.length = min(int64(n)*segment.BlockSize, r.footer.DataEnd()-first*segment.BlockSize)
	if !fits {
		return ch
	}
	ch.counted, ch.cached, ch.refs = true, true, 1
	ch.done = make(chan struct{})
	blocks := c.mu.objects[r.id]
	if blocks == nil {
		blocks = make(map[int64]*chunk)
		c.mu.objects[r.id] = blocks
	}
	for b := first; b < ch.endBlock(); b++ {
		blocks[b] = ch
	}
	c.mu.probation.pushFront(ch)
	return ch
}

// reserveLocked charges n bytes, evicting what nobody uses; what is protected only if it must.
func (c *Cache) reserveLocked(n int64, must bool) (ok bool) {
	if n > c.bytes {
		return false
	}
	for _, l := range [...]*ring{&c.mu.probation, &c.mu.protected} {
		if l == &c.mu.protected && !must {
			break
		}
		for ch := l.root.prev; ch != &l.root && c.mu.stats.Bytes+n > c.bytes; {
			before := ch.prev
			if ch.refs == 1 { // only the cache: evicting frees its memory
				c.mu.stats.Evicted += int64(ch.blocks)
				c.uncacheLocked(ch)
			}
			ch = before
		}
	}
	if c.mu.stats.Bytes+n > c.bytes {
		return false
	}
	c.mu.stats.Bytes += n
	return true
}

// touchLocked notes a read that starts at byte start of the object (which may be before the chunk). Steps of one
// consumer start later and later, however they are cut, so a start not after the last one is another pass.
func (c *Cache) touchLocked(ch *chunk, start int64) {
	again := start <= ch.lastStart
	ch.lastStart = start
	if !ch.cached {
		return
	}
	if !again || ch.ring == &c.mu.protected {
		ch.ring.moveFront(ch)
		return
	}
	ch.ring.remove(ch)
	c.mu.protected.pushFront(ch)
	for c.mu.protected.bytes > c.bytes/5*4 && c.mu.protected.root.prev != ch {
		old := c.mu.protected.root.prev
		c.mu.protected.remove(old)
		c.mu.probation.pushFront(old)
	}
}

// uncacheLocked takes a chunk out of the cache, if it is in it.
func (c *Cache) uncacheLocked(ch *chunk) {
	if !ch.cached {
		return
	}
	ch.cached = false
	ch.ring.remove(ch)
	c.unmapLocked(ch, ^uint32(0))
	c.unrefLocked(ch)
}

// unmapLocked forgets those blocks of ch whose bits are set.
func (c *Cache) unmapLocked(ch *chunk, which uint32) {
	blocks := c.mu.objects[ch.id]
	for i := range ch.blocks {
		if which&(1<<i) != 0 && blocks[ch.first+int64(i)] == ch {
			delete(blocks, ch.first+int64(i))
		}
	}
	if len(blocks) == 0 {
		delete(c.mu.objects, ch.id)
	}
}

func (c *Cache) unrefLocked(ch *chunk) {
	if ch.refs--; ch.refs > 0 {
		return
	}
	if ch.counted {
		c.mu.stats.Bytes -= ch.charge
	}
	ch.buf.Release()
	ch.buf = nil
}

func (c *Cache) unref(chunks []*chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range chunks {
		c.unrefLocked(ch)
	}
}

func (c *Cache) unrefParts(parts []part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range parts {
		c.unrefLocked(p.ch)
	}
}

// startLocked loads a counted chunk in the background, as a read-ahead or for readers.
func (c *Cache) startLocked(reader context.Context, ch *chunk, ahead bool) {
	ch.refs++
	if ahead {
		c.mu.aheads++
	}
	c.loads.Go(func() {
		c.load(c.loading(reader), ch)
		c.loaded(ch, ahead)
	})
}

// loading is the context of a load: it ends with the cache, not with the reader, whose values it has.
func (c *Cache) loading(reader context.Context) context.Context {
	return loadContext{Context: c.ctx, reader: reader}
}

type loadContext struct {
	context.Context

	reader context.Context
}

// Value is the reader's, but for those by which contexts find the one that ends them.
func (l loadContext) Value(key any) any {
	if v := l.Context.Value(key); v != nil {
		return v
	}
	return l.reader.Value(key)
}

// load gets memory, fetches and verifies.
func (c *Cache) load(ctx context.Context, ch *chunk) {
	ch.buf = c.pool.Get(int(ch.length))
	p := ch.buf.Bytes()
	if err := c.store.GetRange(ctx, ch.key, ch.first*segment.BlockSize, p); err != nil {
		if c.ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrClosed, err)
		}
		ch.err = err
		return
	}
	ch.verify()
	if c.hooks.Read != nil {
		c.hooks.Read(len(p))
	}
}

// loaded publishes a counted chunk.
func (c *Cache) loaded(ch *chunk, ahead bool) {
	c.mu.Lock()
	if ahead {
		c.mu.aheads--
	}
	if ch.err != nil {
		c.uncacheLocked(ch)
	} else {
		ch.loaded = true
		if ch.bad != 0 && ch.cached {
			c.dropBadLocked(ch)
		}
	}
	c.unrefLocked(ch)
	c.mu.Unlock()
	close(ch.done)
}

// dropBadLocked takes bad blocks out of the cache, and the chunk if it has no others.
func (c *Cache) dropBadLocked(ch *chunk) {
	if ch.bad == 1<<ch.blocks-1 {
		c.uncacheLocked(ch)
		return
	}
	c.unmapLocked(ch, ch.bad)
}

// ring is a doubly linked ring of cached chunks, most recently used first.
type ring struct {
	root  chunk
	bytes int64
}

func (l *ring) init() { l.root.prev, l.root.next = &l.root, &l.root }

func (l *ring) pushFront(ch *chunk) {
	ch.ring = l
	l.bytes += ch.charge
	l.link(ch)
}

func (l *ring) link(ch *chunk) {
	ch.prev, ch.next = &l.root, l.root.next
	ch.prev.next, ch.next.prev = ch, ch
}

func (l *ring) remove(ch *chunk) {
	l.bytes -= ch.charge
	ch.prev.next, ch.next.prev = ch.next, ch.prev
	ch.prev, ch.next, ch.ring = nil, nil, nil
}

func (l *ring) moveFront(ch *chunk) {
	if l.root.next == ch {
		return
	}
	ch.prev.next, ch.next.prev = ch.next, ch.prev
	l.link(ch)
}
