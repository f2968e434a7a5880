package group

import (
	"iter"
	"maps"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

// offsets are the committed offsets of a group: what is durable, and what is on its way.
type offsets struct {
	byTopic map[string]map[int32]catalog.GroupOffset
	count   int
	// flights are changes not yet known to be durable, oldest first, as far as they touch offsets.
	flights []flight
	// pending counts, for each partition, the flights that touch it.
	pending map[catalog.GroupPartition]int
}

// flight is what one write does to offsets once it is durable.
type flight struct {
	write uint64
	all   bool // the group is deleted
	put   []catalog.GroupOffset
	gone  []catalog.GroupPartition
}

func (o *offsets) get(topic string, partition int32) (catalog.GroupOffset, bool) {
	got, ok := o.byTopic[topic][partition]
	return got, ok
}

func (o *offsets) set(c catalog.GroupOffset) {
	t := o.byTopic[c.Topic]
	if t == nil {
		t = make(map[int32]catalog.GroupOffset)
		if o.byTopic == nil {
			o.byTopic = make(map[string]map[int32]catalog.GroupOffset)
		}
		o.byTopic[c.Topic] = t
	}
	if _, ok := t[c.Partition]; !ok {
		o.count++
	}
	t[c.Partition] = c
}

func (o *offsets) remove(p catalog.GroupPartition) {
	t := o.byTopic[p.Topic]
	if _, ok := t[p.Partition]; !ok {
		return
	}
	o.count--
	delete(t, p.Partition)
	if len(t) == 0 {
		delete(o.byTopic, p.Topic)
	}
}

// isPending says whether a change of a partition's offset is on its way.
func (o *offsets) isPending(p catalog.GroupPartition) bool { return o.pending[p] > 0 }

// known says whether a partition has an offset, or may get one from what is on its way.
func (o *offsets) known(p catalog.GroupPartition) bool {
	_, ok := o.get(p.Topic, p.Partition)
	return ok || o.isPending(p)
}

// sent notes a change that was issued.
func (o *offsets) sent(write uint64, c *catalog.GroupChange) {
	if !c.Delete && len(c.Offsets)+len(c.OffsetsGone) == 0 {
		return
	}
	o.flights = append(o.flights, flight{write: write, all: c.Delete, put: c.Offsets, gone: c.OffsetsGone})
	if o.pending == nil {
		o.pending = make(map[catalog.GroupPartition]int)
	}
	for i := range c.Offsets {
		o.pending[c.Offsets[i].At()]++
	}
	for _, p := range c.OffsetsGone {
		o.pending[p]++
	}
}

// written applies what is durable: all writes up to this one.
func (o *offsets) written(write uint64) {
	n := 0
	for ; n < len(o.flights) && o.flights[n].write <= write; n++ {
		f := &o.flights[n]
		if f.all {
			o.byTopic, o.count = nil, 0
		}
		for _, c := range f.put {
			o.landed(c.At())
			o.set(c)
		}
		for _, p := range f.gone {
			o.landed(p)
			o.remove(p)
		}
	}
	o.flights = slices.Delete(o.flights, 0, n)
}

func (o *offsets) landed(p catalog.GroupPartition) {
	if o.pending[p]--; o.pending[p] <= 0 {
		delete(o.pending, p)
	}
}

// all are the durable offsets, by topic and partition.
func (o *offsets) all() iter.Seq[catalog.GroupOffset] {
	return func(yield func(catalog.GroupOffset) bool) {
		for _, topic := range slices.Sorted(maps.Keys(o.byTopic)) {
			t := o.byTopic[topic]
			for _, p := range slices.Sorted(maps.Keys(t)) {
				if !yield(t[p]) {
					return
				}
			}
		}
	}
}

// Offsets are the committed offsets of the group, by topic and partition: those that are durable.
func (g *Group) Offsets() iter.Seq[catalog.GroupOffset] {
	if !g.exists() {
		return func(func(catalog.GroupOffset) bool) {}
	}
	return g.offsets.all()
}

// Offset is the committed offset of one partition.
func (g *Group) Offset(topic string, partition int32) (catalog.GroupOffset, bool) {
	if !g.exists() {
		return catalog.GroupOffset{}, false
	}
	return g.offsets.get(topic, partition)
}
