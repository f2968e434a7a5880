package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Commit implements catalog.Manifest.
func (c *Catalog) Commit(ctx context.Context, epoch catalog.BrokerEpoch, entries []catalog.TailEntry) (time.Time, error) {
	if err := c.lock(ctx); err != nil {
		return time.Time{}, err
	}
	defer c.mu.Unlock()
	b, err := c.unfencedLocked(epoch)
	if err != nil {
		return time.Time{}, err
	}
	for i, e := range entries {
		if want := b.LastSequence + 1 + catalog.Sequence(i); e.First != want || e.Last != want || e.Epoch != epoch {
			return time.Time{}, fmt.Errorf("commit sequence %d of broker epoch %d, due is %d: %w", e.First, epoch, want, catalog.ErrSequence)
		}
	}
	at := c.nowLocked()
	for _, e := range entries {
		e.CommittedAt, e.Index = at, slices.Clone(e.Index)
		b.tail = append(b.tail, e)
		b.LastSequence = e.Last
	}
	return at, nil
}

// TailAt implements catalog.Manifest.
func (c *Catalog) TailAt(ctx context.Context, epoch catalog.BrokerEpoch, s catalog.Sequence) (catalog.TailEntry, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.TailEntry{}, err
	}
	defer c.mu.Unlock()
	if b := c.mu.brokers[epoch]; b != nil {
		for _, e := range b.tail {
			if e.First <= s && s <= e.Last {
				e.Index = slices.Clone(e.Index)
				return e, nil
			}
		}
	}
	return catalog.TailEntry{}, fmt.Errorf("tail row of broker epoch %d, sequence %d: %w", epoch, s, catalog.ErrNotFound)
}

// BrokerTails implements catalog.Manifest.
func (c *Catalog) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.BrokerTail
	for _, b := range c.byEpochLocked() {
		out = append(out, catalog.BrokerTail{Epoch: b.Epoch, Folded: b.folded, Last: b.LastSequence})
	}
	return out, nil
}

// ReadTail implements catalog.Manifest.
func (c *Catalog) ReadTail(ctx context.Context, epoch catalog.BrokerEpoch, after catalog.Sequence, limit int) ([]catalog.TailEntry, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.TailEntry
	if b := c.mu.brokers[epoch]; b != nil {
		for _, e := range b.tail {
			if e.Last > after && len(out) < limit {
				e.Index = slices.Clone(e.Index)
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// MergeTail implements catalog.Manifest.
func (c *Catalog) MergeTail(ctx context.Context, epoch catalog.BrokerEpoch, m catalog.TailMerge) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return err
	}
	conflict := func(why string) error {
		return fmt.Errorf("merge the tail of broker epoch %d, %d to %d: %s: %w", m.Entry.Epoch, m.Entry.First, m.Entry.Last, why, catalog.ErrConflict)
	}
	b := c.mu.brokers[m.Entry.Epoch]
	if b == nil || len(m.Replaces) == 0 {
		return conflict("no such tail")
	}
	i := slices.IndexFunc(b.tail, func(e catalog.TailEntry) bool { return e.First == m.Entry.First })
	if i < 0 || i+len(m.Replaces) > len(b.tail) {
		return conflict("rows are gone")
	}
	old := b.tail[i : i+len(m.Replaces)]
	var keys []string
	for j := range old {
		if old[j].Object != m.Replaces[j] {
			return conflict("rows changed")
		}
		keys = append(keys, old[j].Key)
	}
	if old[len(old)-1].Last != m.Entry.Last {
		return conflict("rows end elsewhere")
	}
	e := m.Entry
	e.Index, e.CommittedAt = slices.Clone(e.Index), old[len(old)-1].CommittedAt
	b.tail = slices.Replace(slices.Clone(b.tail), i, i+len(old), e)
	c.retireLocked(keys)
	return nil
}

func (c *Catalog) retireLocked(keys []string) {
	if len(keys) == 0 {
		return
	}
	c.mu.lastRetired++
	c.mu.retired = append(c.mu.retired, catalog.Retired{ID: c.mu.lastRetired, At: c.nowLocked(), Keys: keys})
}

// Fold implements catalog.Manifest.
func (c *Catalog) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return err
	}
	conflict := func(why string) error {
		return fmt.Errorf("fold broker epoch %d, (%d, %d]: %s: %w", f.Tail, f.After, f.Through, why, catalog.ErrConflict)
	}
	b := c.mu.brokers[f.Tail]
	if b == nil || b.folded != f.After {
		return conflict("fold position moved")
	}
	n := slices.IndexFunc(b.tail, func(e catalog.TailEntry) bool { return e.Last == f.Through }) + 1
	if n == 0 {
		return conflict("no tail row ends there")
	}
	folding := make(map[catalog.ObjectID]bool)
	for _, e := range b.tail[:n] {
		folding[e.Object] = true
	}
	for i := range f.Objects {
		if !folding[f.Objects[i].ID] {
			return conflict("an object is not in these rows")
		}
	}
	if len(folding) != len(f.Objects) {
		return conflict("the rows hold other objects")
	}
	for i := range f.Partitions {
		if t, _ := c.partitionLocked(f.Partitions[i].TopicPartition); t == nil || t.deleted {
			return conflict("a topic was deleted")
		}
	}
	if err := c.checkRowsLocked(f.Replaces, f.Rows, false); err != nil {
		return err
	}
	c.replaceRowsLocked(f.Replaces, f.Rows)
	for i := range f.Partitions {
		st := f.Partitions[i]
		_, p := c.partitionLocked(st.TopicPartition)
		st.LogStart = max(st.LogStart, p.state.LogStart)
		st.LeaderEpochs, st.Producers = slices.Clone(st.LeaderEpochs), slices.Clone(st.Producers)
		p.state = st
	}
	c.addObjectsLocked(f.Objects)
	b.tail = slices.Clone(b.tail[n:])
	b.folded = f.Through
	c.forgetLocked(b)
	return nil
}

// addObjectsLocked notes new folded objects; those nobody refers to are retired at once.
func (c *Catalog) addObjectsLocked(objs []catalog.Object) {
	var dead []string
	for _, o := range objs {
		if o.Refs == 0 {
			dead = append(dead, o.Key)
			continue
		}
		o.CreatedAt = c.nowLocked()
		c.mu.objects[o.ID] = o
	}
	c.retireLocked(dead)
}

// checkRowsLocked tells whether rows can be replaced: all are there in the version named, and the new ones overlap
// nothing that stays.
func (c *Catalog) checkRowsLocked(old []catalog.RowRef, rows []catalog.PackedRow, deletedToo bool) error {
	gone := make(map[catalog.TopicPartition]map[int64]bool)
	for _, r := range old {
		_, p := c.partitionLocked(r.TopicPartition)
		if p == nil {
			return fmt.Errorf("replace packed row %s at %d: partition is gone: %w", r.TopicPartition, r.Base, catalog.ErrConflict)
		}
		i := slices.IndexFunc(p.rows, func(x catalog.PackedRow) bool { return x.Base == r.Base })
		if i < 0 || p.rows[i].Version != r.Version {
			return fmt.Errorf("replace packed row %s at %d: %w", r.TopicPartition, r.Base, catalog.ErrConflict)
		}
		if gone[r.TopicPartition] == nil {
			gone[r.TopicPartition] = make(map[int64]bool)
		}
		gone[r.TopicPartition][r.Base] = true
	}
	added := make(map[catalog.TopicPartition][]catalog.PackedRow)
	for _, r := range rows {
		t, p := c.partitionLocked(r.TopicPartition)
		if p == nil || t.deleted && !deletedToo {
			return fmt.Errorf("add packed row %s at %d: topic is gone: %w", r.TopicPartition, r.Base, catalog.ErrConflict)
		}
		overlaps := func(x catalog.PackedRow) bool { return x.Base < r.End && r.Base < x.End }
		for _, x := range p.rows {
			if !gone[r.TopicPartition][x.Base] && overlaps(x) {
				return fmt.Errorf("add packed row %s at %d: overlaps that at %d: %w", r.TopicPartition, r.Base, x.Base, catalog.ErrConflict)
			}
		}
		if r.Base >= r.End || slices.ContainsFunc(added[r.TopicPartition], overlaps) {
			return fmt.Errorf("add packed row %s at %d: overlaps another new one: %w", r.TopicPartition, r.Base, catalog.ErrConflict)
		}
		added[r.TopicPartition] = append(added[r.TopicPartition], r)
	}
	return nil
}

func (c *Catalog) replaceRowsLocked(old []catalog.RowRef, rows []catalog.PackedRow) {
	versions := make(map[catalog.TopicPartition]int64)
	for _, r := range old {
		_, p := c.partitionLocked(r.TopicPartition)
		p.rows = slices.DeleteFunc(slices.Clone(p.rows), func(x catalog.PackedRow) bool { return x.Base == r.Base })
		versions[r.TopicPartition] = max(versions[r.TopicPartition], r.Version)
	}
	for _, r := range rows {
		_, p := c.partitionLocked(r.TopicPartition)
		r.Extents = slices.Clone(r.Extents)
		r.Version = versions[r.TopicPartition] + 1
		i := sort.Search(len(p.rows), func(i int) bool { return p.rows[i].Base > r.Base })
		p.rows = slices.Insert(p.rows, i, r)
	}
}

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
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return err
	}
	if err := c.checkRowsLocked(e.Replaces, e.Rows, true); err != nil {
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
	for _, o := range e.Objects {
		if _, ok := c.mu.objects[o.ID]; ok {
			return fmt.Errorf("add object %d again: %w", o.ID, catalog.ErrConflict)
		}
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
	return out[:min(limit, len(out))]
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
		if !now.Before(r.At.Add(grace)) && len(out) < limit {
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
