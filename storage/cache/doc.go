// Package cache keeps parts of objects in memory for reads that the tail cache cannot answer: footers, and record
// bytes in aligned blocks of segment.BlockSize.
//
// # Chunks
//
// A chunk is one to sixteen consecutive blocks of an object that were fetched by one ranged GET into one counted
// buffer. It is cached, charged and evicted as a whole. Bytes leave the cache as slices of that buffer: nothing is
// copied, and a [Pinned] keeps the chunks it was given alive until it is released.
//
// # Invariants
//
//   - Wrong bytes are never returned. Each block is compared with its checksum in the object's footer when it is
//     loaded; one that differs is dropped and readers of it get a [*CorruptError]. Its neighbours are served.
//   - Config.Bytes bounds the memory of all chunks: cached, being loaded, evicted but still pinned. When nothing can
//     be evicted a read goes through: it gets a buffer of its own that is not cached and not counted, bounded by what
//     the caller asked for. Read-ahead never does that, it is left out.
//   - A block is fetched once: readers that miss a block being loaded wait for it, each no longer than its context
//     lets it. The load belongs to the cache, so a reader that gives up fails nobody else.
//   - No call to the store, the hooks or the pool's memory is made while the mutex is held, except that a chunk's
//     buffer is taken and given back (which does not block).
//
// # Eviction
//
// A segmented LRU. A chunk enters on probation; it is protected once a range of it is read again, which is seen by a
// read that starts at or before the start of the last one: a consumer that goes through an object in whatever steps
// never does that, a second consumer does. The protected part takes at most four fifths of the budget; what falls out
// of it is on probation again. So a replay of a year evicts its own past.
//
// # Read-ahead
//
// A read that starts where an earlier one of the same object ended makes it a stream. Once a stream is closer than
// half a window to the end of what was fetched for it, one more GET of a window is started, up to the end of the
// extent. At most Config.ReadAheadFlights are under way at once, over all streams.
//
// # From object to object
//
// A log of small objects is read by [Cache.Open] and [Cache.Ahead]. An object of up to two blocks is got in one piece: its
// footer, which has the checksums, and its data in one GET. It is charged for its size and its footer's. Ahead gets what a reader
// will want of the objects behind the one it is in, at most Config.ObjectFlights at once over all readers, in memory that
// nobody uses.
//
// # Failure handling
//
// An error of the store fails the readers that wait for that chunk, and nothing of it is cached: the next read tries
// again. [Cache.Close] cancels loads and waits for them; reads after it return [ErrClosed].
package cache
