package memory

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Commit implements catalog.Manifest.
func (c *Catalog) Commit(ctx context.Context, epoch catalog.BrokerEpoch, entries []catalog.TailEntry) (time.Time, error) {
	if err := catalog.CheckCommit(entries); err != nil {
		return time.Time{}, fmt.Errorf("commit: %w", err)
	}
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
		e.Ends, e.Merge = nil, 0
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
	return c.tailsLocked(), nil
}

func (c *Catalog) tailsLocked() []catalog.BrokerTail {
	var out []catalog.BrokerTail
	for _, b := range c.byEpochLocked() {
		out = append(out, catalog.BrokerTail{Epoch: b.Epoch, Folded: b.folded, Last: b.LastSequence, Merges: b.merges})
	}
	return out
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
	if err := m.Check(); err != nil {
		return fmt.Errorf("merge the tail: %w", err)
	}
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
	if b == nil {
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
	e.Index, e.CommittedAt, e.Ends = slices.Clone(e.Index), old[len(old)-1].CommittedAt, nil
	b.merges++
	e.Merge = b.merges
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
	if err := f.Check(); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
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
		t, p := c.partitionLocked(f.Partitions[i].TopicPartition)
		if t == nil || t.deleted {
			return conflict("a topic was deleted")
		}
		if f.Partitions[i].LogEnd < p.state.LogEnd {
			return conflict("a log end would go back")
		}
	}
	if err := c.checkRowsLocked(f.Replaces, f.Rows); err != nil {
		return err
	}
	if err := c.checkObjectsLocked(f.Objects); err != nil {
		return err
	}
	c.replaceRowsLocked(f.Replaces, f.Rows)
	for i := range f.Partitions {
		st := f.Partitions[i]
		_, p := c.partitionLocked(st.TopicPartition)
		st.LogStart = max(st.LogStart, p.state.LogStart)
		st.Bytes += p.state.Bytes
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

// checkObjectsLocked tells whether none of the new folded objects has the id or key of another.
func (c *Catalog) checkObjectsLocked(objs []catalog.Object) error {
	keys := make(map[string]bool, len(objs))
	for i := range objs {
		if _, ok := c.mu.objects[objs[i].ID]; ok {
			return fmt.Errorf("fold object %d again: %w", objs[i].ID, catalog.ErrConflict)
		}
		keys[objs[i].Key] = true
	}
	if len(keys) == 0 {
		return nil
	}
	for _, o := range c.mu.objects {
		if keys[o.Key] {
			return fmt.Errorf("fold object key %q again: %w", o.Key, catalog.ErrConflict)
		}
	}
	return nil
}

// checkRowsLocked tells whether rows can be replaced: all are there in the version named, and the new ones overlap
// nothing that stays and are of live topics.
func (c *Catalog) checkRowsLocked(old []catalog.RowRef, rows []catalog.PackedRow) error {
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
		if p == nil || t.deleted {
			return fmt.Errorf("add packed row %s at %d: topic is gone: %w", r.TopicPartition, r.Base, catalog.ErrConflict)
		}
		overlaps := func(x catalog.PackedRow) bool { return x.Base < r.End && r.Base < x.End }
		for _, x := range p.rows {
			if !gone[r.TopicPartition][x.Base] && overlaps(x) {
				return fmt.Errorf("add packed row %s at %d: overlaps that at %d: %w", r.TopicPartition, r.Base, x.Base, catalog.ErrConflict)
			}
		}
		if slices.ContainsFunc(added[r.TopicPartition], overlaps) {
			return fmt.Errorf("add packed row %s at %d: overlaps another new one: %w", r.TopicPartition, r.Base, catalog.ErrConflict)
		}
		added[r.TopicPartition] = append(added[r.TopicPartition], r)
	}
	return nil
}

func (c *Catalog) replaceRowsLocked(old []catalog.RowRef, rows []catalog.PackedRow) {
	for _, r := range old {
		_, p := c.partitionLocked(r.TopicPartition)
		p.rows = slices.DeleteFunc(slices.Clone(p.rows), func(x catalog.PackedRow) bool { return x.Base == r.Base })
	}
	for _, r := range rows {
		_, p := c.partitionLocked(r.TopicPartition)
		r.Extents = slices.Clone(r.Extents)
		c.mu.lastRow++ // of all rows: a row made again at the same base must not get the version of the first
		r.Version = c.mu.lastRow
		i := sort.Search(len(p.rows), func(i int) bool { return p.rows[i].Base > r.Base })
		p.rows = slices.Insert(p.rows, i, r)
	}
}
