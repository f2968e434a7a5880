package node

import (
	"context"
	"sync"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
)

// clusterView is the lease manager's view in the broker's words. Immutable.
type clusterView struct {
	*lease.View

	number int64 // of this snapshot: versions of the catalog's lease set go back when it is restored
	nodes  []broker.Node
}

func newClusterView(v *lease.View, number int64) *clusterView {
	c := &clusterView{View: v, number: number}
	for _, b := range v.Brokers() {
		if latest, ok := v.BrokerByID(b.ID); ok && latest.Epoch == b.Epoch {
			c.nodes = append(c.nodes, broker.Node{ID: int32(b.ID), Rack: b.Rack, Draining: b.Draining, Listeners: b.Listeners})
		}
	}
	return c
}

// Version implements [broker.ClusterView].
func (c *clusterView) Version() int64 { return c.number }

// Nodes implements [broker.ClusterView].
func (c *clusterView) Nodes() []broker.Node { return c.nodes }

// Controller implements [broker.ClusterView].
func (c *clusterView) Controller() int32 {
	b, ok := c.View.Controller()
	if !ok {
		return -1
	}
	return int32(b.ID)
}

// LeaderOf implements [broker.ClusterView].
func (c *clusterView) LeaderOf(tp catalog.TopicPartition) (node, epoch int32) {
	b, e, ok := c.View.LeaderOf(tp)
	if !ok {
		return -1, int32(e)
	}
	return int32(b.ID), int32(e)
}

// cluster is the fleet as the broker sees it. Safe for concurrent use.
type cluster struct {
	fleet *fleet

	mu struct {
		sync.Mutex
		view    *clusterView
		changed chan struct{} // closed with the next view
	}
}

func newCluster(f *fleet) *cluster {
	c := &cluster{fleet: f}
	c.mu.view = newClusterView(lease.NewView(catalog.LeaseSet{}, nil), 0)
	c.mu.changed = make(chan struct{})
	return c
}

// viewed puts a new view in force.
func (c *cluster) viewed(v *lease.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.view = newClusterView(v, c.mu.view.number+1)
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
}

func (c *cluster) latest() *clusterView {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.view
}

// View implements [broker.Cluster].
func (c *cluster) View() broker.ClusterView { return c.latest() }

// Changed implements [broker.Cluster].
func (c *cluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.changed
}

// Acquire implements [broker.Cluster]: all managers look at the leases again, and each takes what it comes first for.
func (c *cluster) Acquire(context.Context, []catalog.TopicPartition) error {
	c.TopicsChanged() //nolint:contextcheck // the wake-up of others is sent in the background
	return nil
}

// TopicsChanged implements [broker.Cluster]. A change of topics mostly changes leases.
func (c *cluster) TopicsChanged() {
	c.fleet.manager.Wake()
	c.fleet.announce(catalog.Announcement{Leases: true, Topics: true})
}
