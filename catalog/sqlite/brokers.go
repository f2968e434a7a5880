package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const brokerColumns = "epoch, fenced, last_sequence, registered_at, last_heartbeat, ttl, id, incarnation, rack, listeners"

func brokerOf(r row) (catalog.Broker, error) {
	b := catalog.Broker{
		Epoch: catalog.BrokerEpoch(r.int(0)), Fenced: r.int(1) != 0, LastSequence: catalog.Sequence(r.int(2)),
		RegisteredAt: toTime(r.int(3)), LastHeartbeat: toTime(r.int(4)),
	}
	b.TTL, b.ID, b.Rack = time.Duration(r.int(5)), catalog.BrokerID(r.int(6)), r.text(8)
	copy(b.Incarnation[:], r.blob(7))
	if err := json.Unmarshal([]byte(r.text(9)), &b.Listeners); err != nil {
		return b, fmt.Errorf("%w: listeners of broker epoch %d: %w", ErrDamaged, b.Epoch, err)
	}
	return b, nil
}

// RegisterBroker implements [catalog.Brokers].
func (c *Catalog) RegisterBroker(ctx context.Context, reg catalog.Registration) (catalog.Broker, error) {
	if err := reg.Check(); err != nil {
		return catalog.Broker{}, fmt.Errorf("register a broker: %w", err)
	}
	listeners, err := json.Marshal(reg.Listeners)
	if err != nil {
		return catalog.Broker{}, fmt.Errorf("register broker %d: encode its listeners: %w", reg.ID, err)
	}
	var b catalog.Broker
	err = c.write(ctx, fmt.Sprintf("register broker %d", reg.ID), func(t *tx) error {
		const read = "SELECT " + brokerColumns + " FROM brokers WHERE incarnation = ? AND fenced = 0"
		var scanErr error
		known, err := t.one(read, func(r row) { b, scanErr = brokerOf(r) }, reg.Incarnation[:])
		if err != nil || known {
			return firstOf(err, scanErr)
		}
		epoch, err := t.bump("broker_epoch", 1)
		if err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO brokers (epoch, fenced, last_sequence, folded_sequence, committed_at, last_heartbeat, registered_at,
			ttl, id, incarnation, rack, listeners) VALUES (?, 0, 0, 0, 0, ?2, ?2, ?3, ?4, ?5, ?6, ?7)`,
			epoch, t.now, int64(reg.TTL), int64(reg.ID), reg.Incarnation[:], reg.Rack, string(listeners))
		if err != nil {
			return err
		}
		_, err = t.one(read, func(r row) { b, scanErr = brokerOf(r) }, reg.Incarnation[:])
		return firstOf(err, scanErr)
	})
	if err != nil {
		return catalog.Broker{}, err
	}
	return b, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// guard is the fence every manifest write passes first. The transaction already holds SQLite's one write lock, so
// looking at the row is as good as locking it.
func (t *tx) guard(epoch catalog.BrokerEpoch) error {
	found, err := t.one("SELECT 1 FROM brokers WHERE epoch = ? AND fenced = 0", func(row) {}, int64(epoch))
	if err == nil && !found {
		err = fmt.Errorf("broker epoch %d: %w", epoch, catalog.ErrFenced)
	}
	return err
}

// Heartbeat implements [catalog.Brokers].
func (c *Catalog) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	var h catalog.Heartbeat
	err := c.write(ctx, fmt.Sprintf("renew the session of broker epoch %d", epoch), func(t *tx) error {
		n, err := t.exec("UPDATE brokers SET last_heartbeat = ? WHERE epoch = ? AND fenced = 0", t.now, int64(epoch))
		if err != nil {
			return err
		}
		if n == 0 {
			return catalog.ErrFenced
		}
		h.Now = toTime(t.now)
		if h.TopicsVersion, err = t.counter("topics_version"); err != nil {
			return err
		}
		h.LeasesVersion, err = t.counter("leases_version")
		return err
	})
	if err != nil {
		return catalog.Heartbeat{}, err
	}
	return h, nil
}

// FenceBroker implements [catalog.Brokers].
func (c *Catalog) FenceBroker(ctx context.Context, epoch catalog.BrokerEpoch, why catalog.FenceReason) error {
	return c.write(ctx, fmt.Sprintf("fence broker epoch %d", epoch), func(t *tx) error {
		var fenced, heard, ttl int64
		known, err := t.one("SELECT fenced, last_heartbeat, ttl FROM brokers WHERE epoch = ?",
			func(r row) { fenced, heard, ttl = r.int(0), r.int(1), r.int(2) }, int64(epoch))
		if err != nil {
			return err
		}
		if !known {
			last, err := t.counter("broker_epoch")
			if err == nil && (epoch < 1 || int64(epoch) > last) {
				err = catalog.ErrUnknownBroker
			}
			return err // an epoch that was handed out and has no row is fenced and folded
		}
		if fenced != 0 {
			return nil
		}
		if why == catalog.FenceExpired {
			if over, left := c.clock.Expired(toTime(heard), toTime(t.now), time.Duration(ttl)); !over {
				return fmt.Errorf("for another %s: %w", left, catalog.ErrNotExpired)
			}
		}
		if _, err := t.exec("UPDATE brokers SET fenced = 1 WHERE epoch = ?", int64(epoch)); err != nil {
			return err
		}
		n, err := t.exec("UPDATE leases SET holder = NULL WHERE holder = ?", int64(epoch))
		if err != nil {
			return err
		}
		if n > 0 {
			if _, err := t.bump("leases_version", 1); err != nil {
				return err
			}
		}
		return t.forget(epoch)
	})
}

// forget drops a broker's row once it is fenced and folded, so that the table stays as small as the cluster.
func (t *tx) forget(epoch catalog.BrokerEpoch) error {
	n, err := t.exec("DELETE FROM brokers WHERE epoch = ? AND fenced = 1 AND folded_sequence = last_sequence", int64(epoch))
	if err != nil || n == 0 {
		return err
	}
	return t.keepClock()
}

// ListBrokers implements [catalog.Brokers].
func (c *Catalog) ListBrokers(ctx context.Context) ([]catalog.Broker, error) {
	var out []catalog.Broker
	err := c.read(ctx, "list brokers", func(db *conn) error {
		return db.query(ctx, "SELECT "+brokerColumns+" FROM brokers ORDER BY epoch", func(r row) error {
			b, err := brokerOf(r)
			out = append(out, b)
			return err
		})
	})
	return out, err
}
