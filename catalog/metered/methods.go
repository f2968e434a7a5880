package metered

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// ClusterID implements [catalog.Catalog].
func (c *Catalog) ClusterID(ctx context.Context) (id string, err error) {
	err = c.measure(OpClusterID, func() (err error) {
		id, err = c.inner.ClusterID(ctx)
		return err
	})
	return id, err
}

// AllocateIDs implements [catalog.Catalog].
func (c *Catalog) AllocateIDs(ctx context.Context, kind catalog.IDKind, n int64) (first int64, err error) {
	err = c.measure(OpAllocateIDs, func() (err error) {
		first, err = c.inner.AllocateIDs(ctx, kind, n)
		return err
	})
	return first, err
}

// Ping implements [catalog.Catalog].
func (c *Catalog) Ping(ctx context.Context) error {
	return c.measure(OpPing, func() error { return c.inner.Ping(ctx) })
}

// TopicSet implements [catalog.Catalog].
func (c *Catalog) TopicSet(ctx context.Context, version int64) (set catalog.TopicSet, err error) {
	err = c.measure(OpTopicSet, func() (err error) {
		set, err = c.inner.TopicSet(ctx, version)
		return err
	})
	return set, err
}

// CreateTopic implements [catalog.Catalog].
func (c *Catalog) CreateTopic(ctx context.Context, spec catalog.TopicSpec) (topic catalog.Topic, err error) {
	err = c.measure(OpCreateTopic, func() (err error) {
		topic, err = c.inner.CreateTopic(ctx, spec)
		return err
	})
	return topic, err
}

// DeleteTopic implements [catalog.Catalog].
func (c *Catalog) DeleteTopic(ctx context.Context, id catalog.TopicID) error {
	return c.measure(OpDeleteTopic, func() error { return c.inner.DeleteTopic(ctx, id) })
}

// AddPartitions implements [catalog.Catalog].
func (c *Catalog) AddPartitions(ctx context.Context, id catalog.TopicID, total int32) (topic catalog.Topic, err error) {
	err = c.measure(OpAddPartitions, func() (err error) {
		topic, err = c.inner.AddPartitions(ctx, id, total)
		return err
	})
	return topic, err
}

// SetTopicConfigs implements [catalog.Catalog].
func (c *Catalog) SetTopicConfigs(ctx context.Context, id catalog.TopicID, version int64, configs map[string]string) (topic catalog.Topic, err error) {
	err = c.measure(OpSetTopicConfigs, func() (err error) {
		topic, err = c.inner.SetTopicConfigs(ctx, id, version, configs)
		return err
	})
	return topic, err
}

// DeletedTopics implements [catalog.Catalog].
func (c *Catalog) DeletedTopics(ctx context.Context) (ids []catalog.TopicID, err error) {
	err = c.measure(OpDeletedTopics, func() (err error) {
		ids, err = c.inner.DeletedTopics(ctx)
		return err
	})
	return ids, err
}

// RegisterBroker implements [catalog.Catalog].
func (c *Catalog) RegisterBroker(ctx context.Context, r catalog.Registration) (broker catalog.Broker, err error) {
	err = c.measure(OpRegisterBroker, func() (err error) {
		broker, err = c.inner.RegisterBroker(ctx, r)
		return err
	})
	return broker, err
}

// Heartbeat implements [catalog.Catalog].
func (c *Catalog) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (answer catalog.Heartbeat, err error) {
	err = c.measure(OpHeartbeat, func() (err error) {
		answer, err = c.inner.Heartbeat(ctx, epoch)
		return err
	})
	return answer, err
}

// FenceBroker implements [catalog.Catalog].
func (c *Catalog) FenceBroker(ctx context.Context, epoch catalog.BrokerEpoch, why catalog.FenceReason) error {
	return c.measure(OpFenceBroker, func() error { return c.inner.FenceBroker(ctx, epoch, why) })
}

// ListBrokers implements [catalog.Catalog].
func (c *Catalog) ListBrokers(ctx context.Context) (brokers []catalog.Broker, err error) {
	err = c.measure(OpListBrokers, func() (err error) {
		brokers, err = c.inner.ListBrokers(ctx)
		return err
	})
	return brokers, err
}

// AcquireLeases implements [catalog.Catalog].
func (c *Catalog) AcquireLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) (leases []catalog.Lease, err error) {
	err = c.measure(OpAcquireLeases, func() (err error) {
		leases, err = c.inner.AcquireLeases(ctx, epoch, partitions)
		return err
	})
	return leases, err
}

// ReleaseLeases implements [catalog.Catalog].
func (c *Catalog) ReleaseLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) error {
	return c.measure(OpReleaseLeases, func() error { return c.inner.ReleaseLeases(ctx, epoch, partitions) })
}

// LeaseSet implements [catalog.Catalog].
func (c *Catalog) LeaseSet(ctx context.Context, version int64) (set catalog.LeaseSet, err error) {
	err = c.measure(OpLeaseSet, func() (err error) {
		set, err = c.inner.LeaseSet(ctx, version)
		return err
	})
	return set, err
}

// Commit implements [catalog.Catalog].
func (c *Catalog) Commit(ctx context.Context, epoch catalog.BrokerEpoch, entries []catalog.TailEntry) (at time.Time, err error) {
	err = c.measure(OpCommit, func() (err error) {
		at, err = c.inner.Commit(ctx, epoch, entries)
		return err
	})
	return at, err
}

// TailAt implements [catalog.Catalog].
func (c *Catalog) TailAt(ctx context.Context, epoch catalog.BrokerEpoch, s catalog.Sequence) (entry catalog.TailEntry, err error) {
	err = c.measure(OpTailAt, func() (err error) {
		entry, err = c.inner.TailAt(ctx, epoch, s)
		return err
	})
	return entry, err
}

// BrokerTails implements [catalog.Catalog].
func (c *Catalog) BrokerTails(ctx context.Context) (tails []catalog.BrokerTail, err error) {
	err = c.measure(OpBrokerTails, func() (err error) {
		tails, err = c.inner.BrokerTails(ctx)
		return err
	})
	return tails, err
}

// ReadTail implements [catalog.Catalog].
func (c *Catalog) ReadTail(ctx context.Context, epoch catalog.BrokerEpoch, after catalog.Sequence, limit int) (rows []catalog.TailEntry, err error) {
	err = c.measure(OpReadTail, func() (err error) {
		rows, err = c.inner.ReadTail(ctx, epoch, after, limit)
		return err
	})
	return rows, err
}

// MergeTail implements [catalog.Catalog].
func (c *Catalog) MergeTail(ctx context.Context, epoch catalog.BrokerEpoch, m catalog.TailMerge) error {
	return c.measure(OpMergeTail, func() error { return c.inner.MergeTail(ctx, epoch, m) })
}

// Fold implements [catalog.Catalog].
func (c *Catalog) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	return c.measure(OpFold, func() error { return c.inner.Fold(ctx, epoch, f) })
}

// LoadPartitions implements [catalog.Catalog].
func (c *Catalog) LoadPartitions(ctx context.Context, partitions []catalog.TopicPartition) (states []catalog.PartitionState, err error) {
	err = c.measure(OpLoadPartitions, func() (err error) {
		states, err = c.inner.LoadPartitions(ctx, partitions)
		return err
	})
	return states, err
}

// SettledPartitions implements [catalog.Catalog].
func (c *Catalog) SettledPartitions(ctx context.Context, partitions []catalog.TopicPartition) (states []catalog.PartitionState, err error) {
	err = c.measure(OpSettledPartitions, func() (err error) {
		states, err = c.inner.SettledPartitions(ctx, partitions)
		return err
	})
	return states, err
}

// PackedRows implements [catalog.Catalog].
func (c *Catalog) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) (rows []catalog.PackedRow, err error) {
	err = c.measure(OpPackedRows, func() (err error) {
		rows, err = c.inner.PackedRows(ctx, tp, from, limit)
		return err
	})
	return rows, err
}

// PackedSpans implements [catalog.Catalog].
func (c *Catalog) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) (rows []catalog.PackedRow, err error) {
	err = c.measure(OpPackedSpans, func() (err error) {
		rows, err = c.inner.PackedSpans(ctx, spans, limit)
		return err
	})
	return rows, err
}

// PackedPartitions implements [catalog.Catalog].
func (c *Catalog) PackedPartitions(ctx context.Context, id catalog.TopicID) (partitions []catalog.TopicPartition, err error) {
	err = c.measure(OpPackedPartitions, func() (err error) {
		partitions, err = c.inner.PackedPartitions(ctx, id)
		return err
	})
	return partitions, err
}

// SetLogStart implements [catalog.Catalog].
func (c *Catalog) SetLogStart(ctx context.Context, epoch catalog.BrokerEpoch, tp catalog.TopicPartition, offset int64) (start int64, err error) {
	err = c.measure(OpSetLogStart, func() (err error) {
		start, err = c.inner.SetLogStart(ctx, epoch, tp, offset)
		return err
	})
	return start, err
}

// Edit implements [catalog.Catalog].
func (c *Catalog) Edit(ctx context.Context, epoch catalog.BrokerEpoch, e catalog.Edit) error {
	return c.measure(OpEdit, func() error { return c.inner.Edit(ctx, epoch, e) })
}

// ObjectsByID implements [catalog.Catalog].
func (c *Catalog) ObjectsByID(ctx context.Context, ids []catalog.ObjectID) (objects []catalog.Object, err error) {
	err = c.measure(OpObjectsByID, func() (err error) {
		objects, err = c.inner.ObjectsByID(ctx, ids)
		return err
	})
	return objects, err
}

// MergeCandidates implements [catalog.Catalog].
func (c *Catalog) MergeCandidates(ctx context.Context, maxSize int64, maxGeneration int32, limit int) (objects []catalog.Object, err error) {
	err = c.measure(OpMergeCandidates, func() (err error) {
		objects, err = c.inner.MergeCandidates(ctx, maxSize, maxGeneration, limit)
		return err
	})
	return objects, err
}

// SparseObjects implements [catalog.Catalog].
func (c *Catalog) SparseObjects(ctx context.Context, after catalog.ObjectID, limit int) (objects []catalog.Object, err error) {
	err = c.measure(OpSparseObjects, func() (err error) {
		objects, err = c.inner.SparseObjects(ctx, after, limit)
		return err
	})
	return objects, err
}

// FoldedObjects implements [catalog.Catalog].
func (c *Catalog) FoldedObjects(ctx context.Context, after catalog.ObjectID, limit int) (objects []catalog.Object, err error) {
	err = c.measure(OpFoldedObjects, func() (err error) {
		objects, err = c.inner.FoldedObjects(ctx, after, limit)
		return err
	})
	return objects, err
}

// ListRetired implements [catalog.Catalog].
func (c *Catalog) ListRetired(ctx context.Context, grace time.Duration, limit int) (batches []catalog.Retired, err error) {
	err = c.measure(OpListRetired, func() (err error) {
		batches, err = c.inner.ListRetired(ctx, grace, limit)
		return err
	})
	return batches, err
}

// ForgetRetired implements [catalog.Catalog].
func (c *Catalog) ForgetRetired(ctx context.Context, ids []int64) error {
	return c.measure(OpForgetRetired, func() error { return c.inner.ForgetRetired(ctx, ids) })
}

// KnownObjects implements [catalog.Catalog].
func (c *Catalog) KnownObjects(ctx context.Context, keys []string) (known map[string]bool, err error) {
	err = c.measure(OpKnownObjects, func() (err error) {
		known, err = c.inner.KnownObjects(ctx, keys)
		return err
	})
	return known, err
}
