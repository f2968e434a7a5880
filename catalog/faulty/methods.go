package faulty

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// ClusterID implements [catalog.Catalog].
func (c *Catalog) ClusterID(ctx context.Context) (string, error) {
	return answer(ctx, c, OpClusterID, func() (string, error) { return c.inner.ClusterID(ctx) })
}

// AllocateIDs implements [catalog.Catalog].
func (c *Catalog) AllocateIDs(ctx context.Context, kind catalog.IDKind, n int64) (int64, error) {
	return answer(ctx, c, OpAllocateIDs, func() (int64, error) { return c.inner.AllocateIDs(ctx, kind, n) })
}

// Ping implements [catalog.Catalog].
func (c *Catalog) Ping(ctx context.Context) error {
	return c.Do(ctx, OpPing, func() error { return c.inner.Ping(ctx) })
}

// TopicSet implements [catalog.Catalog].
func (c *Catalog) TopicSet(ctx context.Context, version int64) (catalog.TopicSet, error) {
	return answer(ctx, c, OpTopicSet, func() (catalog.TopicSet, error) { return c.inner.TopicSet(ctx, version) })
}

// CreateTopic implements [catalog.Catalog].
func (c *Catalog) CreateTopic(ctx context.Context, spec catalog.TopicSpec) (catalog.Topic, error) {
	return answer(ctx, c, OpCreateTopic, func() (catalog.Topic, error) { return c.inner.CreateTopic(ctx, spec) })
}

// DeleteTopic implements [catalog.Catalog].
func (c *Catalog) DeleteTopic(ctx context.Context, id catalog.TopicID) error {
	return c.Do(ctx, OpDeleteTopic, func() error { return c.inner.DeleteTopic(ctx, id) })
}

// AddPartitions implements [catalog.Catalog].
func (c *Catalog) AddPartitions(ctx context.Context, id catalog.TopicID, total int32) (catalog.Topic, error) {
	return answer(ctx, c, OpAddPartitions, func() (catalog.Topic, error) { return c.inner.AddPartitions(ctx, id, total) })
}

// SetTopicConfigs implements [catalog.Catalog].
func (c *Catalog) SetTopicConfigs(ctx context.Context, id catalog.TopicID, version int64, configs map[string]string) (catalog.Topic, error) {
	return answer(ctx, c, OpSetTopicConfigs, func() (catalog.Topic, error) { return c.inner.SetTopicConfigs(ctx, id, version, configs) })
}

// DeletedTopics implements [catalog.Catalog].
func (c *Catalog) DeletedTopics(ctx context.Context) ([]catalog.TopicID, error) {
	return answer(ctx, c, OpDeletedTopics, func() ([]catalog.TopicID, error) { return c.inner.DeletedTopics(ctx) })
}

// RegisterBroker implements [catalog.Catalog].
func (c *Catalog) RegisterBroker(ctx context.Context, r catalog.Registration) (catalog.Broker, error) {
	return answer(ctx, c, OpRegisterBroker, func() (catalog.Broker, error) { return c.inner.RegisterBroker(ctx, r) })
}

// Heartbeat implements [catalog.Catalog].
func (c *Catalog) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	return answer(ctx, c, OpHeartbeat, func() (catalog.Heartbeat, error) { return c.inner.Heartbeat(ctx, epoch) })
}

// FenceBroker implements [catalog.Catalog].
func (c *Catalog) FenceBroker(ctx context.Context, epoch catalog.BrokerEpoch, why catalog.FenceReason) error {
	return c.Do(ctx, OpFenceBroker, func() error { return c.inner.FenceBroker(ctx, epoch, why) })
}

// ListBrokers implements [catalog.Catalog].
func (c *Catalog) ListBrokers(ctx context.Context) ([]catalog.Broker, error) {
	return answer(ctx, c, OpListBrokers, func() ([]catalog.Broker, error) { return c.inner.ListBrokers(ctx) })
}

// AcquireLeases implements [catalog.Catalog].
func (c *Catalog) AcquireLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) ([]catalog.Lease, error) {
	return answer(ctx, c, OpAcquireLeases, func() ([]catalog.Lease, error) { return c.inner.AcquireLeases(ctx, epoch, partitions) })
}

// ReleaseLeases implements [catalog.Catalog].
func (c *Catalog) ReleaseLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) error {
	return c.Do(ctx, OpReleaseLeases, func() error { return c.inner.ReleaseLeases(ctx, epoch, partitions) })
}

// LeaseSet implements [catalog.Catalog].
func (c *Catalog) LeaseSet(ctx context.Context, version int64) (catalog.LeaseSet, error) {
	return answer(ctx, c, OpLeaseSet, func() (catalog.LeaseSet, error) { return c.inner.LeaseSet(ctx, version) })
}

// Commit implements [catalog.Catalog].
func (c *Catalog) Commit(ctx context.Context, epoch catalog.BrokerEpoch, entries []catalog.TailEntry) (time.Time, error) {
	return answer(ctx, c, OpCommit, func() (time.Time, error) { return c.inner.Commit(ctx, epoch, entries) })
}

// TailAt implements [catalog.Catalog].
func (c *Catalog) TailAt(ctx context.Context, epoch catalog.BrokerEpoch, s catalog.Sequence) (catalog.TailEntry, error) {
	return answer(ctx, c, OpTailAt, func() (catalog.TailEntry, error) { return c.inner.TailAt(ctx, epoch, s) })
}

// BrokerTails implements [catalog.Catalog].
func (c *Catalog) BrokerTails(ctx context.Context) ([]catalog.BrokerTail, error) {
	return answer(ctx, c, OpBrokerTails, func() ([]catalog.BrokerTail, error) { return c.inner.BrokerTails(ctx) })
}

// ReadTail implements [catalog.Catalog].
func (c *Catalog) ReadTail(ctx context.Context, epoch catalog.BrokerEpoch, after catalog.Sequence, limit int) ([]catalog.TailEntry, error) {
	return answer(ctx, c, OpReadTail, func() ([]catalog.TailEntry, error) { return c.inner.ReadTail(ctx, epoch, after, limit) })
}

// MergeTail implements [catalog.Catalog].
func (c *Catalog) MergeTail(ctx context.Context, epoch catalog.BrokerEpoch, m catalog.TailMerge) error {
	return c.Do(ctx, OpMergeTail, func() error { return c.inner.MergeTail(ctx, epoch, m) })
}

// Fold implements [catalog.Catalog].
func (c *Catalog) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	return c.Do(ctx, OpFold, func() error { return c.inner.Fold(ctx, epoch, f) })
}

// LoadPartitions implements [catalog.Catalog].
func (c *Catalog) LoadPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	return answer(ctx, c, OpLoadPartitions, func() ([]catalog.PartitionState, error) { return c.inner.LoadPartitions(ctx, partitions) })
}

// SettledPartitions implements [catalog.Catalog].
func (c *Catalog) SettledPartitions(ctx context.Context, partitions []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	return answer(ctx, c, OpSettledPartitions, func() ([]catalog.PartitionState, error) { return c.inner.SettledPartitions(ctx, partitions) })
}

// PackedRows implements [catalog.Catalog].
func (c *Catalog) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	return answer(ctx, c, OpPackedRows, func() ([]catalog.PackedRow, error) { return c.inner.PackedRows(ctx, tp, from, limit) })
}

// PackedSpans implements [catalog.Catalog].
func (c *Catalog) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) ([]catalog.PackedRow, error) {
	return answer(ctx, c, OpPackedSpans, func() ([]catalog.PackedRow, error) { return c.inner.PackedSpans(ctx, spans, limit) })
}

// PackedPartitions implements [catalog.Catalog].
func (c *Catalog) PackedPartitions(ctx context.Context, id catalog.TopicID) ([]catalog.TopicPartition, error) {
	return answer(ctx, c, OpPackedPartitions, func() ([]catalog.TopicPartition, error) { return c.inner.PackedPartitions(ctx, id) })
}

// SetLogStart implements [catalog.Catalog].
func (c *Catalog) SetLogStart(ctx context.Context, epoch catalog.BrokerEpoch, tp catalog.TopicPartition, offset int64) (int64, error) {
	return answer(ctx, c, OpSetLogStart, func() (int64, error) { return c.inner.SetLogStart(ctx, epoch, tp, offset) })
}

// Edit implements [catalog.Catalog].
func (c *Catalog) Edit(ctx context.Context, epoch catalog.BrokerEpoch, e catalog.Edit) error {
	return c.Do(ctx, OpEdit, func() error { return c.inner.Edit(ctx, epoch, e) })
}

// ObjectsByID implements [catalog.Catalog].
func (c *Catalog) ObjectsByID(ctx context.Context, ids []catalog.ObjectID) ([]catalog.Object, error) {
	return answer(ctx, c, OpObjectsByID, func() ([]catalog.Object, error) { return c.inner.ObjectsByID(ctx, ids) })
}

// MergeCandidates implements [catalog.Catalog].
func (c *Catalog) MergeCandidates(ctx context.Context, maxSize int64, maxGeneration int32, limit int) ([]catalog.Object, error) {
	return answer(ctx, c, OpMergeCandidates, func() ([]catalog.Object, error) { return c.inner.MergeCandidates(ctx, maxSize, maxGeneration, limit) })
}

// SparseObjects implements [catalog.Catalog].
func (c *Catalog) SparseObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	return answer(ctx, c, OpSparseObjects, func() ([]catalog.Object, error) { return c.inner.SparseObjects(ctx, after, limit) })
}

// FoldedObjects implements [catalog.Catalog].
func (c *Catalog) FoldedObjects(ctx context.Context, after catalog.ObjectID, limit int) ([]catalog.Object, error) {
	return answer(ctx, c, OpFoldedObjects, func() ([]catalog.Object, error) { return c.inner.FoldedObjects(ctx, after, limit) })
}

// ListRetired implements [catalog.Catalog].
func (c *Catalog) ListRetired(ctx context.Context, grace time.Duration, limit int) ([]catalog.Retired, error) {
	return answer(ctx, c, OpListRetired, func() ([]catalog.Retired, error) { return c.inner.ListRetired(ctx, grace, limit) })
}

// ForgetRetired implements [catalog.Catalog].
func (c *Catalog) ForgetRetired(ctx context.Context, ids []int64) error {
	return c.Do(ctx, OpForgetRetired, func() error { return c.inner.ForgetRetired(ctx, ids) })
}

// KnownObjects implements [catalog.Catalog].
func (c *Catalog) KnownObjects(ctx context.Context, keys []string) (map[string]bool, error) {
	return answer(ctx, c, OpKnownObjects, func() (map[string]bool, error) { return c.inner.KnownObjects(ctx, keys) })
}
