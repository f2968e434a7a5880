package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

func noRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

const tailColumns = "epoch, first_sequence, last_sequence, object, size, checksum, committed_at, key, extents, merge"

func scanTail(r pgx.Rows) (e catalog.TailEntry, err error) {
	err = r.Scan((*int64)(&e.Epoch), (*int64)(&e.First), (*int64)(&e.Last), (*int64)(&e.Object), &e.Size, &e.Checksum, &e.CommittedAt,
		&e.Key, &e.Index, &e.Merge)
	e.CommittedAt = e.CommittedAt.UTC()
	return e, err
}

// tailParams is how many parameters of a tail row commits and merges share: those of tailValues.
const tailParams = 8

func (c *Catalog) tailValues(ctx context.Context, e *catalog.TailEntry) ([]any, error) {
	index := e.Index
	if index == nil {
		index = []byte{}
	}
	var topics, partitions []int32
	var ends []int64
	if len(e.Ends) > 0 {
		var err error
		if topics, err = c.topicRefsOf(ctx, e.Ends); err != nil {
			return nil, err
		}
		partitions, ends = make([]int32, len(e.Ends)), make([]int64, len(e.Ends))
		for i := range e.Ends {
			partitions[i], ends[i] = e.Ends[i].Partition, e.Ends[i].End
		}
	}
	return []any{int64(e.Object), e.Size, int64(e.Checksum), e.Key, index, topics, partitions, ends}, nil
}

// commitSQL is the commit of n objects: one statement, so one round trip and one snapshot. The UPDATE is the guard. It
// waits for a fence that is under way and then looks at the row again, as the fence left it; only what it returns is
// inserted. A sub-select in its place would look at the snapshot, and let a commit slip past the fence.
func commitSQL(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `WITH b AS (
		UPDATE catalog_brokers SET last_sequence = $3::bigint + %d, committed_at = greatest(committed_at, catalog_now($1::timestamptz))
		WHERE epoch = $2 AND NOT fenced AND last_sequence = $3 RETURNING committed_at)
	INSERT INTO catalog_tail (epoch, first_sequence, last_sequence, object, size, checksum, committed_at, key, extents,
		end_topics, end_partitions, end_offsets)
	SELECT $2, $3 + v.n, $3 + v.n, v.object, v.size, v.checksum, b.committed_at, v.key, v.extents, v.topics, v.partitions, v.ends
	FROM b, (VALUES `, n)
	types := [tailParams]string{"bigint", "bigint", "bigint", "text", "bytea", "int[]", "int[]", "bigint[]"}
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%d", i+1)
		for j, typ := range types {
			fmt.Fprintf(&b, ", $%d::%s", 4+i*tailParams+j, typ)
		}
		b.WriteString(")")
	}
	b.WriteString(`) AS v (n, object, size, checksum, key, extents, topics, partitions, ends)
	RETURNING committed_at`)
	return b.String()
}

// commitOne is by far the most frequent statement.
var commitOne = commitSQL(1)

// maxCommit is how many objects one commit may name: the protocol has 65,535 parameters.
const maxCommit = 4096

// Commit implements [catalog.Manifest].
func (c *Catalog) Commit(ctx context.Context, epoch catalog.BrokerEpoch, entries []catalog.TailEntry) (time.Time, error) {
	if err := catalog.CheckCommit(entries); err != nil {
		return time.Time{}, fmt.Errorf("commit: %w", err)
	}
	if len(entries) > maxCommit {
		return time.Time{}, fmt.Errorf("commit %d objects: %w", len(entries), catalog.ErrInvalid)
	}
	var at time.Time
	err := c.statement(ctx, c.urgent, "commit", func(ctx context.Context) error {
		if err := inSequence(epoch, entries); err != nil || len(entries) == 0 {
			return c.refuseCommit(ctx, epoch, &at, err)
		}
		sql := commitOne
		if len(entries) > 1 {
			sql = commitSQL(len(entries))
		}
		first := entries[0].First
		args := make([]any, 3, 3+tailParams*len(entries))
		args[0], args[1], args[2] = c.time.parameter(), int64(epoch), int64(first-1)
		for i := range entries {
			values, err := c.tailValues(ctx, &entries[i])
			if err != nil {
				return err
			}
			args = append(args, values...)
		}
		err := c.urgent.QueryRow(ctx, sql, args...).Scan(&at)
		if noRows(err) {
			return c.refuseCommit(ctx, epoch, &at, fmt.Errorf("sequence %d of broker epoch %d: %w", first, epoch, catalog.ErrSequence))
		}
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return at.UTC(), nil
}

// inSequence refuses entries that do not follow each other or are another epoch's.
func inSequence(epoch catalog.BrokerEpoch, entries []catalog.TailEntry) error {
	for i := range entries {
		e := &entries[i]
		if due := entries[0].First + catalog.Sequence(i); e.First != due || e.Last != due || e.Epoch != epoch || due < 1 {
			return fmt.Errorf("entry %d is (%d, %d) of broker epoch %d, due is %d of %d: %w",
				i, e.First, e.Last, e.Epoch, due, epoch, catalog.ErrSequence)
		}
	}
	return nil
}

// refuseCommit tells why a commit was refused: nothing was applied. Without a reason of its own it only asks for the fence.
func (c *Catalog) refuseCommit(ctx context.Context, epoch catalog.BrokerEpoch, at *time.Time, reason error) error {
	var last int64
	err := c.urgent.QueryRow(ctx, "SELECT last_sequence, catalog_now($1) FROM catalog_brokers WHERE epoch = $2 AND NOT fenced",
		c.time.parameter(), int64(epoch)).Scan(&last, at)
	switch {
	case noRows(err):
		return fmt.Errorf("broker epoch %d: %w", epoch, catalog.ErrFenced)
	case err != nil:
		return err
	case reason != nil:
		return fmt.Errorf("due is %d: %w", last+1, reason)
	}
	return nil
}

const readTailSQL = "SELECT " + tailColumns + " FROM catalog_tail WHERE epoch = $1 AND last_sequence > $2 ORDER BY epoch, last_sequence LIMIT $3"

// ReadTail implements [catalog.Manifest].
func (c *Catalog) ReadTail(ctx context.Context, epoch catalog.BrokerEpoch, after catalog.Sequence, limit int) ([]catalog.TailEntry, error) {
	return collect(ctx, c, "read the tail", readTailSQL, scanTail, int64(epoch), int64(after), limited(limit))
}

// TailAt implements [catalog.Manifest]. Whoever asks has lost the answer to a commit, and takes the row for it: see vouch.
func (c *Catalog) TailAt(ctx context.Context, epoch catalog.BrokerEpoch, s catalog.Sequence) (catalog.TailEntry, error) {
	found, err := vouched(ctx, c, c.urgent, "read a tail row", readTailSQL, scanTail, int64(epoch), int64(s)-1, 1)
	if err != nil {
		return catalog.TailEntry{}, err
	}
	if len(found) == 0 || found[0].First > s {
		return catalog.TailEntry{}, fmt.Errorf("read a tail row: broker epoch %d, sequence %d: %w", epoch, s, catalog.ErrNotFound)
	}
	return found[0], nil
}

const brokerTailsSQL = `SELECT b.epoch, f.folded_sequence, b.last_sequence, f.merges
	FROM catalog_brokers b JOIN catalog_folds f ON f.epoch = b.epoch
	WHERE NOT (b.fenced AND f.folded_sequence = b.last_sequence) ORDER BY b.epoch`

// BrokerTails implements [catalog.Manifest].
func (c *Catalog) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	return collect(ctx, c, "list tails", brokerTailsSQL, func(r pgx.Rows) (bt catalog.BrokerTail, err error) {
		err = r.Scan((*int64)(&bt.Epoch), (*int64)(&bt.Folded), (*int64)(&bt.Last), &bt.Merges)
		return bt, err
	})
}

// tailRow is a tail row without its index.
type tailRow struct {
	first, last catalog.Sequence
	object      catalog.ObjectID
	committedAt time.Time
	key         string
}

// takeTail removes the tail rows of an epoch that end in from .. to, and returns them in order. Taking them is what locks
// them: of two folds or merges of a row, the second finds it gone.
func (t *tx) takeTail(epoch catalog.BrokerEpoch, from, to catalog.Sequence) ([]tailRow, error) {
	var out []tailRow
	err := t.query(`DELETE FROM catalog_tail WHERE epoch = $1 AND last_sequence BETWEEN $2 AND $3
		RETURNING first_sequence, last_sequence, object, committed_at, key`, func(r pgx.Rows) error {
		var row tailRow
		err := r.Scan((*int64)(&row.first), (*int64)(&row.last), (*int64)(&row.object), &row.committedAt, &row.key)
		out = append(out, row)
		return err
	}, int64(epoch), int64(from), int64(to))
	slices.SortFunc(out, func(a, b tailRow) int { return int(a.last - b.last) })
	return out, err
}

// MergeTail implements [catalog.Manifest].
func (c *Catalog) MergeTail(ctx context.Context, epoch catalog.BrokerEpoch, m catalog.TailMerge) error {
	e := &m.Entry
	if err := m.Check(); err != nil {
		return fmt.Errorf("merge the tail: %w", err)
	}
	op := "merge the tail of broker epoch " + strconv.FormatInt(int64(e.Epoch), 10)
	return c.write(ctx, c.general, op, func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		var merge int64
		if _, err := t.one("UPDATE catalog_folds SET merges = merges + 1 WHERE epoch = $1 RETURNING merges", []any{&merge}, int64(e.Epoch)); err != nil {
			return err
		}
		rows, err := t.takeTail(e.Epoch, e.First, e.Last)
		if err != nil {
			return err
		}
		if len(rows) != len(m.Replaces) || rows[0].first != e.First || rows[len(rows)-1].last != e.Last {
			return fmt.Errorf("found %d rows for %d to %d, planned with %d: %w", len(rows), e.First, e.Last, len(m.Replaces), catalog.ErrConflict)
		}
		keys := make([]string, len(rows))
		for i := range rows {
			if rows[i].object != m.Replaces[i] {
				return fmt.Errorf("sequence %d is object %d, planned with %d: %w", rows[i].last, rows[i].object, m.Replaces[i], catalog.ErrConflict)
			}
			keys[i] = rows[i].key
		}
		values, err := c.tailValues(t.ctx, e)
		if err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO catalog_tail (epoch, first_sequence, last_sequence, committed_at, merge, object, size, checksum, key, extents,
			end_topics, end_partitions, end_offsets) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			append([]any{int64(e.Epoch), int64(e.First), int64(e.Last), rows[len(rows)-1].committedAt, merge}, values...)...)
		if err != nil {
			return err
		}
		return t.retire(keys)
	})
}
