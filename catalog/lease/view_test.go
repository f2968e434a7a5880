package lease_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/catalog/memory"
)

func tp(topic byte, partition int32) catalog.TopicPartition {
	return catalog.TopicPartition{Topic: catalog.TopicID{topic}, Partition: partition}
}

func broker(epoch catalog.BrokerEpoch, id catalog.BrokerID) catalog.Broker {
	return catalog.Broker{Epoch: epoch, Registration: catalog.Registration{ID: id}}
}

func TestViewLookups(t *testing.T) {
	dead := broker(3, 3)
	dead.Fenced = true
	leases := []catalog.Lease{
		{TopicPartition: tp(2, 0), Holder: 5, Epoch: 7, Wanted: 2},
		{TopicPartition: tp(1, 4), Holder: 2, Epoch: 0},
		{TopicPartition: tp(1, 0), Epoch: -1},
		{TopicPartition: tp(1, 2), Holder: 3, Epoch: 9}, // fenced since
		{TopicPartition: tp(1, 3), Holder: 77, Epoch: 1},
		{TopicPartition: lease.ControllerLease(), Holder: 4, Epoch: 2},
		{TopicPartition: tp(9, -1), Holder: 2},
		{TopicPartition: tp(9, 1<<30), Holder: 2},
	}
	v := lease.NewView(catalog.LeaseSet{Version: 12, Leases: leases}, []catalog.Broker{broker(5, 1), dead, broker(2, 1), broker(4, 8)})
	require.EqualValues(t, 12, v.Version())
	require.Equal(t, []catalog.Broker{broker(2, 1), broker(4, 8), broker(5, 1)}, v.Brokers())
	require.Equal(t, 6, v.Len())
	require.Equal(t, 1, v.Free())

	b, epoch, ok := v.LeaderOf(tp(2, 0))
	require.True(t, ok)
	require.EqualValues(t, 5, b.Epoch)
	require.EqualValues(t, 7, epoch)
	for partition, want := range map[int32]catalog.LeaseEpoch{0: -1, 2: 9, 3: 1, 1: -1, 5: -1, -1: -1} {
		_, epoch, ok = v.LeaderOf(tp(1, partition))
		require.False(t, ok, partition)
		require.Equal(t, want, epoch, partition)
	}
	_, _, ok = v.LeaderOf(tp(200, 0))
	require.False(t, ok)
	l, ok := v.Lease(tp(2, 0))
	require.True(t, ok)
	require.Equal(t, leases[0], l)
	_, ok = v.Lease(tp(1, 1))
	require.False(t, ok, "a gap")
	c, ok := v.Controller()
	require.True(t, ok)
	require.EqualValues(t, 8, c.ID)

	b, ok = v.BrokerByID(1)
	require.True(t, ok)
	require.EqualValues(t, 5, b.Epoch, "the latest epoch")
	_, ok = v.BrokerByID(3)
	require.False(t, ok)
	_, ok = v.Broker(3)
	require.False(t, ok)
	b, ok = v.Broker(2)
	require.True(t, ok)
	require.EqualValues(t, 1, b.ID)

	want := slices.Clone(leases[:6])
	slices.SortFunc(want, func(a, b catalog.Lease) int { return a.Compare(b.TopicPartition) })
	require.Equal(t, want, slices.Collect(v.All()))
	for range v.All() {
		break
	}
}

func TestEmptyView(t *testing.T) {
	v := &lease.View{}
	_, _, ok := v.LeaderOf(tp(1, 0))
	require.False(t, ok)
	_, ok = v.Controller()
	require.False(t, ok)
	require.Empty(t, v.Brokers())
	require.Empty(t, slices.Collect(v.All()))
}

// TestViewMemory: 12 bytes a lease, and nothing that grows with leases beside.
func TestViewMemory(t *testing.T) {
	require.EqualValues(t, 48, unsafe.Sizeof(catalog.Lease{}), "said in doc.go")
	const topics, partitions = 20, 10_000
	set := catalog.LeaseSet{Version: 1}
	for topic := range topics {
		for p := range int32(partitions) {
			set.Leases = append(set.Leases, catalog.Lease{TopicPartition: tp(byte(topic), p), Holder: catalog.BrokerEpoch(1 + p%3)})
		}
	}
	brokers := []catalog.Broker{broker(1, 1), broker(2, 2), broker(3, 3)}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	v := lease.NewView(set, brokers)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perLease := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / (topics * partitions)
	require.Less(t, perLease, 16.0)
	require.Equal(t, topics*partitions, v.Len())
}

func TestEnsureInternal(t *testing.T) {
	c := memory.New(nil)
	for range 2 { // a repeat is harmless
		require.NoError(t, lease.EnsureInternal(t.Context(), c))
	}
	set, err := c.TopicSet(t.Context(), 0)
	require.NoError(t, err)
	names := make(map[string]int32)
	for _, topic := range set.Topics {
		require.True(t, lease.Internal(topic.ID))
		names[topic.Name] = topic.Partitions
	}
	require.Equal(t, map[string]int32{"__cluster_metadata": 1, "__consumer_offsets": 50, "__transaction_state": 50}, names)
	require.False(t, lease.Internal(catalog.TopicID{1}))

	other := memory.New(nil)
	_, err = other.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: lease.GroupsName, Partitions: 3})
	require.NoError(t, err)
	require.ErrorIs(t, lease.EnsureInternal(t.Context(), other), catalog.ErrTopicExists)
}

func BenchmarkNewView(b *testing.B) {
	set := catalog.LeaseSet{Version: 1}
	for p := range int32(1_000_000) {
		set.Leases = append(set.Leases, catalog.Lease{TopicPartition: tp(byte(p%100), p/100), Holder: catalog.BrokerEpoch(1 + p%100)})
	}
	var brokers []catalog.Broker
	for i := range 100 {
		brokers = append(brokers, broker(catalog.BrokerEpoch(i+1), catalog.BrokerID(i)))
	}
	b.Run("make", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			lease.NewView(set, brokers)
		}
	})
	v := lease.NewView(set, brokers)
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.LeaderOf(tp(7, 77))
		}
	})
	for _, load := range []bool{false, true} {
		b.Run(fmt.Sprintf("plan that finds nothing, load %t", load), func(b *testing.B) {
			in := lease.PlanInput{View: v, PerBroker: 20}
			if load {
				in.Load = map[catalog.TopicPartition]float64{tp(1, 1): 1}
			}
			for b.Loop() {
				lease.Plan(in)
			}
		})
	}
	b.Run("plan of a join", func(b *testing.B) {
		v := lease.NewView(set, append(brokers, broker(101, 101)))
		for b.Loop() {
			lease.Plan(lease.PlanInput{View: v, PerBroker: 20})
		}
	})
}
