package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

const (
	// clipRows and clipObjects bound what one edit drops, so that commits do not wait long behind it; clipEdits how
	// many edits one step makes.
	clipRows    = 64
	clipObjects = 128
	clipEdits   = 16
	// trimPartitions is how many partitions one step looks at.
	trimPartitions = 256
)

// trims are the partitions whose log start moved since their packed rows were looked at.
type trims struct {
	mu struct {
		sync.Mutex
		due map[catalog.TopicPartition]struct{}
	}
	// Of the keeper: the partitions of a term that are not looked at yet. An earlier process may have moved log starts
	// and died before it dropped anything.
	term *term
	left []catalog.TopicPartition
}

func (d *trims) note(tps ...catalog.TopicPartition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.due == nil {
		d.mu.due = make(map[catalog.TopicPartition]struct{})
	}
	for _, tp := range tps {
		d.mu.due[tp] = struct{}{}
	}
}

// take returns up to n partitions to look at.
func (d *trims) take(t *term, n int) []catalog.TopicPartition {
	if d.term != t {
		d.term, d.left = t, nil
		for _, p := range t.e.all() {
			p.mu.Lock()
			if p.mu.term == t {
				d.left = append(d.left, p.tp)
			}
			p.mu.Unlock()
		}
	}
	var out []catalog.TopicPartition
	d.mu.Lock()
	for tp := range d.mu.due {
		if len(out) == n {
			break
		}
		out = append(out, tp)
		delete(d.mu.due, tp)
	}
	d.mu.Unlock()
	more := min(n-len(out), len(d.left))
	out = append(out, d.left[:more]...)
	d.left = d.left[more:]
	slices.SortFunc(out, catalog.TopicPartition.Compare)
	return slices.Compact(out)
}

// trim drops what lies below the log start from the packed rows of partitions whose log start moved, so that objects of
// which nothing is left are retired at once. It reports whether there is more to do.
func (t *term) trim(ctx context.Context) (more bool, err error) {
	tps := t.e.trims.take(t, trimPartitions)
	if len(tps) == 0 {
		return false, nil
	}
	if err := t.trimPartitions(ctx, tps); err != nil {
		t.e.trims.note(tps...)
		if errors.Is(err, errEnough) {
			return true, nil
		}
		return false, err
	}
	return true, nil
}

func (t *term) trimPartitions(ctx context.Context, tps []catalog.TopicPartition) error {
	states, err := t.e.cfg.Catalog.SettledPartitions(ctx, tps)
	if err != nil {
		return fmt.Errorf("load partitions to trim: %w", err)
	}
	slices.SortFunc(states, func(a, b catalog.PartitionState) int { return a.Compare(b.TopicPartition) })
	starts := make(map[catalog.TopicPartition]int64, len(states))
	var spans []catalog.Span
	for i := range states {
		st := &states[i]
		t.learn(st)
		if st.LogStart > 0 {
			starts[st.TopicPartition] = st.LogStart
			spans = append(spans, catalog.Span{TopicPartition: st.TopicPartition, To: st.LogStart})
		}
	}
	c := clipping{t: t}
	err = eachPacked(ctx, t.e.cfg.Catalog, spans, func(r *catalog.PackedRow) error {
		return c.add(ctx, r, starts[r.TopicPartition])
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("drop what is below the log start: %w", err)
	}
	if err := errors.Join(err, c.apply(ctx)); err != nil {
		return err
	}
	if t.e.cfg.Fleet != nil {
		for tp := range starts { // the controller, which drops the same when it merges, may have been faster than we looked
			t.unsize(tp)
		}
	}
	return nil
}

// unsize has the catalog asked for what a partition holds.
func (t *term) unsize(tp catalog.TopicPartition) {
	if p := t.e.lookup(tp); p != nil {
		p.mu.Lock()
		p.mu.sized = false
		p.mu.rowsStamp++ // of an answer that is under way
		p.mu.Unlock()
	}
}

// learn takes what the catalog says of a partition's size and log start, where answers were lost: readers must know of
// a log start before what lies below it is dropped.
func (t *term) learn(st *catalog.PartitionState) {
	p := t.e.lookup(st.TopicPartition)
	if p == nil {
		return
	}
	var b bell
	p.mu.Lock()
	if p.mu.sized && !t.ended.Load() { // else what was folded since may not be in it
		p.mu.bytes, p.mu.asked = st.Bytes, false
	}
	if p.mu.loaded && !t.ended.Load() {
		if st.LogStart > p.mu.logStart {
			p.mu.logStart = st.LogStart
			b.add(p)
		}
	}
	p.mu.Unlock()
	b.ring()
}

// errEnough: a step did as much as it may.
var errEnough = errors.New("enough for one step")

// clipping drops dead extents from packed rows, some rows at a time.
type clipping struct {
	t      *term
	edit   catalog.Edit
	deltas map[catalog.ObjectID]catalog.RefDelta
	edits  int
}

// add plans to drop what lies below start from a row; all of it, if start is math.MaxInt64. It applies the plan when
// that is large enough. errEnough when the row was not looked at any more.
func (c *clipping) add(ctx context.Context, r *catalog.PackedRow, start int64) error {
	if len(c.edit.Replaces) >= clipRows || len(c.deltas) >= clipObjects {
		if err := c.apply(ctx); err != nil {
			return err
		}
	}
	if c.edits >= clipEdits {
		return errEnough
	}
	xs, err := segment.DecodePacked(r.Extents)
	if err != nil {
		return fmt.Errorf("decode a packed row of %s: %w", r.TopicPartition, err)
	}
	dead := 0
	for dead < len(xs) && xs[dead].End <= start {
		dead++
	}
	if dead == 0 {
		return nil
	}
	c.edit.Replaces = append(c.edit.Replaces, catalog.RowRef{TopicPartition: r.TopicPartition, Base: r.Base, Version: r.Version})
	if kept := xs[dead:]; len(kept) > 0 {
		c.edit.Rows = append(c.edit.Rows, catalog.PackedRow{
			TopicPartition: r.TopicPartition, Base: kept[0].Base, End: r.End, Extents: segment.AppendPacked(nil, kept),
		})
	}
	if c.deltas == nil {
		c.deltas = make(map[catalog.ObjectID]catalog.RefDelta)
	}
	for _, x := range xs[:dead] {
		d := c.deltas[x.Object]
		c.deltas[x.Object] = catalog.RefDelta{Object: x.Object, Refs: d.Refs - 1, Live: d.Live - x.Len}
		if start < math.MaxInt64 {
			if c.edit.BytesDelta == nil {
				c.edit.BytesDelta = make(map[catalog.TopicPartition]int64)
			}
			c.edit.BytesDelta[r.TopicPartition] -= x.Len
		}
	}
	return nil
}

// apply makes the edit planned so far. Its answer may be lost: the rows are then looked at again, as they are.
func (c *clipping) apply(ctx context.Context) error {
	if len(c.edit.Replaces) == 0 {
		return nil
	}
	for _, d := range c.deltas {
		c.edit.Deltas = append(c.edit.Deltas, d)
	}
	slices.SortFunc(c.edit.Deltas, func(a, b catalog.RefDelta) int { return cmp.Compare(a.Object, b.Object) })
	e := c.edit
	c.edit, c.deltas = catalog.Edit{}, nil
	c.edits++
	if err := c.t.e.cfg.Catalog.Edit(ctx, c.t.epoch, e); err != nil {
		return fmt.Errorf("drop extents from %d packed rows: %w", len(e.Replaces), err)
	}
	for tp, n := range e.BytesDelta {
		if p := c.t.e.lookup(tp); p != nil {
			p.mu.Lock()
			p.dropRowsLocked()
			p.grownLocked(n)
			p.mu.Unlock()
		}
	}
	return nil
}
