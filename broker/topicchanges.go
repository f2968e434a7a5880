package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// leaderWait is how long the answer to a request that made partitions waits until somebody leads them.
const leaderWait = time.Second

// made are partitions of a topic, from one on, that were just made.
type made struct {
	t    *topic
	from int32
}

// awaitLeaders waits until partitions just made have leaders, so that the client's next Metadata shows them: at most
// leaderWait, and as long as ctx allows. Whether they have is not told: clients ask again when they have not.
func (b *Broker) awaitLeaders(ctx context.Context, fresh []made) {
	if !b.shares || len(fresh) == 0 {
		return // alone, Acquire has taken them already
	}
	timer := time.NewTimer(leaderWait)
	defer timer.Stop()
	for {
		changed := b.cfg.Cluster.Changed()
		f := b.fleet()
		for len(fresh) > 0 {
			m := &fresh[0]
			for m.from < m.t.Partitions {
				if node, _ := b.leaderOf(f, m.t.partition(m.from)); node < 0 {
					break
				}
				m.from++
			}
			if m.from < m.t.Partitions {
				break
			}
			fresh = fresh[1:]
		}
		if len(fresh) == 0 {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-b.draining:
			return
		}
	}
}

// neverLed tells topics that were made a moment ago, by another broker perhaps.
func (b *Broker) neverLed(f *fleet, t *topic) bool {
	for p := range t.Partitions {
		if node, epoch := b.leaderOf(f, t.partition(p)); node < 0 && epoch < 0 {
			return true
		}
	}
	return false
}

// lookAgain is for topics that are not known here: another broker may have made them a moment ago. It refreshes the
// topics unless that was done within lookInterval, so that a client cannot make the catalog work.
func (b *Broker) lookAgain(ctx context.Context) {
	const (
		lookInterval = 50 * time.Millisecond
		lookTimeout  = 250 * time.Millisecond
	)
	now := time.Now().UnixNano()
	last := b.looked.Load()
	if !b.shares || now-last < int64(lookInterval) || !b.looked.CompareAndSwap(last, now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if err := b.RefreshTopics(ctx); err != nil {
		b.limited.warn("topics could not be refreshed", "error", err)
	}
}

// tellingCatalog has the cluster told of changes of topics, and refuses those of internal topics.
type tellingCatalog struct {
	catalog.Catalog
	cluster Cluster
	topics  *atomic.Pointer[image]
}

// tell is called also after errors: the change may have been made all the same.
func (c *tellingCatalog) tell() { c.cluster.TopicsChanged() }

func (c *tellingCatalog) internal(id catalog.TopicID) bool {
	t := c.topics.Load().byID[id]
	return t != nil && t.internal
}

func (c *tellingCatalog) CreateTopic(ctx context.Context, spec catalog.TopicSpec) (catalog.Topic, error) {
	defer c.tell()
	return c.Catalog.CreateTopic(ctx, spec)
}

func (c *tellingCatalog) DeleteTopic(ctx context.Context, id catalog.TopicID) error {
	if c.internal(id) {
		return errInternalTopic
	}
	defer c.tell()
	return c.Catalog.DeleteTopic(ctx, id)
}

func (c *tellingCatalog) AddPartitions(ctx context.Context, id catalog.TopicID, total int32) (catalog.Topic, error) {
	if c.internal(id) {
		return catalog.Topic{}, errInternalTopic
	}
	defer c.tell()
	return c.Catalog.AddPartitions(ctx, id, total)
}

func (c *tellingCatalog) SetTopicConfigs(ctx context.Context, id catalog.TopicID, version int64, configs map[string]string) (catalog.Topic, error) {
	if c.internal(id) {
		return catalog.Topic{}, errInternalTopic
	}
	defer c.tell()
	return c.Catalog.SetTopicConfigs(ctx, id, version, configs)
}

// setGroupConfigs sets the configs of groups, which are kept with their internal topic.
func (c *tellingCatalog) setGroupConfigs(ctx context.Context, t *topic, configs map[string]string) (catalog.Topic, error) {
	defer c.tell()
	return c.Catalog.SetTopicConfigs(ctx, t.ID, t.Version, configs)
}
