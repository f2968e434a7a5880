package attribution

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// untold is what was fetched of a slot before a look, and whose it is was not known.
type untold struct {
	s              *Slot
	records, bytes int
}

// round finds out whose the slots are, and tells what was fetched by those of no group.
func (b *Book) round(ctx context.Context, scrape bool) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return
	}
	now := b.cfg.now()
	clients := b.seen()
	open := b.collect(clients, now)

	// What is known from before counts first: a member may have left since it fetched.
	open = b.tell(open, false)
	changed, gone, led := b.look.local.take(b.cfg.Local(ctx))
	for c := range changed {
		if cl := clients[c]; cl != nil {
			cl.stale = true
		}
	}
	if !slices.Equal(led, b.look.led) { // who coordinates here now did so elsewhere before, or the other way round
		b.look.led = led
		b.look.remote.init()
		for _, c := range clients {
			c.stale = true
			c.unread.Store(true)
		}
	}
	sure := b.readOthers(ctx, clients, led, now, scrape)
	for _, c := range clients {
		b.resolve(c)
	}
	if sure {
		for _, u := range b.tell(open, true) {
			b.told("", u)
		}
	} else { // whose it is will be known later
		for _, u := range open {
			u.s.mu.Lock()
			u.s.mu.records += u.records
			u.s.mu.bytes += u.bytes
			u.s.mu.Unlock()
		}
	}
	b.forget(clients, now)
	b.forgetGroups(gone, now)
}

// seen are the clients there are.
func (b *Book) seen() map[catalog.GroupClient]*Client {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return maps.Clone(b.mu.clients)
}

// collect takes what slots have not told.
func (b *Book) collect(clients map[catalog.GroupClient]*Client, now time.Time) (open []untold) {
	for _, c := range clients {
		c.idle = false
		c.each(func(s *Slot) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.mu.polled {
				s.mu.polled, s.idle = false, time.Time{}
			} else if s.idle.IsZero() {
				s.idle = now
			}
			c.idle = c.idle || !s.idle.IsZero()
			// The catalog is read for those that fetch, so it was not read for this one.
			s.mu.doubt = s.mu.doubt || !s.mu.fetched && b.cfg.Members != nil
			s.mu.fetched = false
			if s.mu.records > 0 || s.mu.bytes > 0 {
				open = append(open, untold{s, s.mu.records, s.mu.bytes})
				s.mu.records, s.mu.bytes = 0, 0
			}
		})
	}
	return open
}

// each calls f for the slots there are. New ones may come meanwhile.
func (c *Client) each(f func(*Slot)) {
	c.mu.Lock()
	all := make([]*Slot, 0, len(c.mu.slots))
	for _, s := range c.mu.slots {
		all = append(all, s)
	}
	c.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

// tell tells of what is known to be a group's, and returns the rest. sure says that nothing is in doubt any more.
func (b *Book) tell(open []untold, sure bool) (rest []untold) {
	for _, u := range open {
		o, ok := u.s.client.owned[u.s.at]
		u.s.mu.Lock()
		u.s.mu.doubt = u.s.mu.doubt && !sure
		doubt := u.s.mu.doubt
		u.s.mu.Unlock()
		if ok && !o.many && !doubt {
			b.told(o.group, u)
			continue
		}
		rest = append(rest, u)
	}
	return rest
}

func (b *Book) told(group string, u untold) {
	if group != "" {
		b.useOf(group)
	}
	b.cfg.Told(group, u.s.at.Topic, u.s.at.Partition, u.records, u.bytes)
}

// readOthers reads from the catalog whose clients are that fetched since it was read. It is false if that could not be known now.
func (b *Book) readOthers(ctx context.Context, clients map[catalog.GroupClient]*Client, led []int32, now time.Time, scrape bool) (sure bool) {
	if b.cfg.Members == nil {
		return true
	}
	var ask []catalog.GroupClient
	for name, c := range clients {
		if c.unread.Load() {
			ask = append(ask, name)
		}
	}
	if len(ask) == 0 {
		return true
	}
	if !scrape && now.Sub(b.look.read) < readEvery {
		return false
	}
	b.look.read = now
	for len(ask) > 0 {
		some := ask[:min(len(ask), readClients)]
		ask = ask[len(some):]
		for _, name := range some { // before reading: what is fetched meanwhile asks again
			clients[name].unread.Store(false)
		}
		if err := b.look.remote.read(ctx, b.cfg.Members, b.cfg.Topics(), some, led); err != nil {
			for _, name := range some {
				clients[name].unread.Store(true)
			}
			if ctx.Err() != nil {
				return false // a scrape that gave up
			}
			if !b.look.failing {
				b.cfg.Logger.Warn("cannot find out which groups clients read for; trying again", "error", err)
			}
			b.look.failing = true
			return false
		}
		for _, name := range some {
			clients[name].stale = true
		}
	}
	b.look.failing = false
	return true
}

// resolve gives the slots of a client to the groups that own them. There is nothing to do but for new slots and members that changed.
func (b *Book) resolve(c *Client) {
	c.mu.Lock()
	fresh := c.mu.fresh
	c.mu.fresh = false
	c.mu.Unlock()
	switch {
	case c.stale || c.owned == nil:
		c.owned, c.stale = b.ownedBy(c.name), false
	case !fresh:
		return
	}
	c.each(func(s *Slot) {
		o, ok := c.owned[s.at]
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.mu.dead:
		case !ok || o.many:
			b.leave(s)
		case s.mu.reading == nil || s.mu.reading.group != o.group:
			b.leave(s)
			s.mu.reading = b.enter(readingKey{o.group, s.at})
			if s.mu.position >= 0 {
				s.mu.reading.position.Store(s.mu.position)
			}
		}
	})
}

// enter adds a slot to what a group reads.
func (b *Book) enter(k readingKey) *reading {
	r := b.look.readings[k]
	if r == nil {
		r = &reading{readingKey: k, use: b.useOf(k.group)}
		r.position.Store(-1)
		b.look.readings[k] = r
		b.positions.Store(k, r)
		r.use.readings++
		r.use.deleted = false
	}
	r.slots++
	return r
}

// leave takes a slot off what its group reads. Its lock is held.
func (b *Book) leave(s *Slot) {
	r := s.mu.reading
	if r == nil {
		return
	}
	s.mu.reading = nil
	if r.slots--; r.slots > 0 {
		return
	}
	delete(b.look.readings, r.readingKey)
	b.positions.Delete(r.readingKey)
	r.use.readings--
	r.use.since = b.cfg.now()
}

// useOf notes that a group is told of.
func (b *Book) useOf(group string) *use {
	u := b.look.groups[group]
	if u == nil {
		u = &use{}
		b.look.groups[group] = u
	}
	u.since = b.cfg.now()
	return u
}

// forget drops slots that nobody fetches, and clients without slots.
func (b *Book) forget(clients map[catalog.GroupClient]*Client, now time.Time) {
	for name, c := range clients {
		c.mu.Lock()
		if c.idle {
			b.forgetSlotsLocked(c, now)
		}
		if len(c.mu.slots) > 0 {
			c.used = now
		}
		c.mu.dead = now.Sub(c.used) >= idleFor
		dead := c.mu.dead
		c.mu.Unlock()
		if dead {
			b.mu.Lock()
			delete(b.mu.clients, name)
			b.mu.Unlock()
			delete(b.look.remote.of, name)
		}
	}
}

func (b *Book) forgetSlotsLocked(c *Client, now time.Time) {
	for at, s := range c.mu.slots {
		if s.idle.IsZero() || now.Sub(s.idle) < idleFor {
			continue
		}
		s.mu.Lock()
		if !s.mu.polled && s.mu.records == 0 && s.mu.bytes == 0 { // what could not be told yet is kept
			b.leave(s)
			s.mu.dead = true
			delete(c.mu.slots, at)
			b.slots.Add(-1)
		}
		s.mu.Unlock()
	}
}

// forgetGroups says which groups are gone: deleted, or not heard of for long.
func (b *Book) forgetGroups(deleted []string, now time.Time) {
	for _, id := range deleted {
		if u := b.look.groups[id]; u != nil && u.readings == 0 {
			u.deleted = true
		}
	}
	for id, u := range b.look.groups {
		if u.readings == 0 && (u.deleted || now.Sub(u.since) >= forgetAfter) && u.telling.Load() == 0 {
			delete(b.look.groups, id)
			b.cfg.Gone(id)
		}
	}
}
