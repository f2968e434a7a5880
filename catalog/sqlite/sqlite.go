package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/internal/clock"
)

// Options tune a catalog. The zero value is good.
type Options struct {
	// Logger gets what nobody is answered: checkpoints and roll-backs that failed. Default: discarded.
	Logger *slog.Logger
	// Now is what the catalog's clock reads. Default: time.Now. The catalog's clock runs on when this one is set back, also
	// over restarts, and nothing expires for a full term after a restart or when this one is set ahead.
	Now func() time.Time
	// Readers is how many reads run at once. Default: 4. Each connection holds up to 2 MiB of pages once it was used.
	Readers int
	// ReadOnly opens the file to look at it, also beside the process that owns it. Nothing is made or migrated, and what
	// would write fails with ErrReadOnly.
	ReadOnly bool
}

// Catalog is a [catalog.Catalog] in one SQLite file. Safe for concurrent use.
type Catalog struct {
	log       *slog.Logger
	clock     *clock.Clock
	clusterID string

	db       *conn // the writer's own
	readers  *readers
	readOnly bool // and then there is no writer

	queue   chan *write
	finish  chan chan error // the checkpointer asks the writer to copy the log's end
	dirty   chan struct{}   // capacity 1: the log is worth copying
	unclean atomic.Bool     // something was written since the last checkpoint
	edits   atomic.Int64    // grows before and after each transaction that takes rows out of the tail; see tailRun

	closing chan struct{} // closed by Close
	stopped chan struct{} // closed when the writer ended
	once    sync.Once
	err     error // of Close
	wg      sync.WaitGroup
}

var _ catalog.Catalog = (*Catalog)(nil)

// Open opens the catalog's file, makes and migrates it if needed. The folder must exist. One process at a time should
// have it open for writing; the caller's lock on the data folder sees to that. ctx bounds only the opening.
func Open(ctx context.Context, path string, opts Options) (_ *Catalog, err error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Readers <= 0 {
		opts.Readers = 4
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	if opts.ReadOnly {
		return openReadOnly(path, opts)
	}
	pragmas := []string{
		"busy_timeout = 5000", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "wal_autocheckpoint = 0",
		"temp_store = MEMORY", "mmap_size = 0", fmt.Sprintf("journal_size_limit = %d", keepBytes),
	}
	db, err := openConn(path, "rwc", append(pragmas, "cache_size = -4096")...)
	if err != nil {
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	c := &Catalog{
		log: opts.Logger, db: db, readers: newReaders(path, opts.Readers),
		queue: make(chan *write, maxQueued), finish: make(chan chan error), dirty: make(chan struct{}, 1),
		closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	var checkpoints *conn
	if err = migrate(ctx, db, path); err == nil {
		if err = c.load(opts.Now); err == nil {
			checkpoints, err = openConn(path, "rw", append(pragmas, "cache_size = -256")...)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalog: %w", err), db.close())
	}
	c.wg.Go(c.writer)
	c.wg.Go(func() {
		c.checkpointer(checkpoints)
		if err := checkpoints.close(); err != nil {
			c.log.Warn("cannot close the catalog's checkpoint connection", "error", err)
		}
	})
	return c, nil
}

// ErrReadOnly means that the catalog was opened to look at it.
var ErrReadOnly = errors.New("the catalog was opened for reading only")

// openReadOnly opens a file that is current and has been used.
func openReadOnly(path string, opts Options) (_ *Catalog, err error) {
	db, err := openConn(path, "ro", "busy_timeout = 5000")
	if err != nil {
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	c := &Catalog{log: opts.Logger, db: db, readers: newReaders(path, opts.Readers), closing: make(chan struct{}), readOnly: true}
	current, err := isCurrent(db, path)
	switch {
	case err != nil:
	case !current:
		err = fmt.Errorf("%s was made by an older version: a broker migrates it when it starts, or `streamhouse migrate up`", path)
	default:
		err = c.load(opts.Now)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalog: %w", err), db.close())
	}
	return c, nil
}

// load reads what is kept in memory: the cluster's id and the time below which the clock must not go.
func (c *Catalog) load(now func() time.Time) error {
	const newest = `SELECT max(
		coalesce((SELECT max(max(committed_at, last_heartbeat, registered_at)) FROM brokers), 0),
		coalesce((SELECT max(at) FROM retired_batches), 0),
		(SELECT value FROM counters WHERE name = 'clock'),
		coalesce((SELECT max(max(created_at, pinged_at)) FROM cluster), 0))`
	var latest int64
	if _, err := c.db.one(newest, func(r row) { latest = r.int(0) }); err != nil {
		return fmt.Errorf("read the catalog's clock: %w", translate(err))
	}
	c.clock = clock.New(now, time.Unix(0, latest))
	const read = "SELECT id FROM cluster"
	found, err := c.db.one(read, func(r row) { c.clusterID = r.text(0) })
	if err != nil {
		return fmt.Errorf("read the cluster id: %w", translate(err))
	}
	if found || c.readOnly {
		return nil
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("make a cluster id: %w", err)
	}
	c.clusterID = base64.RawURLEncoding.EncodeToString(id[:])
	_, err = c.db.exec("INSERT INTO cluster (one, id, created_at, pinged_at) VALUES (1, ?, ?, 0)", c.clusterID, c.now())
	if err != nil {
		return fmt.Errorf("store the cluster id: %w", translate(err))
	}
	return nil
}

// now reads the catalog's clock, in nanoseconds. It never goes back.
func (c *Catalog) now() int64 { return c.clock.Now().UnixNano() }

// toTime makes a time of a column; 0 stands for none.
func toTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// ClusterID implements [catalog.Catalog]. It is 16 random bytes in base64, as Kafka's.
func (c *Catalog) ClusterID(ctx context.Context) (string, error) {
	if err := c.open(ctx); err != nil {
		return "", fmt.Errorf("read the cluster id: %w", err)
	}
	return c.clusterID, nil
}

func (c *Catalog) open(ctx context.Context) error {
	select {
	case <-c.closing:
		return catalog.ErrClosed
	default:
		return translate(ctx.Err())
	}
}

// AllocateIDs implements [catalog.Catalog].
func (c *Catalog) AllocateIDs(ctx context.Context, kind catalog.IDKind, n int64) (first int64, err error) {
	if err := catalog.CheckIDs(kind, n); err != nil {
		return 0, fmt.Errorf("allocate ids: %w", err)
	}
	err = c.write(ctx, "allocate ids", func(t *tx) error {
		if kind == catalog.IDBroker { // it came after the schema
			_, err := t.exec("INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", "ids_"+string(kind), kind.First())
			if err != nil {
				return err
			}
		}
		next, err := t.bump("ids_"+string(kind), n)
		first = next - n
		return err
	})
	if err != nil {
		return 0, err
	}
	return first, nil
}

// bump adds to a counter and returns its new value.
func (t *tx) bump(counter string, n int64) (value int64, err error) {
	const query = "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value"
	found, err := t.one(query, func(r row) { value = r.int(0) }, n, counter)
	if err == nil && !found {
		err = fmt.Errorf("%w: counter %s is missing", ErrDamaged, counter)
	}
	return value, err
}

// keepClock remembers the time when rows that carry it go, so that the clock does not go back after a restart.
func (t *tx) keepClock() error {
	_, err := t.exec("UPDATE counters SET value = max(value, ?) WHERE name = 'clock'", t.now)
	return err
}

// counter reads a counter.
func (c *conn) counter(name string) (value int64, err error) {
	found, err := c.one("SELECT value FROM counters WHERE name = ?", func(r row) { value = r.int(0) }, name)
	if err == nil && !found {
		err = fmt.Errorf("%w: counter %s is missing", ErrDamaged, name)
	}
	return value, err
}

// Ping implements [catalog.Catalog] by writing, and so syncing, one row.
func (c *Catalog) Ping(ctx context.Context) error {
	return c.write(ctx, "ping the catalog", func(t *tx) error {
		_, err := t.exec("UPDATE cluster SET pinged_at = ?", t.now)
		return err
	})
}

// Close implements [catalog.Catalog]. The writes that the writer has taken end; waiting ones fail with ErrClosed. The
// write-ahead log is copied into the file and removed.
func (c *Catalog) Close() error {
	c.once.Do(func() {
		close(c.closing)
		c.wg.Wait()
		if err := errors.Join(c.readers.close(), c.db.close()); err != nil {
			c.err = fmt.Errorf("close the catalog: %w", translate(err))
		}
	})
	return c.err
}
