package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// maxPackedExtents: a packed row takes this many extents before the next one is started.
const maxPackedExtents = 128

// foldInParts folds objects in several statements: commits wait behind each, and it takes longer the more objects and
// partitions it names. Parts are not smaller than the number of partitions, each of which every part may name again.
// It reports how many it folded: those behind wait for the tail of another broker.
func (t *term) foldInParts(ctx context.Context, epoch catalog.BrokerEpoch, objs []*tailObject) (folded int, err error) {
	for folded < len(objs) {
		part := objs[folded:]
		part = part[:foldPart(part)]
		n, err := t.fold(ctx, epoch, part)
		folded += n
		if err != nil || n < len(part) {
			return folded, err
		}
	}
	return folded, nil
}

// foldPart counts the leading objects to fold together.
func foldPart(objs []*tailObject) int {
	if len(objs) <= foldObjects {
		return len(objs)
	}
	partitions := make(map[catalog.TopicPartition]struct{})
	n := 0
	for ; n < len(objs) && (n < foldObjects || n < len(partitions)); n++ {
		ix, err := segment.DecodeTail(objs[n].row.Index)
		if err != nil {
			break // the fold will say so
		}
		for i := range ix.Extents {
			partitions[ix.Extents[i].TopicPartition] = struct{}{}
		}
	}
	return max(n, 1)
}

// fold moves the leading tail rows of one broker epoch to the folded level, as many of objs as can be. Everything is
// computed from the rows themselves, so that it does not matter which broker does it and what it believes.
//
// A partition's extents are folded in the order of their offsets. Where it moved, the rows of one broker continue those of
// another, and wait until these are folded. Nobody waits in a circle: each waits for rows that were committed before its own.
func (t *term) fold(ctx context.Context, epoch catalog.BrokerEpoch, objs []*tailObject) (folded int, err error) {
	began := time.Now()
	defer func() { t.e.unrewritten(ctx, rewriteFold, err, began) }()
	f, bytes, n, err := t.planFold(ctx, epoch, objs)
	if err != nil {
		return 0, fmt.Errorf("plan a fold: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	objs = objs[:n]
	if err := t.foldRows(ctx, f); err != nil {
		return 0, fmt.Errorf("fold the tail of broker epoch %d up to %d: %w", epoch, f.Through, err)
	}
	for _, o := range f.Objects {
		t.e.names.note(o.ID, o.Key, o.Size)
	}
	t.forgetFolded(objs, f.Partitions)
	t.replaceTail(objs, nil)
	t.e.tail.drop(objs)
	t.e.reportTail(t)
	t.e.rewritten(rewriteFold, len(objs), bytes, began)
	return n, nil
}

// foldRows applies the fold, also when an answer is lost. What settles that has to be durable: memory forgets the rows, which
// would be the tail again if the fold were undone by a fail-over. So TailAt vouches, and then the position tells.
func (t *term) foldRows(ctx context.Context, f catalog.Fold) error {
	t.doubt = true
	err := t.e.cfg.Catalog.Fold(ctx, t.epoch, f)
	if err == nil || !catalog.Retriable(err) && !errors.Is(err, catalog.ErrConflict) {
		t.doubt = err != nil
		return err
	}
	switch _, tailErr := t.e.cfg.Catalog.TailAt(ctx, f.Tail, f.Through); {
	case tailErr == nil:
		return err // not folded
	case !errors.Is(tailErr, catalog.ErrNotFound):
		return fmt.Errorf("%w (and settling it: %w)", err, tailErr)
	}
	tails, listErr := t.e.cfg.Catalog.BrokerTails(ctx)
	if listErr != nil {
		return fmt.Errorf("%w (and settling it: %w)", err, listErr)
	}
	for _, bt := range tails {
		if bt.Epoch == f.Tail && bt.Folded < f.Through {
			return err
		}
	}
	t.doubt = false
	return nil // folded that far, or the epoch is no longer listed because it is folded to its end
}

// folding gathers what a fold does to one partition.
type folding struct {
	extents   []segment.PackedExtent
	producers []timedBatch
}

type timedBatch struct {
	batch segment.Batch
	at    int64
}

func (t *term) planFold(ctx context.Context, epoch catalog.BrokerEpoch, objs []*tailObject) (f catalog.Fold, bytes int64, n int, err error) {
	work, _, err := gather(objs)
	if err != nil {
		return f, 0, 0, err
	}
	tps := make([]catalog.TopicPartition, 0, len(work))
	for tp := range work {
		tps = append(tps, tp)
	}
	slices.SortFunc(tps, catalog.TopicPartition.Compare)
	states, err := t.e.cfg.Catalog.SettledPartitions(ctx, tps) // what is not named here is dropped
	if err != nil {
		return f, 0, 0, fmt.Errorf("load partitions: %w", err)
	}
	if n, err = joining(objs, states); err != nil || n == 0 {
		return f, 0, 0, err
	}
	objs = objs[:n]
	if work, bytes, err = gather(objs); err != nil {
		return f, 0, 0, err
	}
	states = slices.DeleteFunc(states, func(st catalog.PartitionState) bool { return work[st.TopicPartition] == nil })
	f = catalog.Fold{Tail: epoch, After: objs[0].row.First - 1, Through: objs[n-1].row.Last}
	slices.SortFunc(states, func(a, b catalog.PartitionState) int { return a.Compare(b.TopicPartition) })
	refs := make(map[catalog.ObjectID]catalog.RefDelta, len(objs))
	var packs []packing
	for i := range states { // deleted topics are not among them: their extents end here
		st := &states[i]
		t.learn(st)
		st.Bytes = 0 // from here on: what is added
		w := work[st.TopicPartition]
		pack, err := t.foldPartition(&f, st, w)
		if err != nil {
			return f, 0, 0, err
		}
		if len(pack) > 0 {
			packs = append(packs, packing{st.TopicPartition, pack})
		}
		for _, x := range w.extents {
			if x.End <= st.LogStart {
				continue
			}
			r := refs[x.Object]
			refs[x.Object] = catalog.RefDelta{Object: x.Object, Refs: r.Refs + 1, Live: r.Live + x.Len}
		}
	}
	if err := t.packOnto(ctx, &f, packs); err != nil {
		return f, 0, 0, err
	}
	for _, o := range objs {
		gen := int32(0)
		if o.merged() {
			gen = 1
		}
		r := refs[o.row.Object]
		f.Objects = append(f.Objects, catalog.Object{
			ID: o.row.Object, Key: o.row.Key, Size: o.row.Size, Checksum: o.row.Checksum,
			Generation: generation(gen, o.row.Size, r.Live, r.Refs),
			Refs:       r.Refs, Live: r.Live, CreatedAt: o.row.CommittedAt,
		})
	}
	return f, bytes, n, nil
}

// joining counts the leading objects of which every extent continues its partition's folded log end, or that of an object
// before it.
func joining(objs []*tailObject, states []catalog.PartitionState) (int, error) {
	ends := make(map[catalog.TopicPartition]int64, len(states))
	for i := range states {
		ends[states[i].TopicPartition] = states[i].LogEnd
	}
	for n, o := range objs {
		ix, err := segment.DecodeTail(o.row.Index)
		if err != nil {
			return 0, fmt.Errorf("decode the index of %s: %w", o.row.Key, err)
		}
		for i := range ix.Extents {
			x := &ix.Extents[i]
			end, live := ends[x.TopicPartition]
			if live && x.Base > end {
				return n, nil
			}
			if live {
				ends[x.TopicPartition] = x.End // one that lies lower is folded already: that is for the caller to find
			}
		}
	}
	return len(objs), nil
}

// gather decodes the objects' indexes by partition.
func gather(objs []*tailObject) (map[catalog.TopicPartition]*folding, int64, error) {
	work := make(map[catalog.TopicPartition]*folding)
	bytes := int64(0)
	for _, o := range objs {
		bytes += o.row.Size
		ix, err := segment.DecodeTail(o.row.Index)
		if err != nil {
			return nil, 0, fmt.Errorf("decode the index of %s: %w", o.row.Key, err)
		}
		at := o.row.CommittedAt.UnixMilli()
		for i := range ix.Extents {
			x := &ix.Extents[i]
			w := work[x.TopicPartition]
			if w == nil {
				w = &folding{}
				work[x.TopicPartition] = w
			}
			w.extents = append(w.extents, segment.PackedExtent{
				Object: o.row.Object, Base: x.Base, End: x.End, Pos: x.Pos, Len: x.Len,
				LeaderEpoch: x.LeaderEpoch, MaxTimestamp: x.MaxTimestamp,
			})
			for _, b := range x.Batches {
				if b.ProducerID >= 0 {
					w.producers = append(w.producers, timedBatch{b, at})
				}
			}
		}
	}
	return work, bytes, nil
}

// foldPartition advances one partition's folded row and returns the extents to pack.
func (t *term) foldPartition(f *catalog.Fold, st *catalog.PartitionState, w *folding) (pack []segment.PackedExtent, err error) {
	for _, x := range w.extents {
		if x.Base != st.LogEnd {
			return nil, fmt.Errorf("%w: partition %s is folded to %d, its next extent starts at %d", catalog.ErrConflict, st.TopicPartition, st.LogEnd, x.Base)
		}
		st.LogEnd = x.End
		if n := len(st.LeaderEpochs); n == 0 || int32(st.LeaderEpochs[n-1].Epoch) < x.LeaderEpoch {
			st.LeaderEpochs = append(st.LeaderEpochs, catalog.EpochStart{Epoch: catalog.LeaseEpoch(x.LeaderEpoch), Start: x.Base})
		}
		if x.End > st.LogStart {
			pack = append(pack, x)
			st.Bytes += x.Len
		}
	}
	st.LastStable = st.LogEnd
	st.LeaderEpochs = pruneEpochs(st.LeaderEpochs, st.LogStart)
	if len(w.producers) > 0 {
		ps, err := decodeProducers(st.Producers)
		if errors.Is(err, errSnapshot) {
			// It goes on as it is, damaged: that it is says that nobody knows who sent what, also of what is folded now.
			t.e.damagedProducers(st.TopicPartition, err)
			f.Partitions = append(f.Partitions, *st)
			return pack, nil
		}
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", st.TopicPartition, err)
		}
		last := int64(0)
		for i := range w.producers {
			replay(&ps, &w.producers[i].batch, w.producers[i].at)
			last = w.producers[i].at
		}
		ps.trim(last-t.e.cfg.ProducerExpiry.Milliseconds(), t.e.cfg.MaxProducers)
		st.Producers = ps.encode()
	}
	f.Partitions = append(f.Partitions, *st)
	return pack, nil
}

// packing is what a fold adds to one partition's packed rows.
type packing struct {
	tp   catalog.TopicPartition
	pack []segment.PackedExtent
}

// packOnto appends extents to each partition's last packed row, or starts a new one when that is full.
func (t *term) packOnto(ctx context.Context, f *catalog.Fold, packs []packing) error {
	at := make(map[catalog.TopicPartition]int, len(packs))
	var spans []catalog.Span
	for i := range packs {
		base := packs[i].pack[0].Base
		at[packs[i].tp] = len(f.Rows)
		f.Rows = append(f.Rows, catalog.PackedRow{TopicPartition: packs[i].tp, Base: base, End: packs[i].pack[len(packs[i].pack)-1].End})
		if base > 0 {
			spans = append(spans, catalog.Span{TopicPartition: packs[i].tp, From: base - 1, To: base})
		}
	}
	err := eachPacked(ctx, t.e.cfg.Catalog, spans, func(last *catalog.PackedRow) error {
		i := at[last.TopicPartition]
		if last.End != f.Rows[i].Base {
			return nil
		}
		before, err := segment.DecodePacked(last.Extents)
		if err != nil {
			t.e.damagedRow(last.TopicPartition, last.Base, err)
			return nil // what comes now goes to a row of its own
		}
		if len(before)+len(packs[i].pack) <= maxPackedExtents {
			f.Replaces = append(f.Replaces, catalog.RowRef{TopicPartition: last.TopicPartition, Base: last.Base, Version: last.Version})
			f.Rows[i].Base = last.Base
			packs[i].pack = append(before, packs[i].pack...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range packs {
		f.Rows[i].Extents = segment.AppendPacked(nil, packs[i].pack)
	}
	return nil
}

// pruneEpochs drops leader epochs whose records are all below the log start, but the last of them.
func pruneEpochs(es []catalog.EpochStart, start int64) []catalog.EpochStart {
	n := 0
	for n+1 < len(es) && es[n+1].Start <= start {
		n++
	}
	return es[n:]
}

// Kinds of rewrites, for hooks.
const (
	rewriteFold    = "fold"
	rewriteHot     = "hot"
	rewriteSegment = "segment"
)

// unrewritten tells the hook of a rewrite that ended with an error. One that gave way to the tail is none.
func (e *Engine) unrewritten(ctx context.Context, kind string, err error, began time.Time) {
	if hook := e.cfg.Hooks.RewriteFailed; hook != nil && err != nil && ctx.Err() == nil && !errors.Is(err, errTailWaits) {
		hook(kind, err, time.Since(began))
	}
}

func (e *Engine) rewritten(kind string, objects int, bytes int64, began time.Time) {
	if hook := e.cfg.Hooks.Rewritten; hook != nil {
		hook(kind, objects, bytes, time.Since(began))
	}
}
