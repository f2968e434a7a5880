package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

var _ catalog.Operator = (*Catalog)(nil)

// Now implements [catalog.Operator].
func (c *Catalog) Now(ctx context.Context) (now time.Time, err error) {
	err = c.read(ctx, "read the catalog's clock", "SELECT catalog_now($1)", []any{c.time.parameter()}, func() {},
		func(r pgx.Rows) error { return r.Scan(&now) })
	return now.UTC(), err
}

// attachedSQL are the broker epochs that are attached. The parts of an advisory lock's key are cut in two by Postgres: see
// the documentation of pg_locks.
const attachedSQL = `SELECT DISTINCT k.key & $1 FROM (SELECT classid::bigint << 32 | objid::bigint AS key FROM pg_locks
		WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND mode = 'ShareLock'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) k
	WHERE k.key & ~$1::bigint = $2 ORDER BY 1`

// Restored implements [catalog.Operator]. With the rows of all brokers locked, and the counters that registering and
// changing topics begin with, it has the catalog to itself.
func (c *Catalog) Restored(ctx context.Context) (catalog.Restoration, error) {
	var r catalog.Restoration
	err := c.write(ctx, c.general, "move a restored catalog forward", func(t *tx) (err error) {
		r = catalog.Restoration{}
		// marks are read before and after; in between nobody else changes them.
		if _, err = t.exec("SELECT 1 FROM catalog_counters WHERE name IN ('broker_epoch', 'topics_version') ORDER BY name FOR UPDATE"); err != nil {
			return err
		}
		brokers, err := t.lockBrokers(&r)
		if err != nil {
			return err
		}
		if r.Before, err = t.marks(); err != nil {
			return err
		}
		var attached []catalog.BrokerEpoch
		err = t.query(attachedSQL, func(rows pgx.Rows) error {
			var epoch int64
			err := rows.Scan(&epoch)
			attached = append(attached, catalog.BrokerEpoch(epoch))
			return err
		}, int64(attachmentEpochs), int64(attachmentClass))
		if err == nil {
			err = catalog.CheckRestored(brokers, attached, r.At)
		}
		if err == nil {
			err = catalog.CheckRestorable(r.Before.LeaseEpoch)
		}
		if err != nil {
			return err
		}
		if err := t.forward(); err != nil {
			return err
		}
		r.After, err = t.marks()
		return err
	})
	if err != nil {
		return catalog.Restoration{}, err
	}
	return r, nil
}

// lockBrokers locks and returns the unfenced brokers. The clock is read with them: nobody can renew a session after that.
func (t *tx) lockBrokers(r *catalog.Restoration) (brokers []catalog.Broker, err error) {
	err = t.query("SELECT "+brokerColumns+" FROM catalog_brokers b WHERE NOT b.fenced ORDER BY b.epoch FOR UPDATE OF b", func(rows pgx.Rows) error {
		b, err := scanBroker(rows)
		brokers = append(brokers, b)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := t.one("SELECT catalog_now($1)", []any{&r.At}, t.c.time.parameter()); err != nil {
		return nil, err
	}
	r.At = r.At.UTC()
	for i := range brokers {
		r.Fenced = append(r.Fenced, brokers[i].Epoch)
		if r.LastHeartbeat.Before(brokers[i].LastHeartbeat) {
			r.LastHeartbeat = brokers[i].LastHeartbeat
		}
	}
	return brokers, nil
}

// forward fences everybody and moves all numbers.
func (t *tx) forward() error {
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{"UPDATE catalog_brokers SET fenced = true WHERE NOT fenced", nil},
		{`UPDATE catalog_leases l SET holder = NULL, wanted = NULL, epoch = l.epoch + $1
			FROM (SELECT topic, partition FROM catalog_leases ORDER BY topic, partition FOR NO KEY UPDATE) o
			WHERE l.topic = o.topic AND l.partition = o.partition`, []any{catalog.RestoreEpochs}},
		{`DELETE FROM catalog_brokers b USING catalog_folds f
			WHERE f.epoch = b.epoch AND b.fenced AND f.folded_sequence = b.last_sequence`, nil},
		{
			`SELECT setval(s, nextval(s) + $1) FROM unnest('{catalog_packed_versions, catalog_retired_batches}'::regclass[]) AS s`,
			[]any{int64(catalog.RestoreIDs)},
		},
		{
			`UPDATE catalog_counters SET value = value + CASE name WHEN 'broker_epoch' THEN $1::bigint ELSE $2::bigint END
			WHERE name IN ('broker_epoch', 'topics_version', 'ids_producer', 'ids_object', 'leases_version')`,
			[]any{int64(catalog.RestoreEpochs), int64(catalog.RestoreIDs)},
		},
		{
			`INSERT INTO catalog_counters AS c (name, value) VALUES ('ids_broker', $1::bigint + $2::bigint)
			ON CONFLICT (name) DO UPDATE SET value = c.value + $2::bigint`,
			[]any{catalog.IDBroker.First(), int64(catalog.RestoreBrokerIDs)},
		},
	} {
		if _, err := t.exec(s.sql, s.args...); err != nil {
			return err
		}
	}
	return t.keepClock()
}

func (t *tx) marks() (m catalog.Marks, err error) {
	counters := make(map[string]int64)
	err = t.query("SELECT name, value FROM catalog_counters", func(r pgx.Rows) error {
		var name string
		var value int64
		err := r.Scan(&name, &value)
		counters[name] = value
		return err
	})
	if err != nil {
		return m, err
	}
	for name, into := range map[string]*int64{
		"broker_epoch": (*int64)(&m.BrokerEpoch), "ids_object": (*int64)(&m.NextObject), "ids_producer": &m.NextProducer,
		"topics_version": &m.TopicsVersion, "leases_version": &m.LeasesVersion,
	} {
		value, ok := counters[name]
		if !ok {
			return m, fmt.Errorf("%w: counter %s is missing", ErrDamaged, name)
		}
		*into = value
	}
	_, err = t.one("SELECT coalesce(max(epoch), -1) FROM catalog_leases", []any{(*int32)(&m.LeaseEpoch)})
	return m, err
}
