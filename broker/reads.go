package broker

import (
	"context"

	"github.com/streamhouse/streamhouse/broker/attribution"
	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
)

// newReads makes the book of whose records clients fetch, and connects the coordinator's hooks with it.
func newReads(b *Broker, hooks *coordinator.Hooks) *attribution.Book {
	gone := b.obs.GroupGone
	if gone == nil {
		gone = func(string) {}
	}
	book := attribution.New(attribution.Config{
		Local:   func(ctx context.Context) []coordinator.ShardMembers { return b.groups.TakeMembers(ctx) },
		Members: b.cfg.Members, Topics: func() group.Topics { return b.groupTopics(b.topics.load()) },
		Told: b.obs.Fetched, Gone: gone, Logger: b.cfg.Logger,
	})
	hooks.Members = book.Ring
	return book
}

// AttributeReads tells the observer of all that was fetched until now, for the groups it was fetched for. Without it that happens
// within a few seconds. It waits for the catalog, if others coordinate groups too.
func (b *Broker) AttributeReads(ctx context.Context) {
	if b.reads != nil {
		b.reads.Look(ctx)
	}
}

// Positions calls f for each position of a group's members that fetch from this broker: the highest offset that they were given, or did
// not want.
func (b *Broker) Positions(f func(group, topic string, partition int32, position int64)) {
	if b.reads == nil {
		return
	}
	im := b.topics.load()
	b.reads.Positions(func(group, topic string, partition int32, position int64) {
		if t := im.byName[topic]; t != nil && t.has(partition) {
			f(group, topic, partition, position)
		}
	})
}

// position is one of those of Positions; -1 when this broker does not know.
func (b *Broker) position(group, topic string, partition int32) int64 {
	if b.reads == nil {
		return -1
	}
	return b.reads.Position(group, topic, partition)
}

// readerOf is who sends a Fetch, for the book; nil if there is none, or no room in it.
func (b *Broker) readerOf(r *request) *attribution.Client {
	if b.reads == nil {
		return nil
	}
	c := r.conn.reader.Load()
	if c == nil || !c.Is(r.clientID) || c.Forgotten() {
		c = b.reads.Client(r.clientID, r.conn.host())
		r.conn.reader.Store(c)
	}
	return c
}

// host is the client's address as members have it.
func (c *conn) host() string { return "/" + c.ip }

// read notes what a partition's answer holds: so many records of so many bytes, up to the offset last.
func (f *fetchRun) read(p *sessionPart, records, bytes int, last int64) {
	if f.b.obs.Fetched == nil || p.topic == nil {
		return
	}
	for f.reader != nil {
		if p.slot == nil || !p.slot.Of(f.reader) {
			if p.slot = f.reader.Slot(p.topic.Name, p.key.tp.Partition); p.slot == nil {
				break
			}
		}
		if p.slot.Fetched(records, bytes, last) {
			return
		}
		p.slot = nil // forgotten
	}
	if bytes > 0 {
		f.b.obs.Fetched("", p.topic.Name, p.key.tp.Partition, records, bytes)
	}
}
