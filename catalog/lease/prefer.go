package lease

import (
	"encoding/binary"

	"github.com/streamhouse/streamhouse/catalog"
)

// seat is a broker that leases may go to. Its place in the order of preference of a lease depends on its id alone, so
// that a broker that comes back prefers what it preferred before.
type seat struct {
	epoch catalog.BrokerEpoch
	hash  uint64
}

func seatOf(b *catalog.Broker) seat {
	return seat{b.Epoch, mix(uint64(uint32(b.ID)) + 0x9e3779b97f4a7c15)}
}

// mix spreads the bits of x (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func hashOf(tp catalog.TopicPartition) uint64 {
	h := mix(binary.BigEndian.Uint64(tp.Topic[:8]))
	h = mix(h ^ binary.BigEndian.Uint64(tp.Topic[8:]))
	return mix(h ^ uint64(uint32(tp.Partition)))
}

// first returns the seat that comes first for a lease: highest random weight. When one broker goes, only its leases get
// another first; when one comes, it is first for its share, and nothing else changes. All brokers compute the same.
// 0 when there are no seats.
func first(tp catalog.TopicPartition, seats []seat) catalog.BrokerEpoch {
	var best seat
	var weight uint64
	key := hashOf(tp)
	for i, s := range seats {
		if w := mix(key ^ s.hash); i == 0 || w > weight || w == weight && s.epoch > best.epoch {
			best, weight = s, w
		}
	}
	return best.epoch
}

// seats are the brokers that leases should go to: the latest epoch of each id, unless it drains or leaves. When all
// drain, leases still have to be somewhere: then those that do not leave, and then all.
func seats(v *View, leaving map[catalog.BrokerEpoch]bool) []seat {
	choose := func(ok func(b *catalog.Broker) bool) (out []seat) {
		for i := range v.brokers {
			b := &v.brokers[i]
			if int(v.byID[b.ID]) == i && ok(b) {
				out = append(out, seatOf(b))
			}
		}
		return out
	}
	if out := choose(func(b *catalog.Broker) bool { return !b.Draining && !leaving[b.Epoch] }); len(out) > 0 {
		return out
	}
	if out := choose(func(b *catalog.Broker) bool { return !leaving[b.Epoch] }); len(out) > 0 {
		return out
	}
	return choose(func(*catalog.Broker) bool { return true })
}
