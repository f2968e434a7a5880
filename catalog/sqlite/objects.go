package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const objectColumns = "id, key, size, checksum, generation, refs, live, created_at"

func objectOf(r row) catalog.Object {
	return catalog.Object{
		ID: catalog.ObjectID(r.int(0)), Key: r.text(1), Size: r.int(2), Checksum: uint32(r.int(3)), Generation: int32(r.int(4)),
		Refs: r.int(5), Live: r.int(6), CreatedAt: toTime(r.int(7)),
	}
}

// objectRows is how many objects one statement adds: with one each, thousands take the writer twice as long.
const objectRows = 64

var (
	addObject  = addObjectsQuery(1)
	addObjects = addObjectsQuery(objectRows)
)

func addObjectsQuery(rows int) string {
	return "INSERT INTO objects (" + objectColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)" +
		strings.Repeat(", (?, ?, ?, ?, ?, ?, ?, ?)", rows-1) + " ON CONFLICT DO NOTHING"
}

// addObjects notes new folded objects. It returns the keys of those that nothing refers to: they are retired at once.
func (t *tx) addObjects(objs []catalog.Object) (dead []string, err error) {
	args := make([]any, 0, 8*min(len(objs), objectRows))
	for i := range objs {
		o := &objs[i]
		if o.Refs == 0 {
			named, err := t.one("SELECT 1 FROM objects WHERE id = ? OR key = ?", func(row) {}, int64(o.ID), o.Key)
			if err != nil {
				return nil, err
			}
			if named {
				return nil, fmt.Errorf("object %d is folded already: %w", o.ID, catalog.ErrConflict)
			}
			dead = append(dead, o.Key)
			continue
		}
		args = append(args, int64(o.ID), o.Key, o.Size, int64(o.Checksum), int64(o.Generation), o.Refs, o.Live, t.now)
		if len(args) == 8*objectRows {
			if err := t.insertObjects(addObjects, args); err != nil {
				return nil, err
			}
			args = args[:0]
		}
	}
	for ; len(args) > 0; args = args[8:] {
		if err := t.insertObjects(addObject, args[:8]); err != nil {
			return nil, err
		}
	}
	return dead, nil
}

func (t *tx) insertObjects(query string, args []any) error {
	n, err := t.exec(query, args...)
	if err == nil && int(n) < len(args)/8 {
		err = fmt.Errorf("of objects %d to %d some are folded already: %w", args[0], args[len(args)-8], catalog.ErrConflict)
	}
	return err
}

// changeRefs applies reference changes. It returns the keys of objects that nothing refers to any more, which are
// gone from the table.
func (t *tx) changeRefs(deltas []catalog.RefDelta) (dead []string, err error) {
	for _, d := range deltas {
		var key string
		var refs, live int64
		found, err := t.one("SELECT key, refs, live FROM objects WHERE id = ?",
			func(r row) { key, refs, live = r.text(0), r.int(1)+d.Refs, r.int(2)+d.Live }, int64(d.Object))
		switch {
		case err != nil:
			return nil, err
		case !found || refs < 0 || live < 0:
			return nil, fmt.Errorf("object %d is gone or loses more than it has: %w", d.Object, catalog.ErrConflict)
		case refs == 0:
			dead = append(dead, key)
			_, err = t.exec("DELETE FROM objects WHERE id = ?", int64(d.Object))
		default:
			_, err = t.exec("UPDATE objects SET refs = ?, live = ? WHERE id = ?", refs, live, int64(d.Object))
		}
		if err != nil {
			return nil, err
		}
	}
	return dead, nil
}

// keyList encodes the keys of a batch.
func keyList(keys []string) (string, error) {
	list, err := json.Marshal(keys)
	if err != nil {
		return "", fmt.Errorf("encode object keys: %w", err)
	}
	return string(list), nil
}

// retire makes a batch of objects that are no longer named.
func (t *tx) retire(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	list, err := keyList(keys)
	if err != nil {
		return err
	}
	return t.retireList(list)
}

// retireList makes a batch of a list of keys.
func (t *tx) retireList(keys string) error {
	batch, err := t.bump("retired_batch", 1)
	if err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO retired_batches (id, at, keys) VALUES (?, ?, ?)", batch, t.now, keys)
	return err
}

// listObjects runs a query for object columns.
func (c *Catalog) listObjects(ctx context.Context, op, query string, args ...any) ([]catalog.Object, error) {
	var out []catalog.Object
	err := c.read(ctx, op, func(db *conn) error {
		return db.query(ctx, query, func(r row) error {
			out = append(out, objectOf(r))
			return nil
		}, args...)
	})
	return out, err
}

// ObjectsByID implements [catalog.Manifest].
func (c *Catalog) ObjectsByID(ctx context.Context, ids []catalog.ObjectID) ([]catalog.Object, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("encode object ids: %w", err)
	}
	return c.listObjects(ctx, "read objects",
		"SELECT "+objectColumns+" FROM objects WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id", string(list))
}

// MergeCandidates implements [catalog.Manifest]. It looks at one generation after the other, each by its index on
// size: most objects are of the last generations or large, and they are many.
func (c *Catalog) MergeCandidates(ctx context.Context, maxSize int64, maxGeneration int32, limit int) ([]catalog.Object, error) {
	var out []catalog.Object
	err := c.read(ctx, "list objects to merge", func(db *conn) error {
		for generation := int64(-1); len(out) < limit; {
			next := int64(-1)
			_, err := db.one("SELECT min(generation) FROM objects WHERE generation > ?", func(r row) {
				if !r.null(0) {
					next = r.int(0)
				}
			}, generation)
			if err != nil || next < 0 || next >= int64(maxGeneration) {
				return err
			}
			generation = next
			err = db.query(ctx, "SELECT "+objectColumns+" FROM objects WHERE generation = ? AND size < ? ORDER BY id LIMIT ?", func(r row) error {
				out = append(out, objectOf(r))
				return nil
			}, generation, maxSize, limited(limit-len(out)))
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// SparseObjects implements [catalog.Manifest]. Its condition is that of the index objects_sparse, word for word.
func (c *Catalog) SparseObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	return c.listObjects(ctx, "list sparse objects",
		"SELECT "+objectColumns+" FROM objects WHERE size >= 1048576 AND live < size - live AND id > ? ORDER BY id LIMIT ?",
		int64(after), limited(limit))
}

// FoldedObjects implements [catalog.Manifest].
func (c *Catalog) FoldedObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	return c.listObjects(ctx, "list folded objects",
		"SELECT "+objectColumns+" FROM objects WHERE id > ? ORDER BY id LIMIT ?", int64(after), limited(limit))
}

// ListRetired implements [catalog.Manifest].
func (c *Catalog) ListRetired(ctx context.Context, grace time.Duration, limit int) ([]catalog.Retired, error) {
	grace = max(grace, 0)
	now := c.clock.Now()
	if now.Sub(c.clock.Settled()) < grace {
		return nil, c.open(ctx) // nothing expires before a full term
	}
	var out []catalog.Retired
	err := c.read(ctx, "list retired objects", func(db *conn) error {
		const read = "SELECT id, at, keys FROM retired_batches WHERE at <= ? ORDER BY id LIMIT ?"
		return db.query(ctx, read, func(r row) error {
			keys, err := keysOf(r.int(0), r.text(2))
			out = append(out, catalog.Retired{ID: r.int(0), At: toTime(r.int(1)), Keys: keys})
			return err
		}, now.Add(-grace).UnixNano(), limited(limit))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ForgetRetired implements [catalog.Manifest].
func (c *Catalog) ForgetRetired(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	return c.write(ctx, "forget retired objects", func(t *tx) error {
		for _, id := range ids {
			if _, err := t.exec("DELETE FROM retired_batches WHERE id = ?", id); err != nil {
				return err
			}
		}
		return t.keepClock()
	})
}

func keysOf(batch int64, list string) (keys []string, err error) {
	if err := json.Unmarshal([]byte(list), &keys); err != nil {
		return nil, fmt.Errorf("%w: keys of retired batch %d: %w", ErrDamaged, batch, err)
	}
	return keys, nil
}

// KnownObjects implements [catalog.Manifest]. Neither the tail nor the retired lists have an index on keys, which each
// commit and merge would pay for: they are scanned, once per call, and they are short.
func (c *Catalog) KnownObjects(ctx context.Context, keys []string) (map[string]bool, error) {
	known := make(map[string]bool, len(keys))
	if len(keys) == 0 {
		return known, c.open(ctx)
	}
	asked := make(map[string]bool, len(keys))
	for _, key := range keys {
		asked[key] = true
	}
	list, err := keyList(slices.Sorted(maps.Keys(asked)))
	if err != nil {
		return nil, err
	}
	err = c.read(ctx, "look up object keys", func(db *conn) error {
		err := db.query(ctx, `WITH asked (key) AS MATERIALIZED (SELECT value FROM json_each(?))
			SELECT key FROM asked WHERE EXISTS (SELECT 1 FROM objects o WHERE o.key = asked.key)
			UNION ALL SELECT key FROM tail WHERE key IN (SELECT key FROM asked)`, func(r row) error {
			known[r.text(0)] = true
			return nil
		}, list)
		if err != nil {
			return err
		}
		return db.query(ctx, "SELECT id, keys FROM retired_batches", func(r row) error {
			retired, err := keysOf(r.int(0), r.text(1))
			for _, key := range retired {
				if asked[key] {
					known[key] = true
				}
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return known, nil
}
