package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// attachmentClass is the high part of the advisory locks by which broker epochs show that their processes live; the low
	// 47 bits are the epoch.
	attachmentClass = 0x5348 << 48
	// attachmentEpochs masks the epoch.
	attachmentEpochs = 1<<47 - 1
	// sessionProbe is how long a connection that hears nothing is trusted before the server is asked.
	sessionProbe = 2 * time.Second
)

// attachment is one Attach that stands: a connection of its own that holds an advisory lock, which the server drops with
// the connection. The lock is shared, so that a connection of the same epoch whose end the server has not noticed yet does
// not stand in the way.
type attachment struct {
	epoch catalog.BrokerEpoch
	pid   uint32    // of the server's process
	start time.Time // of the server
}

// Attach implements [catalog.Fleet].
func (c *Catalog) Attach(ctx context.Context, epoch catalog.BrokerEpoch) (detach func(), lost <-chan struct{}, err error) {
	op := fmt.Sprintf("attach broker epoch %d", epoch)
	fail := func(err error) (func(), <-chan struct{}, error) {
		if c.closed.Err() != nil {
			err = catalog.ErrClosed
		}
		return nil, nil, fmt.Errorf("%s: %w", op, translate(ctx, err))
	}
	opening, cancel := context.WithTimeout(ctx, c.urgent.timeout)
	defer cancel()
	defer c.calls.add(cancel)()
	conn, err := c.session(opening, nil)
	if err != nil {
		return fail(err)
	}
	a := &attachment{epoch: epoch, pid: conn.PgConn().PID()}
	err = conn.QueryRow(opening, "SELECT pg_postmaster_start_time() FROM pg_advisory_lock_shared($1)",
		int64(attachmentClass)|int64(epoch)&attachmentEpochs).Scan(&a.start)
	if err != nil {
		closeConn(ctx, conn)
		return fail(err)
	}
	standing, end := context.WithCancel(context.WithoutCancel(ctx))
	gone := make(chan struct{})
	c.attached.Lock()
	defer c.attached.Unlock()
	if c.attached.over {
		end()
		closeConn(ctx, conn)
		return fail(catalog.ErrClosed)
	}
	if c.attached.standing == nil {
		c.attached.standing = make(map[*attachment]bool)
	}
	c.attached.standing[a] = true
	c.attached.server = a.start
	done := c.calls.add(end)
	c.wg.Go(func() {
		defer done()
		err := c.idle(standing, conn)
		c.over(a)
		if standing.Err() == nil {
			c.log.Warn("the connection that shows this broker's presence is lost", "broker_epoch", int64(epoch), "error", err)
		}
		end()
		closeConn(ctx, conn)
		close(gone)
	})
	detach = func() {
		c.over(a) // here, not when the connection's end is seen: who asks next is not attached
		end()
	}
	return detach, gone, nil
}

// over takes an attachment out of those that stand.
func (c *Catalog) over(a *attachment) {
	c.attached.Lock()
	defer c.attached.Unlock()
	delete(c.attached.standing, a)
}

func (c *Catalog) standing() []*attachment {
	c.attached.Lock()
	defer c.attached.Unlock()
	out := make([]*attachment, 0, len(c.attached.standing))
	for a := range c.attached.standing {
		out = append(out, a)
	}
	return out
}

// Detached implements [catalog.Fleet]. That an attachment of this handle stands is asked of the server in the same
// statement: one that is lost and does not know it yet is none.
func (c *Catalog) Detached(ctx context.Context, epochs []catalog.BrokerEpoch) ([]catalog.BrokerEpoch, error) {
	const op = "see who is attached"
	var start time.Time
	var held []int64
	var pids []int32
	err := c.statement(ctx, c.urgent, op, func(ctx context.Context) error {
		// The parts of the lock's key are cut in two by Postgres: see the documentation of pg_locks.
		return c.urgent.QueryRow(ctx, `SELECT pg_postmaster_start_time(), coalesce(array_agg(k.key & $1), '{}'), coalesce(array_agg(k.pid), '{}')
			FROM (SELECT classid::bigint << 32 | objid::bigint AS key, pid FROM pg_locks
				WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND mode = 'ShareLock'
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) k
			WHERE k.key & ~$1::bigint = $2`, int64(attachmentEpochs), int64(attachmentClass)).Scan(&start, &held, &pids)
	})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(c.standing(), func(a *attachment) bool {
		i := slices.Index(pids, int32(a.pid))
		return i >= 0 && held[i] == int64(a.epoch)&attachmentEpochs && a.start.Equal(start)
	}) {
		return nil, fmt.Errorf("%s: nobody here is attached: %w", op, catalog.ErrUnavailable)
	}
	var out []catalog.BrokerEpoch
	for _, epoch := range epochs {
		if !slices.Contains(held, int64(epoch)&attachmentEpochs) {
			out = append(out, epoch)
		}
	}
	return out, nil
}

// unfencedSQL reads a broker's row as it is committed: what a fence lets others do comes after it was.
const unfencedSQL = "SELECT fenced, pg_postmaster_start_time() FROM catalog_brokers WHERE epoch = $1"

// Unfenced implements [catalog.Fleet].
func (c *Catalog) Unfenced(ctx context.Context, epoch catalog.BrokerEpoch) error {
	op := fmt.Sprintf("see whether broker epoch %d is fenced", epoch)
	return c.run(ctx, c.urgent, op, func(ctx context.Context) error {
		var fenced bool
		var start time.Time
		err := c.again(ctx, func() error {
			err := c.urgent.QueryRow(ctx, unfencedSQL, int64(epoch)).Scan(&fenced, &start)
			if noRows(err) { // fenced and folded, or never handed out
				return catalog.ErrFenced
			}
			return err
		}, resend)
		if err != nil {
			return err
		}
		c.attached.Lock()
		attached := c.attached.server
		c.attached.Unlock()
		if !attached.IsZero() && !attached.Equal(start) {
			return fmt.Errorf("a server that started at %s, this broker attached to one of %s: %w", start, attached, catalog.ErrUnavailable)
		}
		if fenced {
			return catalog.ErrFenced
		}
		return nil
	})
}
