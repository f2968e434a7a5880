package cache

import (
	"context"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// aheadBlocks is how much of one object is got for a reader that is still in another: reading it, it becomes a stream, and
// read-ahead within the object goes on from there.
const aheadBlocks = 4

// Span is bytes [Pos, Pos+Len) of an object that will be read soon.
type Span struct {
	ID       catalog.ObjectID
	Key      string
	Size     int64 // of the object
	Pos, Len int64
}

// Cost is about how many bytes Ahead gets for the span.
func (s *Span) Cost() int64 {
	if s.Size <= wholeBytes {
		return s.Size
	}
	return min((s.last()-s.first()+1)*segment.BlockSize, s.Size)
}

func (s *Span) first() int64 { return s.Pos / segment.BlockSize }
func (s *Span) last() int64 {
	return min((s.Pos+s.Len-1)/segment.BlockSize, s.first()+aheadBlocks-1)
}

// Ahead begins to get what is missing of the spans, in their order, each by a flight of its own, as far as flights are left.
// It does not wait, takes only values from ctx, and what fails is for the reader to find. Room is made only from what no reader uses or is likely to use
// again.
func (c *Cache) Ahead(ctx context.Context, spans []Span) {
	for i := range spans {
		s := &spans[i]
		c.mu.Lock()
		if c.mu.closed || len(c.mu.coming) >= c.maxObjects {
			c.mu.Unlock()
			return
		}
		_, coming := c.mu.coming[s.ID]
		start := !coming && s.Len > 0 && !c.hasLocked(s)
		if start {
			c.mu.coming[s.ID] = struct{}{}
			c.loads.Add(1)
		}
		c.mu.Unlock()
		if start {
			go c.fetchAhead(c.loading(ctx), *s)
		}
	}
}

// hasLocked tells whether all blocks of a span are in memory, or on their way.
func (c *Cache) hasLocked(s *Span) bool {
	blocks := c.mu.objects[s.ID]
	if blocks == nil {
		return false
	}
	for b := s.first(); b <= s.last(); b++ {
		if blocks[b] == nil {
			return false
		}
	}
	return true
}

func (c *Cache) fetchAhead(ctx context.Context, s Span) {
	defer c.loads.Done()
	defer func() {
		c.mu.Lock()
		delete(c.mu.coming, s.ID)
		c.mu.Unlock()
	}()
	footer, err := c.open(ctx, s.ID, s.Key, s.Size, aheadData)
	if err != nil || s.Pos+s.Len > footer.DataEnd() {
		return
	}
	for _, ch := range c.startMissing(ctx, &s, footer) {
		<-ch.done
	}
}

// startMissing starts loads of the blocks of a span that are not there.
func (c *Cache) startMissing(ctx context.Context, s *Span, footer *segment.Footer) (started []*chunk) {
	r := request{id: s.ID, key: s.Key, footer: footer}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil
	}
	for b := s.first(); b <= s.last(); {
		if c.mu.objects[s.ID][b] != nil {
			b++
			continue
		}
		end := b + 1
		for end <= s.last() && c.mu.objects[s.ID][end] == nil {
			end++
		}
		ch := c.createLocked(&r, b, int(end-b), false)
		if ch == nil {
			break
		}
		c.startLocked(ctx, ch, false)
		started = append(started, ch)
		b = end
	}
	return started
}
