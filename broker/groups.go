package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
)

// groups is what the broker has to do with groups: the coordinator of those in the shards it leads, and the way to those of
// others.
type groups struct {
	*coordinator.Coordinator
	told atomic.Int64 // version of the topics that it was told of last
}

// newGroups makes the coordinator; nil without leases to coordinate under.
func newGroups(b *Broker) (*groups, error) {
	if b.cfg.Leases == nil {
		return nil, nil //nolint:nilnil // a broker without groups
	}
	hooks := b.cfg.Observer.Groups
	if b.obs.Fetched != nil {
		b.reads = newReads(b, &hooks)
	}
	c, err := coordinator.New(coordinator.Config{
		Groups: b.cfg.Catalog, Leases: b.cfg.Leases, Topic: lease.GroupsID, Shards: lease.GroupsPartitions,
		Logger: b.cfg.Logger, CommitTimeout: b.cfg.OffsetCommitTimeout, MaxGroups: b.cfg.Limits.Groups, Hooks: hooks,
	}, b.groupTopics(b.topics.load()), b.groupConfigs(b.topics.load()))
	if err != nil {
		return nil, err
	}
	g := &groups{Coordinator: c}
	g.told.Store(-1)
	return g, nil
}

// Coordinate runs the group coordinator until ctx ends or Shutdown is called; requests about groups are refused before and
// after. It returns at once if the broker has no groups.
func (b *Broker) Coordinate(ctx context.Context) {
	if b.groups == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-b.draining:
			cancel()
		case <-stop:
		}
	}()
	var reads sync.WaitGroup
	defer reads.Wait()
	if b.reads != nil {
		reads.Go(func() { b.reads.Run(ctx) })
	}
	b.groups.Run(ctx)
}

// tellGroups has the coordinator know the topics as they are now, and the configs of groups, which are kept with them.
func (b *Broker) tellGroups() {
	if b.groups == nil {
		return
	}
	im := b.topics.load()
	for {
		told := b.groups.told.Load()
		if told >= im.version {
			return
		}
		if b.groups.told.CompareAndSwap(told, im.version) {
			break
		}
	}
	b.groups.SetTopics(b.groupTopics(im))
	b.groups.SetConfigs(b.groupConfigs(im))
}

// askGroup has a group's coordinator answer a request. Whoever sent it has been told if err is not nil: code is Kafka's.
func (b *Broker) askGroup(ctx context.Context, r *request, id string, body kmsg.Request) (resp kmsg.Response, code int16, err error) {
	if code := b.checkGroup(id); code != codeNone {
		return nil, code, nil
	}
	resp, err = b.groups.Do(ctx, id, body, group.Client{ID: r.clientID, Host: r.conn.host()})
	if err != nil && ctx.Err() != nil {
		return nil, codeNone, err // nobody is there any more
	}
	return resp, codeOf(err), nil
}

// readGroup shows a group that this broker coordinates; otherwise it tells Kafka's code.
func (b *Broker) readGroup(ctx context.Context, id string, f func(g *group.Group)) (code int16, err error) {
	if code := b.checkGroup(id); code != codeNone {
		return code, nil
	}
	err = b.groups.Read(ctx, id, f)
	if err != nil && ctx.Err() != nil {
		return codeNone, err
	}
	return codeOf(err), nil
}

// checkGroup refuses ids that no group can have, and all if there is no coordinator.
func (b *Broker) checkGroup(id string) int16 {
	switch {
	case catalog.CheckGroupID(id) != nil:
		return codeInvalidGroupID
	case b.groups == nil:
		return codeCoordinatorNotAvailable
	}
	return codeNone
}

// knowTopics looks for topics again that are not known here, since another broker may have made them a moment ago.
func knowTopics[T any](ctx context.Context, b *Broker, topics []T, known func(im *image, t *T) bool) {
	im := b.topics.load()
	for i := range topics {
		if !known(im, &topics[i]) {
			b.lookAgain(ctx)
			return
		}
	}
}

// groupTopics are the topics as groups see them. Immutable.
type groupTopics struct {
	im    *image
	fleet *fleet // as it was: that a leader moves is no reason to assign anew
	names []string
}

func (b *Broker) groupTopics(im *image) *groupTopics {
	t := &groupTopics{im: im, fleet: b.fleet(), names: make([]string, len(im.sorted))}
	for i := range im.sorted {
		t.names[i] = im.sorted[i].Name
	}
	return t
}

// Version implements [group.Topics].
func (g *groupTopics) Version() int64 { return g.im.version }

// Names implements [group.Topics].
func (g *groupTopics) Names() []string { return g.names }

// ByName implements [group.Topics].
func (g *groupTopics) ByName(name string) (group.Topic, bool) {
	t := g.im.byName[name]
	if t == nil {
		return group.Topic{}, false
	}
	return g.topic(t), true
}

// ByID implements [group.Topics].
func (g *groupTopics) ByID(id catalog.TopicID) (group.Topic, bool) {
	t := g.im.byID[id]
	if t == nil {
		return group.Topic{}, false
	}
	return g.topic(t), true
}

func (g *groupTopics) topic(t *topic) group.Topic {
	out := group.Topic{ID: t.ID, Name: t.Name, Partitions: t.Partitions, Internal: t.internal}
	if len(g.fleet.rackNames) > 0 {
		out.Racks = func(partition int32) []string { return g.fleet.racksOf(t, partition) }
	}
	return out
}

// racksOf are the racks of a partition's replicas, as Metadata tells them.
func (f *fleet) racksOf(t *topic, partition int32) (racks []string) {
	leader, _ := f.LeaderOf(t.partition(partition))
	if f.node(leader) == nil {
		leader = -1
	}
	for _, id := range f.placer().replicas(nil, t, partition, leader) {
		if n := f.node(id); n != nil && n.Rack != "" && !slices.Contains(racks, n.Rack) {
			racks = append(racks, n.Rack)
		}
	}
	return racks
}

// errNoGroups: this broker was made without groups.
var errNoGroups = errors.New("this broker has no groups")
