package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/storage"
)

// Backlogs is the part of a log that lag is computed from. The storage engine has it.
type Backlogs interface {
	// Backlog tells what lies in a partition from an offset on, also of partitions that this broker does not lead.
	Backlog(ctx context.Context, tp catalog.TopicPartition, offset int64) (storage.Backlog, error)
	// Know prepares for the Backlog of many partitions.
	Know(ctx context.Context, tps []catalog.TopicPartition) error
}

// ErrNoGroup is the error of a group that does not exist.
var ErrNoGroup = errors.New("there is no such group")

// Lag is where a group is in one partition.
type Lag struct {
	// Committed is the committed offset; -1 when nothing is committed.
	Committed int64
	// HighWatermark is at most about a second old; -1 when nobody could tell: the topic is gone, or this broker does not
	// follow the partition at the moment.
	HighWatermark int64
	// Records is HighWatermark less Committed, at least 0; -1 when one of them is not known.
	Records int64
	// Age is that of the oldest record not yet committed past, by its timestamp as the index of batches has it; 0 when caught
	// up, -1 when not known.
	Age time.Duration
	// Member is the member id of the owner, or empty.
	Member string
	// Position is the highest offset that the group fetched from this broker, or did not want; -1 when this broker does not know: nobody
	// of the group fetches here.
	Position int64
}

// unknownLag tells nothing.
var unknownLag = Lag{Committed: -1, HighWatermark: -1, Records: -1, Age: -1, Position: -1}

// PartitionLag is a Lag and what it is of.
type PartitionLag struct {
	Topic     string
	Partition int32
	Lag
}

// GroupLag is the lag of a group.
type GroupLag struct {
	Group      string
	Kind       catalog.GroupKind
	State      string // Kafka's name
	Members    int
	Partitions []PartitionLag // by topic, partition
}

// Lag tells the lag of one group in one partition. It is known of partitions that the group has committed an offset of, and of those
// there are that a member is assigned; of others Committed is -1. ErrNoGroup; the catalog's errors when the group's coordinator is another
// broker. Safe for concurrent use.
func (b *Broker) Lag(ctx context.Context, groupID, topic string, partition int32) (Lag, error) {
	g, err := b.GroupLag(ctx, groupID, func(t string, p int32) bool { return t == topic && p == partition })
	switch {
	case err != nil:
		return Lag{}, err
	case len(g.Partitions) == 0:
		return unknownLag, nil
	}
	return g.Partitions[0].Lag, nil
}

// GroupLag tells the lag of a group in the partitions that keep chooses; nil chooses all. A group that this broker coordinates
// is asked as it is now, any other is read from the catalog, where committed offsets are exact and members as of their
// last change. Errors as of Lag.
func (b *Broker) GroupLag(ctx context.Context, groupID string, keep func(topic string, partition int32) bool) (GroupLag, error) {
	var out GroupLag
	found := false
	im := b.topics.load()
	err := b.withGroup(ctx, groupID, func(g *group.Group) {
		if _, ok := g.List(); ok || hasOffsets(g) {
			out, found = positions(g, keep, im), true
		}
	})
	if err == nil && !found {
		err = ErrNoGroup
	}
	if err != nil {
		return GroupLag{}, fmt.Errorf("lag of group %q: %w", groupID, err)
	}
	_ = b.addBacklogs(ctx, []GroupLag{out}) // it is logged, and shown as not known
	for i := range out.Partitions {
		p := &out.Partitions[i]
		p.Position = b.position(groupID, p.Topic, p.Partition)
	}
	return out, nil
}

func hasOffsets(g *group.Group) bool {
	for range g.Offsets() {
		return true
	}
	return false
}

// CoordinatedLags tells the lag of all groups that this broker coordinates, in no order, in the partitions that they committed offsets
// of. It does not tell who owns these: leaders assign what they like, also what there is not, and a scrape would go over all of it. With
// an error it tells what it can: the groups of a shard that is being loaded are left out, and what could not be found out of a partition
// is -1.
func (b *Broker) CoordinatedLags(ctx context.Context) ([]GroupLag, error) {
	if b.groups == nil {
		return nil, nil
	}
	var all []GroupLag
	err := b.groups.Each(ctx, func(g *group.Group) { all = append(all, committed(g)) })
	if ctx.Err() != nil {
		return nil, fmt.Errorf("look at the groups: %w", err) // a shard may be at it yet
	}
	if err != nil {
		err = fmt.Errorf("look at the groups: %w", err)
	}
	return all, errors.Join(err, b.addBacklogs(ctx, all))
}

// GroupCount counts groups of one kind and state.
type GroupCount struct {
	Kind    catalog.GroupKind
	State   string
	Groups  int
	Members int
}

// CountGroups counts the groups that this broker coordinates, but for those of shards that are being loaded.
func (b *Broker) CountGroups(ctx context.Context) []GroupCount {
	if b.groups == nil {
		return nil
	}
	type key struct {
		kind  catalog.GroupKind
		state string
	}
	counts := make(map[key]*GroupCount)
	_ = b.groups.Each(ctx, func(g *group.Group) {
		if _, ok := g.List(); !ok {
			return
		}
		k := key{g.Kind(), g.Phase()}
		if counts[k] == nil {
			counts[k] = &GroupCount{Kind: k.kind, State: k.state}
		}
		counts[k].Groups++
		counts[k].Members += g.MemberCount()
	})
	if ctx.Err() != nil {
		return nil // a shard may be at it yet
	}
	var out []GroupCount
	for _, c := range counts {
		out = append(out, *c)
	}
	return out
}

// groupsAtOnce is how many groups are read from the catalog at a time: what it has of one may be megabytes.
const groupsAtOnce = 100

// Groups lists groups of the whole cluster with id > after, by id, at most limit, without their partitions, and the node id
// of the coordinator of each, -1 for none.
func (b *Broker) Groups(ctx context.Context, after string, limit int) ([]GroupLag, []int32, error) {
	var out []GroupLag
	var nodes []int32
	fleet := b.fleet()
	for len(out) < limit {
		n := min(limit-len(out), groupsAtOnce)
		recs, err := b.cfg.Catalog.ReadGroups(ctx, -1, after, n)
		if err != nil {
			return nil, nil, fmt.Errorf("list groups: %w", err)
		}
		for i := range recs {
			g, node := b.summary(ctx, fleet, &recs[i])
			out, nodes, after = append(out, g), append(nodes, node), g.Group
		}
		if len(recs) < n {
			break
		}
	}
	return out, nodes, nil
}

// summary is what is told of a group in a list, and the node id of its coordinator.
func (b *Broker) summary(ctx context.Context, fleet *fleet, rec *catalog.GroupRecord) (g GroupLag, node int32) {
	g = GroupLag{Group: rec.ID, Kind: rec.Kind, State: rec.Phase, Members: len(rec.Members)}
	if b.groups != nil { // as it is now, if this broker knows
		now := g // not g itself: the shard may be at it yet when ctx ends
		err := b.groups.Read(ctx, g.Group, func(m *group.Group) {
			if _, ok := m.List(); ok {
				now.Kind, now.State, now.Members = m.Kind(), m.Phase(), m.MemberCount()
			}
		})
		if err == nil {
			g = now
		}
	}
	shard := catalog.TopicPartition{Topic: lease.GroupsID, Partition: coordinator.ShardOf(g.Group, lease.GroupsPartitions)}
	node, _ = b.leaderOf(fleet, shard)
	return g, node
}

// withGroup shows a group: its machine where this broker coordinates it, otherwise what the catalog has of it.
func (b *Broker) withGroup(ctx context.Context, id string, f func(*group.Group)) error {
	if b.groups != nil {
		err := b.groups.Read(ctx, id, f)
		if err == nil || !errors.Is(err, coordinator.ErrNotCoordinator) && !errors.Is(err, coordinator.ErrLoading) {
			return err
		}
	}
	rec, err := b.cfg.Catalog.ReadGroup(ctx, id)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return ErrNoGroup
	case err != nil:
		return err
	}
	g, err := group.Load(rec, group.DefaultConfig(), b.groupTopics(b.topics.load()), time.Now())
	if err != nil {
		return err
	}
	f(g)
	return nil
}

// committed are the partitions of a group with committed offsets, in no order; high watermarks are filled in by addBacklogs.
func committed(g *group.Group) GroupLag {
	out := GroupLag{Group: g.ID(), Kind: g.Kind(), State: g.Phase(), Members: g.MemberCount()}
	for o := range g.Offsets() {
		p := PartitionLag{Topic: o.Topic, Partition: o.Partition, Lag: unknownLag}
		p.Committed = o.Offset
		out.Partitions = append(out.Partitions, p)
	}
	return out
}

// positions are the partitions of a group with committed offsets, or with owners if there are such partitions: a leader may assign
// any number of others. High watermarks are filled in by addBacklogs.
func positions(g *group.Group, keep func(string, int32) bool, im *image) GroupLag {
	out := GroupLag{Group: g.ID(), Kind: g.Kind(), State: g.Phase()}
	at := make(map[catalog.GroupPartition]int)
	entry := func(p catalog.GroupPartition) *PartitionLag {
		if keep != nil && !keep(p.Topic, p.Partition) {
			return nil
		}
		i, ok := at[p]
		if !ok {
			i = len(out.Partitions)
			at[p] = i
			out.Partitions = append(out.Partitions, PartitionLag{
				Topic: p.Topic, Partition: p.Partition, Lag: unknownLag,
			})
		}
		return &out.Partitions[i]
	}
	for o := range g.Offsets() {
		if e := entry(catalog.GroupPartition{Topic: o.Topic, Partition: o.Partition}); e != nil {
			e.Committed = o.Offset
		}
	}
	members := g.Members()
	out.Members = len(members)
	for i := range members {
		for _, p := range members[i].Partitions {
			if _, told := at[p]; !told {
				if t := im.byName[p.Topic]; t == nil || !t.has(p.Partition) {
					continue
				}
			}
			if e := entry(p); e != nil {
				e.Member = members[i].ID
			}
		}
	}
	slices.SortFunc(out.Partitions, func(a, b PartitionLag) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// backlogAtOnce is how many partitions are looked at at the same time where the store has to be asked.
const backlogAtOnce = 16

// addBacklogs fills in high watermarks, records and ages. What cannot be told stays -1; that is an error, unless it is just that this
// broker does not follow the partition at the moment.
func (b *Broker) addBacklogs(ctx context.Context, groups []GroupLag) error {
	log, ok := b.cfg.Log.(Backlogs)
	if !ok {
		return nil
	}
	im := b.topics.load()
	type ask struct {
		tp catalog.TopicPartition
		to *Lag
	}
	var asks []ask
	var tps []catalog.TopicPartition
	for i := range groups {
		parts := groups[i].Partitions
		for j := range parts {
			p := &parts[j]
			if t := im.byName[p.Topic]; t != nil && t.has(p.Partition) {
				asks = append(asks, ask{t.partition(p.Partition), &p.Lag})
				tps = append(tps, t.partition(p.Partition))
			}
		}
	}
	if err := log.Know(ctx, tps); err != nil {
		b.limited.warn("cannot tell the lag of groups", "error", err)
		return fmt.Errorf("find partitions: %w", err)
	}
	now := time.Now()
	var failed atomic.Pointer[error]
	one := func(a ask) {
		found, err := log.Backlog(ctx, a.tp, max(a.to.Committed, 0))
		if err != nil {
			if !errors.Is(err, storage.ErrNotLeader) {
				err = fmt.Errorf("partition %s: %w", a.tp, err)
				failed.Store(&err)
				b.limited.warn("cannot tell the lag of groups", "error", err)
			}
		}
		if found.HighWatermark < 0 {
			return
		}
		a.to.HighWatermark = found.HighWatermark
		if a.to.Committed < 0 {
			return
		}
		a.to.Records = max(found.HighWatermark-a.to.Committed, 0)
		if err != nil { // how many there are is known, how old they are is not
			return
		}
		a.to.Age = 0
		if found.Oldest >= 0 && a.to.Records > 0 {
			a.to.Age = max(now.Sub(time.UnixMilli(found.Oldest)), 0)
		}
	}
	var wg sync.WaitGroup
	next := make(chan ask)
	for range min(backlogAtOnce, len(asks)) {
		wg.Go(func() {
			for a := range next {
				one(a)
			}
		})
	}
	for _, a := range asks {
		next <- a
	}
	close(next)
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
