package storage

// CacheStats is what the engine's two caches hold, and what they have done since it was opened.
type CacheStats struct {
	TailBytes   int64 // memory of uploaded buffers that are kept; buffers that only a reader still pins are not in it
	TailMissed  int64 // ranges the tail cache could not answer, so that the block cache was asked
	TailEvicted int64 // log objects dropped to make room; folded ones, which no read asks for again, are not in it

	BlockBytes   int64 // memory of blocks: cached, being loaded, and dropped but still pinned
	BlockEvicted int64 // blocks dropped to make room
}

// CacheStats tells what there is now. It is asked for when somebody wants to know (a scrape), so that reads and commits
// pay nothing for it and no figure can lag behind the cache, whichever way it was emptied. Safe for concurrent use, also
// after Close.
func (e *Engine) CacheStats() CacheStats {
	held, evicted := e.tail.stats()
	blocks := e.blocks.Stats()
	return CacheStats{
		TailBytes: held, TailMissed: blocks.Reads, TailEvicted: evicted,
		BlockBytes: blocks.Bytes, BlockEvicted: blocks.Evicted,
	}
}

// DropBlocks empties the block cache, for a broker that has become idle. The tail cache is left alone: it empties itself
// as the tail is folded, and until then a merge would have to read again what it keeps.
func (e *Engine) DropBlocks() { e.blocks.Clear() }
