package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const tailColumns = "epoch, first_sequence, last_sequence, object, size, checksum, committed_at, key, extents"

func tailOf(r row) catalog.TailEntry {
	return catalog.TailEntry{
		Epoch: catalog.BrokerEpoch(r.int(0)), First: catalog.Sequence(r.int(1)), Last: catalog.Sequence(r.int(2)),
		Object: catalog.ObjectID(r.int(3)), Size: r.int(4), Checksum: uint32(r.int(5)), CommittedAt: toTime(r.int(6)),
		Key: r.text(7), Index: r.blob(8),
	}
}

func (t *tx) insertTail(e *catalog.TailEntry, committedAt int64) error {
	_, err := t.exec("INSERT INTO tail ("+tailColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", int64(e.Epoch), int64(e.First),
		int64(e.Last), int64(e.Object), e.Size, int64(e.Checksum), committedAt, e.Key, blob(e.Index))
	return err
}

// Commit implements [catalog.Manifest]. Its guard, its sequence check and the new last sequence are one statement.
func (c *Catalog) Commit(ctx context.Context, epoch catalog.BrokerEpoch, entries []catalog.TailEntry) (time.Time, error) {
	if err := catalog.CheckCommit(entries); err != nil {
		return time.Time{}, fmt.Errorf("commit: %w", err)
	}
	var at int64
	err := c.write(ctx, "commit", func(t *tx) error {
		at = t.now
		if len(entries) == 0 {
			return t.guard(epoch)
		}
		before := entries[0].First - 1
		n, err := t.exec("UPDATE brokers SET last_sequence = ?, committed_at = ? WHERE epoch = ? AND fenced = 0 AND last_sequence = ?",
			int64(before)+int64(len(entries)), t.now, int64(epoch), int64(before))
		if err != nil {
			return err
		}
		if n == 0 {
			return t.refuseCommit(epoch, entries[0].First)
		}
		for i := range entries {
			e := &entries[i]
			if due := entries[0].First + catalog.Sequence(i); e.First != due || e.Last != due || e.Epoch != epoch {
				return fmt.Errorf("entry %d is (%d, %d) of broker epoch %d, due is %d of %d: %w",
					i, e.First, e.Last, e.Epoch, due, epoch, catalog.ErrSequence)
			}
			if err := t.insertTail(e, t.now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return time.Time{}, err
	}
	return toTime(at), nil
}

func (t *tx) refuseCommit(epoch catalog.BrokerEpoch, first catalog.Sequence) error {
	if err := t.guard(epoch); err != nil {
		return err
	}
	var last int64
	if _, err := t.one("SELECT last_sequence FROM brokers WHERE epoch = ?", func(r row) { last = r.int(0) }, int64(epoch)); err != nil {
		return err
	}
	return fmt.Errorf("sequence %d of broker epoch %d, due is %d: %w", first, epoch, last+1, catalog.ErrSequence)
}

// TailAt implements [catalog.Manifest].
func (c *Catalog) TailAt(ctx context.Context, epoch catalog.BrokerEpoch, s catalog.Sequence) (catalog.TailEntry, error) {
	var e catalog.TailEntry
	err := c.read(ctx, "read a tail row", func(db *conn) error {
		found, err := db.one("SELECT "+tailColumns+" FROM tail WHERE epoch = ? AND last_sequence >= ? ORDER BY last_sequence LIMIT 1",
			func(r row) { e = tailOf(r) }, int64(epoch), int64(s))
		if err == nil && (!found || e.First > s) {
			err = fmt.Errorf("broker epoch %d, sequence %d: %w", epoch, s, catalog.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return catalog.TailEntry{}, err
	}
	return e, nil
}

// BrokerTails implements [catalog.Manifest].
func (c *Catalog) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	var out []catalog.BrokerTail
	err := c.read(ctx, "list tails", func(db *conn) error {
		return db.query(ctx, "SELECT epoch, folded_sequence, last_sequence FROM brokers ORDER BY epoch", func(r row) error {
			out = append(out, catalog.BrokerTail{
				Epoch: catalog.BrokerEpoch(r.int(0)), Folded: catalog.Sequence(r.int(1)), Last: catalog.Sequence(r.int(2)),
			})
			return nil
		})
	})
	return out, err
}

// ReadTail implements [catalog.Manifest].
func (c *Catalog) ReadTail(ctx context.Context, epoch catalog.BrokerEpoch, after catalog.Sequence, limit int) ([]catalog.TailEntry, error) {
	var out []catalog.TailEntry
	err := c.read(ctx, "read the tail", func(db *conn) error {
		const read = "SELECT " + tailColumns + " FROM tail WHERE epoch = ? AND last_sequence > ? ORDER BY last_sequence LIMIT ?"
		return db.query(ctx, read, func(r row) error {
			out = append(out, tailOf(r))
			return nil
		}, int64(epoch), int64(after), limited(limit))
	})
	return out, err
}

// MergeTail implements [catalog.Manifest].
func (c *Catalog) MergeTail(ctx context.Context, epoch catalog.BrokerEpoch, m catalog.TailMerge) error {
	e := &m.Entry
	if err := m.Check(); err != nil {
		return fmt.Errorf("merge the tail: %w", err)
	}
	op := fmt.Sprintf("merge the tail of broker epoch %d, %d to %d", e.Epoch, e.First, e.Last)
	run, err := c.tailRun(ctx, op, e.Epoch, e.First, e.Last)
	if err != nil {
		return err
	}
	keys, err := keyList(run.keys())
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return c.write(ctx, op, func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		if fresh, err := t.refresh(run); err != nil {
			return err
		} else if fresh {
			if keys, err = keyList(run.keys()); err != nil {
				return err
			}
		}
		rows := run.rows
		if len(rows) == 0 || len(rows) != len(m.Replaces) || rows[0].first != e.First || rows[len(rows)-1].last != e.Last {
			return fmt.Errorf("found %d rows, planned with %d: %w", len(rows), len(m.Replaces), catalog.ErrConflict)
		}
		for i := range rows {
			if rows[i].object != m.Replaces[i] {
				return fmt.Errorf("sequence %d is object %d, planned with %d: %w", rows[i].last, rows[i].object, m.Replaces[i], catalog.ErrConflict)
			}
		}
		if err := t.retireList(keys); err != nil {
			return err
		}
		if err := t.dropTail(e.Epoch, e.First, e.Last); err != nil {
			return err
		}
		return t.insertTail(e, rows[len(rows)-1].committedAt)
	})
}

func (t *tx) dropTail(epoch catalog.BrokerEpoch, from, to catalog.Sequence) error {
	t.edited = true
	t.edits.Add(1)
	_, err := t.exec("DELETE FROM tail WHERE epoch = ? AND last_sequence BETWEEN ? AND ?", int64(epoch), int64(from), int64(to))
	return err
}

// tailRow is a tail row without its index.
type tailRow struct {
	first, last catalog.Sequence
	object      catalog.ObjectID
	committedAt int64
	key         string
}

// tailRun is the tail rows of one epoch that end in from .. to, as they were when Catalog.edits was stamp.
//
// Looking at thousands of rows takes milliseconds, in which no commit could be applied, so it is done on a reading
// connection before the write is queued. Rows of the tail only ever go by merges and folds, and those move the stamp: once
// when they take rows out, and once more when their transaction has ended. So a stamp that stands still from before the
// snapshot was taken to within the write says that the rows are still these. A snapshot older than an edit has a stamp that
// was taken before the edit's second move at the latest. If the stamp moved, the rows are read again within the write.
type tailRun struct {
	epoch    catalog.BrokerEpoch
	from, to catalog.Sequence
	stamp    int64
	rows     []tailRow
}

func (r *tailRun) keys() []string {
	keys := make([]string, len(r.rows))
	for i := range r.rows {
		keys[i] = r.rows[i].key
	}
	return keys
}

// tailRun reads a run ahead of a write.
func (c *Catalog) tailRun(ctx context.Context, op string, epoch catalog.BrokerEpoch, from, to catalog.Sequence) (*tailRun, error) {
	run := &tailRun{epoch: epoch, from: from, to: to, stamp: c.edits.Load()}
	err := c.read(ctx, op, run.read)
	return run, err
}

// refresh reads the run again if it may have changed, and tells whether it did.
func (t *tx) refresh(run *tailRun) (bool, error) {
	if run.stamp == t.edits.Load() {
		return false, nil
	}
	return true, run.read(t.conn)
}

func (r *tailRun) read(db *conn) error {
	r.rows = r.rows[:0]
	const read = `SELECT first_sequence, last_sequence, object, committed_at, key FROM tail
		WHERE epoch = ? AND last_sequence BETWEEN ? AND ? ORDER BY last_sequence`
	return db.query(db.whole, read, func(row row) error {
		r.rows = append(r.rows, tailRow{
			catalog.Sequence(row.int(0)), catalog.Sequence(row.int(1)), catalog.ObjectID(row.int(2)), row.int(3), row.text(4),
		})
		return nil
	}, int64(r.epoch), int64(r.from), int64(r.to))
}
