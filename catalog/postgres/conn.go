package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/streamhouse/streamhouse/catalog"
)

// attempts is how often a call is tried when trying again is harmless and may work at once: reads on a lost connection,
// statements that were never sent, transactions that the server rolled back for a deadlock.
const attempts = 5

// calls are what Close has to end. Safe for concurrent use.
type calls struct {
	mu   sync.Mutex
	last uint64
	ends map[uint64]context.CancelFunc
	over bool
}

// add registers a call until done is called. After endAll it is ended at once.
func (c *calls) add(end context.CancelFunc) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		end()
		return func() {}
	}
	if c.ends == nil {
		c.ends = make(map[uint64]context.CancelFunc)
	}
	c.last++
	id := c.last
	c.ends[id] = end
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.ends, id)
	}
}

func (c *calls) endAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, end := range c.ends {
		end()
	}
}

// run bounds one call in time, by p's limit, the caller's context and Close, and translates its error.
func (c *Catalog) run(ctx context.Context, p *pool, op string, fn func(ctx context.Context) error) error {
	if c.closed.Err() != nil {
		return fmt.Errorf("%s: %w", op, catalog.ErrClosed)
	}
	inner, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	defer c.calls.add(cancel)()
	err := fn(inner)
	switch {
	case err == nil:
		return nil
	case !ours(err) && c.closed.Err() != nil:
		return fmt.Errorf("%s: %w: %w", op, catalog.ErrClosed, err)
	}
	return fmt.Errorf("%s: %w", op, translate(inner, err))
}

// again tries fn again while harmless says that its error allows that.
func (c *Catalog) again(ctx context.Context, fn func() error, harmless func(error) bool) error {
	for n := 1; ; n++ {
		err := fn()
		if err == nil || ours(err) {
			return err
		}
		if lost(err) && ctx.Err() == nil {
			c.general.Reset() // the other idle connections are as dead; those in use find out themselves
			c.urgent.Reset()
			c.groups.Reset()
		}
		if n == attempts || ctx.Err() != nil || !harmless(err) {
			return err
		}
		if n > 1 {
			select {
			case <-time.After(time.Duration(rand.Int64N(int64(10*time.Millisecond) << n))):
			case <-ctx.Done():
				return err
			}
		}
	}
}

// unsent tells whether a single statement can be sent again: it never left, or the server undid it.
func unsent(err error) bool { return pgconn.SafeToRetry(err) || rolledBack(err) }

// statement runs one statement that writes.
func (c *Catalog) statement(ctx context.Context, p *pool, op string, fn func(ctx context.Context) error) error {
	return c.run(ctx, p, op, func(ctx context.Context) error {
		return c.durably(func() error {
			return c.again(ctx, func() error { return fn(ctx) }, unsent)
		})
	})
}

// read runs one statement that only reads. scan is called for each row, and all of it again when the connection is lost in
// between: begin makes it start afresh.
func (c *Catalog) read(ctx context.Context, op, sql string, args []any, begin func(), scan func(pgx.Rows) error) error {
	return c.run(ctx, c.general, op, func(ctx context.Context) error {
		return c.again(ctx, func() error {
			begin()
			rows, err := c.general.Query(ctx, sql, args...)
			if err != nil {
				return err
			}
			return each(rows, scan)
		}, resend)
	})
}

// resend tells whether a statement that only reads can be sent again.
func resend(err error) bool { return lost(err) || rolledBack(err) }

// each scans all rows and closes them.
func each(rows pgx.Rows, scan func(pgx.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// collect reads rows into a slice.
func collect[T any](ctx context.Context, c *Catalog, op, sql string, scan func(pgx.Rows) (T, error), args ...any) ([]T, error) {
	var out []T
	err := c.read(ctx, op, sql, args, func() { out = nil }, func(rows pgx.Rows) error {
		v, err := scan(rows)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// vouched is collect that vouches for what it read.
func vouched[T any](ctx context.Context, c *Catalog, p *pool, op, sql string, scan func(pgx.Rows) (T, error), args ...any) ([]T, error) {
	var out []T
	err := c.write(ctx, p, op, func(t *tx) error {
		out = nil
		err := t.query(sql, func(rows pgx.Rows) error {
			v, err := scan(rows)
			out = append(out, v)
			return err
		}, args...)
		if err != nil {
			return err
		}
		return t.vouch()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// tx is a transaction, read committed. It is used by one goroutine, within one call, whose context it carries.
type tx struct {
	pgx.Tx

	c   *Catalog
	ctx context.Context
}

// write runs fn in a transaction and commits it. fn is run again when the server undid it for a deadlock; whether a
// transaction whose COMMIT got no answer was applied is not known, and said.
func (c *Catalog) write(ctx context.Context, p *pool, op string, fn func(t *tx) error) error {
	return c.run(ctx, p, op, func(ctx context.Context) error {
		return c.durably(func() error {
			return c.again(ctx, func() error { return c.transact(ctx, p, fn) }, unsent)
		})
	})
}

// errUnreplicated: a COMMIT was answered as done that the synchronous standby may not have.
var errUnreplicated = errors.New("the server's wait for the synchronous standby was cancelled: the commit may not survive a fail-over")

// durably runs fn, which writes. If the server gave up waiting for the standby meanwhile, what fn was answered counts as an answer
// that was lost, whatever it was: even a refusal may rest on a read that was to vouch. Which connection was warned is not asked.
// That this one was is enough: a notice is read by who reads the answer after it, so before fn returns. That it was another
// one makes a call of doubt that is settled as any other.
func (c *Catalog) durably(fn func() error) error {
	before := c.unreplicated.Load()
	err := fn()
	if c.unreplicated.Load() != before {
		return errUnreplicated
	}
	return err
}

// cancelledWait tells whether a notice is the server's warning that it stopped waiting for the standby, which is all that tells
// its answer from a true one: SyncRepWaitForLSN gives up when the statement is cancelled, by whoever calls
// pg_cancel_backend, by a cancel request that a pooler delivered late, or by a time-out that ran out as the commit
// began, and goes on to "done". Its text is translated by lc_messages, its SQLSTATE is that of any warning (01000), such as that the
// database should be vacuumed, which comes with every write for weeks. What neither changes is the field that names the
// server's routine.
func cancelledWait(n *pgconn.Notice) bool {
	return n.SeverityUnlocalized == "WARNING" && n.Routine == "SyncRepWaitForLSN"
}

// noticed looks at what the server says besides its answers.
func (c *Catalog) noticed(_ *pgconn.PgConn, n *pgconn.Notice) {
	if cancelledWait(n) {
		c.unreplicated.Add(1)
		c.log.Warn("somebody cancelled a statement that waited for the synchronous standby: it counts as not answered", "warning", n.Message)
	}
}

func (c *Catalog) transact(ctx context.Context, p *pool, fn func(t *tx) error) (err error) {
	begun, err := p.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// After an error nothing of it must stay, whatever becomes of ctx; a connection that cannot say so is closed.
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = begun.Rollback(ending)
		}
	}()
	if err := fn(&tx{Tx: begun, c: c, ctx: ctx}); err != nil {
		return unretriable(err)
	}
	if err := begun.Commit(ctx); err != nil {
		if errors.Is(err, pgx.ErrTxCommitRollback) {
			return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
		}
		return doubtError{err}
	}
	return nil
}

// vouch makes the transaction of a read one that writes, so that what it read is as durable, when it ends, as a commit must be.
// A read that settles what became of a write needs it, since a row can be seen before it is durable: (1) a commit waits for
// the synchronous standby, (2) its caller gives up, which cancels the wait and not the commit, or the server restarts, and
// recovers it, (3) the row shows and is taken for the answer, (4) the server is lost, and the standby, which never got the row,
// is promoted. The few bytes that it writes come after the row in the log, and no COMMIT returns before all that is before
// it is with the standby. Any role may call it.
const vouch = "pg_logical_emit_message(true, 'streamhouse', 'vouch')"

// vouch makes what the transaction read durable when it ends. Who only looks, on a standby perhaps, needs it not and writes
// nothing.
func (t *tx) vouch() error {
	if t.c.opts.ReadOnly {
		return nil
	}
	_, err := t.exec("SELECT " + vouch)
	return err
}

// doubtError is an error of COMMIT. It never counts as unsent.
type doubtError struct{ error }

func (e doubtError) Unwrap() error { return e.error }

// SafeToRetry hides the driver's opinion.
func (doubtError) SafeToRetry() bool { return false }

// unretriable keeps an error within a transaction from counting as "never sent": statements before it were.
func unretriable(err error) error {
	if rolledBack(err) || ours(err) {
		return err
	}
	return doubtError{err}
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(sql string, args ...any) (int64, error) {
	tag, err := t.Exec(t.ctx, sql, args...)
	return tag.RowsAffected(), err
}

// one runs a query for at most one row and tells whether there was one.
func (t *tx) one(sql string, into []any, args ...any) (bool, error) {
	err := t.QueryRow(t.ctx, sql, args...).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (t *tx) query(sql string, scan func(pgx.Rows) error, args ...any) error {
	rows, err := t.Query(t.ctx, sql, args...)
	if err != nil {
		return err
	}
	return each(rows, scan)
}

// The guards lock a broker's row if it is not fenced.
const (
	guardSQL      = "SELECT 1 FROM catalog_brokers WHERE epoch = $1 AND NOT fenced FOR KEY SHARE"
	guardAloneSQL = "SELECT 1 FROM catalog_brokers WHERE epoch = $1 AND NOT fenced FOR NO KEY UPDATE"
)

// guard locks the broker's row against the fence, which takes it FOR UPDATE, and refuses a fenced epoch. Commits, which
// change no key of the row, go on beside it.
func (t *tx) guard(epoch catalog.BrokerEpoch) error {
	return guarded(epoch, t.QueryRow(t.ctx, guardSQL, int64(epoch)))
}

// guardAlone is guard that also waits for commits of the epoch that are under way, and holds up later ones.
func (t *tx) guardAlone(epoch catalog.BrokerEpoch) error {
	return guarded(epoch, t.QueryRow(t.ctx, guardAloneSQL, int64(epoch)))
}

// guarded is what a guard answered.
func guarded(epoch catalog.BrokerEpoch, row pgx.Row) error {
	err := row.Scan(new(int))
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("broker epoch %d: %w", epoch, catalog.ErrFenced)
	}
	return err
}

// bump adds one to a counter and returns its new value. It holds up all others that do so until the transaction ends, so it
// comes last, but for topics_version, which comes first: it is the lock of all that changes topics.
func (t *tx) bump(counter string) (value int64, err error) {
	found, err := t.one("UPDATE catalog_counters SET value = value + 1 WHERE name = $1 RETURNING value", []any{&value}, counter)
	if err == nil && !found {
		err = fmt.Errorf("%w: counter %s is missing", ErrDamaged, counter)
	}
	return value, err
}

func (t *tx) bumpLeases() error {
	_, err := t.bump("leases_version")
	return err
}

// keepClock remembers the time when rows that carry it go.
func (t *tx) keepClock() error {
	_, err := t.exec("UPDATE catalog_clock SET floor = greatest(floor, catalog_now($1))", t.c.time.parameter())
	return err
}

// limited keeps a limit from meaning something odd when it is negative.
func limited(n int) int64 { return int64(max(n, 0)) }
