package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

// Fold implements [catalog.Manifest].
func (c *Catalog) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	if err := f.Check(); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	op := fmt.Sprintf("fold the tail of broker epoch %d, %d to %d", f.Tail, f.After+1, f.Through)
	run, err := c.tailRun(ctx, op, f.Tail, f.After+1, f.Through)
	if err != nil {
		return err
	}
	return c.write(ctx, op, func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		n, err := t.exec("UPDATE brokers SET folded_sequence = ? WHERE epoch = ? AND folded_sequence = ? AND last_sequence >= ?1",
			int64(f.Through), int64(f.Tail), int64(f.After))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("fold position moved: %w", catalog.ErrConflict)
		}
		if _, err := t.refresh(run); err != nil {
			return err
		}
		if err := checkFolding(run.rows, &f); err != nil {
			return err
		}
		if err := t.requireAllLive(&f); err != nil {
			return err
		}
		if err := t.replaceRows(f.Replaces, f.Rows); err != nil {
			return err
		}
		for i := range f.Partitions {
			if err := t.setPartition(&f.Partitions[i]); err != nil {
				return err
			}
		}
		dead, err := t.addObjects(f.Objects)
		if err != nil {
			return err
		}
		if err := t.retire(dead); err != nil {
			return err
		}
		if err := t.dropTail(f.Tail, f.After+1, f.Through); err != nil {
			return err
		}
		return t.forget(f.Tail)
	})
}

// checkFolding compares the rows to be folded with the objects the fold was planned from.
func checkFolding(rows []tailRow, f *catalog.Fold) error {
	if len(rows) == 0 || rows[len(rows)-1].last != f.Through {
		return fmt.Errorf("no tail row ends at %d: %w", f.Through, catalog.ErrConflict)
	}
	planned := make(map[catalog.ObjectID]bool, len(f.Objects))
	for i := range f.Objects {
		planned[f.Objects[i].ID] = true
	}
	for i := range rows {
		if !planned[rows[i].object] {
			return fmt.Errorf("object %d of the tail was not planned with: %w", rows[i].object, catalog.ErrConflict)
		}
		delete(planned, rows[i].object)
	}
	if len(planned) > 0 || len(rows) != len(f.Objects) {
		return fmt.Errorf("planned with objects that are not in these rows: %w", catalog.ErrConflict)
	}
	return nil
}

// requireLive refuses what names a deleted topic. live remembers those that were looked up.
func (t *tx) requireLive(live map[catalog.TopicID]bool, id catalog.TopicID) error {
	if live[id] {
		return nil
	}
	ok, err := t.live(id)
	if err == nil && !ok {
		err = fmt.Errorf("topic %s was deleted: %w", id, catalog.ErrConflict)
	}
	live[id] = true
	return err
}

func (t *tx) requireAllLive(f *catalog.Fold) error {
	live := make(map[catalog.TopicID]bool)
	for i := range f.Partitions { // those of all rows are among them
		if err := t.requireLive(live, f.Partitions[i].Topic); err != nil {
			return err
		}
	}
	for i := range f.Replaces {
		if err := t.requireLive(live, f.Replaces[i].Topic); err != nil {
			return err
		}
	}
	return nil
}

// replaceRows removes packed rows in the versions named, then adds new ones, which must overlap nothing.
func (t *tx) replaceRows(old []catalog.RowRef, rows []catalog.PackedRow) error {
	for i := range old {
		r := &old[i]
		n, err := t.exec("DELETE FROM packed_rows WHERE topic = ? AND partition = ? AND base_offset = ? AND version = ?",
			r.Topic[:], int64(r.Partition), r.Base, r.Version)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("packed row of %s at %d changed: %w", r.TopicPartition, r.Base, catalog.ErrConflict)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	version, err := t.bump("packed_version", 1)
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		// Rows do not overlap, so of those that begin below this one's end only the last can reach into it.
		n, err := t.exec(`INSERT INTO packed_rows (topic, partition, base_offset, end_offset, version, extents)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6
			WHERE EXISTS (SELECT 1 FROM partitions WHERE topic = ?1 AND partition = ?2)
			AND coalesce((SELECT end_offset FROM packed_rows WHERE topic = ?1 AND partition = ?2 AND base_offset < ?4
				ORDER BY base_offset DESC LIMIT 1), 0) <= ?3`,
			r.Topic[:], int64(r.Partition), r.Base, r.End, version, blob(r.Extents))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("packed row of %s from %d to %d overlaps another or its topic is gone: %w",
				r.TopicPartition, r.Base, r.End, catalog.ErrConflict)
		}
	}
	return nil
}

func (t *tx) setPartition(p *catalog.PartitionState) error {
	epochs := make([][2]int64, len(p.LeaderEpochs))
	for i, e := range p.LeaderEpochs {
		epochs[i] = [2]int64{int64(e.Epoch), e.Start}
	}
	encoded, err := json.Marshal(epochs)
	if err != nil {
		return fmt.Errorf("encode leader epochs: %w", err)
	}
	var producers any
	if p.Producers != nil {
		producers = p.Producers
	}
	n, err := t.exec(`UPDATE partitions SET log_start = max(log_start, ?), log_end = ?, last_stable = ?, leader_epochs = ?, producers = ?,
		bytes = bytes + ?6 WHERE topic = ?7 AND partition = ?8 AND log_end <= ?2`, p.LogStart, p.LogEnd, p.LastStable, string(encoded), producers, p.Bytes,
		p.Topic[:], int64(p.Partition))
	if err == nil && n == 0 {
		err = fmt.Errorf("partition %s is gone, or its log end would go back: %w", p.TopicPartition, catalog.ErrConflict)
	}
	return err
}

// LoadPartitions implements [catalog.Manifest].
func (c *Catalog) LoadPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	out := make([]catalog.PartitionState, 0, len(partitions))
	groups := byTopic(partitions)
	err := c.read(ctx, "load partitions", func(db *conn) error {
		for _, g := range groups {
			err := db.query(ctx, `SELECT partition, log_start, log_end, last_stable, bytes, leader_epochs, producers FROM partitions
				WHERE topic = ?1 AND partition IN (SELECT value FROM json_each(?2))
				AND EXISTS (SELECT 1 FROM topics WHERE id = ?1 AND deleted_at IS NULL)`, func(r row) error {
				st, err := partitionOf(g.id, r)
				out = append(out, st)
				return err
			}, g.id[:], g.partitions)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// SettledPartitions implements [catalog.Manifest]. What can be read is durable.
func (c *Catalog) SettledPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	return c.LoadPartitions(ctx, partitions)
}

func partitionOf(id catalog.TopicID, r row) (catalog.PartitionState, error) {
	st := catalog.PartitionState{
		TopicPartition: catalog.TopicPartition{Topic: id, Partition: int32(r.int(0))},
		LogStart:       r.int(1), LogEnd: r.int(2), LastStable: r.int(3), Bytes: r.int(4), Producers: r.blob(6),
	}
	text := r.text(5)
	if text == "[]" {
		return st, nil
	}
	var epochs [][2]int64
	if err := json.Unmarshal([]byte(text), &epochs); err != nil {
		return st, fmt.Errorf("%w: leader epochs of %s: %w", ErrDamaged, st.TopicPartition, err)
	}
	st.LeaderEpochs = make([]catalog.EpochStart, len(epochs))
	for i, e := range epochs {
		st.LeaderEpochs[i] = catalog.EpochStart{Epoch: catalog.LeaseEpoch(e[0]), Start: e[1]}
	}
	return st, nil
}

// PackedRows implements [catalog.Manifest].
func (c *Catalog) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	var out []catalog.PackedRow
	err := c.read(ctx, "read packed rows of "+tp.String(), func(db *conn) error {
		// The first row of interest is the last one that begins at or below from, if it reaches above it.
		return db.query(ctx, `SELECT base_offset, end_offset, version, extents FROM packed_rows
			WHERE topic = ?1 AND partition = ?2 AND end_offset > ?3 AND base_offset >= coalesce((SELECT base_offset FROM packed_rows
				WHERE topic = ?1 AND partition = ?2 AND base_offset <= ?3 ORDER BY base_offset DESC LIMIT 1), 0)
			ORDER BY base_offset LIMIT ?4`, func(r row) error {
			out = append(out, catalog.PackedRow{TopicPartition: tp, Base: r.int(0), End: r.int(1), Version: r.int(2), Extents: r.blob(3)})
			return nil
		}, tp.Topic[:], int64(tp.Partition), from, limited(limit))
	})
	return out, err
}

// PackedSpans implements [catalog.Manifest]: one statement a span, all in one snapshot on one reading connection.
func (c *Catalog) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) ([]catalog.PackedRow, error) {
	if err := catalog.CheckSpans(spans); err != nil {
		return nil, fmt.Errorf("read packed rows: %w", err)
	}
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b catalog.Span) int { return a.Compare(b.TopicPartition) })
	var out []catalog.PackedRow
	err := c.read(ctx, "read packed rows", func(db *conn) error {
		for i := range spans {
			s := &spans[i]
			if len(out) >= limit {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if s.From >= s.To {
				continue
			}
			// As in PackedRows, the first row of interest is the last one that begins at or below from.
			err := db.query(ctx, `SELECT base_offset, end_offset, version, extents FROM packed_rows
				WHERE topic = ?1 AND partition = ?2 AND base_offset < ?4 AND end_offset > ?3 AND base_offset >= coalesce((
					SELECT base_offset FROM packed_rows
					WHERE topic = ?1 AND partition = ?2 AND base_offset <= ?3 ORDER BY base_offset DESC LIMIT 1), 0)
				ORDER BY base_offset LIMIT ?5`, func(r row) error {
				out = append(out, catalog.PackedRow{
					TopicPartition: s.TopicPartition, Base: r.int(0), End: r.int(1), Version: r.int(2), Extents: r.blob(3),
				})
				return nil
			}, s.Topic[:], int64(s.Partition), s.From, s.To, limited(limit-len(out)))
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// PackedPartitions implements [catalog.Manifest]. It hops from partition to partition in the index.
func (c *Catalog) PackedPartitions(ctx context.Context, id catalog.TopicID) ([]catalog.TopicPartition, error) {
	var out []catalog.TopicPartition
	err := c.read(ctx, "list packed partitions of topic "+id.String(), func(db *conn) error {
		return db.query(ctx, `WITH RECURSIVE p (n) AS (
			SELECT min(partition) FROM packed_rows WHERE topic = ?1
			UNION ALL
			SELECT (SELECT min(partition) FROM packed_rows WHERE topic = ?1 AND partition > n) FROM p WHERE n IS NOT NULL)
			SELECT n FROM p WHERE n IS NOT NULL`, func(r row) error {
			out = append(out, catalog.TopicPartition{Topic: id, Partition: int32(r.int(0))})
			return nil
		}, id[:])
	})
	return out, err
}

// SetLogStart implements [catalog.Manifest].
func (c *Catalog) SetLogStart(ctx context.Context, epoch catalog.BrokerEpoch, tp catalog.TopicPartition, offset int64) (int64, error) {
	if err := catalog.CheckLogStart(offset); err != nil {
		return 0, fmt.Errorf("set the log start: %w", err)
	}
	var start int64
	err := c.write(ctx, "set the log start of "+tp.String(), func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		found, err := t.one(`UPDATE partitions SET log_start = max(log_start, ?3) WHERE topic = ?1 AND partition = ?2
			AND EXISTS (SELECT 1 FROM topics WHERE id = ?1 AND deleted_at IS NULL) RETURNING log_start`,
			func(r row) { start = r.int(0) }, tp.Topic[:], int64(tp.Partition), offset)
		if err == nil && !found {
			err = catalog.ErrUnknownTopic
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return start, nil
}

// Edit implements [catalog.Manifest].
func (c *Catalog) Edit(ctx context.Context, epoch catalog.BrokerEpoch, e catalog.Edit) error {
	if err := e.Check(); err != nil {
		return fmt.Errorf("edit the manifest: %w", err)
	}
	return c.write(ctx, "edit the manifest", func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		live := make(map[catalog.TopicID]bool)
		for i := range e.Rows {
			if err := t.requireLive(live, e.Rows[i].Topic); err != nil {
				return err
			}
		}
		if err := t.replaceRows(e.Replaces, e.Rows); err != nil {
			return err
		}
		for tp, n := range e.BytesDelta {
			_, err := t.exec("UPDATE partitions SET bytes = bytes + ? WHERE topic = ? AND partition = ?", n, tp.Topic[:], int64(tp.Partition))
			if err != nil {
				return err
			}
		}
		unborn, err := t.addObjects(e.Objects) // first: not even in place of one that goes may a key be used again
		if err != nil {
			return err
		}
		dead, err := t.changeRefs(e.Deltas)
		if err != nil {
			return err
		}
		if err := t.retire(append(dead, unborn...)); err != nil {
			return err
		}
		for _, id := range e.Purge {
			if err := t.purge(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// purge forgets a deleted topic. One that is unknown was purged before.
func (t *tx) purge(id catalog.TopicID) error {
	live, err := t.live(id)
	if err != nil {
		return err
	}
	if live {
		return fmt.Errorf("purge topic %s, which is not deleted: %w", id, catalog.ErrConflict)
	}
	left, err := t.one("SELECT 1 FROM packed_rows WHERE topic = ? LIMIT 1", func(row) {}, id[:])
	if err != nil {
		return err
	}
	if left {
		return fmt.Errorf("purge topic %s, which has packed rows left: %w", id, catalog.ErrConflict)
	}
	if _, err := t.exec("DELETE FROM partitions WHERE topic = ?", id[:]); err != nil {
		return err
	}
	_, err = t.exec("DELETE FROM topics WHERE id = ?", id[:])
	return err
}
