package broker

import (
	"encoding/binary"

	"github.com/streamhouse/streamhouse/catalog"
)

// placer finds the replicas that partitions are shown with. It belongs to one goroutine.
//
// Nobody keeps replicas: every broker serves every partition's committed records, and the object store keeps the
// copies. But clients mean something by a replica: rack-aware consumers go to one near them only if Metadata has it
// (KIP-392), assignors place by the racks of replicas (KIP-881), tools compare their number with what was asked for.
// So a partition is shown with as many brokers as its replication factor asks for and there are: its leader first,
// then others by rendezvous hashing, of racks that are not there yet before others, all of them in sync. The set
// changes only when a leader or the brokers do, and every broker computes the same.
type placer struct {
	f       *fleet
	weights []uint64
	used    []bool // racks
	scratch []int32
}

func (f *fleet) placer() *placer {
	return &placer{f: f, weights: make([]uint64, len(f.nodes)), used: make([]bool, len(f.rackNames))}
}

// most is how many replicas a partition of the topic has at most.
func (f *fleet) most(t *topic) int { return min(max(int(t.ReplicationFactor), 1), len(f.nodes)) }

// replicas appends the replicas of a partition to dst. leader -1: it has none now.
func (p *placer) replicas(dst []int32, t *topic, partition, leader int32) []int32 {
	f, want := p.f, p.f.most(t)
	clear(p.used)
	if leader >= 0 {
		dst = append(dst, leader)
		if want--; want == 0 {
			return dst
		}
	}
	seed := t.hash + uint64(uint32(partition))*0x9e3779b97f4a7c15
	for i := range f.nodes {
		switch {
		case f.nodes[i].ID == leader:
			p.weights[i] = 0
			if r := f.racks[i]; r >= 0 {
				p.used[r] = true
			}
		case f.nodes[i].Draining: // readers should leave it, too
			p.weights[i] = 0
		default:
			p.weights[i] = mix(seed^f.hashes[i]) | 1
		}
	}
	for ; want > 0; want-- {
		best, fresh := -1, false // fresh: in a rack that has none yet
		for i, w := range p.weights {
			if w == 0 {
				continue
			}
			isFresh := f.racks[i] < 0 || !p.used[f.racks[i]]
			if best < 0 || isFresh && !fresh || isFresh == fresh && w > p.weights[best] {
				best, fresh = i, isFresh
			}
		}
		if best < 0 {
			break
		}
		p.weights[best] = 0
		if r := f.racks[best]; r >= 0 {
			p.used[r] = true
		}
		dst = append(dst, f.nodes[best].ID)
	}
	if len(dst) == 0 { // no leader, and all of them drain
		dst = append(dst, f.self)
	}
	return dst
}

// inRack finds the replica in a rack that clients there should read from; -1 when there is none but the leader.
func (p *placer) inRack(t *topic, partition, leader int32, rack string) int32 {
	p.scratch = p.replicas(p.scratch[:0], t, partition, leader)
	for _, id := range p.scratch[1:] {
		if n := p.f.node(id); n != nil && n.Rack == rack {
			return id
		}
	}
	return -1
}

// mix spreads the bits of x (the finaliser of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func topicHash(id catalog.TopicID) uint64 {
	return mix(binary.LittleEndian.Uint64(id[:8])) ^ mix(binary.LittleEndian.Uint64(id[8:])+1)
}
