package cache

import (
	"context"
	"fmt"
	"hash/crc32"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// wholeBytes: an object up to this size is got in one piece, footer and data in one GET. At the block size that a read of
// any of it costs anyway, that is at most twice the bytes, and half the round trips.
const wholeBytes = 2 * segment.BlockSize

// footerInUse is the footer of an object of which blocks are in memory: they keep it alive in any case.
func (c *Cache) footerInUse(id catalog.ObjectID) *segment.Footer {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.mu.objects[id] {
		return ch.footer
	}
	return nil
}

// fetch gets a footer from the store, and the data with it if that is wanted and there is room.
func (c *Cache) fetch(ctx context.Context, id catalog.ObjectID, key string, size int64, what opening) (*segment.Footer, error) {
	if what != footerOnly && size > 0 && size <= wholeBytes {
		if charge := wholeCharge(size); c.reserve(charge, what == withData) {
			return c.fetchWhole(ctx, id, key, size, charge, what == withData)
		}
	}
	return segment.ReadFooter(ctx, countingReader{c}, key, size)
}

// wholeCharge is at least the memory of a buffer of size bytes: slab's classes are up to a quarter apart.
func wholeCharge(size int64) int64 { return max(size+size/4, 4<<10) }

func (c *Cache) reserve(n int64, must bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.mu.closed && c.reserveLocked(n, must)
}

// fetchWhole gets a small object into memory that was reserved for it, and caches its data as one chunk. waited: a reader
// waits for it.
func (c *Cache) fetchWhole(ctx context.Context, id catalog.ObjectID, key string, size, charge int64, waited bool) (*segment.Footer, error) {
	buf := c.pool.Get(int(size))
	ch, err := c.readWhole(ctx, buf, id, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.mu.closed || c.mu.objects[id] != nil || !c.reserveLocked(ch.footer.MemBytes(), waited) {
		c.mu.stats.Bytes -= charge
		buf.Release()
		if err != nil {
			return nil, err
		}
		return ch.footer, nil
	}
	// What many partitions say of themselves in the footer may be more than their data.
	ch.charge, ch.waited = charge+ch.footer.MemBytes(), waited
	blocks := make(map[int64]*chunk, ch.blocks)
	for b := range int64(ch.blocks) {
		blocks[b] = ch
	}
	c.mu.objects[id] = blocks
	c.mu.probation.pushFront(ch)
	if ch.bad != 0 {
		c.dropBadLocked(ch)
	}
	return ch.footer, nil
}

func (c *Cache) readWhole(ctx context.Context, buf *slab.Buf, id catalog.ObjectID, key string) (*chunk, error) {
	p := buf.Bytes()
	if err := (countingReader{c}).GetRange(ctx, key, 0, p); err != nil {
		if c.ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrClosed, err)
		}
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	footer, err := segment.OpenFooter(p)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	ch := &chunk{
		id: id, key: key, footer: footer, blocks: footer.Blocks(), length: footer.DataEnd(), buf: buf, lastStart: -1,
		counted: true, cached: true, loaded: true, refs: 1, done: loadedAlready,
	}
	ch.verify()
	return ch, nil
}

// loadedAlready is closed.
var loadedAlready = func() chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

// verify compares each block with its checksum.
func (ch *chunk) verify() {
	p := ch.buf.Bytes()[:ch.length]
	for i := range ch.blocks {
		block := p[i*segment.BlockSize : min((i+1)*segment.BlockSize, len(p))]
		if crc32.Checksum(block, castagnoli) != ch.footer.BlockSum(int(ch.first)+i) {
			ch.bad |= 1 << i
		}
	}
}
