// Package memory is the catalog in memory: for unit tests, simulation, and `--catalog memory:`. It has the semantics
// of the contract in package catalog and forgets everything when closed. One mutex guards all; each call is one
// transaction: it checks everything before it changes anything.
//
// Several handles may share one catalog ([Catalog.Open]), as the processes of a fleet share a database. Each is closed
// on its own, which is how the process behind it dies: its attachments end at once, and what it committed stays.
package memory

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/internal/clock"
)

// Catalog implements catalog.Catalog and catalog.Fleet: one handle on a catalog. Safe for concurrent use.
type Catalog struct {
	*shared
	handle
}

// shared is what all handles see.
type shared struct {
	clock *clock.Clock

	mu struct {
		sync.Mutex
		clusterID     string
		topics        map[catalog.TopicID]*topic
		names         map[string]catalog.TopicID // live, by name with '.' mapped to '_'
		topicsVersion int64
		brokers       map[catalog.BrokerEpoch]*broker
		lastEpoch     catalog.BrokerEpoch
		leasesVersion int64
		objects       map[catalog.ObjectID]catalog.Object
		retired       []catalog.Retired
		lastRetired   int64
		lastRow       int64 // the last version a packed row got
		ids           map[catalog.IDKind]int64
		groups        map[string]*group
		memberVersion int64
		draining      map[catalog.BrokerID]bool
		attached      map[catalog.BrokerEpoch]int // attachments that stand
		listeners     map[*listener]bool
	}
}

var _ catalog.Catalog = (*Catalog)(nil)

type topic struct {
	catalog.Topic
	deleted    bool
	partitions []*partition
}

type partition struct {
	state catalog.PartitionState
	lease catalog.Lease
	wrote groupWrites         // of a coordinator shard
	rows  []catalog.PackedRow // by Base
}

type broker struct {
	catalog.Broker
	folded catalog.Sequence
	merges int64
	tail   []catalog.TailEntry
}

// New returns an empty catalog. now nil means time.Now.
func New(now func() time.Time) *Catalog {
	c := &Catalog{shared: &shared{clock: clock.New(now, time.Time{})}, handle: newHandle()}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	c.mu.clusterID = base64.RawURLEncoding.EncodeToString(id[:])
	c.mu.topics = make(map[catalog.TopicID]*topic)
	c.mu.names = make(map[string]catalog.TopicID)
	c.mu.brokers = make(map[catalog.BrokerEpoch]*broker)
	c.mu.objects = make(map[catalog.ObjectID]catalog.Object)
	c.mu.ids = make(map[catalog.IDKind]int64)
	for _, kind := range []catalog.IDKind{catalog.IDProducer, catalog.IDObject, catalog.IDBroker} {
		c.mu.ids[kind] = kind.First()
	}
	c.mu.groups = make(map[string]*group)
	c.mu.draining = make(map[catalog.BrokerID]bool)
	c.mu.attached = make(map[catalog.BrokerEpoch]int)
	c.mu.listeners = make(map[*listener]bool)
	return c
}

// lock starts a call.
func (c *Catalog) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return catalog.ErrClosed
	}
	return nil
}

func (c *Catalog) nowLocked() time.Time { return c.clock.Now() }

// ClusterID implements catalog.Catalog.
func (c *Catalog) ClusterID(ctx context.Context) (string, error) {
	if err := c.lock(ctx); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	return c.mu.clusterID, nil
}

// AllocateIDs implements catalog.Catalog.
func (c *Catalog) AllocateIDs(ctx context.Context, kind catalog.IDKind, n int64) (int64, error) {
	if err := catalog.CheckIDs(kind, n); err != nil {
		return 0, fmt.Errorf("allocate ids: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	first := c.mu.ids[kind]
	c.mu.ids[kind] = first + n
	return first, nil
}

// Ping implements catalog.Catalog.
func (c *Catalog) Ping(ctx context.Context) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	c.mu.Unlock()
	return nil
}

// Close implements catalog.Catalog. Other handles go on.
func (c *Catalog) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.dropLocked(catalog.ErrClosed)
	}
	return nil
}

// --- topics

func normal(name string) string { return strings.ReplaceAll(name, ".", "_") }

// TopicSet implements catalog.Topics.
func (c *Catalog) TopicSet(ctx context.Context, version int64) (catalog.TopicSet, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.TopicSet{}, err
	}
	defer c.mu.Unlock()
	s := catalog.TopicSet{Version: c.mu.topicsVersion}
	if version == s.Version && version != 0 {
		return s, nil
	}
	for _, t := range c.mu.topics {
		if !t.deleted {
			s.Topics = append(s.Topics, t.copy())
		}
	}
	slices.SortFunc(s.Topics, func(a, b catalog.Topic) int { return cmp.Compare(a.Name, b.Name) })
	return s, nil
}

func (t *topic) copy() catalog.Topic {
	out := t.Topic
	out.Configs = maps.Clone(t.Configs)
	return out
}

// CreateTopic implements catalog.Topics.
func (c *Catalog) CreateTopic(ctx context.Context, spec catalog.TopicSpec) (catalog.Topic, error) {
	if err := spec.Check(); err != nil {
		return catalog.Topic{}, fmt.Errorf("create topic: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return catalog.Topic{}, err
	}
	defer c.mu.Unlock()
	if t := c.mu.topics[spec.ID]; t != nil {
		if !t.deleted && t.Name == spec.Name {
			return t.copy(), nil
		}
		return catalog.Topic{}, fmt.Errorf("create topic %q: id %s: %w", spec.Name, spec.ID, catalog.ErrTopicExists)
	}
	if id, ok := c.mu.names[normal(spec.Name)]; ok {
		if other := c.mu.topics[id].Name; other != spec.Name {
			return catalog.Topic{}, fmt.Errorf("create topic %q beside %q: %w", spec.Name, other, catalog.ErrTopicCollision)
		}
		return catalog.Topic{}, fmt.Errorf("create topic %q: %w", spec.Name, catalog.ErrTopicExists)
	}
	if spec.Partitions < 1 {
		return catalog.Topic{}, fmt.Errorf("create topic %q with %d partitions: %w", spec.Name, spec.Partitions, catalog.ErrPartitionCount)
	}
	t := &topic{Topic: catalog.Topic{
		ID: spec.ID, Name: spec.Name, ReplicationFactor: spec.ReplicationFactor, Configs: maps.Clone(spec.Configs),
		CreatedAt: c.nowLocked(),
	}}
	c.mu.topics[spec.ID] = t
	c.mu.names[normal(spec.Name)] = spec.ID
	c.growLocked(t, spec.Partitions)
	return t.copy(), nil
}

func (c *Catalog) growLocked(t *topic, total int32) {
	for p := t.Partitions; p < total; p++ {
		tp := catalog.TopicPartition{Topic: t.ID, Partition: p}
		t.partitions = append(t.partitions, &partition{
			state: catalog.PartitionState{TopicPartition: tp}, lease: catalog.Lease{TopicPartition: tp, Epoch: -1},
		})
	}
	t.Partitions = total
	c.mu.leasesVersion++
	c.touchLocked(t)
}

func (c *Catalog) touchLocked(t *topic) {
	c.mu.topicsVersion++
	t.Version = c.mu.topicsVersion
}

func (c *Catalog) liveLocked(id catalog.TopicID) (*topic, error) {
	t := c.mu.topics[id]
	if t == nil || t.deleted {
		return nil, fmt.Errorf("topic %s: %w", id, catalog.ErrUnknownTopic)
	}
	return t, nil
}

// DeleteTopic implements catalog.Topics.
func (c *Catalog) DeleteTopic(ctx context.Context, id catalog.TopicID) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	t, err := c.liveLocked(id)
	if err != nil {
		return err
	}
	t.deleted = true
	delete(c.mu.names, normal(t.Name))
	c.mu.leasesVersion++
	c.touchLocked(t)
	return nil
}

// AddPartitions implements catalog.Topics.
func (c *Catalog) AddPartitions(ctx context.Context, id catalog.TopicID, total int32) (catalog.Topic, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.Topic{}, err
	}
	defer c.mu.Unlock()
	t, err := c.liveLocked(id)
	if err != nil {
		return catalog.Topic{}, err
	}
	switch {
	case total < t.Partitions:
		return catalog.Topic{}, fmt.Errorf("topic %q has %d partitions, asked for %d: %w", t.Name, t.Partitions, total, catalog.ErrPartitionCount)
	case total > t.Partitions:
		c.growLocked(t, total)
	}
	return t.copy(), nil
}

// SetTopicConfigs implements catalog.Topics.
func (c *Catalog) SetTopicConfigs(ctx context.Context, id catalog.TopicID, version int64, configs map[string]string) (catalog.Topic, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.Topic{}, err
	}
	defer c.mu.Unlock()
	t, err := c.liveLocked(id)
	if err != nil {
		return catalog.Topic{}, err
	}
	if t.Version != version {
		return catalog.Topic{}, fmt.Errorf("topic %q has version %d, not %d: %w", t.Name, t.Version, version, catalog.ErrVersionMismatch)
	}
	t.Configs = maps.Clone(configs)
	c.touchLocked(t)
	return t.copy(), nil
}

// DeletedTopics implements catalog.Topics.
func (c *Catalog) DeletedTopics(ctx context.Context) ([]catalog.TopicID, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var ids []catalog.TopicID
	for id, t := range c.mu.topics {
		if t.deleted {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b catalog.TopicID) int { return cmp.Compare(string(a[:]), string(b[:])) })
	return ids, nil
}

// --- brokers

// RegisterBroker implements catalog.Brokers.
func (c *Catalog) RegisterBroker(ctx context.Context, r catalog.Registration) (catalog.Broker, error) {
	if err := r.Check(); err != nil {
		return catalog.Broker{}, fmt.Errorf("register broker %d: %w", r.ID, err)
	}
	if err := c.lock(ctx); err != nil {
		return catalog.Broker{}, err
	}
	defer c.mu.Unlock()
	for _, b := range c.mu.brokers {
		if b.Incarnation == r.Incarnation && !b.Fenced {
			return b.copy(), nil
		}
	}
	now := c.nowLocked()
	c.mu.lastEpoch++
	r.Listeners = slices.Clone(r.Listeners)
	b := &broker{Broker: catalog.Broker{Registration: r, Epoch: c.mu.lastEpoch, RegisteredAt: now, LastHeartbeat: now}}
	b.Draining = c.mu.draining[r.ID]
	c.mu.brokers[b.Epoch] = b
	c.mu.leasesVersion++
	return b.copy(), nil
}

func (b *broker) copy() catalog.Broker {
	out := b.Broker
	out.Listeners = slices.Clone(b.Listeners)
	return out
}

func (c *Catalog) unfencedLocked(epoch catalog.BrokerEpoch) (*broker, error) {
	b := c.mu.brokers[epoch]
	if b == nil || b.Fenced {
		return nil, fmt.Errorf("broker epoch %d: %w", epoch, catalog.ErrFenced)
	}
	return b, nil
}

// Heartbeat implements catalog.Brokers.
func (c *Catalog) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.Heartbeat{}, err
	}
	defer c.mu.Unlock()
	b, err := c.unfencedLocked(epoch)
	if err != nil {
		return catalog.Heartbeat{}, err
	}
	b.LastHeartbeat = c.nowLocked()
	return catalog.Heartbeat{
		Now: b.LastHeartbeat, TopicsVersion: c.mu.topicsVersion, LeasesVersion: c.mu.leasesVersion, Tails: c.tailsLocked(),
	}, nil
}

// FenceBroker implements catalog.Brokers.
func (c *Catalog) FenceBroker(ctx context.Context, epoch catalog.BrokerEpoch, why catalog.FenceReason) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	b := c.mu.brokers[epoch]
	switch {
	case b == nil && epoch >= 1 && epoch <= c.mu.lastEpoch:
		return nil // fenced, folded and forgotten
	case b == nil:
		return fmt.Errorf("fence broker epoch %d: %w", epoch, catalog.ErrUnknownBroker)
	case b.Fenced:
		return nil
	}
	if why == catalog.FenceExpired {
		if over, left := c.clock.Expired(b.LastHeartbeat, c.nowLocked(), b.TTL); !over {
			return fmt.Errorf("fence broker epoch %d: for another %s: %w", epoch, left, catalog.ErrNotExpired)
		}
	}
	b.Fenced = true
	for _, t := range c.mu.topics {
		for _, p := range t.partitions {
			if p.lease.Holder == epoch {
				p.lease.Holder, p.lease.Wanted = 0, 0
			}
		}
	}
	c.mu.leasesVersion++
	c.forgetLocked(b)
	return nil
}

// forgetLocked drops a fenced broker whose tail is folded.
func (c *Catalog) forgetLocked(b *broker) {
	if b.Fenced && len(b.tail) == 0 {
		delete(c.mu.brokers, b.Epoch)
	}
}

func (c *Catalog) byEpochLocked() []*broker {
	all := slices.Collect(maps.Values(c.mu.brokers))
	slices.SortFunc(all, func(a, b *broker) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return all
}

// ListBrokers implements catalog.Brokers.
func (c *Catalog) ListBrokers(ctx context.Context) ([]catalog.Broker, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.Broker
	for _, b := range c.byEpochLocked() {
		out = append(out, b.copy())
	}
	return out, nil
}

// --- leases

func (c *Catalog) partitionLocked(tp catalog.TopicPartition) (*topic, *partition) {
	t := c.mu.topics[tp.Topic]
	if t == nil || tp.Partition < 0 || int(tp.Partition) >= len(t.partitions) {
		return nil, nil
	}
	return t, t.partitions[tp.Partition]
}

// AcquireLeases implements catalog.Leases.
func (c *Catalog) AcquireLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) ([]catalog.Lease, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return nil, err
	}
	var out []catalog.Lease
	changed := false
	take := func(t *topic, p *partition) {
		if t == nil || t.deleted || p.lease.Holder != 0 && p.lease.Holder != epoch {
			return
		}
		if p.lease.Holder == 0 {
			p.lease.Holder = epoch
			p.lease.Epoch++
			changed = true
		}
		out = append(out, p.lease)
	}
	if partitions == nil {
		for _, t := range c.mu.topics {
			for _, p := range t.partitions {
				take(t, p)
			}
		}
	}
	for _, tp := range partitions {
		take(c.partitionLocked(tp))
	}
	if changed {
		c.mu.leasesVersion++
	}
	slices.SortFunc(out, func(a, b catalog.Lease) int { return a.Compare(b.TopicPartition) })
	return slices.Compact(out), nil
}

// ReleaseLeases implements catalog.Leases.
func (c *Catalog) ReleaseLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return err
	}
	for _, tp := range partitions {
		if _, p := c.partitionLocked(tp); p != nil && p.lease.Holder == epoch {
			p.lease.Holder, p.lease.Wanted = 0, 0
			c.mu.leasesVersion++
		}
	}
	return nil
}

// LeaseSet implements catalog.Leases.
func (c *Catalog) LeaseSet(ctx context.Context, version int64) (catalog.LeaseSet, error) {
	if err := c.lock(ctx); err != nil {
		return catalog.LeaseSet{}, err
	}
	defer c.mu.Unlock()
	s := catalog.LeaseSet{Version: c.mu.leasesVersion}
	if version == s.Version && version != 0 {
		return s, nil
	}
	for _, t := range c.mu.topics {
		if t.deleted {
			continue
		}
		for _, p := range t.partitions {
			s.Leases = append(s.Leases, p.lease)
		}
	}
	slices.SortFunc(s.Leases, func(a, b catalog.Lease) int { return a.Compare(b.TopicPartition) })
	return s, nil
}
