package attribution

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Client is who fetches: a client id at an address. Safe for concurrent use.
type Client struct {
	b    *Book
	name catalog.GroupClient
	// unread says that something was fetched, by no group that is known, since the catalog was read.
	unread atomic.Bool

	mu struct {
		sync.Mutex
		slots map[catalog.GroupPartition]*Slot
		fresh bool // there are slots that no look has seen
		dead  bool // forgotten: ask for it again
	}

	// A look's own.
	owned map[catalog.GroupPartition]owner
	stale bool      // owned has to be made anew
	idle  bool      // some of its slots were not fetched since the last look
	used  time.Time // when it had slots last
}

// Is tells whether this is the client of that client id, which was asked for with the address that it is compared at.
func (c *Client) Is(id string) bool { return c.name.ID == id }

// Slot returns the partition as fetched by this client; nil if there are too many of them, or the client was forgotten.
func (c *Client) Slot(topic string, partition int32) *Slot {
	at := catalog.GroupPartition{Topic: topic, Partition: partition}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.mu.slots[at]
	switch {
	case s != nil:
		return s
	case c.mu.dead:
		return nil
	case c.b.slots.Add(1) > int64(c.b.cfg.MaxSlots):
		c.b.slots.Add(-1)
		return nil
	}
	s = &Slot{client: c, at: at}
	s.mu.position = -1
	c.mu.slots[at], c.mu.fresh = s, true
	c.unread.Store(true)
	c.b.Ring() // the first records are soon to come
	return s
}

// Forgotten tells whether the client has to be asked for again.
func (c *Client) Forgotten() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.dead
}

// Slot is one partition that one client fetches. Safe for concurrent use.
type Slot struct {
	client *Client
	at     catalog.GroupPartition

	mu struct {
		sync.Mutex
		reading        *reading // whose it is; nil: nobody's, as far as is known
		records, bytes int      // fetched and not told
		position       int64    // -1: not known
		polled         bool     // since the last look
		fetched        bool     // records, since the last look
		doubt          bool     // reading may be out of date: nothing was fetched for a while
		dead           bool     // forgotten: ask the client for it again
	}

	idle time.Time // a look's own: since when nothing was fetched; zero: something was
}

// Of tells whether it is a slot of that client.
func (s *Slot) Of(c *Client) bool { return s.client == c }

// Fetched counts what the client was given, up to the offset position, or, with no records, that it wants nothing up to there. It is
// false if the slot was forgotten: nothing was counted then.
func (s *Slot) Fetched(records, bytes int, position int64) bool {
	some := records > 0 || bytes > 0
	if some && !s.client.unread.Load() {
		s.client.unread.Store(true) // before counting: a look that finds what is counted reads the catalog first
	}
	s.mu.Lock()
	if s.mu.dead {
		s.mu.Unlock()
		return false
	}
	r := s.mu.reading
	s.mu.polled, s.mu.position = true, position
	if r != nil {
		r.position.Store(position)
	}
	sure := r != nil && !s.mu.doubt
	if some {
		s.mu.fetched = true
		if sure {
			r.use.telling.Add(1)
		} else {
			s.mu.records += records
			s.mu.bytes += bytes
		}
	}
	s.mu.Unlock()
	if some && sure {
		s.client.b.cfg.Told(r.group, s.at.Topic, s.at.Partition, records, bytes)
		r.use.telling.Add(-1)
	}
	return true
}
