package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

var _ catalog.Operator = (*Catalog)(nil)

// Now implements catalog.Operator.
func (c *Catalog) Now(ctx context.Context) (time.Time, error) {
	if err := c.lock(ctx); err != nil {
		return time.Time{}, err
	}
	defer c.mu.Unlock()
	return c.nowLocked(), nil
}

// Restored implements catalog.Operator.
func (c *Catalog) Restored(ctx context.Context) (catalog.Restoration, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.Restoration{}, err
	}
	defer c.mu.Unlock()
	r := catalog.Restoration{At: c.nowLocked(), Before: c.marksLocked()}
	var alive []catalog.Broker
	for _, b := range c.byEpochLocked() {
		if !b.Fenced {
			alive = append(alive, b.copy())
		}
	}
	err := catalog.CheckRestored(alive, slices.Sorted(maps.Keys(c.mu.attached)), r.At)
	if err == nil {
		err = catalog.CheckRestorable(r.Before.LeaseEpoch)
	}
	if err != nil {
		return catalog.Restoration{}, fmt.Errorf("move a restored catalog forward: %w", err)
	}
	for _, b := range c.byEpochLocked() {
		if b.Fenced {
			continue
		}
		b.Fenced = true
		r.Fenced = append(r.Fenced, b.Epoch)
		if r.LastHeartbeat.Before(b.LastHeartbeat) {
			r.LastHeartbeat = b.LastHeartbeat
		}
		c.forgetLocked(b)
	}
	for _, t := range c.mu.topics {
		for _, p := range t.partitions {
			p.lease.Holder, p.lease.Wanted = 0, 0
			p.lease.Epoch += catalog.RestoreEpochs
		}
	}
	c.mu.lastEpoch += catalog.RestoreEpochs
	c.mu.ids[catalog.IDObject] += catalog.RestoreIDs
	c.mu.ids[catalog.IDProducer] += catalog.RestoreIDs
	c.mu.ids[catalog.IDBroker] += catalog.RestoreBrokerIDs
	for _, version := range []*int64{&c.mu.topicsVersion, &c.mu.leasesVersion, &c.mu.lastRow, &c.mu.lastRetired} {
		*version += catalog.RestoreIDs
	}
	r.After = c.marksLocked()
	return r, nil
}

func (c *Catalog) marksLocked() catalog.Marks {
	m := catalog.Marks{
		BrokerEpoch: c.mu.lastEpoch, LeaseEpoch: -1,
		NextObject: catalog.ObjectID(c.mu.ids[catalog.IDObject]), NextProducer: c.mu.ids[catalog.IDProducer],
		TopicsVersion: c.mu.topicsVersion, LeasesVersion: c.mu.leasesVersion,
	}
	for _, t := range c.mu.topics {
		for _, p := range t.partitions {
			if !t.deleted {
				m.LeaseEpoch = max(m.LeaseEpoch, p.lease.Epoch)
			}
		}
	}
	return m
}
