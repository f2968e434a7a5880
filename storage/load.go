package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// loadPage is how many partitions' folded rows are asked for at a time.
const loadPage = 4096

// bringing is one partition on its way into memory.
type bringing struct {
	p *partition
	// lead: with producers and leader epochs, which only those who append need. lease: led from then on, if not nil.
	lead  bool
	lease *catalog.Lease

	stamp   uint64
	tail    []tailExtent
	state   *catalog.PartitionState
	batches map[*tailObject]piecesOf
	damage  error // of the producer snapshot
}

// piecesOf are the batches of one partition in one object of the tail, by the offset at which their extent begins: one
// object may have several of them ([mergeTail]).
type piecesOf map[int64][]segment.Batch

// load brings the partition's folded row into memory, once a term, for who leads it.
func (e *Engine) load(ctx context.Context, p *partition) error {
	p.mu.Lock()
	loaded, t := p.mu.loaded, p.mu.term
	p.mu.Unlock()
	if t == nil {
		return e.absent(p.tp)
	}
	if loaded {
		return nil
	}
	select {
	case p.loading <- struct{}{}:
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return fmt.Errorf("load partition %s: %w", p.tp, ctx.Err())
	}
	p.mu.Lock()
	loaded, now := p.mu.loaded, p.mu.term
	p.mu.Unlock()
	switch {
	case now != t:
		return fmt.Errorf("load partition %s: %w", p.tp, ErrNotLeader)
	case loaded:
		return nil
	}
	return t.bringOne(ctx, &bringing{p: p, lead: true})
}

func (t *term) bringOne(ctx context.Context, b *bringing) error {
	unknown, err := t.bring(ctx, []*bringing{b})
	switch {
	case err != nil:
		return fmt.Errorf("load partition %s: %w", b.p.tp, err)
	case len(unknown) > 0:
		return fmt.Errorf("load partition %s: %w", b.p.tp, ErrUnknownPartition)
	}
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	if t.ended.Load() || b.lead && b.p.mu.term != t {
		return fmt.Errorf("load partition %s: %w", b.p.tp, ErrNotLeader)
	}
	return nil
}

// bring loads the folded rows of partitions and joins what the tail has of them. The tail in memory must be complete up to
// a moment before the call: a row that is missing in it was folded, and so is in the folded rows read now. It returns
// those the catalog does not know: their topics were deleted.
//
// What is folded or rewritten during the call changes the stamp of its partitions; those are loaded once more. A partition
// that is damaged keeps no other from being led: the error is that of the first one.
func (t *term) bring(ctx context.Context, list []*bringing) (unknown []*partition, err error) {
	var damage error
	for len(list) > 0 {
		page := list[:min(len(list), loadPage)]
		again, gone, damaged, err := t.bringPage(ctx, page)
		if err != nil {
			return nil, err
		}
		if damage == nil {
			damage = damaged
		}
		unknown = append(unknown, gone...)
		list = append(again, list[len(page):]...)
	}
	return unknown, damage
}

func (t *term) bringPage(ctx context.Context, page []*bringing) (again []*bringing, unknown []*partition, damaged, err error) {
	tps := make([]catalog.TopicPartition, len(page))
	for i, b := range page {
		tps[i] = b.p.tp
		b.p.mu.Lock()
		b.stamp, b.tail, b.state = b.p.mu.rowsStamp, append(b.tail[:0], b.p.mu.tail...), nil
		b.p.mu.Unlock()
	}
	states, err := t.e.cfg.Catalog.LoadPartitions(ctx, tps)
	if err != nil {
		return nil, nil, nil, translate(err)
	}
	byTP := make(map[catalog.TopicPartition]*catalog.PartitionState, len(states))
	for i := range states {
		byTP[states[i].TopicPartition] = &states[i]
	}
	for _, b := range page {
		b.state = byTP[b.p.tp]
	}
	if err := t.openTail(page); err != nil {
		return nil, nil, nil, err
	}
	var rung bell
	defer rung.ring()
	gained := make(map[catalog.TopicID]int)
	defer func() { t.e.noteHeld(gained, false) }()
	hurt := false
	for _, b := range page {
		if b.state == nil {
			unknown = append(unknown, b.p)
			continue
		}
		b.p.mu.Lock()
		switch {
		case t.ended.Load() || b.p.mu.dropped || b.p.mu.orphan:
		case b.p.mu.rowsStamp != b.stamp:
			again = append(again, b)
		case b.lead:
			had := b.p.mu.term == t
			err := b.leadLocked(t)
			if err == nil && !had && b.p.mu.term == t {
				gained[b.p.tp.Topic]++
				rung.add(b.p)
			}
			if damaged == nil {
				damaged = err
			}
			hurt = hurt || b.damage != nil
		case b.p.mu.term == nil:
			b.p.installLocked(b.state)
		}
		b.p.mu.Unlock()
	}
	for i := 0; hurt && i < len(page); i++ {
		if page[i].damage != nil {
			t.e.damagedProducers(page[i].p.tp, page[i].damage)
		}
	}
	return again, unknown, damaged, nil
}

// openTail finds the batches of the partitions to be led in the tail: one decode for each object, whatever the number of
// partitions.
func (t *term) openTail(page []*bringing) error {
	wanted := make(map[catalog.TopicPartition]*bringing)
	objs := make(map[*tailObject]struct{})
	for _, b := range page {
		if !b.lead || b.state == nil {
			continue
		}
		b.batches = make(map[*tailObject]piecesOf)
		for i := range b.tail {
			if x := &b.tail[i]; x.end > b.state.LogEnd {
				objs[x.obj] = struct{}{}
				wanted[b.p.tp] = b
			}
		}
	}
	for obj := range objs {
		ix := t.feed.decoded[obj]
		if ix == nil {
			var err error
			if ix, err = segment.DecodeTail(obj.row.Index); err != nil {
				return fmt.Errorf("decode the index of %s: %w", obj.row.Key, err)
			}
		}
		for i := range ix.Extents {
			x := &ix.Extents[i]
			b := wanted[x.TopicPartition]
			if b == nil {
				continue
			}
			if b.batches[obj] == nil {
				b.batches[obj] = make(piecesOf)
			}
			b.batches[obj][x.Base] = x.Batches
		}
	}
	return nil
}

// leadLocked installs what was loaded and replays the tail on it: producers, leader epochs. Extents that do not join are a
// defect, or a manifest that was damaged: nothing may be appended then.
func (b *bringing) leadLocked(t *term) error {
	p, e := b.p, t.e
	if b.lease == nil && (p.mu.term != t || p.mu.loaded) || b.lease != nil && p.mu.term == t && p.mu.leaderEpoch >= int32(b.lease.Epoch) {
		return nil // given away, or taken or loaded by another call, meanwhile: what was appended since must stay
	}
	ps, err := decodeProducers(b.state.Producers)
	if b.damage = err; err != nil && !errors.Is(err, errSnapshot) {
		return fmt.Errorf("load partition %s: %w", p.tp, err)
	}
	next := b.state.LogEnd
	epochs := append([]catalog.EpochStart(nil), b.state.LeaderEpochs...)
	for i := range b.tail {
		x := &b.tail[i]
		if x.end <= b.state.LogEnd {
			continue
		}
		if x.base != next {
			return fmt.Errorf("partition %s: manifest has an extent at offset %d where %d was due", p.tp, x.base, next)
		}
		next = x.end
		for j := range b.batches[x.obj][x.base] {
			replay(&ps, &b.batches[x.obj][x.base][j], x.obj.row.CommittedAt.UnixMilli())
		}
		if n := len(epochs); n == 0 || int32(epochs[n-1].Epoch) < x.leaderEpoch {
			epochs = append(epochs, catalog.EpochStart{Epoch: catalog.LeaseEpoch(x.leaderEpoch), Start: x.base})
		}
	}
	ps.trim(e.clock.now().Add(-e.cfg.ProducerExpiry).UnixMilli(), e.cfg.MaxProducers)
	p.installLocked(b.state)
	if p.mu.hw != next {
		return fmt.Errorf("partition %s: its log ends at offset %d, %d was known before", p.tp, next, p.mu.hw)
	}
	p.mu.producers, p.mu.damage, p.mu.epochs, p.mu.next = ps, b.damage, epochs, next
	if b.lease != nil {
		p.mu.term, p.mu.leaderEpoch = t, int32(b.lease.Epoch)
		t.e.heldChanged()
		p.mu.closed, p.mu.doubt = false, false
	}
	return nil
}
