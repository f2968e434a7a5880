package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

var _ catalog.Operator = (*Catalog)(nil)

// Now implements [catalog.Operator].
func (c *Catalog) Now(ctx context.Context) (time.Time, error) {
	if err := c.open(ctx); err != nil {
		return time.Time{}, fmt.Errorf("read the catalog's clock: %w", err)
	}
	return toTime(c.now()), nil
}

// Restored implements [catalog.Operator].
func (c *Catalog) Restored(ctx context.Context) (catalog.Restoration, error) {
	var r catalog.Restoration
	err := c.write(ctx, "move a restored catalog forward", func(t *tx) (err error) {
		r = catalog.Restoration{At: toTime(t.now)}
		if r.Before, err = t.marks(); err != nil {
			return err
		}
		var brokers []catalog.Broker
		err = t.query(t.whole, "SELECT "+brokerColumns+" FROM brokers WHERE fenced = 0 ORDER BY epoch", func(row row) error {
			b, err := brokerOf(row)
			brokers = append(brokers, b)
			return err
		})
		if err != nil {
			return err
		}
		if err := firstOf(catalog.CheckRestored(brokers, nil, r.At), catalog.CheckRestorable(r.Before.LeaseEpoch)); err != nil {
			return err
		}
		for i := range brokers {
			r.Fenced = append(r.Fenced, brokers[i].Epoch)
			if r.LastHeartbeat.Before(brokers[i].LastHeartbeat) {
				r.LastHeartbeat = brokers[i].LastHeartbeat
			}
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

// forward fences everybody and moves all numbers.
func (t *tx) forward() error {
	for _, s := range []struct {
		query string
		args  []any
	}{
		{"UPDATE brokers SET fenced = 1 WHERE fenced = 0", nil},
		{"UPDATE leases SET holder = NULL, epoch = epoch + ?", []any{int64(catalog.RestoreEpochs)}},
		{"DELETE FROM brokers WHERE fenced = 1 AND folded_sequence = last_sequence", nil},
		{"UPDATE counters SET value = value + ? WHERE name = 'broker_epoch'", []any{int64(catalog.RestoreEpochs)}},
		{"UPDATE counters SET value = value + ? WHERE name NOT IN ('broker_epoch', 'clock', 'ids_broker')", []any{int64(catalog.RestoreIDs)}},
		{
			"INSERT INTO counters (name, value) VALUES ('ids_broker', ? + ?) ON CONFLICT DO UPDATE SET value = value + excluded.value - ?",
			[]any{catalog.IDBroker.First(), int64(catalog.RestoreBrokerIDs), catalog.IDBroker.First()},
		},
	} {
		if _, err := t.exec(s.query, s.args...); err != nil {
			return err
		}
	}
	return t.keepClock()
}

func (t *tx) marks() (m catalog.Marks, err error) {
	for name, into := range map[string]*int64{
		"broker_epoch": (*int64)(&m.BrokerEpoch), "ids_object": (*int64)(&m.NextObject), "ids_producer": &m.NextProducer,
		"topics_version": &m.TopicsVersion, "leases_version": &m.LeasesVersion,
	} {
		if *into, err = t.counter(name); err != nil {
			return m, err
		}
	}
	_, err = t.one("SELECT coalesce(max(epoch), -1) FROM leases", func(r row) { m.LeaseEpoch = catalog.LeaseEpoch(r.int(0)) })
	return m, err
}
