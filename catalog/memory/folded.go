package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// LoadPartitions implements catalog.Manifest.
func (c *Catalog) LoadPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	out := make([]catalog.PartitionState, 0, len(partitions))
	for _, tp := range partitions {
		if t, p := c.partitionLocked(tp); t != nil && !t.deleted {
			st := p.state
			st.LeaderEpochs, st.Producers = slices.Clone(st.LeaderEpochs), slices.Clone(st.Producers)
			out = append(out, st)
		}
	}
	return out, nil
}

// SettledPartitions implements catalog.Manifest.
func (c *Catalog) SettledPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	return c.LoadPartitions(ctx, partitions)
}

// PackedRows implements catalog.Manifest.
func (c *Catalog) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.PackedRow
	if _, p := c.partitionLocked(tp); p != nil {
		for _, r := range p.rows {
			if r.End > from && len(out) < limit {
				r.Extents = slices.Clone(r.Extents)
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// PackedSpans implements catalog.Manifest.
func (c *Catalog) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) ([]catalog.PackedRow, error) {
	if err := catalog.CheckSpans(spans); err != nil {
		return nil, fmt.Errorf("read packed rows: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b catalog.Span) int { return a.Compare(b.TopicPartition) })
	var out []catalog.PackedRow
	for _, s := range spans {
		_, p := c.partitionLocked(s.TopicPartition)
		if p == nil || s.From >= s.To {
			continue
		}
		for _, r := range p.rows {
			if r.End > s.From && r.Base < s.To && len(out) < limit {
				r.Extents = slices.Clone(r.Extents)
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// PackedPartitions implements catalog.Manifest.
func (c *Catalog) PackedPartitions(ctx context.Context, id catalog.TopicID) ([]catalog.TopicPartition, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.TopicPartition
	if t := c.mu.topics[id]; t != nil {
		for _, p := range t.partitions {
			if len(p.rows) > 0 {
				out = append(out, p.state.TopicPartition)
			}
		}
	}
	return out, nil
}

// SetLogStart implements catalog.Manifest.
func (c *Catalog) SetLogStart(ctx context.Context, epoch catalog.BrokerEpoch, tp catalog.TopicPartition, offset int64) (int64, error) {
	if err := catalog.CheckLogStart(offset); err != nil {
		return 0, fmt.Errorf("set the log start: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return 0, err
	}
	t, p := c.partitionLocked(tp)
	if t == nil || t.deleted {
		return 0, fmt.Errorf("set the log start of %s: %w", tp, catalog.ErrUnknownTopic)
	}
	p.state.LogStart = max(p.state.LogStart, offset)
	return p.state.LogStart, nil
}

// Edit implements catalog.Manifest.
func (c *Catalog) Edit(ctx context.Context, epoch catalog.BrokerEpoch, e catalog.Edit) error {
	if err := e.Check(); err != nil {
		return fmt.Errorf("edit the manifest: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return err
	}
	if err := c.checkRowsLocked(e.Replaces, e.Rows); err != nil {
		return err
	}
	if err := c.checkEditLocked(&e); err != nil {
		return err
	}
	c.replaceRowsLocked(e.Replaces, e.Rows)
	c.addObjectsLocked(e.Objects)
	var dead []string
	for _, d := range e.Deltas {
		o := c.mu.objects[d.Object]
		o.Refs, o.Live = o.Refs+d.Refs, o.Live+d.Live
		if o.Refs == 0 {
			dead = append(dead, o.Key)
			delete(c.mu.objects, d.Object)
			continue
		}
		c.mu.objects[d.Object] = o
	}
	c.retireLocked(dead)
	for tp, n := range e.BytesDelta {
		if _, p := c.partitionLocked(tp); p != nil {
			p.state.Bytes += n
		}
	}
	for _, id := range e.Purge {
		delete(c.mu.topics, id)
	}
	return nil
}

func (c *Catalog) checkEditLocked(e *catalog.Edit) error {
	if err := c.checkObjectsLocked(e.Objects); err != nil {
		return err
	}
	for _, d := range e.Deltas {
		o, ok := c.mu.objects[d.Object]
		if !ok || o.Refs+d.Refs < 0 || o.Live+d.Live < 0 {
			return fmt.Errorf("change the references of object %d: %w", d.Object, catalog.ErrConflict)
		}
	}
	replaced := make(map[catalog.TopicPartition]int)
	for _, r := range e.Replaces {
		replaced[r.TopicPartition]++
	}
	for _, r := range e.Rows {
		replaced[r.TopicPartition]--
	}
	for _, id := range e.Purge {
		t := c.mu.topics[id]
		if t == nil {
			continue // a repeat
		}
		if !t.deleted {
			return fmt.Errorf("purge topic %s, which is not deleted: %w", id, catalog.ErrConflict)
		}
		for _, p := range t.partitions {
			if len(p.rows) > replaced[p.state.TopicPartition] {
				return fmt.Errorf("purge topic %s, which has packed rows: %w", id, catalog.ErrConflict)
			}
		}
	}
	return nil
}

func (c *Catalog) folded(keep func(*catalog.Object) bool, less func(a, b catalog.Object) int, limit int) []catalog.Object {
	var out []catalog.Object
	for _, o := range c.mu.objects {
		if keep(&o) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, less)
	return out[:max(0, min(limit, len(out)))]
}

func byID(a, b catalog.Object) int { return cmp.Compare(a.ID, b.ID) }

// ObjectsByID implements catalog.Manifest.
func (c *Catalog) ObjectsByID(ctx context.Context, ids []catalog.ObjectID) ([]catalog.Object, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return c.folded(func(o *catalog.Object) bool { return slices.Contains(ids, o.ID) }, byID, len(ids)), nil
}

// MergeCandidates implements catalog.Manifest.
func (c *Catalog) MergeCandidates(ctx context.Context, maxSize int64, maxGeneration int32, limit int) ([]catalog.Object, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return c.folded(
		func(o *catalog.Object) bool { return o.Size < maxSize && o.Generation < maxGeneration },
		func(a, b catalog.Object) int {
			return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.ID, b.ID))
		}, limit), nil
}

// SparseObjects implements catalog.Manifest.
func (c *Catalog) SparseObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return c.folded(func(o *catalog.Object) bool {
		return o.ID > after && o.Size >= catalog.SparseBytes && o.Live < o.Size-o.Live
	}, byID, limit), nil
}

// FoldedObjects implements catalog.Manifest.
func (c *Catalog) FoldedObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return c.folded(func(o *catalog.Object) bool { return o.ID > after }, byID, limit), nil
}

// ListRetired implements catalog.Manifest.
func (c *Catalog) ListRetired(ctx context.Context, grace time.Duration, limit int) ([]catalog.Retired, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	now := c.nowLocked()
	var out []catalog.Retired
	for _, r := range c.mu.retired {
		if over, _ := c.clock.Expired(r.At, now, max(grace, 0)); over && len(out) < limit {
			r.Keys = slices.Clone(r.Keys)
			out = append(out, r)
		}
	}
	return out, nil
}

// ForgetRetired implements catalog.Manifest.
func (c *Catalog) ForgetRetired(ctx context.Context, ids []int64) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	c.mu.retired = slices.DeleteFunc(c.mu.retired, func(r catalog.Retired) bool { return slices.Contains(ids, r.ID) })
	return nil
}

// KnownObjects implements catalog.Manifest.
func (c *Catalog) KnownObjects(ctx context.Context, keys []string) (map[string]bool, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	known := make(map[string]bool)
	for _, b := range c.mu.brokers {
		for _, e := range b.tail {
			known[e.Key] = true
		}
	}
	for _, o := range c.mu.objects {
		known[o.Key] = true
	}
	for _, r := range c.mu.retired {
		for _, k := range r.Keys {
			known[k] = true
		}
	}
	out := make(map[string]bool, len(keys))
	for _, k := range keys {
		if known[k] {
			out[k] = true
		}
	}
	return out, nil
}
