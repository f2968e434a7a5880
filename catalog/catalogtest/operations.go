package catalogtest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func (m *model) createTopic() (string, operation) {
	spec := catalog.TopicSpec{
		ID:   catalog.TopicID{byte(m.rng.IntN(256)), byte(m.rng.IntN(256))},
		Name: []string{"a", "a.b", "a_b", "c", "d", "e.f", "e_f", "g"}[m.rng.IntN(8)], Partitions: int32(1 + m.rng.IntN(4)),
		ReplicationFactor: int16(m.rng.IntN(4)), Configs: map[string]string{"n": fmt.Sprint(m.rng.IntN(9))},
	}
	if len(m.topics) > 0 && m.chance(15) {
		spec.ID = m.topics[m.rng.IntN(len(m.topics))]
	}
	return fmt.Sprintf("create %s %s", spec.Name, spec.ID), func(s *side) (any, error) {
		topic, err := s.c.CreateTopic(m.t.Context(), spec)
		if err == nil && !slices.Contains(m.topics, spec.ID) {
			m.topics = append(m.topics, spec.ID)
		}
		topic.Version = 0
		return topic, err
	}
}

func (m *model) deleteTopic() (string, operation) {
	id := m.partition().Topic
	return "delete " + id.String(), func(s *side) (any, error) { return nil, s.c.DeleteTopic(m.t.Context(), id) }
}

func (m *model) growTopic() (string, operation) {
	id, total := m.partition().Topic, int32(1+m.rng.IntN(4))
	return fmt.Sprintf("grow %s to %d", id, total), func(s *side) (any, error) {
		topic, err := s.c.AddPartitions(m.t.Context(), id, total)
		topic.Version = 0
		return topic, err
	}
}

func (m *model) configTopic() (string, operation) {
	id, stale := m.partition().Topic, m.chance(30)
	configs := map[string]string{"x": fmt.Sprint(m.rng.IntN(9))}
	return fmt.Sprintf("configure %s, stale %t", id, stale), func(s *side) (any, error) {
		set, err := s.c.TopicSet(m.t.Context(), 0)
		if err != nil {
			return nil, err
		}
		version := int64(1)
		for _, topic := range set.Topics {
			if topic.ID == id {
				version = topic.Version
			}
		}
		if stale {
			version += 1000
		}
		topic, err := s.c.SetTopicConfigs(m.t.Context(), id, version, configs)
		topic.Version = 0
		return topic, err
	}
}

func (m *model) registerBroker() (string, operation) {
	reg := catalog.Registration{
		ID: catalog.BrokerID(m.rng.IntN(3)), Incarnation: [16]byte{1, byte(m.rng.IntN(40))}, TTL: time.Minute,
		Listeners: []catalog.Listener{{Name: "P", Host: "h", Port: int32(m.rng.IntN(9))}},
	}
	return "register", func(s *side) (any, error) {
		b, err := s.c.RegisterBroker(m.t.Context(), reg)
		if err == nil && !slices.Contains(m.epochs, b.Epoch) {
			m.epochs = append(m.epochs, b.Epoch)
		}
		return []any{b.Epoch, b.Registration, b.Fenced}, err
	}
}

func (m *model) heartbeat() (string, operation) {
	epoch := m.epoch()
	return fmt.Sprintf("heartbeat %d", epoch), func(s *side) (any, error) {
		h, err := s.c.Heartbeat(m.t.Context(), epoch)
		return h.Now, err
	}
}

func (m *model) fenceBroker() (string, operation) {
	epoch, why := m.epoch(), catalog.FenceReason(m.rng.IntN(3))
	return fmt.Sprintf("fence %d for %d", epoch, why), func(s *side) (any, error) { return nil, s.c.FenceBroker(m.t.Context(), epoch, why) }
}

func (m *model) acquire() (string, operation) {
	epoch, tps := m.epoch(), m.partitions()
	return fmt.Sprintf("acquire %d %v", epoch, tps), func(s *side) (any, error) {
		leases, err := s.c.AcquireLeases(m.t.Context(), epoch, tps)
		slices.SortFunc(leases, func(a, b catalog.Lease) int { return a.Compare(b.TopicPartition) })
		return leases, err
	}
}

func (m *model) release() (string, operation) {
	epoch, tps := m.epoch(), m.partitions()
	return fmt.Sprintf("release %d %v", epoch, tps), func(s *side) (any, error) { return nil, s.c.ReleaseLeases(m.t.Context(), epoch, tps) }
}

// reference reads from the first side, which must not fail.
func reference[T any](m *model, read func(catalog.Catalog) (T, error)) T {
	m.t.Helper()
	out, err := read(m.sides[0].c)
	require.NoError(m.t, err)
	return out
}

func (m *model) tailOf(epoch catalog.BrokerEpoch) (bt catalog.BrokerTail, rows []catalog.TailEntry) {
	tails := reference(m, func(c catalog.Catalog) ([]catalog.BrokerTail, error) { return c.BrokerTails(m.t.Context()) })
	for _, t := range tails {
		if t.Epoch == epoch {
			bt = t
		}
	}
	return bt, reference(m, func(c catalog.Catalog) ([]catalog.TailEntry, error) {
		return c.ReadTail(m.t.Context(), epoch, 0, 1_000_000)
	})
}

func (m *model) commit() (string, operation) {
	epoch := m.epoch()
	bt, _ := m.tailOf(epoch)
	first := bt.Last + 1
	if m.chance(10) {
		first = max(1, first+catalog.Sequence(m.rng.IntN(5)-2))
	}
	var entries []catalog.TailEntry
	for i := range 1 + m.rng.IntN(4) {
		id, key := m.object()
		entries = append(entries, catalog.TailEntry{
			Epoch: epoch, First: first + catalog.Sequence(i), Last: first + catalog.Sequence(i), Object: id, Key: key,
			Size: int64(m.rng.IntN(1000)), Checksum: m.rng.Uint32(), Index: make([]byte, m.rng.IntN(6000)),
		})
	}
	return fmt.Sprintf("commit %d of %d at %d", len(entries), epoch, first), func(s *side) (any, error) {
		return s.c.Commit(m.t.Context(), epoch, entries)
	}
}

func (m *model) mergeTail() (string, operation) {
	epoch, by := m.epoch(), m.epoch()
	_, rows := m.tailOf(epoch)
	id, key := m.object()
	merge := catalog.TailMerge{Entry: catalog.TailEntry{Epoch: epoch, First: 1, Last: 1, Object: id, Key: key, Size: 5}}
	if len(rows) > 0 {
		from := m.rng.IntN(len(rows))
		to := from + 1 + m.rng.IntN(len(rows)-from)
		merge.Entry.First, merge.Entry.Last = rows[from].First, rows[to-1].Last
		for _, r := range rows[from:to] {
			merge.Replaces = append(merge.Replaces, r.Object)
		}
	}
	switch {
	case m.chance(80):
	case m.chance(50):
		merge.Entry.Last++
	case len(merge.Replaces) > 0:
		merge.Replaces[m.rng.IntN(len(merge.Replaces))]++
	}
	return fmt.Sprintf("merge the tail of %d by %d: %d to %d", epoch, by, merge.Entry.First, merge.Entry.Last), func(s *side) (any, error) {
		return nil, s.c.MergeTail(m.t.Context(), by, merge)
	}
}

// rowChange plans packed rows of some partitions: appended, or rewritten in place.
func (m *model) rowChange(perPartition int) (replaces []catalog.RowRef, rows []catalog.PackedRow, states []catalog.PartitionState) {
	seen := make(map[catalog.TopicPartition]bool)
	for range m.rng.IntN(3) {
		tp := m.partition()
		if seen[tp] {
			continue
		}
		seen[tp] = true
		old := reference(m, func(c catalog.Catalog) ([]catalog.PackedRow, error) {
			return c.PackedRows(m.t.Context(), tp, 0, 1_000_000)
		})
		base := int64(0)
		if n := len(old); n > 0 {
			base = old[n-1].End
			if m.chance(40) {
				replaces = append(replaces, catalog.RowRef{TopicPartition: tp, Base: old[n-1].Base, Version: 1})
				base = old[n-1].Base
			}
		}
		if m.chance(10) {
			base = max(0, base-int64(m.rng.IntN(5)))
		}
		for range 1 + m.rng.IntN(perPartition) {
			end := base + 1 + int64(m.rng.IntN(10))
			if perPartition == 1 && m.chance(90) {
				end = max(end, m.logEnd(tp))
			}
			rows = append(rows, catalog.PackedRow{TopicPartition: tp, Base: base, End: end, Extents: make([]byte, m.rng.IntN(5000))})
			base = end
		}
		states = append(states, catalog.PartitionState{
			TopicPartition: tp, LogStart: int64(m.rng.IntN(5)), LogEnd: base, LastStable: base, Bytes: base,
			LeaderEpochs: []catalog.EpochStart{{Epoch: 1, Start: base}}, Producers: make([]byte, 1+m.rng.IntN(9)),
		})
	}
	return replaces, rows, states
}

// logEnd is the folded log end, below which a fold must not end.
func (m *model) logEnd(tp catalog.TopicPartition) int64 {
	states := reference(m, func(c catalog.Catalog) ([]catalog.PartitionState, error) {
		return c.LoadPartitions(m.t.Context(), []catalog.TopicPartition{tp})
	})
	if len(states) == 0 {
		return 0
	}
	return states[0].LogEnd
}

// versioned names the versions that the rows have on one side; a stale plan names others.
func (m *model) versioned(s *side, refs []catalog.RowRef, stale bool) ([]catalog.RowRef, error) {
	out := slices.Clone(refs)
	for i := range out {
		rows, err := s.c.PackedRows(m.t.Context(), out[i].TopicPartition, out[i].Base, 1)
		if err != nil {
			return nil, err
		}
		if len(rows) == 1 && rows[0].Base == out[i].Base {
			out[i].Version = rows[0].Version
		}
		if stale {
			out[i].Version += 1000
		}
	}
	return out, nil
}

func (m *model) fold() (string, operation) {
	epoch, by := m.epoch(), m.epoch()
	bt, rows := m.tailOf(epoch)
	f := catalog.Fold{Tail: epoch, After: bt.Folded, Through: bt.Folded + 1}
	if len(rows) > 0 {
		n := 1 + m.rng.IntN(len(rows))
		f.Through = rows[n-1].Last
		for _, r := range rows[:n] {
			refs := int64(m.rng.IntN(3))
			f.Objects = append(f.Objects, catalog.Object{
				ID: r.Object, Key: r.Key, Size: r.Size, Checksum: r.Checksum, Generation: int32(m.rng.IntN(2)), Refs: refs, Live: refs * 7,
			})
		}
	}
	switch {
	case m.chance(85):
	case m.chance(30):
		f.After++
		f.Through++
	case m.chance(50):
		f.Through++
	case len(f.Objects) > 0:
		f.Objects = f.Objects[1:]
	}
	stale := m.chance(10)
	var refs []catalog.RowRef
	refs, f.Rows, f.Partitions = m.rowChange(1)
	return fmt.Sprintf("fold %d by %d: %d to %d", epoch, by, f.After, f.Through), func(s *side) (any, error) {
		mine := f
		var err error
		if mine.Replaces, err = m.versioned(s, refs, stale); err != nil {
			return nil, err
		}
		return nil, s.c.Fold(m.t.Context(), by, mine)
	}
}

func (m *model) edit() (string, operation) {
	by, stale := m.epoch(), m.chance(10)
	var e catalog.Edit
	var refs []catalog.RowRef
	refs, e.Rows, _ = m.rowChange(3)
	if m.chance(30) {
		e.Rows = nil // retention
	}
	for range m.rng.IntN(3) {
		id, key := m.object()
		n := int64(m.rng.IntN(3))
		e.Objects = append(e.Objects, catalog.Object{
			ID: id, Key: key, Size: int64(m.rng.IntN(100)), Generation: int32(m.rng.IntN(4)), Refs: n, Live: n * 7,
		})
	}
	objs := reference(m, func(c catalog.Catalog) ([]catalog.Object, error) { return c.FoldedObjects(m.t.Context(), 0, 1_000_000) })
	m.rng.Shuffle(len(objs), func(i, j int) { objs[i], objs[j] = objs[j], objs[i] })
	for _, o := range objs[:min(len(objs), m.rng.IntN(4))] {
		d := catalog.RefDelta{Object: o.ID, Refs: -o.Refs, Live: -o.Live}
		switch {
		case m.chance(60):
		case m.chance(80):
			d.Refs, d.Live = 2, 14
		default:
			d.Refs--
		}
		e.Deltas = append(e.Deltas, d)
	}
	e.BytesDelta = map[catalog.TopicPartition]int64{m.partition(): int64(m.rng.IntN(100))}
	return fmt.Sprintf("edit by %d", by), func(s *side) (any, error) {
		mine := e
		var err error
		if mine.Replaces, err = m.versioned(s, refs, stale); err != nil {
			return nil, err
		}
		return nil, s.c.Edit(m.t.Context(), by, mine)
	}
}

// purge plans the clean-up of a topic as storage does: its packed rows first, the topic once there are none.
func (m *model) purge() (string, operation) {
	by, id := m.epoch(), m.partition().Topic
	e := catalog.Edit{Purge: []catalog.TopicID{id}}
	var refs []catalog.RowRef
	if m.chance(70) {
		for p := range int32(4) {
			tp := catalog.TopicPartition{Topic: id, Partition: p}
			rows := reference(m, func(c catalog.Catalog) ([]catalog.PackedRow, error) {
				return c.PackedRows(m.t.Context(), tp, 0, 1_000_000)
			})
			for _, r := range rows {
				refs = append(refs, ref(r))
			}
		}
	}
	return fmt.Sprintf("purge %s by %d", id, by), func(s *side) (any, error) {
		mine := e
		var err error
		if mine.Replaces, err = m.versioned(s, refs, false); err != nil {
			return nil, err
		}
		return nil, s.c.Edit(m.t.Context(), by, mine)
	}
}

func (m *model) setLogStart() (string, operation) {
	by, tp, offset := m.epoch(), m.partition(), int64(m.rng.IntN(40))
	return fmt.Sprintf("log start %s to %d by %d", tp, offset, by), func(s *side) (any, error) {
		return s.c.SetLogStart(m.t.Context(), by, tp, offset)
	}
}

func (m *model) forget() (string, operation) {
	n, grace := m.rng.IntN(3), time.Duration(m.rng.IntN(60))*time.Second
	return fmt.Sprintf("forget retired: %t", n > 0), func(s *side) (any, error) {
		batches, err := s.c.ListRetired(m.t.Context(), grace, 1_000_000)
		var ids []int64
		keys := 0
		for _, b := range batches {
			if n > 0 && (len(ids) == 0 || b.At.Equal(batches[0].At)) { // all of the oldest instant
				ids = append(ids, b.ID)
				keys += len(b.Keys)
			}
		}
		return keys, errors.Join(err, s.c.ForgetRetired(m.t.Context(), ids))
	}
}

func (m *model) allocate() (string, operation) {
	kind, n := []catalog.IDKind{catalog.IDProducer, catalog.IDObject, catalog.IDBroker}[m.rng.IntN(3)], int64(1+m.rng.IntN(100))
	return "allocate", func(s *side) (any, error) { return s.c.AllocateIDs(m.t.Context(), kind, n) }
}

// pass lets time pass, mostly forwards.
func (m *model) pass() (string, operation) {
	d := time.Duration(m.rng.IntN(30_000)) * time.Millisecond
	if m.chance(10) {
		d = -d
	}
	m.clock.Advance(d)
	// Both read the clock now: set back, it goes on from what was read last.
	return "pass " + d.String(), func(s *side) (any, error) {
		_, err := s.c.ListRetired(m.t.Context(), 0, 1)
		return nil, err
	}
}

func (m *model) readTail() (string, operation) {
	epoch, at, limit := m.epoch(), catalog.Sequence(m.rng.IntN(30)), 1+m.rng.IntN(5)
	if m.chance(50) {
		return fmt.Sprintf("tail of %d at %d", epoch, at), func(s *side) (any, error) {
			e, err := s.c.TailAt(m.t.Context(), epoch, at)
			e.Merge = 0 // optional outside a fleet
			return e, err
		}
	}
	return fmt.Sprintf("read %d of the tail of %d after %d", limit, epoch, at), func(s *side) (any, error) {
		rows, err := s.c.ReadTail(m.t.Context(), epoch, at, limit)
		for i := range rows {
			rows[i].Merge = 0 // optional outside a fleet
		}
		return rows, err
	}
}

func (m *model) packedRows() (string, operation) {
	tp, from, limit := m.partition(), int64(m.rng.IntN(60)-2), 1+m.rng.IntN(5)
	return fmt.Sprintf("packed rows of %s from %d", tp, from), func(s *side) (any, error) {
		rows, err := s.c.PackedRows(m.t.Context(), tp, from, limit)
		for i := range rows {
			rows[i].Version = 0
		}
		return rows, err
	}
}

func (m *model) candidates() (string, operation) {
	size, gen, limit := int64(m.rng.IntN(120)), int32(m.rng.IntN(5)), 1+m.rng.IntN(20)
	return "merge candidates", func(s *side) (any, error) { return s.c.MergeCandidates(m.t.Context(), size, gen, limit) }
}
