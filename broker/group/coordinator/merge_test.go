package coordinator

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	leases "github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/catalog/memory"
)

// TestMergedChangesAreWhatTheyAmountTo applies random changes of a group one by one to one catalog, merged to another.
func TestMergedChangesAreWhatTheyAmountTo(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		single, merged := newTarget(t), newTarget(t)
		var pending []*change
		exists := false
		for i := range 60 {
			c := randomChange(rnd, exists, i)
			exists = !c.Delete
			single.write(c)
			if n := len(pending); n == 0 || !pending[n-1].add(uint64(i), &c) {
				next := &change{first: time.Now()}
				require.True(t, next.add(uint64(i), &c))
				pending = append(pending, next)
			}
			if rnd.IntN(8) == 0 || i == 59 {
				for _, p := range pending {
					require.NotZero(t, p.upto+1)
					merged.write(p.build("g"))
				}
				pending = nil
				require.Equal(t, single.group(), merged.group(), "seed %d, change %d", seed, i)
			}
		}
	}
}

type target struct {
	t      *testing.T
	cat    *memory.Catalog
	broker catalog.BrokerEpoch
	lease  catalog.LeaseEpoch
	number int64
}

func newTarget(t *testing.T) *target {
	t.Helper()
	s := &target{t: t, cat: memory.New(nil)}
	_, err := s.cat.CreateTopic(t.Context(), catalog.TopicSpec{ID: leases.GroupsID, Name: leases.GroupsName, Partitions: 1})
	require.NoError(t, err)
	b, err := s.cat.RegisterBroker(t.Context(), catalog.Registration{ID: 1, TTL: time.Hour})
	require.NoError(t, err)
	got, err := s.cat.AcquireLeases(t.Context(), b.Epoch, nil)
	require.NoError(t, err)
	s.broker, s.lease = b.Epoch, got[0].Epoch
	return s
}

func (s *target) write(c catalog.GroupChange) {
	s.t.Helper()
	s.number++
	_, err := s.cat.WriteGroups(s.t.Context(), catalog.GroupWrite{Holder: s.broker, Lease: s.lease, Number: s.number, Changes: []catalog.GroupChange{c}})
	require.NoError(s.t, err)
}

func (s *target) group() catalog.GroupRecord {
	s.t.Helper()
	rec, err := s.cat.ReadGroup(s.t.Context(), "g")
	if err != nil {
		require.ErrorIs(s.t, err, catalog.ErrNotFound)
	}
	return rec
}

func randomChange(rnd *rand.Rand, exists bool, n int) catalog.GroupChange {
	c := catalog.GroupChange{ID: "g"}
	if exists && rnd.IntN(12) == 0 {
		c.Delete = true
		return c
	}
	at := time.Unix(int64(n)+1, 0).UTC()
	if !exists || rnd.IntN(3) == 0 {
		c.Group = &catalog.Group{ID: "g", Kind: catalog.GroupClassic, Phase: fmt.Sprint("P", n), State: []byte("{}"), ChangedAt: at}
	}
	c.AllMembersGone = rnd.IntN(10) == 0
	for i := range 4 {
		id := fmt.Sprint("m", i)
		switch rnd.IntN(4) {
		case 0:
			c.Members = append(c.Members, catalog.GroupMember{ID: id, ClientID: fmt.Sprint(n), State: []byte("{}")})
		case 1:
			c.MembersGone = append(c.MembersGone, id)
		}
	}
	for i := range int32(4) {
		switch rnd.IntN(4) {
		case 0:
			c.Offsets = append(c.Offsets, catalog.GroupOffset{Topic: "t", Partition: i, Offset: int64(n), LeaderEpoch: -1, CommittedAt: at})
		case 1:
			c.OffsetsGone = append(c.OffsetsGone, catalog.GroupPartition{Topic: "t", Partition: i})
		}
	}
	return c
}
