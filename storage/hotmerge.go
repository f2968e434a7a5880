package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// mergeHot turns one run of small objects of this broker's tail into one segment, if a run is long or heavy enough,
// or (when the tail is about to be folded) of at least Config.MergeFanIn. It reports whether it did.
func (t *term) mergeHot(ctx context.Context, objs []*tailObject, folding bool) (merged bool, err error) {
	run := pickRun(objs, folding, t.e.cfg.MergeFanIn)
	if len(run) < 2 {
		return false, nil
	}
	began := time.Now()
	defer func() { t.e.unrewritten(ctx, rewriteHot, err, began) }()
	sources := make([]source, len(run))
	defer func() {
		for i := range sources {
			sources[i].release()
		}
	}()
	for i, o := range run {
		if err := sources[i].open(ctx, t.e, o); err != nil {
			err = translateRead(err)
			o.rotten = !errors.Is(err, ErrUnavailable) || errors.Is(err, objstore.ErrNotFound) // do not try again and again
			return false, fmt.Errorf("read %s for a merge: %w", o.row.Key, err)
		}
	}
	built, err := mergeTail(sources)
	if err != nil {
		return false, err
	}
	obj, err := t.putMerged(ctx, run, &built)
	if err != nil {
		return false, err
	}
	t.swapTail(run, sources, obj, &built)
	t.e.rewritten(rewriteHot, len(run), built.Size, began)
	return true, nil
}

// maxMergedIndex bounds the index of a hot-merged segment, as the sum of its inputs' indexes.
const maxMergedIndex = 1 << 20

// pickRun chooses consecutive small objects: all there are up to the bounds, or nothing when it is too early. Merged
// objects are not merged again in the tail, so each byte is rewritten once here. A few small objects between large ones
// are not worth a merge: they are folded as they are, and a segment merge takes them with others of their kind.
//
// An object that continues another broker's rows begins a run. It waits for them to be folded; merged with what lies before
// it, that would wait, too, and two brokers whose partitions moved both ways could wait for each other for ever.
func pickRun(objs []*tailObject, folding bool, fanIn int) []*tailObject {
	for i := 0; i < len(objs); i++ {
		var bytes, index int64
		j := i
		for ; j < len(objs) && j-i < hotMergeObjects && bytes < hotMergeBytes && index < maxMergedIndex; j++ {
			if objs[j].merged() || objs[j].rotten || objs[j].row.Size >= smallObject || j > i && objs[j].joins {
				break
			}
			bytes += objs[j].row.Size
			index += int64(len(objs[j].row.Index))
		}
		whole := j-i >= hotMergeObjects || bytes >= hotMergeBytes || index >= maxMergedIndex
		if whole || folding && j-i >= fanIn {
			return objs[i:j]
		}
		i = max(i, j-1)
	}
	return nil
}

// source is one input of a hot merge: index and bytes by batch.
type source struct {
	index  *segment.Index
	slices [][]byte
	pin    releaser
	pinned *tailObject // when the bytes come from the tail cache
}

func (s *source) release() {
	if s.pin != nil {
		s.pin.Release()
		s.pin = nil
	}
}

// open gets the object's bytes from the tail cache, or else the whole object from the store, checked.
func (s *source) open(ctx context.Context, e *Engine, o *tailObject) error {
	ix, err := segment.DecodeTail(o.row.Index)
	if err != nil {
		return err
	}
	s.index = ix
	if o.tryRetain() {
		s.slices, s.pin, s.pinned = o.slices, o, o
		return nil
	}
	buf := e.cfg.Pool.Get(int(o.row.Size))
	s.pin = buf
	if err := e.cfg.Store.GetRange(e.onBehalfOfAll(ctx, ix), o.row.Key, 0, buf.Bytes()); err != nil {
		return err
	}
	if checksum(buf.Bytes()) != o.row.Checksum {
		return fmt.Errorf("%w: checksum of %s", ErrCorrupt, o.row.Key)
	}
	for i := range ix.Extents {
		pos := ix.Extents[i].Pos
		for _, b := range ix.Extents[i].Batches {
			end := pos + int64(b.Length)
			if end > o.row.Size {
				return fmt.Errorf("%w: index of %s", ErrCorrupt, o.row.Key)
			}
			s.slices = append(s.slices, buf.Bytes()[pos:end])
			pos = end
		}
	}
	return nil
}

// mergeTail lays the inputs out by partition. Extents of one partition that follow each other in offsets and leader
// epoch become one.
func mergeTail(sources []source) (segment.Object, error) {
	m := newTailMerger(sources)
	var b segment.Builder
	b.Begin()
	for _, tp := range m.order {
		pieces := m.pieces[tp]
		for i := 0; i < len(pieces); {
			x := segment.Extent{TopicPartition: tp, LeaderEpoch: pieces[i].x.LeaderEpoch, Base: pieces[i].x.Base}
			next := x.Base
			var parts [][]byte
			for ; i < len(pieces) && pieces[i].x.Base == next && pieces[i].x.LeaderEpoch == x.LeaderEpoch; i++ {
				x.Batches = append(x.Batches, pieces[i].x.Batches...)
				parts = append(parts, pieces[i].slices...)
				next = pieces[i].x.End
			}
			x.End = next
			b.Add(x, parts...)
		}
	}
	built, err := b.Finish()
	if err != nil {
		return built, fmt.Errorf("lay out a merged segment: %w", err)
	}
	return built, m.prove(&built.Index)
}

// putMerged stores the segment and makes the manifest name it in place of the run.
func (t *term) putMerged(ctx context.Context, run []*tailObject, built *segment.Object) (*tailObject, error) {
	id, err := nextObjectID(ctx, t.e)
	if err != nil {
		return nil, err
	}
	last := run[len(run)-1].row
	row := catalog.TailEntry{
		Epoch: t.epoch, First: run[0].row.First, Last: last.Last, Object: id,
		Key:  segment.KeyOfSegment(time.Now(), t.e.cfg.Process, t.epoch, int64(id), 1),
		Size: built.Size, Checksum: built.Checksum, Index: built.Index.AppendTail(nil), Ends: t.e.ends(&built.Index), CommittedAt: last.CommittedAt,
	}
	if err := t.e.cfg.Store.Put(t.e.onBehalfOfAll(ctx, &built.Index), row.Key, objstore.Body{Slices: built.Slices, Size: built.Size, Checksum: built.Checksum}); err != nil {
		return nil, fmt.Errorf("store a merged segment: %w", err)
	}
	m := catalog.TailMerge{Entry: row}
	for _, o := range run {
		m.Replaces = append(m.Replaces, o.row.Object)
	}
	t.doubt = true
	err = t.e.cfg.Catalog.MergeTail(ctx, t.epoch, m)
	if catalog.Retriable(err) { // its answer may have been lost
		now, readErr := t.e.cfg.Catalog.TailAt(ctx, t.epoch, row.Last)
		switch {
		case readErr == nil && now.Object == id:
			err = nil
		case readErr != nil && !errors.Is(readErr, catalog.ErrNotFound):
			err = errors.Join(err, readErr)
		}
	}
	t.doubt = err != nil
	if err != nil {
		// The segment stays behind as an orphan, and reconcile looks whether it was swapped in after all.
		return nil, fmt.Errorf("swap %d log objects for one segment: %w", len(run), err)
	}
	return &tailObject{row: row}, nil
}

// swapTail makes memory say what the manifest now says. The merged object keeps the inputs' buffers if all were
// cached.
func (t *term) swapTail(run []*tailObject, sources []source, obj *tailObject, built *segment.Object) {
	m := newTailMerger(sources)
	allCached := true
	for i := range sources {
		allCached = allCached && sources[i].pinned != nil
	}
	if allCached {
		for _, tp := range m.order {
			for _, piece := range m.pieces[tp] {
				obj.slices = append(obj.slices, piece.slices...)
			}
		}
		for i := range sources {
			obj.frames = append(obj.frames, sources[i].pin)
			obj.cached += sources[i].pinned.cached
			sources[i].pin = nil // the reference moves
		}
	}
	t.e.tail.replace(run, obj)
	t.swapExtents(run, tailExtents(obj, &built.Index), &built.Index)
	t.replaceTail(run, obj)
	t.e.reportTail(t)
}

// swapExtents puts the extents of a merged object, xs, in the place of those of the run it was merged from.
func (t *term) swapExtents(run []*tailObject, xs []tailExtent, ix *segment.Index) {
	gone := make(map[*tailObject]bool, len(run))
	for _, o := range run {
		gone[o] = true
	}
	for i := 0; i < len(xs); {
		tp := ix.Extents[i].TopicPartition
		j := i
		for j < len(xs) && ix.Extents[j].TopicPartition == tp {
			j++
		}
		if p := t.e.lookup(tp); p != nil {
			p.mu.Lock()
			if !t.ended.Load() {
				p.swapExtentsLocked(gone, xs[i:j])
			}
			p.mu.Unlock()
		}
		i = j
	}
}
