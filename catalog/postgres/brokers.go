package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

const brokerColumns = "b.epoch, b.fenced, b.last_sequence, b.registered_at, b.last_heartbeat, b.ttl_ns, b.id, b.incarnation, b.rack, b.listeners, " +
	"EXISTS (SELECT 1 FROM catalog_draining d WHERE d.id = b.id)"

// listener is a catalog.Listener as people read it.
type listener struct {
	Name string `json:"name"`
	Host string `json:"host"`
	Port int32  `json:"port"`
}

func scanBroker(row pgx.Row) (b catalog.Broker, err error) {
	var listeners []listener
	err = row.Scan((*int64)(&b.Epoch), &b.Fenced, (*int64)(&b.LastSequence), &b.RegisteredAt, &b.LastHeartbeat, (*int64)(&b.TTL),
		(*int32)(&b.ID), &b.Incarnation, &b.Rack, &listeners, &b.Draining)
	for _, l := range listeners {
		b.Listeners = append(b.Listeners, catalog.Listener(l))
	}
	b.RegisteredAt, b.LastHeartbeat = b.RegisteredAt.UTC(), b.LastHeartbeat.UTC()
	return b, err
}

// RegisterBroker implements [catalog.Brokers].
func (c *Catalog) RegisterBroker(ctx context.Context, reg catalog.Registration) (catalog.Broker, error) {
	if err := reg.Check(); err != nil {
		return catalog.Broker{}, fmt.Errorf("register a broker: %w", err)
	}
	listeners := make([]listener, 0, len(reg.Listeners))
	for _, l := range reg.Listeners {
		listeners = append(listeners, listener(l))
	}
	var b catalog.Broker
	err := c.write(ctx, c.urgent, fmt.Sprintf("register broker %d", reg.ID), func(t *tx) error {
		// The counter first: it is the lock of all that register, so that an incarnation is looked up after its twin ended.
		epoch, err := t.bump("broker_epoch")
		if err != nil {
			return err
		}
		b, err = scanBroker(t.QueryRow(t.ctx, "SELECT "+brokerColumns+" FROM catalog_brokers b WHERE incarnation = $1 AND NOT fenced", reg.Incarnation))
		if err == nil { // a repeat: no epoch was needed
			_, err = t.exec("UPDATE catalog_counters SET value = value - 1 WHERE name = 'broker_epoch'")
			return err
		}
		if !noRows(err) {
			return err
		}
		b, err = scanBroker(t.QueryRow(t.ctx, `WITH r (now) AS MATERIALIZED (SELECT catalog_now($1))
			INSERT INTO catalog_brokers AS b (epoch, id, incarnation, last_heartbeat, registered_at, ttl_ns, rack, listeners)
			SELECT $2, $3, $4, r.now, r.now, $5, $6, $7 FROM r RETURNING `+brokerColumns,
			t.c.time.parameter(), epoch, int32(reg.ID), reg.Incarnation, int64(reg.TTL), reg.Rack, listeners))
		if err != nil {
			return err
		}
		if _, err := t.exec("INSERT INTO catalog_folds (epoch) VALUES ($1)", epoch); err != nil {
			return err
		}
		// Rows whose fence and last fold ended at the same time were forgotten by neither.
		_, err = t.exec(`DELETE FROM catalog_brokers WHERE epoch IN (SELECT b.epoch FROM catalog_brokers b JOIN catalog_folds f ON f.epoch = b.epoch
			WHERE b.fenced AND f.folded_sequence = b.last_sequence FOR UPDATE SKIP LOCKED)`)
		if err != nil {
			return err
		}
		return t.bumpLeases()
	})
	if err != nil {
		return catalog.Broker{}, err
	}
	return b, nil
}

// heartbeatSQL also says how far everybody is: one round trip a heartbeat.
const heartbeatSQL = `WITH u AS (UPDATE catalog_brokers SET last_heartbeat = greatest(last_heartbeat, catalog_now($1))
		WHERE epoch = $2 AND NOT fenced RETURNING last_heartbeat)
	SELECT u.last_heartbeat, pg_postmaster_start_time(), t.epochs, t.folded, t.last, t.merges,
		(SELECT value FROM catalog_counters WHERE name = 'topics_version'), (SELECT value FROM catalog_counters WHERE name = 'leases_version')
	FROM u, (SELECT array_agg(b.epoch) AS epochs, array_agg(b.folded_sequence) AS folded, array_agg(b.last_sequence) AS last, array_agg(b.merges) AS merges
		FROM (` + brokerTailsSQL + `) b) t`

// Heartbeat implements [catalog.Brokers].
func (c *Catalog) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	var h catalog.Heartbeat
	op := fmt.Sprintf("renew the session of broker epoch %d", epoch)
	err := c.statement(ctx, c.urgent, op, func(ctx context.Context) error {
		var start time.Time
		asked := time.Now()
		var epochs, folded, last, merges []int64
		err := c.urgent.QueryRow(ctx, heartbeatSQL, c.time.parameter(), int64(epoch)).Scan(&h.Now, &start, &epochs, &folded, &last, &merges,
			&h.TopicsVersion, &h.LeasesVersion)
		if noRows(err) {
			return catalog.ErrFenced
		}
		if err != nil {
			return err
		}
		h.Now, h.Tails = h.Now.UTC(), make([]catalog.BrokerTail, len(epochs))
		for i := range epochs {
			h.Tails[i] = catalog.BrokerTail{
				Epoch: catalog.BrokerEpoch(epochs[i]), Folded: catalog.Sequence(folded[i]), Last: catalog.Sequence(last[i]), Merges: merges[i],
			}
		}
		if err := c.observed(ctx, h.Now, start, asked); err != nil {
			c.log.Warn("cannot correct the catalog's clock", "error", err) // the session is renewed all the same
		}
		return nil
	})
	if err != nil {
		return catalog.Heartbeat{}, err
	}
	return h, nil
}

// FenceBroker implements [catalog.Brokers]. It takes the broker's row FOR UPDATE, which waits for everything that the
// epoch has under way and holds up what comes later, and judges the expiry in between, by the reading of the clock that
// came with the lock: whether the clock was set ahead, or the catalog away, can only be told here.
func (c *Catalog) FenceBroker(ctx context.Context, epoch catalog.BrokerEpoch, why catalog.FenceReason) error {
	return c.write(ctx, c.urgent, fmt.Sprintf("fence broker epoch %d", epoch), func(t *tx) error {
		var fenced bool
		var heard, now, start time.Time
		var ttl time.Duration
		asked := time.Now()
		known, err := t.one(`SELECT fenced, last_heartbeat, ttl_ns, catalog_now($1), pg_postmaster_start_time() FROM catalog_brokers
			WHERE epoch = $2 FOR UPDATE`, []any{&fenced, &heard, (*int64)(&ttl), &now, &start}, c.time.parameter(), int64(epoch))
		if err != nil {
			return err
		}
		if !known {
			var last int64
			if _, err := t.one("SELECT value FROM catalog_counters WHERE name = 'broker_epoch'", []any{&last}); err != nil {
				return err
			}
			if epoch < 1 || int64(epoch) > last {
				return catalog.ErrUnknownBroker
			}
			return t.vouch() // it was handed out and has no row: fenced and folded, perhaps by a try that was not answered
		}
		if fenced {
			return nil
		}
		if why == catalog.FenceExpired {
			atLeast := c.time.observe(now, start, asked, time.Now())
			if !atLeast.IsZero() {
				now = atLeast // the next pulse corrects it for all; here it would wait for this transaction's locks
			}
			if over, left := c.time.expired(heard, now, ttl); !over {
				return fmt.Errorf("for another %s: %w", left, catalog.ErrNotExpired)
			}
		}
		if _, err := t.exec("UPDATE catalog_brokers SET fenced = true WHERE epoch = $1", int64(epoch)); err != nil {
			return err
		}
		_, err = t.exec("UPDATE catalog_leases SET holder = NULL, wanted = NULL WHERE holder = $1", int64(epoch))
		if err != nil {
			return err
		}
		if err := t.forget(epoch); err != nil {
			return err
		}
		return t.bumpLeases()
	})
}

// forget drops a broker's row once it is fenced and folded, so that the table stays as small as the cluster.
func (t *tx) forget(epoch catalog.BrokerEpoch) error {
	n, err := t.exec(`DELETE FROM catalog_brokers b USING catalog_folds f
		WHERE b.epoch = $1 AND f.epoch = $1 AND b.fenced AND f.folded_sequence = b.last_sequence`, int64(epoch))
	if err != nil || n == 0 {
		return err
	}
	return t.keepClock()
}

// ListBrokers implements [catalog.Brokers].
func (c *Catalog) ListBrokers(ctx context.Context) ([]catalog.Broker, error) {
	return collect(ctx, c, "list brokers", `SELECT `+brokerColumns+` FROM catalog_brokers b JOIN catalog_folds f ON f.epoch = b.epoch
		WHERE NOT (b.fenced AND f.folded_sequence = b.last_sequence) ORDER BY b.epoch`,
		func(r pgx.Rows) (catalog.Broker, error) { return scanBroker(r) })
}
