package node

import (
	"context"
	"sync"
	"time"

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

// settleFor is how long after the last sign of a move leases may be on their way. What takes longer hangs: clients should
// not wait for it.
const settleFor = time.Second

// cluster is the fleet as the broker sees it. Safe for concurrent use.
type cluster struct {
	fleet *fleet

	mu struct {
		sync.Mutex
		view    *clusterView
		changed chan struct{} // closed with the next view, or when leases move
		moved   time.Time     // when that was last
		leaving map[catalog.BrokerEpoch]bool
	}
}

func newCluster(f *fleet) *cluster {
	c := &cluster{fleet: f}
	c.mu.view = newClusterView(lease.NewView(catalog.LeaseSet{}, nil), 0)
	c.mu.changed = make(chan struct{})
	c.mu.leaving = make(map[catalog.BrokerEpoch]bool)
	return c
}

// viewed puts a new view in force.
func (c *cluster) viewed(v *lease.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.view = newClusterView(v, c.mu.view.number+1)
	for epoch := range c.mu.leaving {
		if _, ok := v.Broker(epoch); !ok {
			delete(c.mu.leaving, epoch)
		}
	}
	c.movedLocked()
}

// moves notes that leases are about to move, or have.
func (c *cluster) moves() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.movedLocked()
}

// leaves notes that a broker hands all its leases over.
func (c *cluster) leaves(epoch catalog.BrokerEpoch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.leaving[epoch] = true
	c.movedLocked()
}

func (c *cluster) movedLocked() {
	c.mu.moved = time.Now()
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

// Settling implements [broker.Cluster]. A client may know of a move before this broker does: it was told by the holder, once
// that had moved the lease, while the announcement was on its way here. So a client may be right also where the lease is
// only about to be moved here, as far as is known: who leads it leaves, or is asked to hand it over.
func (c *cluster) Settling(tp catalog.TopicPartition) bool {
	c.mu.Lock()
	v, recent := c.mu.view, time.Since(c.mu.moved) < settleFor
	l, ok := v.Lease(tp)
	leaving := c.mu.leaving[l.Holder]
	c.mu.Unlock()
	own := c.fleet.engine.Epoch()
	switch {
	case !ok || !recent || own == 0:
		return false
	case l.Holder == own:
		return c.fleet.engine.Moving(tp)
	default:
		return leaving || l.Wanted == own
	}
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
