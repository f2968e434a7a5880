package postgres

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

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/internal/clock"
)

// Catalog is a [catalog.Catalog] in one Postgres database. Safe for concurrent use, by many processes too.
type Catalog struct {
	opts      Options
	log       *slog.Logger
	time      *timekeeper
	clusterID string

	general *pool // reads, folds, whatever may take its time
	urgent  *pool // commits, heartbeats, fences, moves of leases
	groups  *pool // writes of groups
	refs    topicRefs
	wakes   announcer

	unreplicated atomic.Int64 // how often a wait for the standby was cancelled: see durably

	closed context.Context // ends with Close, and all calls with it
	end    context.CancelFunc
	calls  calls
	once   sync.Once
	wg     sync.WaitGroup // pulses, the announcer, attachments

	attached struct {
		sync.Mutex

		standing map[*attachment]bool
		server   time.Time // start of the server that was attached to last
		over     bool      // Close was called: nothing is added to wg any more
	}
}

var (
	_ catalog.Catalog = (*Catalog)(nil)
	_ catalog.Fleet   = (*Catalog)(nil)
)

// Open connects to the database, makes or migrates the schema if needed, and starts watching the catalog's clock. ctx
// bounds only the opening. Errors that the operator has to mend say how; catalog.ErrUnavailable means that waiting may help.
func Open(ctx context.Context, opts Options) (_ *Catalog, err error) {
	if opts, err = withDefaults(opts); err != nil {
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	if err := migrateToOpen(ctx, &opts); err != nil {
		return nil, fmt.Errorf("open the catalog: %w", openError(ctx, err))
	}
	c := &Catalog{opts: opts, log: opts.Logger, time: &timekeeper{}}
	if opts.Now == nil {
		c.time.quiet = silentPulses * opts.PulseInterval
	}
	c.closed, c.end = context.WithCancel(context.Background())
	opts.noticed = c.noticed
	c.general, err = opts.pool(ctx, opts.MaxConns, opts.StatementTimeout, 2*opts.StatementTimeout)
	if err == nil {
		c.urgent, err = opts.pool(ctx, opts.UrgentConns, opts.UrgentTimeout, opts.UrgentTimeout, commitOne, heartbeatSQL, pulseSQL, unfencedSQL,
			guardSQL, guardAloneSQL, moveSQL, heldSQL)
	}
	if err == nil {
		c.groups, err = opts.pool(ctx, opts.GroupConns, opts.UrgentTimeout, opts.UrgentTimeout)
	}
	if err == nil {
		if err = c.load(ctx); err == nil && !opts.ReadOnly {
			err = openError(ctx, c.pulse(ctx))
		}
	}
	if err != nil {
		c.end()
		c.closePools()
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	c.wakes.init()
	c.wg.Go(c.announcing)
	if opts.Now == nil && !opts.ReadOnly {
		c.wg.Go(c.pulses)
	}
	return c, nil
}

// load reads the cluster's id, which the first opener makes, and sees to it that the clock goes on from where it was.
func (c *Catalog) load(ctx context.Context) error {
	var latest *time.Time
	err := c.general.QueryRow(ctx, `SELECT greatest(
		(SELECT max(greatest(committed_at, last_heartbeat, registered_at)) FROM catalog_brokers),
		(SELECT max(at) FROM catalog_retired), (SELECT nullif(floor, '-infinity') FROM catalog_clock),
		(SELECT max(greatest(created_at, pinged_at)) FROM catalog_cluster))`).Scan(&latest)
	if err != nil {
		return fmt.Errorf("read the catalog's clock: %w", openError(ctx, err))
	}
	if c.opts.ReadOnly {
		err := c.general.QueryRow(ctx, "SELECT id FROM catalog_cluster").Scan(&c.clusterID)
		if err != nil && !noRows(err) { // none: no broker has come yet
			return fmt.Errorf("read the cluster id: %w", openError(ctx, err))
		}
		return nil
	}
	var atLeast time.Time
	if latest != nil {
		atLeast = *latest
	}
	if c.opts.Now != nil {
		c.time.given = clock.New(c.opts.Now, atLeast)
	} else if !atLeast.IsZero() {
		if err := c.raiseClock(ctx, atLeast); err != nil {
			return openError(ctx, err)
		}
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("make a cluster id: %w", err)
	}
	_, err = c.general.Exec(ctx, "INSERT INTO catalog_cluster (id, created_at) VALUES ($1, catalog_now($2)) ON CONFLICT DO NOTHING",
		base64.RawURLEncoding.EncodeToString(id[:]), c.time.parameter())
	if err == nil {
		err = c.general.QueryRow(ctx, "SELECT id FROM catalog_cluster").Scan(&c.clusterID)
	}
	if err != nil {
		return fmt.Errorf("read the cluster id: %w", openError(ctx, err))
	}
	return nil
}

// raiseClock makes the catalog's clock show at least a time, for all brokers.
func (c *Catalog) raiseClock(ctx context.Context, atLeast time.Time) error {
	var ahead time.Duration
	err := c.general.QueryRow(ctx, `UPDATE catalog_clock SET ahead = $1 - catalog_wall_clock()
		WHERE catalog_wall_clock() + ahead < $1 RETURNING ahead`, atLeast).Scan(&ahead)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("correct the catalog's clock: %w", err)
	}
	c.log.Warn("the database server's clock was set back; the catalog's clock runs on ahead of it", "ahead", ahead)
	return nil
}

// pulseSQL reads the clock, without its floor, which would hide a step back, and, unless somebody else is at it or just was, notes that it was read. It writes, so that a
// standby and a full disk show.
const pulseSQL = `WITH r AS MATERIALIZED (SELECT catalog_now(NULL) AS now),
	noted AS (UPDATE catalog_clock SET floor = r.now FROM r
		WHERE one = (SELECT one FROM catalog_clock FOR NO KEY UPDATE SKIP LOCKED) AND floor < r.now - interval '500 ms')
	SELECT catalog_wall_clock() + ahead, pg_postmaster_start_time() FROM r, catalog_clock`

// pulse takes a reading of the clock.
func (c *Catalog) pulse(ctx context.Context) error {
	if c.opts.Now != nil {
		return nil
	}
	return c.statement(ctx, c.urgent, "read the catalog's clock", func(ctx context.Context) error {
		var now, start time.Time
		asked := time.Now()
		if err := c.urgent.QueryRow(ctx, pulseSQL).Scan(&now, &start); err != nil {
			return err
		}
		return c.observed(ctx, now, start, asked)
	})
}

// observed judges a reading of the clock that came just now, and corrects the clock if it went back.
func (c *Catalog) observed(ctx context.Context, now, start, asked time.Time) error {
	atLeast := c.time.observe(now, start, asked, time.Now())
	if atLeast.IsZero() {
		return nil
	}
	return c.raiseClock(ctx, atLeast)
}

// pulses looks at the clock for as long as the catalog is open.
func (c *Catalog) pulses() {
	ticker := time.NewTicker(c.opts.PulseInterval)
	defer ticker.Stop()
	var down outage
	for {
		select {
		case <-c.closed.Done():
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(c.closed, silentPulses*c.opts.PulseInterval)
		err := c.pulse(ctx)
		cancel()
		if c.closed.Err() != nil {
			return
		}
		if err == nil {
			if lasted, ended := down.ended(time.Now()); ended {
				c.log.Info("the catalog can be reached again", "after", lasted)
			}
			continue
		}
		c.time.away()
		if now := time.Now(); down.failed(now) {
			c.log.Warn("the catalog cannot be reached: until it was back for a full term, no session expires", "for", now.Sub(down.since), "error", err)
		}
	}
}

// ClusterID implements [catalog.Catalog]. It is 16 random bytes in base64, as Kafka's.
func (c *Catalog) ClusterID(ctx context.Context) (string, error) {
	if c.closed.Err() != nil {
		return "", fmt.Errorf("read the cluster id: %w", catalog.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("read the cluster id: %w", translate(ctx, err))
	}
	return c.clusterID, nil
}

// AllocateIDs implements [catalog.Catalog].
func (c *Catalog) AllocateIDs(ctx context.Context, kind catalog.IDKind, n int64) (first int64, err error) {
	if err := catalog.CheckIDs(kind, n); err != nil {
		return 0, fmt.Errorf("allocate ids: %w", err)
	}
	err = c.statement(ctx, c.general, "allocate ids", func(ctx context.Context) error {
		// Kinds that came after the schema have no row before their first id.
		return c.general.QueryRow(ctx, `INSERT INTO catalog_counters AS c (name, value) VALUES ($2, $3::bigint + $1::bigint)
			ON CONFLICT (name) DO UPDATE SET value = c.value + $1::bigint RETURNING value - $1::bigint`,
			n, "ids_"+string(kind), kind.First()).Scan(&first)
	})
	if err != nil {
		return 0, err
	}
	return first, nil
}

// Ping implements [catalog.Catalog] by writing one row.
func (c *Catalog) Ping(ctx context.Context) error {
	return c.statement(ctx, c.urgent, "ping the catalog", func(ctx context.Context) error {
		_, err := c.urgent.Exec(ctx, "UPDATE catalog_cluster SET pinged_at = catalog_now($1)", c.time.parameter())
		return err
	})
}

// Close implements [catalog.Catalog]. Calls under way fail with ErrClosed or finish; attachments end.
func (c *Catalog) Close() error {
	c.once.Do(func() {
		c.attached.Lock()
		c.attached.over = true
		c.attached.Unlock()
		c.end()
		c.calls.endAll()
		c.wg.Wait()
		c.closePools()
	})
	return nil
}

func (c *Catalog) closePools() {
	for _, p := range []*pool{c.general, c.urgent, c.groups} {
		if p != nil {
			p.Close()
		}
	}
}
