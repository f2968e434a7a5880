package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// batchRows bounds the rows one statement names, and batchBytes the bytes of blobs it carries.
	batchRows  = 5000
	batchBytes = 8 << 20
)

// batches splits n rows so that a statement names at most batchRows of them with about batchBytes in all.
func batches(n int, size func(i int) int, do func(from, to int) error) error {
	for from := 0; from < n; {
		to, bytes := from, 0
		for to < n && to-from < batchRows && (to == from || bytes+size(to) <= batchBytes) {
			bytes += size(to)
			to++
		}
		if err := do(from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// Fold implements [catalog.Manifest].
func (c *Catalog) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	if err := f.Check(); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	op := fmt.Sprintf("fold the tail of broker epoch %d, %d to %d", f.Tail, f.After+1, f.Through)
	return c.write(ctx, c.general, op, func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		n, err := t.exec("UPDATE catalog_folds SET folded_sequence = $1 WHERE epoch = $2 AND folded_sequence = $3",
			int64(f.Through), int64(f.Tail), int64(f.After))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("fold position moved: %w", catalog.ErrConflict)
		}
		named := make(map[catalog.TopicID]bool)
		for i := range f.Partitions { // those of all rows are among them
			named[f.Partitions[i].Topic] = true
		}
		for i := range f.Replaces {
			named[f.Replaces[i].Topic] = true
		}
		if err := t.requireLive(named); err != nil {
			return err
		}
		if err := t.setPartitions(f.Partitions); err != nil {
			return err
		}
		rows, err := t.takeTail(f.Tail, f.After+1, f.Through)
		if err != nil {
			return err
		}
		if err := checkFolding(rows, &f); err != nil {
			return err
		}
		if err := t.replaceRows(f.Replaces, f.Rows); err != nil {
			return err
		}
		dead, err := t.addObjects(f.Objects)
		if err != nil {
			return err
		}
		if err := t.retire(dead); err != nil {
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

// requireLive locks topics against being deleted, and refuses when one is.
func (t *tx) requireLive(topics map[catalog.TopicID]bool) error {
	if len(topics) == 0 {
		return nil
	}
	ids := make([][16]byte, 0, len(topics))
	for id := range topics {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	var live int
	_, err := t.one(`SELECT count(*) FROM (SELECT 1 FROM catalog_topics WHERE id = ANY($1) AND deleted_at IS NULL ORDER BY id FOR SHARE) l`,
		[]any{&live}, ids)
	if err == nil && live < len(ids) {
		err = fmt.Errorf("%d of %d topics were deleted: %w", len(ids)-live, len(ids), catalog.ErrConflict)
	}
	return err
}

// setPartitions stores folded states.
func (t *tx) setPartitions(states []catalog.PartitionState) error {
	states = slices.SortedFunc(slices.Values(states), func(a, b catalog.PartitionState) int { return a.Compare(b.TopicPartition) })
	size := func(i int) int { return len(states[i].Producers) + 16*len(states[i].LeaderEpochs) }
	return batches(len(states), size, func(from, to int) error {
		part := states[from:to]
		n := len(part)
		topics, partitions := make([][16]byte, n), make([]int32, n)
		starts, ends, stables, bytes := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
		epochs, producers := make([]string, n), make([][]byte, n)
		for i := range part {
			p := &part[i]
			topics[i], partitions[i] = p.Topic, p.Partition
			starts[i], ends[i], stables[i], bytes[i], producers[i] = p.LogStart, p.LogEnd, p.LastStable, p.Bytes, p.Producers
			pairs := make([][2]int64, len(p.LeaderEpochs))
			for j, e := range p.LeaderEpochs {
				pairs[j] = [2]int64{int64(e.Epoch), e.Start}
			}
			encoded, err := json.Marshal(pairs)
			if err != nil {
				return fmt.Errorf("encode leader epochs: %w", err)
			}
			epochs[i] = string(encoded)
		}
		changed, err := t.exec(`UPDATE catalog_partitions p SET log_start = greatest(p.log_start, n.log_start), log_end = n.log_end,
				last_stable = n.last_stable, bytes = p.bytes + n.bytes, leader_epochs = n.leader_epochs::jsonb, producers = n.producers
			FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::bytea[])
				AS n (topic, partition, log_start, log_end, last_stable, bytes, leader_epochs, producers)
			WHERE p.topic = n.topic AND p.partition = n.partition AND p.log_end <= n.log_end`,
			topics, partitions, starts, ends, stables, bytes, epochs, producers)
		if err == nil && changed != int64(n) {
			err = fmt.Errorf("of %d partitions from %s on some are gone, or their log ends would go back: %w",
				n, part[0].TopicPartition, catalog.ErrConflict)
		}
		return err
	})
}

const loadPartitionsSQL = `SELECT p.topic, p.partition, p.log_start, p.log_end, p.last_stable, p.bytes, p.leader_epochs, p.producers
	FROM unnest($1::uuid[], $2::int[]) AS a (topic, partition) JOIN catalog_partitions p USING (topic, partition)
	JOIN catalog_topics t ON t.id = p.topic WHERE t.deleted_at IS NULL`

func scanPartition(r pgx.Rows) (st catalog.PartitionState, err error) {
	var epochs [][2]int64
	err = r.Scan((*[16]byte)(&st.Topic), &st.Partition, &st.LogStart, &st.LogEnd, &st.LastStable, &st.Bytes, &epochs, &st.Producers)
	for _, e := range epochs {
		st.LeaderEpochs = append(st.LeaderEpochs, catalog.EpochStart{Epoch: catalog.LeaseEpoch(e[0]), Start: e[1]})
	}
	return st, err
}

// LoadPartitions implements [catalog.Manifest].
func (c *Catalog) LoadPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	asked := placesOf(partitions)
	return collect(ctx, c, "load partitions", loadPartitionsSQL, scanPartition, asked.topics, asked.partitions)
}

// SettledPartitions implements [catalog.Manifest]. A log start that only shows may be undone by a fail-over, and a deletion: what
// was dropped by it would be missing from a log that has it again.
func (c *Catalog) SettledPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	asked := placesOf(partitions)
	return vouched(ctx, c, c.general, "settle partitions", loadPartitionsSQL, scanPartition, asked.topics, asked.partitions)
}

// SetLogStart implements [catalog.Manifest], in one round trip.
func (c *Catalog) SetLogStart(ctx context.Context, epoch catalog.BrokerEpoch, tp catalog.TopicPartition, offset int64) (int64, error) {
	if err := catalog.CheckLogStart(offset); err != nil {
		return 0, fmt.Errorf("set the log start: %w", err)
	}
	var fence, start *int64
	err := c.statement(ctx, c.general, "set the log start of "+tp.String(), func(ctx context.Context) error {
		err := c.general.QueryRow(ctx, `WITH b AS MATERIALIZED (SELECT epoch FROM catalog_brokers WHERE epoch = $1 AND NOT fenced FOR KEY SHARE),
			p AS (UPDATE catalog_partitions p SET log_start = greatest(log_start, $4) FROM b, catalog_topics t
				WHERE p.topic = $2 AND p.partition = $3 AND t.id = p.topic AND t.deleted_at IS NULL RETURNING p.log_start)
			SELECT (SELECT epoch FROM b), (SELECT log_start FROM p)`,
			int64(epoch), [16]byte(tp.Topic), tp.Partition, offset).Scan(&fence, &start)
		switch {
		case err != nil:
			return err
		case fence == nil:
			return fmt.Errorf("broker epoch %d: %w", epoch, catalog.ErrFenced)
		case start == nil:
			return catalog.ErrUnknownTopic
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return *start, nil
}

// Edit implements [catalog.Manifest].
func (c *Catalog) Edit(ctx context.Context, epoch catalog.BrokerEpoch, e catalog.Edit) error {
	if err := e.Check(); err != nil {
		return fmt.Errorf("edit the manifest: %w", err)
	}
	return c.write(ctx, c.general, "edit the manifest", func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		named := make(map[catalog.TopicID]bool)
		for i := range e.Rows {
			named[e.Rows[i].Topic] = true
		}
		if err := t.requireLive(named); err != nil {
			return err
		}
		if err := t.lockPartitions(e.Rows); err != nil {
			return err
		}
		if err := t.addBytes(e.BytesDelta); err != nil {
			return err
		}
		if err := t.replaceRows(e.Replaces, e.Rows); err != nil {
			return err
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
		for _, id := range slices.SortedFunc(slices.Values(e.Purge), func(a, b catalog.TopicID) int { return slices.Compare(a[:], b[:]) }) {
			if err := t.purge(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// lockPartitions locks the partitions that get rows, so that whether those overlap others can be told.
func (t *tx) lockPartitions(rows []catalog.PackedRow) error {
	if len(rows) == 0 {
		return nil
	}
	tps := make([]catalog.TopicPartition, len(rows))
	for i := range rows {
		tps[i] = rows[i].TopicPartition
	}
	p := placesOf(tps)
	var found int
	_, err := t.one(`SELECT count(*) FROM (SELECT 1 FROM catalog_partitions p JOIN unnest($1::uuid[], $2::int[]) AS a (topic, partition)
		USING (topic, partition) ORDER BY topic, partition FOR NO KEY UPDATE OF p) l`, []any{&found}, p.topics, p.partitions)
	if err == nil && found < len(p.topics) {
		err = fmt.Errorf("%d of %d partitions do not exist: %w", len(p.topics)-found, len(p.topics), catalog.ErrConflict)
	}
	return err
}

func (t *tx) addBytes(delta map[catalog.TopicPartition]int64) error {
	if len(delta) == 0 {
		return nil
	}
	p := placesOf(slices.Collect(maps.Keys(delta)))
	bytes := make([]int64, len(p.topics))
	for i := range bytes {
		bytes[i] = delta[catalog.TopicPartition{Topic: p.topics[i], Partition: p.partitions[i]}]
	}
	_, err := t.exec(`UPDATE catalog_partitions p SET bytes = p.bytes + n.bytes
		FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS n (topic, partition, bytes)
		WHERE p.topic = n.topic AND p.partition = n.partition`, p.topics, p.partitions, bytes)
	return err
}

// purge forgets a deleted topic. One that is unknown was purged before.
func (t *tx) purge(id catalog.TopicID) error {
	var live bool
	found, err := t.one("SELECT deleted_at IS NULL FROM catalog_topics WHERE id = $1 FOR UPDATE", []any{&live}, [16]byte(id))
	if err != nil || !found {
		return err
	}
	if live {
		return fmt.Errorf("purge topic %s, which is not deleted: %w", id, catalog.ErrConflict)
	}
	left, err := t.one("SELECT 1 FROM catalog_packed_rows WHERE topic = $1 LIMIT 1", []any{new(int)}, [16]byte(id))
	if err != nil {
		return err
	}
	if left {
		return fmt.Errorf("purge topic %s, which has packed rows left: %w", id, catalog.ErrConflict)
	}
	if _, err := t.exec("DELETE FROM catalog_partitions WHERE topic = $1", [16]byte(id)); err != nil {
		return err
	}
	_, err = t.exec("DELETE FROM catalog_topics WHERE id = $1", [16]byte(id))
	return err
}
