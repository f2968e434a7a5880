package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/slab"
)

const (
	// maxGeneration: objects of this generation are never rewritten; so a byte is rewritten at most 4 times, once hot
	// and three times here (objects too large to be small skip the first).
	maxGeneration = 4
	// segmentBytes is the size at which an output is closed and the next one begun.
	segmentBytes = 32 << 20
	// A large object whose extents are on average long is read well as it is: it is of the last generation.
	largeObject = smallObject
	longRun     = 256 << 10
	// busyMergeRate is how many bytes a second a merge copies while producers keep the broker busy: rewriting must not
	// take the disk and the processor from those who wait.
	busyMergeRate = 32 << 20
)

// generation is that of an object whose bytes were rewritten n times: the last one, never to be merged, if it is large
// and its extents are long.
func generation(n int32, size, live, refs int64) int32 {
	if size >= largeObject && live/max(refs, 1) >= longRun {
		return maxGeneration
	}
	return n
}

// segMerge is one merge on the folded level.
type segMerge struct {
	t       *term
	inputs  map[catalog.ObjectID]*input
	gen     int32
	edit    catalog.Edit
	began   time.Time
	builder segment.Builder
	open    bool
	outID   catalog.ObjectID
	bufs    []releaser // memory of the output under way
	size    int64
	unpaced int64 // copied since the last pause
	refs    int64
	live    int64
	deltas  map[catalog.ObjectID]*catalog.RefDelta
	// placed: the packed extents of the partition under way, in offset order, new and kept.
	placed map[catalog.TopicPartition][]segment.PackedExtent
	rows   map[catalog.TopicPartition][]catalog.PackedRow
	// staged are the extents of the output under way, whose positions are known once it is finished.
	staged []staged
}

// input is one object being merged, with the stretch of it that was read last.
type input struct {
	obj    catalog.Object
	footer *segment.Footer
	window *slab.Buf
	from   int64 // byte position of the window
}

// mergeGroup copies what is live of the objects into new ones and swaps those in. It reads each input once, from front to
// back, and holds one output in memory.
func (t *term) mergeGroup(ctx context.Context, objs []catalog.Object) (err error) {
	m := &segMerge{
		t: t, began: time.Now(),
		inputs: make(map[catalog.ObjectID]*input), deltas: make(map[catalog.ObjectID]*catalog.RefDelta),
		placed: make(map[catalog.TopicPartition][]segment.PackedExtent), rows: make(map[catalog.TopicPartition][]catalog.PackedRow),
	}
	defer func() { t.e.unrewritten(ctx, rewriteSegment, err, m.began) }()
	swapping := false // from then on the manifest may name the outputs
	defer func() {
		if !swapping {
			m.discard(ctx)
		}
		m.releaseOutput()
		for _, in := range m.inputs {
			in.window.Release()
		}
	}()
	var total int64
	for _, o := range objs {
		f, err := t.e.blocks.Footer(ctx, o.ID, o.Key, o.Size)
		if err != nil {
			return m.fail(&o, fmt.Errorf("open %s: %w", o.Key, translateRead(err)))
		}
		m.inputs[o.ID] = &input{obj: o, footer: f}
		m.gen = max(m.gen, min(o.Generation+1, maxGeneration))
		total += o.Size
	}
	tps, reaches := m.partitions()
	states, err := t.e.cfg.Catalog.SettledPartitions(ctx, tps) // what is not named here is dropped
	if err != nil {
		return fmt.Errorf("load partitions: %w", err)
	}
	starts := make(map[catalog.TopicPartition]int64, len(states))
	for i := range states {
		t.learn(&states[i])
		starts[states[i].TopicPartition] = states[i].LogStart
	}
	spans := make([]catalog.Span, len(tps))
	for i, tp := range tps {
		spans[i] = catalog.Span{TopicPartition: tp, From: reaches[tp].lo, To: reaches[tp].hi}
	}
	err = eachPacked(ctx, t.e.cfg.Catalog, spans, func(r *catalog.PackedRow) error {
		start, live := starts[r.TopicPartition]
		if !live {
			start = -1
		}
		return m.row(ctx, r, start)
	})
	if err != nil {
		return err
	}
	if err := m.finishOutput(ctx); err != nil {
		return err
	}
	swapping = true
	if err := m.swap(ctx); err != nil {
		swapping = !errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrUnavailable)
		return err
	}
	t.e.rewritten(rewriteSegment, len(objs), total, m.began)
	return nil
}

// reach is where a partition has offsets in the inputs.
type reach struct{ lo, hi int64 }

// partitions lists every partition with bytes in an input, in layout order: every input is then read front to back.
func (m *segMerge) partitions() ([]catalog.TopicPartition, map[catalog.TopicPartition]reach) {
	reaches := make(map[catalog.TopicPartition]reach)
	var tps []catalog.TopicPartition
	for _, in := range m.inputs {
		for i := range in.footer.Len() {
			x := in.footer.Extent(i)
			r, ok := reaches[x.TopicPartition]
			if !ok {
				tps = append(tps, x.TopicPartition)
				r = reach{x.Base, x.End}
			}
			reaches[x.TopicPartition] = reach{min(r.lo, x.Base), max(r.hi, x.End)}
		}
	}
	slices.SortFunc(tps, catalog.TopicPartition.Compare)
	return tps, reaches
}

// row copies what a packed row names of the inputs, and plans the row anew. start is the log start, -1 for a dead topic,
// of which nothing is kept.
func (m *segMerge) row(ctx context.Context, r *catalog.PackedRow, start int64) error {
	xs, err := segment.DecodePacked(r.Extents)
	if err != nil {
		return fmt.Errorf("decode a packed row of %s: %w", r.TopicPartition, err)
	}
	if !slices.ContainsFunc(xs, func(x segment.PackedExtent) bool { return m.inputs[x.Object] != nil }) {
		return nil
	}
	m.edit.Replaces = append(m.edit.Replaces, catalog.RowRef{TopicPartition: r.TopicPartition, Base: r.Base, Version: r.Version})
	m.rows[r.TopicPartition] = append(m.rows[r.TopicPartition], *r)
	for _, x := range xs {
		in := m.inputs[x.Object]
		dead := start < 0 || x.End <= start
		if in != nil || dead {
			m.unref(&x)
		}
		switch {
		case dead:
			m.addBytes(r.TopicPartition, -x.Len)
		case in != nil:
			if err := m.copyExtent(ctx, in, r.TopicPartition, x); err != nil {
				return err
			}
		default:
			m.placed[r.TopicPartition] = append(m.placed[r.TopicPartition], x)
		}
	}
	return nil
}

func (m *segMerge) unref(x *segment.PackedExtent) {
	d := m.deltas[x.Object]
	if d == nil {
		d = &catalog.RefDelta{Object: x.Object}
		m.deltas[x.Object] = d
	}
	d.Refs--
	d.Live -= x.Len
}

func (m *segMerge) addBytes(tp catalog.TopicPartition, n int64) {
	if m.edit.BytesDelta == nil {
		m.edit.BytesDelta = make(map[catalog.TopicPartition]int64)
	}
	m.edit.BytesDelta[tp] += n
}

// swap makes the manifest name the outputs instead of the inputs, in one guarded statement.
func (m *segMerge) swap(ctx context.Context) error {
	for tp, replaced := range m.rows {
		m.edit.Rows = append(m.edit.Rows, repack(tp, replaced, m.placed[tp])...)
	}
	slices.SortFunc(m.edit.Rows, func(a, b catalog.PackedRow) int {
		return cmp.Or(a.Compare(b.TopicPartition), cmp.Compare(a.Base, b.Base))
	})
	slices.SortFunc(m.edit.Replaces, func(a, b catalog.RowRef) int {
		return cmp.Or(a.Compare(b.TopicPartition), cmp.Compare(a.Base, b.Base))
	})
	for _, d := range m.deltas {
		m.edit.Deltas = append(m.edit.Deltas, *d)
	}
	slices.SortFunc(m.edit.Deltas, func(a, b catalog.RefDelta) int { return cmp.Compare(a.Object, b.Object) })
	cat := m.t.e.cfg.Catalog
	err := cat.Edit(ctx, m.t.epoch, m.edit)
	if catalog.Retriable(err) && len(m.edit.Objects) > 0 { // its answer may have been lost
		objs, readErr := cat.ObjectsByID(ctx, []catalog.ObjectID{m.edit.Objects[0].ID})
		if readErr == nil && len(objs) == 1 {
			err = nil
		} else {
			err = errors.Join(err, readErr)
		}
	}
	if err != nil {
		return fmt.Errorf("swap the merged objects in: %w", err)
	}
	for tp := range m.rows {
		if p := m.t.e.lookup(tp); p != nil {
			p.mu.Lock()
			p.dropRowsLocked()
			p.grownLocked(m.edit.BytesDelta[tp])
			p.mu.Unlock()
		}
	}
	return nil
}

// repack distributes extents over rows that cover the same offsets as the replaced ones. Runs that were apart stay
// apart: what lies between them belongs to rows that were not read.
func repack(tp catalog.TopicPartition, replaced []catalog.PackedRow, xs []segment.PackedExtent) []catalog.PackedRow {
	var out []catalog.PackedRow
	for i := 0; i < len(replaced); {
		end := replaced[i].End
		j := i + 1
		for j < len(replaced) && replaced[j].Base == end {
			end = replaced[j].End
			j++
		}
		n := 0
		for n < len(xs) && xs[n].End <= end {
			n++
		}
		for part := range slices.Chunk(xs[:n], maxPackedExtents) {
			out = append(out, catalog.PackedRow{
				TopicPartition: tp, Base: part[0].Base, End: part[len(part)-1].End, Extents: segment.AppendPacked(nil, part),
			})
		}
		xs = xs[n:]
		i = j
	}
	return out
}

// putOutput stores a finished output.
func (m *segMerge) putOutput(ctx context.Context, built *segment.Object) (catalog.Object, error) {
	e := m.t.e
	key := segment.KeyOfSegment(time.Now(), e.cfg.Process, m.t.epoch, int64(m.outID), 1)
	err := e.cfg.Store.Put(e.onBehalfOfAll(ctx, &built.Index), key, objstore.Body{Slices: built.Slices, Size: built.Size, Checksum: built.Checksum})
	if err != nil {
		return catalog.Object{}, fmt.Errorf("store a merged segment: %w", err)
	}
	return catalog.Object{
		ID: m.outID, Key: key, Size: built.Size, Checksum: built.Checksum,
		Generation: generation(m.gen, built.Size, m.live, m.refs), Refs: m.refs, Live: m.live,
		CreatedAt: e.clock.now(),
	}, nil
}

// fail says which input an error comes from.
func (m *segMerge) fail(obj *catalog.Object, err error) error {
	return &inputError{obj: *obj, err: err}
}

// discard deletes the outputs of a merge that was certainly not swapped in.
func (m *segMerge) discard(ctx context.Context) {
	keys := make([]string, 0, len(m.edit.Objects))
	for i := range m.edit.Objects {
		keys = append(keys, m.edit.Objects[i].Key)
	}
	if len(keys) > 0 {
		m.t.e.deleteLosers(ctx, keys)
	}
}
