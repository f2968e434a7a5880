package storage

import (
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// takeRow adds a row to the tail in memory. One that hot merges made may begin with rows that are there already.
func (t *term) takeRow(row *catalog.TailEntry, after catalog.Sequence) error {
	ix, err := segment.DecodeTail(row.Index)
	if err != nil {
		return fmt.Errorf("decode the index of %s: %w", row.Key, err)
	}
	obj := &tailObject{row: *row}
	if t.e.cfg.Fleet == nil {
		t.feed.decoded[obj] = ix
	}
	var merged []*tailObject
	gone := make(map[*tailObject]bool)
	if row.First <= after {
		merged = t.within(row)
		for _, o := range merged {
			gone[o] = true
		}
	}
	var b bell
	xs := tailExtents(obj, ix)
	for i := 0; i < len(xs); {
		j := i + 1
		for j < len(xs) && ix.Extents[j].TopicPartition == ix.Extents[i].TopicPartition {
			j++
		}
		if !t.takeExtents(ix.Extents[i].TopicPartition, gone, xs[i:j], &b) {
			return fmt.Errorf("follow broker epoch %d: broker epoch %d ended: %w", row.Epoch, t.epoch, ErrNotLeader)
		}
		i = j
	}
	if len(merged) > 0 {
		t.replaceTail(merged, obj)
	} else {
		t.noteTail(obj)
	}
	b.ring()
	return nil
}

// takeExtents adds a partition's extents of one object, in the place of those of the objects that are gone. False if the
// term has ended.
func (t *term) takeExtents(tp catalog.TopicPartition, gone map[*tailObject]bool, xs []tailExtent, b *bell) bool {
	p := t.e.lock(tp)
	defer p.mu.Unlock()
	if t.ended.Load() {
		return false
	}
	hw := p.mu.hw
	if len(gone) > 0 && p.swapExtentsLocked(gone, xs) {
		p.joinLocked()
	} else {
		for i := range xs {
			p.insertLocked(xs[i])
		}
	}
	if p.gapLocked() {
		if _, ok := t.feed.gapped[p]; !ok {
			t.feed.gapped[p] = t.feed.round
		}
	}
	if p.mu.hw != hw || !p.mu.loaded {
		b.add(p)
	}
	return true
}

// takeMerge puts a merged row in the place of the rows it was made from.
func (t *term) takeMerge(row *catalog.TailEntry) error {
	run := t.within(row)
	if len(run) == 0 || len(run) == 1 && run[0].row.Object == row.Object {
		return nil // folded, or read as it is
	}
	ix, err := segment.DecodeTail(row.Index)
	if err != nil {
		return fmt.Errorf("decode the index of %s: %w", row.Key, err)
	}
	obj := &tailObject{row: *row}
	t.swapExtents(run, tailExtents(obj, ix), ix)
	t.replaceTail(run, obj)
	return nil
}

// within are the objects in memory that a merged row covers.
func (t *term) within(row *catalog.TailEntry) []*tailObject {
	t.mu.Lock()
	defer t.mu.Unlock()
	var run []*tailObject
	for _, o := range t.mu.tails[row.Epoch] {
		if row.First <= o.row.First && o.row.Last <= row.Last {
			run = append(run, o)
		}
	}
	return run
}

// dropFolded takes what was folded of an epoch out of the tail in memory.
func (t *term) dropFolded(epoch catalog.BrokerEpoch, through catalog.Sequence) {
	t.mu.Lock()
	objs := t.mu.tails[epoch]
	n := 0
	for n < len(objs) && objs[n].row.Last <= through {
		n++
	}
	folded := append([]*tailObject(nil), objs[:n]...)
	t.mu.Unlock()
	if n == 0 {
		return
	}
	t.forgetFolded(folded, nil)
	t.replaceTail(folded, nil)
}

// forgetFolded takes the extents of folded objects out of their partitions. added are the partitions that hold them now, as in
// [catalog.Fold], if that is known; what a partition holds has to be asked for again otherwise.
func (t *term) forgetFolded(objs []*tailObject, added []catalog.PartitionState) {
	bytes := make(map[catalog.TopicPartition]int64, len(added))
	for i := range added {
		bytes[added[i].TopicPartition] = added[i].Bytes
	}
	ends := make(map[catalog.TopicPartition]int64)
	for _, o := range objs {
		ix, err := segment.DecodeTail(o.row.Index)
		if err != nil {
			continue // it was decoded before
		}
		for i := range ix.Extents {
			tp := ix.Extents[i].TopicPartition
			ends[tp] = max(ends[tp], ix.Extents[i].End)
		}
	}
	var b bell
	defer func() { b.ring() }()
	for tp, end := range ends {
		p := t.e.lookup(tp)
		if p == nil {
			continue
		}
		p.mu.Lock()
		if hw := p.mu.hw; !t.ended.Load() {
			if p.foldTailLocked(end); p.mu.hw != hw {
				b.add(p)
			}
			n, known := bytes[tp]
			p.mu.sized = p.mu.sized && known
			p.grownLocked(n)
		}
		over := p.mu.term == nil && len(p.mu.tail) == 0 && !p.mu.loaded
		p.mu.Unlock()
		if over {
			t.e.forget(p)
		}
	}
}

// reloadFollowed has the partitions that are followed load their folded rows again, when they are asked for.
func (t *term) reloadFollowed() {
	var b bell
	for _, p := range t.e.all() {
		p.mu.Lock()
		t.reloadLocked(p, &b)
		idle := p.mu.term == nil && len(p.mu.tail) == 0 && len(p.mu.watchers) == 0
		p.mu.Unlock()
		if idle {
			t.e.forget(p)
		}
	}
	b.ring()
}

func (t *term) reloadLocked(p *partition, b *bell) {
	if p.mu.term == nil && !t.ended.Load() {
		p.mu.loaded = false
		p.dropRowsLocked() // also of a load that is under way
		b.add(p)
	}
}

// closeGaps ends a complete look: what does not hang together now and did not after the one before has lost rows.
func (t *term) closeGaps() {
	f := &t.feed
	f.round++
	var b bell
	for p, round := range f.gapped {
		p.mu.Lock()
		switch {
		case !p.gapLocked():
			delete(f.gapped, p)
		case round+1 < f.round:
			t.reloadLocked(p, &b)
			delete(f.gapped, p)
		}
		p.mu.Unlock()
	}
	b.ring()
}
