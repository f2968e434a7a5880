package broker

import (
	"cmp"
	"context"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

// Cluster is who shares the partitions, as this broker knows it. All methods are safe for concurrent use. Without one
// (Config.Cluster nil) the broker is alone: it lists itself, and leads what its Log leads.
type Cluster interface {
	// View is the newest snapshot. It does not block, and is cheap: it is looked at several times a request.
	View() ClusterView
	// Changed returns a channel that is closed when View gives another version than at the time of the call, or Settling
	// may answer otherwise. Nil means never.
	Changed() <-chan struct{}
	// Settling tells of a partition that this broker's Log does not lead whether that may change in a moment, or who does:
	// its lease is on its way to this broker, or away from it. False also when that takes too long. It does not block.
	Settling(tp catalog.TopicPartition) bool
	// Acquire is called for partitions that this broker has just made, whose leases are free. It has the cluster's
	// brokers take their shares, and may return before they did.
	Acquire(ctx context.Context, tps []catalog.TopicPartition) error
	// TopicsChanged is called when this broker has changed topics in the catalog, or may have. The other brokers should
	// be woken to refresh theirs. It must not block.
	TopicsChanged()
}

// ClusterView is one immutable snapshot. Slices are shared and never changed.
type ClusterView interface {
	// Version differs between snapshots that differ.
	Version() int64
	// Nodes are the living brokers, one entry per node id, in any order. The broker itself may be missing: it is shown
	// all the same.
	Nodes() []Node
	// Controller is the node id of the controller; -1 while there is none.
	Controller() int32
	// LeaderOf returns the node that holds the lease of a partition, -1 while it is free, and the lease's epoch, -1
	// when it was never held or is not known.
	LeaderOf(tp catalog.TopicPartition) (node, epoch int32)
}

// Node is one broker as clients are told of it.
type Node struct {
	ID       int32
	Rack     string // empty: none
	Draining bool   // is about to leave: it should not get more to do
	// Listeners are its advertised addresses, the first one for those who ask for a listener it does not have.
	Listeners []catalog.Listener
}

// endpoint is the address of a node on a listener, or else on its first.
func (n *Node) endpoint(listener string) Endpoint {
	for i := range n.Listeners {
		if l := &n.Listeners[i]; l.Name == listener {
			return Endpoint{Host: l.Host, Port: l.Port}
		}
	}
	if len(n.Listeners) == 0 {
		return Endpoint{}
	}
	return Endpoint{Host: n.Listeners[0].Host, Port: n.Listeners[0].Port}
}

// rack is Kafka's nullable rack.
func (n *Node) rack() *string {
	if n.Rack == "" {
		return nil
	}
	return &n.Rack
}

// alone is the cluster of a broker that shares with nobody, and the one view of it there is.
type alone struct {
	log   Log
	nodes []Node
}

func (a *alone) View() ClusterView      { return a }
func (*alone) Changed() <-chan struct{} { return nil }
func (*alone) TopicsChanged()           {}

func (*alone) Settling(catalog.TopicPartition) bool { return false }

func (*alone) Version() int64      { return 0 }
func (a *alone) Nodes() []Node     { return a.nodes }
func (a *alone) Controller() int32 { return a.nodes[0].ID }

func (a *alone) Acquire(ctx context.Context, tps []catalog.TopicPartition) error {
	return a.log.Acquire(ctx, tps)
}

func (a *alone) LeaderOf(tp catalog.TopicPartition) (node, epoch int32) {
	epoch, err := a.log.Leader(tp)
	if err != nil {
		return -1, -1
	}
	return a.nodes[0].ID, epoch
}

// fleet is a view and what follows from it. Immutable.
type fleet struct {
	ClusterView
	version    int64
	self       int32
	nodes      []Node // by id; this broker is among them
	controller int32
	hashes     []uint64 // of the node ids
	racks      []int    // index of each node's rack in rackNames; -1: none
	rackNames  []string
}

// fleet returns the newest view.
func (b *Broker) fleet() *fleet {
	v := b.cfg.Cluster.View()
	version := v.Version()
	f := b.view.Load()
	if f != nil && f.version == version {
		return f
	}
	f = b.newFleet(v, version)
	b.view.Store(f)
	return f
}

func (b *Broker) newFleet(v ClusterView, version int64) *fleet {
	f := &fleet{ClusterView: v, version: version, self: b.cfg.NodeID}
	f.nodes = slices.DeleteFunc(slices.Clone(v.Nodes()), func(n Node) bool {
		// A node without an address cannot be told to clients; this broker's own facts come from its config.
		return n.ID == f.self || len(n.Listeners) == 0
	})
	own := b.self
	for _, n := range v.Nodes() {
		own.Draining = own.Draining || n.ID == f.self && n.Draining
	}
	f.nodes = append(f.nodes, own)
	slices.SortFunc(f.nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	f.nodes = slices.CompactFunc(f.nodes, func(a, b Node) bool { return a.ID == b.ID })
	f.controller = v.Controller()
	if f.node(f.controller) == nil {
		f.controller = f.self // every broker takes every request, so the choice only has to be one that answers
	}
	for i := range f.nodes {
		f.hashes = append(f.hashes, mix(uint64(uint32(f.nodes[i].ID))))
		rack := -1
		if name := f.nodes[i].Rack; name != "" {
			if rack = slices.Index(f.rackNames, name); rack < 0 {
				rack = len(f.rackNames)
				f.rackNames = append(f.rackNames, name)
			}
		}
		f.racks = append(f.racks, rack)
	}
	return f
}

// node finds a node by id; nil when it is not known or not alive.
func (f *fleet) node(id int32) *Node {
	i, ok := slices.BinarySearchFunc(f.nodes, id, func(n Node, id int32) int { return cmp.Compare(n.ID, id) })
	if !ok {
		return nil
	}
	return &f.nodes[i]
}

// leaderOf tells who leads a partition: this broker if its log says so, otherwise who holds the lease, -1 for nobody.
// A broker that just got a lease and still loads the partition is told, too: it will answer in a moment.
func (b *Broker) leaderOf(f *fleet, tp catalog.TopicPartition) (node, epoch int32) {
	own, err := b.cfg.Log.Leader(tp)
	if err == nil && !b.shares {
		return f.self, own
	}
	node, epoch = f.LeaderOf(tp)
	switch {
	case err == nil && own >= epoch: // the view is not newer
		return f.self, own
	case node >= 0 && f.node(node) == nil: // clients fail on leaders they find no address for
		return -1, epoch
	}
	return node, epoch
}

// successor tells who leads a partition that this broker does not (KIP-951); -1, -1 when it knows nobody to go to.
func (b *Broker) successor(f *fleet, tp catalog.TopicPartition) (node, epoch int32) {
	node, epoch = b.leaderOf(f, tp)
	if node == f.self {
		if _, err := b.cfg.Log.Leader(tp); err != nil {
			node = -1
		}
	}
	if node < 0 {
		return -1, -1
	}
	return node, epoch
}

// checkLeaderEpoch compares a client's current leader epoch (-1: none) with the one in force, then requires that this
// broker leads the partition: in this order, as Kafka, so that followers and former leaders tell clients of an older
// epoch that it is over. current is -1 where the code is neither none nor NOT_LEADER_OR_FOLLOWER.
func (b *Broker) checkLeaderEpoch(tp catalog.TopicPartition, asked int32) (current int32, code int16) {
	current, err := b.cfg.Log.Leader(tp)
	if err != nil {
		code = codeOf(err)
		if code != codeNotLeaderOrFollower || !b.shares {
			return -1, code
		}
		_, current = b.fleet().LeaderOf(tp)
	}
	switch {
	case asked >= 0 && current >= 0 && asked < current:
		return current, codeFencedLeaderEpoch
	case asked >= 0 && current >= 0 && asked > current:
		return current, codeUnknownLeaderEpoch
	}
	return current, code
}
