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
	op := fmt.Sprintf("merge the tail of broker epoch %d, %d to %d", e.Epoch, e.First, e.Last)
	return c.write(ctx, op, func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		rows, err := t.tailRows(e.Epoch, e.First, e.Last)
		if err != nil {
			return err
		}
		if len(rows) == 0 || len(rows) != len(m.Replaces) || rows[0].first != e.First || rows[len(rows)-1].last != e.Last {
			return fmt.Errorf("found %d rows, planned with %d: %w", len(rows), len(m.Replaces), catalog.ErrConflict)
		}
		for i := range rows {
			if rows[i].object != m.Replaces[i] {
				return fmt.Errorf("sequence %d is object %d, planned with %d: %w", rows[i].last, rows[i].object, m.Replaces[i], catalog.ErrConflict)
			}
		}
		batch, err := t.newBatch()
		if err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO retired_objects (key, batch)
			SELECT key, ? FROM tail WHERE epoch = ? AND last_sequence BETWEEN ? AND ?`, batch, int64(e.Epoch), int64(e.First), int64(e.Last))
		if err != nil {
			return err
		}
		if err := t.dropTail(e.Epoch, e.First, e.Last); err != nil {
			return err
		}
		return t.insertTail(e, rows[len(rows)-1].committedAt)
	})
}

func (t *tx) dropTail(epoch catalog.BrokerEpoch, from, to catalog.Sequence) error {
	_, err := t.exec("DELETE FROM tail WHERE epoch = ? AND last_sequence BETWEEN ? AND ?", int64(epoch), int64(from), int64(to))
	return err
}

// tailRow is a tail row without key and index.
type tailRow struct {
	first, last catalog.Sequence
	object      catalog.ObjectID
	committedAt int64
}

// tailRows reads the rows that end in from .. to.
func (t *tx) tailRows(epoch catalog.BrokerEpoch, from, to catalog.Sequence) (rows []tailRow, err error) {
	const read = `SELECT first_sequence, last_sequence, object, committed_at FROM tail
		WHERE epoch = ? AND last_sequence BETWEEN ? AND ? ORDER BY last_sequence`
	err = t.query(t.whole, read, func(r row) error {
		rows = append(rows, tailRow{catalog.Sequence(r.int(0)), catalog.Sequence(r.int(1)), catalog.ObjectID(r.int(2)), r.int(3)})
		return nil
	}, int64(epoch), int64(from), int64(to))
	return rows, err
}
