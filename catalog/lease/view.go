package lease

import (
	"bytes"
	"cmp"
	"iter"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

// View is an immutable snapshot of brokers and leases. Safe for concurrent use. What it returns is shared: not to be
// changed. The zero View knows nothing.
type View struct {
	version int64
	brokers []catalog.Broker           // unfenced, by epoch
	byID    map[catalog.BrokerID]int32 // index of the latest epoch
	epochs  []catalog.BrokerEpoch      // that leases name, unfenced or not; slot.holder and .wanted index it
	known   []int32                    // by the same index: index in brokers, -1 if fenced
	topics  map[catalog.TopicID][]slot // by partition
	ids     []catalog.TopicID          // of topics, in order
	leases  int
	free    int
}

// slot is one lease: 12 bytes, so that views of a million partitions are cheap to hold.
type slot struct {
	epoch          catalog.LeaseEpoch
	holder, wanted int32 // index in View.epochs; -1 none
}

// absent marks a partition that no lease came for.
const absent = catalog.LeaseEpoch(-1 << 31)

// maxPartition bounds what a lease may name, so that nonsense in the catalog is not turned into an allocation.
const maxPartition = 1 << 24

// NewView makes a view of what the catalog returned: leases read first, brokers after, so that each holder is either
// listed or fenced.
func NewView(leases catalog.LeaseSet, brokers []catalog.Broker) *View {
	v := &View{version: leases.Version, byID: make(map[catalog.BrokerID]int32), topics: make(map[catalog.TopicID][]slot)}
	for i := range brokers {
		if !brokers[i].Fenced {
			v.brokers = append(v.brokers, brokers[i])
		}
	}
	slices.SortFunc(v.brokers, func(a, b catalog.Broker) int { return cmp.Compare(a.Epoch, b.Epoch) })
	unfenced := make(map[catalog.BrokerEpoch]int32, len(v.brokers))
	for i := range v.brokers {
		v.byID[v.brokers[i].ID] = int32(i)
		unfenced[v.brokers[i].Epoch] = int32(i)
	}
	index := make(map[catalog.BrokerEpoch]int32)
	intern := func(e catalog.BrokerEpoch) int32 {
		if e == 0 {
			return -1
		}
		i, ok := index[e]
		if !ok {
			i = int32(len(v.epochs))
			index[e] = i
			v.epochs = append(v.epochs, e)
			at, ok := unfenced[e]
			if !ok {
				at = -1
			}
			v.known = append(v.known, at)
		}
		return i
	}
	sizes := make(map[catalog.TopicID]int32)
	for i := range leases.Leases {
		if l := &leases.Leases[i]; l.Partition >= 0 && l.Partition < maxPartition {
			sizes[l.Topic] = max(sizes[l.Topic], l.Partition+1)
		}
	}
	for id, n := range sizes {
		slots := make([]slot, n)
		for i := range slots {
			slots[i] = slot{absent, -1, -1}
		}
		v.topics[id] = slots
		v.ids = append(v.ids, id)
	}
	slices.SortFunc(v.ids, func(a, b catalog.TopicID) int { return bytes.Compare(a[:], b[:]) })
	for i := range leases.Leases {
		l := &leases.Leases[i]
		if l.Partition < 0 || l.Partition >= maxPartition {
			continue
		}
		v.topics[l.Topic][l.Partition] = slot{l.Epoch, intern(l.Holder), intern(l.Wanted)}
		v.leases++
		if l.Holder == 0 {
			v.free++
		}
	}
	return v
}

// Version is that of the lease set.
func (v *View) Version() int64 { return v.version }

// Brokers are all unfenced broker epochs, by epoch. One id may have several for a short time.
func (v *View) Brokers() []catalog.Broker { return v.brokers }

// Broker returns an unfenced broker epoch.
func (v *View) Broker(epoch catalog.BrokerEpoch) (catalog.Broker, bool) {
	at, ok := slices.BinarySearchFunc(v.brokers, epoch, func(b catalog.Broker, e catalog.BrokerEpoch) int { return cmp.Compare(b.Epoch, e) })
	if !ok {
		return catalog.Broker{}, false
	}
	return v.brokers[at], true
}

// BrokerByID returns the latest unfenced epoch of a broker id.
func (v *View) BrokerByID(id catalog.BrokerID) (catalog.Broker, bool) {
	at, ok := v.byID[id]
	if !ok {
		return catalog.Broker{}, false
	}
	return v.brokers[at], true
}

// LeaderOf returns who leads a partition, under which lease epoch. Not ok when the partition is unknown or its lease is
// free or held by a fenced broker; the lease epoch, -1 for a partition never held, comes all the same.
func (v *View) LeaderOf(tp catalog.TopicPartition) (catalog.Broker, catalog.LeaseEpoch, bool) {
	s, ok := v.slot(tp)
	if !ok {
		return catalog.Broker{}, -1, false
	}
	if s.holder < 0 || v.known[s.holder] < 0 {
		return catalog.Broker{}, s.epoch, false
	}
	return v.brokers[v.known[s.holder]], s.epoch, true
}

// Lease returns the lease of a partition; not ok when there is none.
func (v *View) Lease(tp catalog.TopicPartition) (catalog.Lease, bool) {
	s, ok := v.slot(tp)
	if !ok {
		return catalog.Lease{}, false
	}
	return v.lease(tp, s), true
}

// Controller returns the holder of [ControllerLease].
func (v *View) Controller() (catalog.Broker, bool) {
	b, _, ok := v.LeaderOf(ControllerLease())
	return b, ok
}

// Len is how many leases there are, Free how many of them nobody holds.
func (v *View) Len() int { return v.leases }

// Free is how many leases nobody holds.
func (v *View) Free() int { return v.free }

// All are all leases, in the order of [catalog.TopicPartition.Compare].
func (v *View) All() iter.Seq[catalog.Lease] {
	return func(yield func(catalog.Lease) bool) {
		for _, id := range v.ids {
			for p, s := range v.topics[id] {
				if s.epoch != absent && !yield(v.lease(catalog.TopicPartition{Topic: id, Partition: int32(p)}, s)) {
					return
				}
			}
		}
	}
}

func (v *View) slot(tp catalog.TopicPartition) (slot, bool) {
	slots := v.topics[tp.Topic]
	if tp.Partition < 0 || int(tp.Partition) >= len(slots) || slots[tp.Partition].epoch == absent {
		return slot{}, false
	}
	return slots[tp.Partition], true
}

func (v *View) lease(tp catalog.TopicPartition, s slot) catalog.Lease {
	l := catalog.Lease{TopicPartition: tp, Epoch: s.epoch}
	if s.holder >= 0 {
		l.Holder = v.epochs[s.holder]
	}
	if s.wanted >= 0 {
		l.Wanted = v.epochs[s.wanted]
	}
	return l
}
