package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// maxChunkBlocks bounds one ranged GET: 4 MiB.
const maxChunkBlocks = 16

// Defaults of Config.
const (
	DefaultBytes            = 64 << 20
	DefaultFooterBytes      = 8 << 20
	DefaultReadAhead        = 4 << 20
	DefaultReadAheadFlights = 4
	DefaultObjectFlights    = 16
)

// ErrClosed says that the cache was closed.
var ErrClosed = errors.New("block cache is closed")

// CorruptError says that a block of an object is not what was written. It wraps segment.ErrCorrupt. The block is
// not cached: the next read of it asks the store again.
type CorruptError struct {
	Key   string
	Block int64 // which one of segment.BlockSize bytes
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read block %d of object %s: its checksum does not match: the object is damaged in the store",
		e.Block, e.Key)
}

// Unwrap returns segment.ErrCorrupt.
func (e *CorruptError) Unwrap() error { return segment.ErrCorrupt }

// Hooks are told what happens, for metrics. Any may be nil. They are called without locks and must be quick.
type Hooks struct {
	Hit  func(blocks int)
	Miss func(blocks int) // blocks that had to be waited for
	Read func(bytes int)  // fetched from the store, read-ahead and footers included
}

// Stats is what a Cache holds, and what it has done since it was made.
type Stats struct {
	Bytes   int64 // memory of all counted chunks: cached, being loaded, and dropped but still pinned
	Reads   int64 // ranges asked for; what a Read repeats, it counts again
	Evicted int64 // blocks dropped to make room for others
}

// Config configures a Cache. Zero values take the defaults.
type Config struct {
	Store segment.RangeReader
	Pool  *slab.Pool
	// Bytes bounds the memory of blocks, see the package's invariants.
	Bytes int64
	// FooterBytes bounds the memory of cached footers; one that is larger alone is not cached.
	FooterBytes int64
	Hooks       Hooks
	// ReadAhead is the window of one stream in bytes, at most 4 MiB; negative turns read-ahead off.
	ReadAhead int
	// ReadAheadFlights is how many read-aheads are under way at once.
	ReadAheadFlights int
	// ObjectFlights is how many objects are got at once for readers that are still in others ([Cache.Ahead]).
	ObjectFlights int
}

// Cache is a block cache. Its methods are safe for concurrent use.
type Cache struct {
	store    segment.RangeReader
	pool     *slab.Pool
	hooks    Hooks
	bytes    int64
	ahead    int64 // window in blocks; 0 = off
	maxAhead int
	// maxObjects bounds coming.
	maxObjects int
	footers    footers
	ctx        context.Context // of loads: they outlive the reader that started them
	cancel     context.CancelFunc
	loads      sync.WaitGroup
	closeOnce  sync.Once

	mu struct {
		sync.Mutex
		closed    bool
		objects   map[catalog.ObjectID]map[int64]*chunk // by block; one chunk is under each of its blocks
		stats     Stats
		probation ring
		protected ring
		aheads    int
		coming    map[catalog.ObjectID]struct{} // for readers that are still in other objects
		streams   streams
	}
}

// New returns a cache. Close must be called.
func New(cfg Config) *Cache {
	c := &Cache{store: cfg.Store, pool: cfg.Pool, hooks: cfg.Hooks, bytes: cfg.Bytes, maxAhead: cfg.ReadAheadFlights}
	if c.bytes <= 0 {
		c.bytes = DefaultBytes
	}
	window := int64(cfg.ReadAhead)
	if window == 0 {
		window = DefaultReadAhead
	}
	if window > 0 {
		c.ahead = min(max(window/segment.BlockSize, 1), maxChunkBlocks)
	}
	if c.maxAhead <= 0 {
		c.maxAhead = DefaultReadAheadFlights
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if c.maxObjects = cfg.ObjectFlights; c.maxObjects <= 0 {
		c.maxObjects = DefaultObjectFlights
	}
	c.mu.objects = make(map[catalog.ObjectID]map[int64]*chunk)
	c.mu.coming = make(map[catalog.ObjectID]struct{})
	c.mu.probation.init()
	c.mu.protected.init()
	c.footers.init(c, cfg.FooterBytes)
	return c
}

// Close cancels loads, waits for them and drops everything. What is pinned stays valid until released.
func (c *Cache) Close() {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.mu.closed = true
		c.mu.Unlock()
		c.cancel()
		c.loads.Wait()
		c.Clear()
	})
}

// Clear drops everything, footers included, for an owner that expects no reads soon. What is pinned or being loaded stays
// until it is let go of; what is read next comes from the store. Nothing of it counts as evicted.
func (c *Cache) Clear() {
	c.mu.Lock()
	c.clearLocked()
	c.mu.Unlock()
	c.footers.clear()
}

func (c *Cache) clearLocked() {
	for _, blocks := range c.mu.objects {
		for _, ch := range blocks {
			c.uncacheLocked(ch)
		}
	}
}

// Drop forgets an object that was deleted. Readers that pinned parts of it keep them.
func (c *Cache) Drop(id catalog.ObjectID) {
	c.mu.Lock()
	for _, ch := range c.mu.objects[id] {
		c.uncacheLocked(ch)
	}
	c.mu.Unlock()
	c.footers.drop(id)
}

// Stats tells what there is now.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.stats
}

// Read appends slices to dst that hold bytes [off, off+n) of the object, which must lie before the footer. They are
// valid until dst.Release. After an error dst is as before. Errors are those of the store, ctx's, [ErrClosed], or a
// [*CorruptError].
//
// size and footer must be the object's: the footer as Footer returned it.
func (c *Cache) Read(
	ctx context.Context, id catalog.ObjectID, key string, size int64, footer *segment.Footer, off, n int64, dst *Pinned,
) error {
	if size != footer.Size() || off < 0 || n < 0 || off > footer.DataEnd()-n {
		return fmt.Errorf("read object %s: %w: bytes [%d,%d) of %d, %d of them data", key, segment.ErrInvalid,
			off, off+n, size, footer.DataEnd())
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read object %s: %w", key, err)
	}
	if n == 0 {
		return nil
	}
	r := request{id: id, key: key, footer: footer, off: off, end: off + n, ctx: ctx}
	var room [8]part
	parts, hits, misses, err := c.lookup(&r, room[:0])
	if err != nil {
		return err
	}
	c.tell(hits, misses)
	mark := len(dst.Slices)
	if err := c.collect(ctx, &r, parts, dst); err != nil {
		dst.truncate(mark)
		return err
	}
	return nil
}

func (c *Cache) tell(hits, misses int) {
	if hits > 0 && c.hooks.Hit != nil {
		c.hooks.Hit(hits)
	}
	if misses > 0 && c.hooks.Miss != nil {
		c.hooks.Miss(misses)
	}
}

// request is one Read.
type request struct {
	id       catalog.ObjectID
	key      string
	footer   *segment.Footer
	off, end int64           // bytes
	ctx      context.Context // of who asks: its values go with the GETs
}

// part is the bytes [from, to) of an object that one chunk gives to a request.
type part struct {
	ch       *chunk
	from, to int64
}

func (r *request) lastBlock() int64 { return (r.end - 1) / segment.BlockSize }

// lookup appends the parts that make up the request, in order, each with a reference to its chunk for the caller.
// Missing chunks are created, and loads for them started, except for uncounted ones, which the caller loads.
func (c *Cache) lookup(r *request, parts []part) (_ []part, hits, misses int, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, 0, 0, fmt.Errorf("read object %s: %w", r.key, ErrClosed)
	}
	c.mu.stats.Reads++
	last := r.lastBlock()
	for b := r.off / segment.BlockSize; b <= last; {
		blocks := c.mu.objects[r.id]
		ch := blocks[b]
		var end int64
		if ch != nil {
			end = min(ch.endOfGood(b), last+1)
			if ch.loaded && !ch.waited {
				hits += int(end - b)
			} else {
				misses += int(end - b)
			}
			ch.waited = false
			c.touchLocked(ch, r.off)
		} else {
			end = b + 1
			for end-b < maxChunkBlocks && end <= last && blocks[end] == nil {
				end++
			}
			misses += int(end - b)
			ch = c.createLocked(r, b, int(end-b), true)
			ch.lastStart = r.off
			if ch.counted {
				c.startLocked(r.ctx, ch, false)
			}
		}
		ch.refs++
		parts = append(parts, part{
			ch: ch, from: max(r.off, b*segment.BlockSize), to: min(r.end, end*segment.BlockSize),
		})
		b = end
	}
	c.readAheadLocked(r)
	return parts, hits, misses, nil
}

// collect waits for the chunks, whose references it takes over, and appends their bytes.
func (c *Cache) collect(ctx context.Context, r *request, parts []part, dst *Pinned) error {
	dst.cache = c
	for i, p := range parts {
		if err := c.await(ctx, p.ch); err != nil {
			c.unrefParts(parts[i:])
			return fmt.Errorf("read object %s: %w", r.key, err)
		}
		if b, bad := p.ch.firstBad(p.from, p.to); bad {
			c.unrefParts(parts[i:])
			return &CorruptError{Key: r.key, Block: b}
		}
		start := p.ch.first * segment.BlockSize
		dst.Slices = append(dst.Slices, p.ch.buf.Bytes()[p.from-start:p.to-start:p.to-start])
		dst.chunks = append(dst.chunks, p.ch)
	}
	return nil
}

// await returns once ch is loaded, loading it if nobody else will.
func (c *Cache) await(ctx context.Context, ch *chunk) error {
	if !ch.counted {
		c.load(ctx, ch)
		return ch.err
	}
	select {
	case <-ch.done:
		return ch.err
	default:
	}
	select {
	case <-ch.done:
		return ch.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pinned holds slices of cached chunks. The zero value is empty; it may be used again after Release, which then saves
// allocations. Not safe for concurrent use.
type Pinned struct {
	// Slices are what was read, in order. They must not be written to, nor used after Release.
	Slices [][]byte

	chunks []*chunk // one for each slice
	cache  *Cache
}

// Release gives the slices back. Releasing twice is harmless.
func (p *Pinned) Release() { p.truncate(0) }

func (p *Pinned) truncate(n int) {
	if len(p.chunks) > n {
		p.cache.unref(p.chunks[n:])
		clear(p.chunks[n:])
		clear(p.Slices[n:])
		p.chunks, p.Slices = p.chunks[:n], p.Slices[:n]
	}
}
