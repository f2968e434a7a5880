package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

const objectColumns = "id, key, size, checksum, generation, refs, live, created_at"

func scanObject(r pgx.Rows) (o catalog.Object, err error) {
	err = r.Scan((*int64)(&o.ID), &o.Key, &o.Size, &o.Checksum, &o.Generation, &o.Refs, &o.Live, &o.CreatedAt)
	o.CreatedAt = o.CreatedAt.UTC()
	return o, err
}

// addObjects notes new folded objects. It returns the keys of those that nothing refers to: they are retired at once.
func (t *tx) addObjects(objs []catalog.Object) (dead []string, err error) {
	objs = slices.SortedFunc(slices.Values(objs), func(a, b catalog.Object) int { return compareOffsets(int64(a.ID), int64(b.ID)) })
	var unborn []int64
	kept := objs[:0]
	for i := range objs {
		if objs[i].Refs > 0 {
			kept = append(kept, objs[i])
			continue
		}
		dead, unborn = append(dead, objs[i].Key), append(unborn, int64(objs[i].ID))
	}
	if len(unborn) > 0 {
		named, err := t.one("SELECT 1 FROM catalog_objects WHERE id = ANY($1) OR key = ANY($2) LIMIT 1", []any{new(int)}, unborn, dead)
		if err != nil {
			return nil, err
		}
		if named {
			return nil, fmt.Errorf("an object without references is folded already: %w", catalog.ErrConflict)
		}
	}
	return dead, batches(len(kept), func(int) int { return 0 }, func(from, to int) error { return t.insertObjects(kept[from:to]) })
}

func (t *tx) insertObjects(objs []catalog.Object) error {
	n := len(objs)
	ids, sizes, checksums, refs, live := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	keys, generations := make([]string, n), make([]int32, n)
	for i := range objs {
		o := &objs[i]
		ids[i], sizes[i], checksums[i], refs[i], live[i] = int64(o.ID), o.Size, int64(o.Checksum), o.Refs, o.Live
		keys[i], generations[i] = o.Key, o.Generation
	}
	added, err := t.exec(`WITH r (now) AS MATERIALIZED (SELECT catalog_now($1))
		INSERT INTO catalog_objects (`+objectColumns+`)
		SELECT n.id, n.key, n.size, n.checksum, n.generation, n.refs, n.live, r.now
		FROM r, unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::bigint[], $8::bigint[])
			AS n (id, key, size, checksum, generation, refs, live)
		ON CONFLICT DO NOTHING`, t.c.time.parameter(), ids, keys, sizes, checksums, generations, refs, live)
	if err == nil && added != int64(n) {
		err = fmt.Errorf("of objects %d to %d some are folded already: %w", ids[0], ids[n-1], catalog.ErrConflict)
	}
	return err
}

// changeRefs applies reference changes. It returns the keys of objects that nothing refers to any more, which are gone
// from the table.
func (t *tx) changeRefs(deltas []catalog.RefDelta) (dead []string, err error) {
	deltas = slices.SortedFunc(slices.Values(deltas), func(a, b catalog.RefDelta) int { return compareOffsets(int64(a.Object), int64(b.Object)) })
	err = batches(len(deltas), func(int) int { return 0 }, func(from, to int) error {
		part := deltas[from:to]
		n := len(part)
		ids, refs, live := make([]int64, n), make([]int64, n), make([]int64, n)
		for i, d := range part {
			ids[i], refs[i], live[i] = int64(d.Object), d.Refs, d.Live
		}
		// Locked first, in order: the statement after it then sees them as they are, not as of its snapshot.
		if _, err := t.exec("SELECT 1 FROM catalog_objects WHERE id = ANY($1) ORDER BY id FOR UPDATE", ids); err != nil {
			return err
		}
		changed := 0
		err := t.query(`WITH d AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d (id, refs, live)),
			gone AS (DELETE FROM catalog_objects o USING d WHERE o.id = d.id AND o.refs + d.refs = 0 AND o.live + d.live >= 0 RETURNING o.key),
			kept AS (UPDATE catalog_objects o SET refs = o.refs + d.refs, live = o.live + d.live FROM d
				WHERE o.id = d.id AND o.refs + d.refs > 0 AND o.live + d.live >= 0 RETURNING 1)
			SELECT key FROM gone UNION ALL SELECT NULL FROM kept`, func(r pgx.Rows) error {
			var key *string
			err := r.Scan(&key)
			if key != nil {
				dead = append(dead, *key)
			}
			changed++
			return err
		}, ids, refs, live)
		if err == nil && changed != n {
			err = fmt.Errorf("%d of %d objects are gone or lose more than they have: %w", n-changed, n, catalog.ErrConflict)
		}
		return err
	})
	return dead, err
}

// retire makes a batch of objects that are no longer named.
func (t *tx) retire(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := t.exec("INSERT INTO catalog_retired (id, at, keys) VALUES (nextval('catalog_retired_batches'), catalog_now($1), $2)",
		t.c.time.parameter(), keys)
	return err
}

// ObjectsByID implements [catalog.Manifest].
func (c *Catalog) ObjectsByID(ctx context.Context, ids []catalog.ObjectID) ([]catalog.Object, error) {
	list := make([]int64, len(ids))
	for i, id := range ids {
		list[i] = int64(id)
	}
	return collect(ctx, c, "read objects", "SELECT "+objectColumns+" FROM catalog_objects WHERE id = ANY($1) ORDER BY id", scanObject, list)
}

// mergeCandidatesSQL looks at one generation after the other, each by its index on size: most objects are of the last
// generations or large, and they are many.
const mergeCandidatesSQL = `WITH RECURSIVE g (n) AS (
		SELECT min(generation) FROM catalog_objects WHERE generation < $2
		UNION ALL
		SELECT (SELECT min(generation) FROM catalog_objects WHERE generation > g.n AND generation < $2) FROM g WHERE g.n IS NOT NULL)
	SELECT o.* FROM g CROSS JOIN LATERAL (SELECT ` + objectColumns + ` FROM catalog_objects
		WHERE generation = g.n AND size < $1 ORDER BY id LIMIT $3) o
	WHERE g.n IS NOT NULL ORDER BY o.generation, o.id LIMIT $3`

// MergeCandidates implements [catalog.Manifest].
func (c *Catalog) MergeCandidates(ctx context.Context, maxSize int64, maxGeneration int32, limit int) ([]catalog.Object, error) {
	return collect(ctx, c, "list objects to merge", mergeCandidatesSQL, scanObject, maxSize, maxGeneration, limited(limit))
}

// sparseSQL has the condition of the index catalog_objects_sparse, word for word.
const sparseSQL = "SELECT " + objectColumns + ` FROM catalog_objects
	WHERE size >= 1048576 AND live < size - live AND id > $1 ORDER BY id LIMIT $2`

// SparseObjects implements [catalog.Manifest].
func (c *Catalog) SparseObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	return collect(ctx, c, "list sparse objects", sparseSQL, scanObject, int64(after), limited(limit))
}

// FoldedObjects implements [catalog.Manifest].
func (c *Catalog) FoldedObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	return collect(ctx, c, "list folded objects", "SELECT "+objectColumns+" FROM catalog_objects WHERE id > $1 ORDER BY id LIMIT $2",
		scanObject, int64(after), limited(limit))
}

// ListRetired implements [catalog.Manifest]. The clock is read first: whether it, or the catalog, was away is for this
// process to judge. It vouches for what it found, since the files are deleted by it: a merge that only shows may be undone by
// a fail-over, after which the manifest names them again.
func (c *Catalog) ListRetired(ctx context.Context, grace time.Duration, limit int) ([]catalog.Retired, error) {
	grace = max(grace, 0)
	now, err := c.readClock(ctx)
	if err != nil {
		return nil, fmt.Errorf("list retired objects: %w", err)
	}
	if over, _ := c.time.expired(time.Time{}, now, grace); !over {
		return nil, nil // nothing expires before a full term
	}
	var out []catalog.Retired
	err = c.write(ctx, c.general, "list retired objects", func(t *tx) error {
		out = nil
		err := t.query("SELECT id, at, keys FROM catalog_retired WHERE at <= $1 ORDER BY id LIMIT $2", func(r pgx.Rows) error {
			var b catalog.Retired
			err := r.Scan(&b.ID, &b.At, &b.Keys)
			b.At = b.At.UTC()
			out = append(out, b)
			return err
		}, now.Add(-grace), limited(limit))
		if err != nil || len(out) == 0 {
			return err
		}
		return t.vouch()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// readClock takes a reading of the clock and judges it.
func (c *Catalog) readClock(ctx context.Context) (now time.Time, err error) {
	err = c.statement(ctx, c.general, "read the catalog's clock", func(ctx context.Context) error {
		var start time.Time
		asked := time.Now()
		err := c.general.QueryRow(ctx, "SELECT catalog_now($1), pg_postmaster_start_time()", c.time.parameter()).Scan(&now, &start)
		if err != nil {
			return err
		}
		return c.observed(ctx, now, start, asked)
	})
	return now, err
}

// ForgetRetired implements [catalog.Manifest].
func (c *Catalog) ForgetRetired(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	return c.write(ctx, c.general, "forget retired objects", func(t *tx) error {
		if _, err := t.exec("DELETE FROM catalog_retired WHERE id = ANY($1)", ids); err != nil {
			return err
		}
		return t.keepClock()
	})
}

// KnownObjects implements [catalog.Manifest]. Neither the tail nor the retired lists have an index on keys, which each
// commit and merge would pay for: they are scanned, once per call. With key = ANY($1) a plan made without the parameter
// compares every key with every other, for tens of seconds where merges retired tens of thousands; a sub-select under IS TRUE,
// which cannot become a join, is hashed.
//
// It vouches for what it found, since the others are deleted as orphans of fenced brokers: a server that was deposed and still
// answers does not know what they committed since, before they were fenced. It cannot vouch.
func (c *Catalog) KnownObjects(ctx context.Context, keys []string) (map[string]bool, error) {
	var known map[string]bool
	err := c.write(ctx, c.general, "look up object keys", func(t *tx) error {
		known = make(map[string]bool, len(keys))
		err := t.query(`SELECT o.key FROM unnest($1::text[]) AS a (key) JOIN catalog_objects o ON o.key = a.key
			UNION ALL SELECT key FROM catalog_tail WHERE (key IN (SELECT unnest($1::text[]))) IS TRUE
			UNION ALL SELECT k.key FROM catalog_retired r, unnest(r.keys) AS k (key) WHERE (k.key IN (SELECT unnest($1::text[]))) IS TRUE`,
			func(r pgx.Rows) error {
				var key string
				err := r.Scan(&key)
				known[key] = true
				return err
			}, keys)
		if err != nil {
			return err
		}
		return t.vouch()
	})
	if err != nil {
		return nil, err
	}
	return known, nil
}
