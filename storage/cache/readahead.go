package cache

import (
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

const (
	streamSets = 64
	streamWays = 4
)

// stream is one reader's way through one object.
type stream struct {
	id       catalog.ObjectID
	off, end int64  // bytes of its last read
	ahead    int64  // the block up to which it was fetched
	used     uint64 // when, in reads; 0 = unused
}

// streams remembers the last readers: a small set-associative table, so that it needs no memory per object.
type streams struct {
	table [streamSets][streamWays]stream
	clock uint64
}

// find returns the stream that a read of bytes [off, end) continues. If there is none it remembers the read as the
// possible start of one, and fresh is true. A consumer comes back to where its last answer was cut: after the start
// of its last read, and not beyond its end.
func (s *streams) find(id catalog.ObjectID, off, end int64) (_ *stream, fresh bool) {
	s.clock++
	set := &s.table[uint64(id)%streamSets]
	oldest := &set[0]
	for i := range set {
		st := &set[i]
		if st.id == id && st.off < off && off <= st.end {
			st.off, st.end, st.used = off, max(st.end, end), s.clock
			return st, false
		}
		if st.used < oldest.used {
			oldest = st
		}
	}
	*oldest = stream{id: id, off: off, end: end, used: s.clock}
	return oldest, true
}

// readAheadLocked starts a fetch of what r's stream will read next, if it is one and is short of it.
func (c *Cache) readAheadLocked(r *request) {
	if c.ahead == 0 {
		return
	}
	st, fresh := c.mu.streams.find(r.id, r.off, r.end)
	next := r.lastBlock() + 1
	st.ahead = max(st.ahead, next)
	if fresh || st.ahead-next > c.ahead/2 || c.mu.aheads >= c.maxAhead {
		return
	}
	// To the end of the extent, and not beyond: what follows belongs to another partition.
	limit := (r.footer.ExtentEnd(r.end-1) + segment.BlockSize - 1) / segment.BlockSize
	blocks := c.mu.objects[r.id]
	first := st.ahead
	for first < limit && first < next+c.ahead && blocks[first] != nil { // another stream was here
		first++
	}
	n := 0
	for int64(n) < c.ahead && first+int64(n) < limit && blocks[first+int64(n)] == nil {
		n++
	}
	st.ahead = first
	if n == 0 || first > next+c.ahead/2 {
		return
	}
	ch := c.createLocked(r, first, n, false)
	if ch == nil {
		return
	}
	st.ahead = ch.endBlock()
	c.startLocked(r.ctx, ch, true)
}
