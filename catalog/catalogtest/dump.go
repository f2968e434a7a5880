package catalogtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// dump writes down all facts of one side, without the values the contract leaves open. On the way it checks what must
// be true of any state.
func (m *model) dump(s *side) string {
	m.t.Helper()
	ctx, c := m.t.Context(), s.c
	b := &strings.Builder{}
	must := func(err error) {
		m.t.Helper()
		require.NoError(m.t, err)
	}

	set, err := c.TopicSet(ctx, 0)
	must(err)
	held := text(set.Topics)
	if before, ok := s.sets[set.Version]; ok {
		require.Equal(m.t, before, held, "equal versions mean equal sets")
	}
	s.sets[set.Version] = held
	for i := range set.Topics {
		set.Topics[i].Version = 0
	}
	fmt.Fprintf(b, "topics %s\n", text(set.Topics))
	deleted, err := c.DeletedTopics(ctx)
	must(err)
	slices.SortFunc(deleted, func(a, b catalog.TopicID) int { return strings.Compare(a.String(), b.String()) })
	fmt.Fprintf(b, "deleted %v\n", deleted)

	brokers, err := c.ListBrokers(ctx)
	must(err)
	fmt.Fprintf(b, "brokers %s\n", text(brokers))
	tails, err := c.BrokerTails(ctx)
	must(err)
	for i := range tails {
		tails[i].Merges = 0 // optional outside a fleet
	}
	fmt.Fprintf(b, "tails %s\n", text(tails))
	for _, bt := range tails {
		rows, err := c.ReadTail(ctx, bt.Epoch, 0, 1_000_000)
		must(err)
		next := bt.Folded + 1
		for i, r := range rows {
			require.Equal(m.t, next, r.First, "the tail has a hole")
			next = r.Last + 1
			rows[i].Merge = 0 // optional outside a fleet
		}
		require.Equal(m.t, bt.Last+1, next)
		fmt.Fprintf(b, "tail of %d %s\n", bt.Epoch, text(rows))
	}

	leases, err := c.LeaseSet(ctx, 0)
	must(err)
	slices.SortFunc(leases.Leases, func(a, b catalog.Lease) int { return a.Compare(b.TopicPartition) })
	fmt.Fprintf(b, "leases %s\n", text(leases.Leases))
	m.dumpFolded(s, b)
	groups, err := c.ReadGroups(ctx, -1, "", 1_000_000)
	must(err)
	for i := range groups {
		one, err := c.ReadGroup(ctx, groups[i].ID)
		must(err)
		require.Equal(m.t, text(groups[i]), text(one))
	}
	fmt.Fprintf(b, "groups %s\n", text(groups))
	return b.String()
}

func (m *model) dumpFolded(s *side, b *strings.Builder) {
	m.t.Helper()
	ctx, c := m.t.Context(), s.c
	must := func(err error) {
		m.t.Helper()
		require.NoError(m.t, err)
	}
	var tps []catalog.TopicPartition
	for _, id := range m.topics {
		for p := range int32(4) {
			tps = append(tps, catalog.TopicPartition{Topic: id, Partition: p})
		}
		parts, err := c.PackedPartitions(ctx, id)
		must(err)
		slices.SortFunc(parts, catalog.TopicPartition.Compare)
		fmt.Fprintf(b, "packed partitions of %s %v\n", id, parts)
	}
	states, err := c.LoadPartitions(ctx, tps)
	must(err)
	slices.SortFunc(states, func(a, b catalog.PartitionState) int { return a.Compare(b.TopicPartition) })
	fmt.Fprintf(b, "partitions %s\n", text(states))
	for _, tp := range tps {
		rows, err := c.PackedRows(ctx, tp, 0, 1_000_000)
		must(err)
		for i := range rows {
			require.True(m.t, i == 0 || rows[i-1].End <= rows[i].Base, "packed rows overlap")
			rows[i].Version = 0
		}
		fmt.Fprintf(b, "rows of %s %s\n", tp, text(rows))
	}
	objs, err := c.FoldedObjects(ctx, 0, 1_000_000)
	must(err)
	for _, o := range objs {
		require.Positive(m.t, o.Refs, "a folded object without references")
	}
	fmt.Fprintf(b, "objects %s\n", text(objs))
	retired, err := c.ListRetired(ctx, -time.Hour, 1_000_000)
	must(err)
	var gone []string // how a statement's objects are split into batches is left open
	for _, batch := range retired {
		for _, key := range batch.Keys {
			gone = append(gone, text(batch.At)+" "+key)
		}
	}
	slices.Sort(gone)
	fmt.Fprintf(b, "retired %v\n", gone)
	known, err := c.KnownObjects(ctx, m.keys)
	must(err)
	var keys []string
	for key, yes := range known {
		if yes {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	fmt.Fprintf(b, "known %v\n", keys)
}
