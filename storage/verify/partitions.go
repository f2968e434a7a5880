package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// statePage is how many partitions' folded rows are read at a time.
const statePage = 256

// checkPartitions checks every partition by itself: packed rows, then tail.
func (c *checker) checkPartitions(ctx context.Context) error {
	c.begin(PhasePartitions, c.res.Partitions)
	leases, err := c.cat.LeaseSet(ctx, 0)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	held := make(map[catalog.TopicPartition]catalog.LeaseEpoch, len(leases.Leases))
	for _, l := range leases.Leases {
		held[l.TopicPartition] = l.Epoch
	}
	for i := range c.topics {
		t := &c.topics[i]
		for first := int32(0); first < t.Partitions; first += statePage {
			if err := c.checkSome(ctx, t, first, min(first+statePage, t.Partitions), held); err != nil {
				return err
			}
		}
		if err := c.checkStray(ctx, t); err != nil {
			return err
		}
	}
	for _, id := range c.deleted {
		tps, err := c.cat.PackedPartitions(ctx, id)
		if err != nil {
			return fmt.Errorf("list packed partitions of deleted topic %s: %w", id, err)
		}
		for _, tp := range tps {
			p := partition{c: c, tp: tp, dead: true}
			if err := p.rows(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) checkSome(ctx context.Context, t *catalog.Topic, first, end int32, held map[catalog.TopicPartition]catalog.LeaseEpoch) error {
	var tps []catalog.TopicPartition
	for n := first; n < end; n++ {
		tps = append(tps, catalog.TopicPartition{Topic: t.ID, Partition: n})
	}
	list, err := c.cat.LoadPartitions(ctx, tps)
	if err != nil {
		return fmt.Errorf("load partitions of topic %s: %w", t.Name, err)
	}
	states := make(map[catalog.TopicPartition]*catalog.PartitionState, len(list))
	for i := range list {
		states[list[i].TopicPartition] = &list[i]
	}
	for _, tp := range tps {
		st := states[tp]
		if st == nil {
			c.partition(State, tp, "it has no folded row")
			st = &catalog.PartitionState{TopicPartition: tp}
		}
		p := partition{c: c, tp: tp, st: *st, epoch: -1, next: st.LogStart}
		if err := p.check(ctx); err != nil {
			return err
		}
		if lease, ok := held[tp]; !ok {
			c.partition(Epoch, tp, "it has no lease")
		} else if int32(lease) < p.epoch {
			c.partition(Epoch, tp, "its lease is of epoch %d, records are of %d", lease, p.epoch)
		}
		c.step(1)
	}
	return nil
}

// checkStray looks for rows of partitions that the topic does not have.
func (c *checker) checkStray(ctx context.Context, t *catalog.Topic) error {
	tps, err := c.cat.PackedPartitions(ctx, t.ID)
	if err != nil {
		return fmt.Errorf("list packed partitions of topic %s: %w", t.Name, err)
	}
	for _, tp := range tps {
		if tp.Partition < 0 || tp.Partition >= t.Partitions {
			c.partition(Packed, tp, "there are packed rows, but the topic has %d partitions", t.Partitions)
		}
	}
	for tp := range c.tail {
		if tp.Topic == t.ID && (tp.Partition < 0 || tp.Partition >= t.Partitions) {
			c.partition(Tail, tp, "there are tail extents, but the topic has %d partitions", t.Partitions)
		}
	}
	return nil
}

// partition is one partition being walked in offset order.
type partition struct {
	c    *checker
	tp   catalog.TopicPartition
	st   catalog.PartitionState
	dead bool // of a deleted topic: density and history do not matter

	rowEnd  int64 // of the row before
	next    int64 // offset due: everything from the log start to here was seen
	epoch   int32 // highest so far
	bytes   int64
	objects map[catalog.ObjectID]bool // seen and known
}

func (p *partition) wrong(kind Kind, format string, args ...any) {
	p.c.partition(kind, p.tp, format, args...)
}

func (p *partition) check(ctx context.Context) error {
	p.checkState()
	if err := p.rows(ctx); err != nil {
		return err
	}
	st := &p.st
	if st.LogStart < st.LogEnd && p.next < st.LogEnd {
		p.wrong(Gap, "offsets [%d,%d) are in no packed row, the folded log ends at %d", p.next, st.LogEnd, st.LogEnd)
	}
	if p.bytes != st.Bytes {
		p.wrong(State, "packed rows hold %d bytes, the folded row says %d", p.bytes, st.Bytes)
	}
	end := p.tail()
	if st.LogStart > end {
		p.wrong(State, "the log starts at offset %d and ends at %d", st.LogStart, end)
	}
	p.c.res.Offsets += max(end-st.LogStart, 0)
	return nil
}

func (p *partition) checkState() {
	st := &p.st
	if st.LogStart < 0 || st.LogEnd < 0 || st.LastStable < 0 || st.LastStable > st.LogEnd {
		p.wrong(State, "log start %d, last stable offset %d, folded log end %d", st.LogStart, st.LastStable, st.LogEnd)
	}
	for i := 1; i < len(st.LeaderEpochs); i++ {
		a, b := st.LeaderEpochs[i-1], st.LeaderEpochs[i]
		if a.Epoch >= b.Epoch || a.Start >= b.Start {
			p.wrong(Epoch, "the history has epoch %d from offset %d, then epoch %d from offset %d", a.Epoch, a.Start, b.Epoch, b.Start)
		}
	}
	if n := len(st.LeaderEpochs); n > 0 && st.LeaderEpochs[n-1].Start >= st.LogEnd {
		p.wrong(Epoch, "the history has epoch %d from offset %d, the folded log ends at %d", st.LeaderEpochs[n-1].Epoch, st.LeaderEpochs[n-1].Start, st.LogEnd)
	}
}

// rows walks the packed rows.
func (p *partition) rows(ctx context.Context) error {
	p.objects = make(map[catalog.ObjectID]bool)
	return eachPackedRow(ctx, p.c.cat, p.tp, func(row *catalog.PackedRow) error {
		p.c.res.PackedRows++
		if row.Base < p.rowEnd {
			p.wrong(Overlap, "the packed row [%d,%d) starts before the one before ends, at %d", row.Base, row.End, p.rowEnd)
		}
		p.rowEnd = max(p.rowEnd, row.End)
		xs, err := segment.DecodePacked(row.Extents)
		switch {
		case err != nil:
			p.wrong(Packed, "the packed row [%d,%d) does not decode: %v", row.Base, row.End, err)
			return nil
		case len(xs) == 0:
			p.wrong(Packed, "the packed row [%d,%d) is empty", row.Base, row.End)
			return nil
		case xs[0].Base != row.Base || xs[len(xs)-1].End != row.End:
			p.wrong(Packed, "the packed row [%d,%d) holds offsets [%d,%d)", row.Base, row.End, xs[0].Base, xs[len(xs)-1].End)
		}
		if err := p.known(ctx, xs); err != nil {
			return err
		}
		for i := range xs {
			p.extent(&xs[i])
		}
		return nil
	})
}

// known checks that the objects of a row exist.
func (p *partition) known(ctx context.Context, xs []segment.PackedExtent) error {
	var ask []catalog.ObjectID
	for i := range xs {
		if id := xs[i].Object; !p.objects[id] && !slices.Contains(ask, id) {
			ask = append(ask, id)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	objs, err := p.c.cat.ObjectsByID(ctx, ask)
	if err != nil {
		return fmt.Errorf("look up objects: %w", err)
	}
	for i := range objs {
		p.objects[objs[i].ID] = true
	}
	for _, id := range ask {
		if !p.objects[id] {
			p.objects[id] = true // told once
			i := slices.IndexFunc(xs, func(x segment.PackedExtent) bool { return x.Object == id })
			p.wrong(Missing, "offsets [%d,%d) are in object %d, which the catalog does not know", xs[i].Base, xs[i].End, id)
		}
	}
	return nil
}

func (p *partition) extent(x *segment.PackedExtent) {
	p.bytes += x.Len
	if p.dead {
		return
	}
	p.leads(x.LeaderEpoch, x.Base)
	if x.End > p.st.LogEnd {
		p.wrong(State, "a packed row has offsets [%d,%d), the folded log ends at %d", x.Base, x.End, p.st.LogEnd)
	}
	if x.End <= p.st.LogStart {
		return // below the log start rows may be gone
	}
	if x.Base > p.next {
		p.wrong(Gap, "offsets [%d,%d) are in no packed row", p.next, x.Base)
	}
	p.next = max(p.next, x.End)
	es := p.st.LeaderEpochs
	i := sort.Search(len(es), func(i int) bool { return es[i].Start > x.Base }) - 1
	if i < 0 || int32(es[i].Epoch) != x.LeaderEpoch {
		p.wrong(Epoch, "offsets [%d,%d) are of leader epoch %d, which is not what the history says", x.Base, x.End, x.LeaderEpoch)
	}
}

// leads sees a leader epoch in offset order.
func (p *partition) leads(epoch int32, base int64) {
	if epoch < p.epoch {
		p.wrong(Epoch, "leader epoch goes back from %d to %d at offset %d", p.epoch, epoch, base)
	}
	p.epoch = max(p.epoch, epoch)
}

// tail walks the partition's offsets in the tail, and returns the log end.
func (p *partition) tail() int64 {
	runs := p.c.tail[p.tp]
	slices.SortFunc(runs, func(a, b run) int { return cmp.Or(cmp.Compare(a.base, b.base), cmp.Compare(a.end, b.end)) })
	if n := len(p.st.LeaderEpochs); n > 0 {
		p.epoch = max(p.epoch, int32(p.st.LeaderEpochs[n-1].Epoch))
	}
	end := p.st.LogEnd
	for _, r := range runs {
		switch {
		case r.base > end:
			p.wrong(Gap, "offsets [%d,%d) are neither folded nor in the tail", end, r.base)
		case r.base < end:
			p.wrong(Overlap, "the tail of broker epoch %d has offsets [%d,%d), the log before it ends at %d", r.broker, r.base, r.end, end)
		}
		p.leads(r.leaderEpoch, r.base)
		end = max(end, r.end)
	}
	return end
}
