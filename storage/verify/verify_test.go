package verify

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/objstore"
	storemem "github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// Whatever an engine does, crashes included, leaves a log that verifies.
func TestALifeIsClean(t *testing.T) {
	for seed := range uint64(6) {
		l := newLife(t, seed)
		if seed%2 == 1 {
			l.grace = 1
		}
		l.topic(3)
		l.start()
		l.topic(1 + l.rnd.Int32N(8))
		var extents, batches int64
		for range 60 {
			switch n := l.rnd.IntN(24); {
			case n == 0:
				l.start()
			case n == 1:
				l.topic(2)
			case n == 2:
				dead := l.tps[l.rnd.IntN(len(l.tps))].Topic
				if dead != l.tps[0].Topic {
					require.NoError(t, l.cat.DeleteTopic(t.Context(), dead))
					l.e.DropTopic(dead)
					l.tps = slices.DeleteFunc(l.tps, func(tp catalog.TopicPartition) bool { return tp.Topic == dead })
				}
			case n < 5:
				tp := l.tps[l.rnd.IntN(len(l.tps))]
				off, err := l.e.Offsets(t.Context(), tp)
				require.NoError(t, err)
				_, err = l.e.DeleteRecords(t.Context(), tp, off.LogStart+l.rnd.Int64N(off.HighWatermark-off.LogStart+1))
				require.NoError(t, err)
			case n < 9:
				l.tidy()
			default:
				var tps []catalog.TopicPartition
				for range 1 + l.rnd.IntN(12) {
					tps = append(tps, l.tps[l.rnd.IntN(len(l.tps))])
				}
				l.produce(tps...)
			}
			res := l.verify(Options{Fast: l.rnd.IntN(2) == 0})
			require.Empty(t, res.Problems)
			require.True(t, res.OK())
			extents, batches = extents+res.Extents, batches+res.Batches
		}
		require.Positive(t, extents)
		require.Positive(t, batches)
	}
}

// aged is a life with everything: tail rows of two broker epochs, folded objects of several generations, packed rows of two
// extents and more, leader epochs, a log start.
func aged(t *testing.T) *life {
	t.Helper()
	l := newLife(t, 42)
	l.topic(3)
	l.start()
	for round := range 18 {
		l.produce(l.tps...)
		l.produce(l.tps...)
		if round == 9 {
			l.start()
		}
		l.tidy()
	}
	l.produce(l.tps...)
	_, err := l.e.DeleteRecords(t.Context(), l.tps[2], 3)
	require.NoError(t, err)
	l.start()
	// The row that tests damage, the last but one, must hold all three partitions; which batches meet in an object is
	// a matter of time.
	whole := func() bool {
		rows := l.tailRows()
		if len(rows) < 3 {
			return false
		}
		ix, err := segment.DecodeTail(rows[len(rows)-2].Index)
		require.NoError(t, err)
		return len(ix.Extents) == 3
	}
	for range 200 {
		if whole() {
			break
		}
		l.produce(l.tps...)
	}
	l.stop()
	require.True(t, whole())
	require.Empty(t, l.verify(Options{}).Problems)
	require.GreaterOrEqual(t, len(l.tailRows()), 3)
	require.GreaterOrEqual(t, len(l.folded()), 2)
	require.True(t, slices.ContainsFunc(l.folded(), func(o catalog.Object) bool { return o.Generation > 1 }), "segments were merged")
	return l
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		if at < 0 {
			at += len(b)
		}
		b[at] ^= 0x40
		return b
	}
}

// Damage to objects.
func TestDamagedObjectsAreFound(t *testing.T) {
	for name, d := range map[string]struct {
		damage func(l *life, key string, size int64)
		kind   Kind
		fast   bool // found without bodies too
	}{
		"deleted":      {func(l *life, key string, _ int64) { _ = l.store.Delete(l.t.Context(), []string{key}) }, Missing, true},
		"header":       {func(l *life, key string, size int64) { l.rewrite(key, size, flip(1)) }, Corrupt, false},
		"record byte":  {func(l *life, key string, size int64) { l.rewrite(key, size, flip(200)) }, Corrupt, false},
		"batch header": {func(l *life, key string, size int64) { l.rewrite(key, size, flip(12)) }, Corrupt, false},
		"footer":       {func(l *life, key string, size int64) { l.rewrite(key, size, flip(-40)) }, Corrupt, true},
		"trailer":      {func(l *life, key string, size int64) { l.rewrite(key, size, flip(-20)) }, Corrupt, true},
		"cut": {func(l *life, key string, size int64) {
			l.rewrite(key, size, func(b []byte) []byte { return b[:len(b)-1] })
		}, Corrupt, true},
		"empty": {func(l *life, key string, size int64) { l.rewrite(key, size, func([]byte) []byte { return nil }) }, Corrupt, true},
		"bytes appended": {func(l *life, key string, size int64) {
			l.rewrite(key, size, func(b []byte) []byte { return append(b, 0) })
		}, Corrupt, true},
		"other object": {func(l *life, key string, size int64) {
			l.rewrite(key, size, func([]byte) []byte { return make([]byte, size) })
		}, Corrupt, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, level := range []string{"tail", "folded"} {
				l := aged(t)
				row, obj := l.tailRows()[1], l.folded()[0]
				key, size := row.Key, row.Size
				if level == "folded" {
					key, size = obj.Key, obj.Size
				}
				d.damage(l, key, size)
				res := l.verify(Options{})
				require.EqualValues(t, 1, res.ProblemCount, "%v", res.Problems)
				require.Equal(t, d.kind, res.Problems[0].Kind, "%v", res.Problems)
				require.Equal(t, key, res.Problems[0].Object)
				require.False(t, res.OK())
				require.Equal(t, !d.fast, l.verify(Options{Fast: true}).OK())
			}
		})
	}
}

// One object in place of another that is as sound: only the catalog's checksum, or the index, can tell.
func TestASoundObjectInTheWrongPlaceIsFound(t *testing.T) {
	l := aged(t)
	obj := l.folded()[0]
	l.cat = &liar{Catalog: l.cat, folded: func(o *catalog.Object) bool {
		if o.ID == obj.ID {
			o.Checksum++
		}
		return true
	}}
	res := l.verify(Options{})
	require.Len(t, res.Problems, 1)
	require.Equal(t, Corrupt, res.Problems[0].Kind)
	require.Contains(t, res.Problems[0].String(), "the catalog says")
}

// repacked changes the extents of one packed row.
func repacked(r *catalog.PackedRow, change func(xs []segment.PackedExtent) []segment.PackedExtent) {
	xs, err := segment.DecodePacked(r.Extents)
	if err != nil {
		panic(err)
	}
	r.Extents = segment.AppendPacked(nil, change(xs))
}

// reindexed changes the index of a tail row.
func reindexed(r *catalog.TailEntry, change func(ix *segment.Index)) {
	ix, err := segment.DecodeTail(r.Index)
	if err != nil {
		panic(err)
	}
	change(ix)
	r.Index = ix.AppendTail(nil)
}

// Damage to the manifest.
func TestDamagedManifestIsFound(t *testing.T) {
	type damage struct {
		kind Kind
		lie  func(l *life, c *liar)
		slow bool // found only with bodies
	}
	packed := func(kind Kind, change func(xs []segment.PackedExtent) []segment.PackedExtent) damage {
		return damage{kind: kind, lie: func(l *life, c *liar) {
			c.rows = func(r *catalog.PackedRow) bool {
				if r.TopicPartition == l.tps[1] {
					repacked(r, change)
				}
				return true
			}
		}}
	}
	extent := func(kind Kind, change func(x *segment.PackedExtent)) damage {
		return packed(kind, func(xs []segment.PackedExtent) []segment.PackedExtent {
			change(&xs[0])
			return xs
		})
	}
	state := func(kind Kind, change func(st *catalog.PartitionState)) damage {
		return damage{kind: kind, lie: func(l *life, c *liar) {
			c.state = func(st *catalog.PartitionState) bool {
				if st.TopicPartition == l.tps[1] {
					change(st)
				}
				return true
			}
		}}
	}
	tail := func(kind Kind, change func(r *catalog.TailEntry) bool) damage {
		return damage{kind: kind, lie: func(l *life, c *liar) {
			rows := l.tailRows()
			victim := rows[len(rows)-2].Object
			c.tail = func(r *catalog.TailEntry) bool { return r.Object != victim || change(r) }
		}}
	}
	index := func(kind Kind, slow bool, change func(ix *segment.Index)) damage {
		d := tail(kind, func(r *catalog.TailEntry) bool {
			reindexed(r, change)
			return true
		})
		d.slow = slow
		return d
	}
	object := func(kind Kind, change func(o *catalog.Object) bool) damage {
		return damage{kind: kind, lie: func(l *life, c *liar) {
			victim := l.folded()[0].ID
			c.folded = func(o *catalog.Object) bool { return o.ID != victim || change(o) }
		}}
	}
	for name, d := range map[string]damage{
		"tail row gone":           tail(Tail, func(*catalog.TailEntry) bool { return false }),
		"tail row gone, offsets":  tail(Gap, func(*catalog.TailEntry) bool { return false }),
		"tail row of other epoch": tail(Tail, func(r *catalog.TailEntry) bool { r.Epoch++; return true }),
		"tail row too long":       tail(Tail, func(r *catalog.TailEntry) bool { r.Last++; return true }),
		"tail row size":           tail(Corrupt, func(r *catalog.TailEntry) bool { r.Size--; return true }),
		"tail row negative size":  tail(Corrupt, func(r *catalog.TailEntry) bool { r.Size = -5; return true }),
		"tail row other key":      tail(Missing, func(r *catalog.TailEntry) bool { r.Key += "1"; return true }),
		"index does not decode":   tail(Tail, func(r *catalog.TailEntry) bool { r.Index = r.Index[1:]; return true }),
		"last sequence": {kind: Tail, lie: func(_ *life, c *liar) {
			c.tails = func(bt *catalog.BrokerTail) { bt.Last++ }
		}},
		"index offsets":         index(Index, false, func(ix *segment.Index) { ix.Extents[1].Base++ }),
		"index leader epoch":    index(Index, false, func(ix *segment.Index) { ix.Extents[1].LeaderEpoch-- }),
		"index without extent":  index(Index, false, func(ix *segment.Index) { ix.Extents = ix.Extents[:2] }),
		"index offsets overlap": index(Overlap, false, func(ix *segment.Index) { ix.Extents[1].Base -= min(ix.Extents[1].Base, 3) }),
		"index epoch back":      index(Epoch, false, func(ix *segment.Index) { ix.Extents[1].LeaderEpoch = 0 }),
		"index producer": index(Index, true, func(ix *segment.Index) {
			b := &ix.Extents[2].Batches[0]
			b.ProducerID, b.ProducerEpoch, b.BaseSequence = 99, 1, 5
		}),
		"index transactional": index(Index, true, func(ix *segment.Index) { ix.Extents[0].Batches[0].Transactional = true }),
		"object twice in the tail": {kind: Tail, lie: func(l *life, c *liar) {
			first := l.tailRows()[0].Object
			c.tail = func(r *catalog.TailEntry) bool { r.Object = first; return true }
		}},
		"object in the tail and folded": {kind: Tail, lie: func(l *life, c *liar) {
			id := l.folded()[0].ID
			c.tail = func(r *catalog.TailEntry) bool { r.Object = id; return true }
		}},
		"tail extent of unknown partition": {kind: Tail, lie: func(_ *life, c *liar) {
			c.tail = func(r *catalog.TailEntry) bool {
				reindexed(r, func(ix *segment.Index) { ix.Extents[2].Partition = 9 })
				return true
			}
		}},
		"about to be deleted, tail":   {kind: Retired, lie: func(l *life, c *liar) { c.retired = []string{l.tailRows()[0].Key} }},
		"about to be deleted, folded": {kind: Retired, lie: func(l *life, c *liar) { c.retired = []string{l.folded()[0].Key} }},

		"object row gone":     object(Missing, func(*catalog.Object) bool { return false }),
		"object size":         object(Corrupt, func(o *catalog.Object) bool { o.Size++; return true }),
		"object key":          object(Missing, func(o *catalog.Object) bool { o.Key += "1"; return true }),
		"references too many": object(References, func(o *catalog.Object) bool { o.Refs++; return true }),
		"references too few":  object(References, func(o *catalog.Object) bool { o.Refs--; return true }),
		"live bytes":          object(References, func(o *catalog.Object) bool { o.Live++; return true }),

		"packed row gone": {kind: Gap, lie: func(l *life, c *liar) {
			c.rows = func(r *catalog.PackedRow) bool { return r.TopicPartition != l.tps[1] }
		}},
		"packed row gone, references": {kind: References, lie: func(l *life, c *liar) {
			c.rows = func(r *catalog.PackedRow) bool { return r.TopicPartition != l.tps[1] }
		}},
		"packed row does not decode": {kind: Packed, lie: func(_ *life, c *liar) {
			c.rows = func(r *catalog.PackedRow) bool { r.Extents = r.Extents[1:]; return true }
		}},
		"packed row empty": packed(Packed, func([]segment.PackedExtent) []segment.PackedExtent { return nil }),
		"packed row bounds": {kind: Packed, lie: func(_ *life, c *liar) {
			c.rows = func(r *catalog.PackedRow) bool { r.End++; return true }
		}},
		"extent gone":           packed(Gap, func(xs []segment.PackedExtent) []segment.PackedExtent { return slices.Delete(xs, 1, 2) }),
		"extent gone, bytes":    packed(State, func(xs []segment.PackedExtent) []segment.PackedExtent { return slices.Delete(xs, 1, 2) }),
		"extent position":       extent(Packed, func(x *segment.PackedExtent) { x.Pos++ }),
		"extent length":         extent(Packed, func(x *segment.PackedExtent) { x.Len-- }),
		"extent leader epoch":   extent(Packed, func(x *segment.PackedExtent) { x.LeaderEpoch++ }),
		"extent epoch, history": extent(Epoch, func(x *segment.PackedExtent) { x.LeaderEpoch++ }),
		"extent timestamp":      extent(Packed, func(x *segment.PackedExtent) { x.MaxTimestamp-- }),
		"extent of no object":   extent(Missing, func(x *segment.PackedExtent) { x.Object += 1 << 30 }),
		"extent cut wrongly":    extent(Packed, func(x *segment.PackedExtent) { x.Base, x.Pos, x.Len = x.Base+1, x.Pos+7, x.Len-7 }),
		"extent cut at its end": extent(Packed, func(x *segment.PackedExtent) { x.End, x.Len = x.End-1, x.Len-7 }),
		"extent of other object": packed(Packed, func(xs []segment.PackedExtent) []segment.PackedExtent {
			xs[0].Object = xs[len(xs)-1].Object
			return xs
		}),
		"extents beyond the log end": state(State, func(st *catalog.PartitionState) { st.LogEnd--; st.LastStable-- }),
		"log end":                    state(Gap, func(st *catalog.PartitionState) { st.LogEnd++ }),
		"log end overlaps the tail":  state(Overlap, func(st *catalog.PartitionState) { st.LogEnd++ }),
		"log start":                  state(State, func(st *catalog.PartitionState) { st.LogStart = 1 << 20 }),
		"log start negative":         state(State, func(st *catalog.PartitionState) { st.LogStart = -1 }),
		"last stable offset":         state(State, func(st *catalog.PartitionState) { st.LastStable = st.LogEnd + 1 }),
		"partition bytes":            state(State, func(st *catalog.PartitionState) { st.Bytes++ }),
		"history gone":               state(Epoch, func(st *catalog.PartitionState) { st.LeaderEpochs = nil }),
		"history short":              state(Epoch, func(st *catalog.PartitionState) { st.LeaderEpochs = st.LeaderEpochs[:1] }),
		"history offset":             state(Epoch, func(st *catalog.PartitionState) { st.LeaderEpochs[1].Start++ }),
		"history out of order":       state(Epoch, func(st *catalog.PartitionState) { slices.Reverse(st.LeaderEpochs) }),
		"history beyond the log": state(Epoch, func(st *catalog.PartitionState) {
			st.LeaderEpochs = append(st.LeaderEpochs, catalog.EpochStart{Epoch: 9, Start: st.LogEnd})
		}),
		"partition row gone":           {kind: State, lie: func(_ *life, c *liar) { c.state = func(st *catalog.PartitionState) bool { return st.Partition != 1 } }},
		"lease gone":                   {kind: Epoch, lie: func(_ *life, c *liar) { c.lease = func(*catalog.Lease) bool { return false } }},
		"lease older than records":     {kind: Epoch, lie: func(_ *life, c *liar) { c.lease = func(l *catalog.Lease) bool { l.Epoch = 0; return true } }},
		"packed rows overlap":          {kind: Overlap, lie: func(_ *life, c *liar) { c.Catalog = &doubled{Catalog: c.Catalog} }},
		"partitions the topic has not": {kind: Packed, lie: func(_ *life, c *liar) { c.Catalog = &shrunk{Catalog: c.Catalog} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := aged(t)
			c := &liar{Catalog: l.cat}
			d.lie(l, c)
			l.cat = c
			for _, opts := range []Options{{}, {Fast: true}} {
				res := l.verify(opts)
				if opts.Fast && d.slow {
					require.True(t, res.OK())
					continue
				}
				require.False(t, res.OK())
				require.Positive(t, res.ByKind[d.kind], "%v", res.Problems)
				require.Contains(t, res.Problems[0].String(), string(res.Problems[0].Kind))
			}
		})
	}
}

// doubled gives the first packed row twice.
type doubled struct{ catalog.Catalog }

func (c *doubled) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	rows, err := c.Catalog.PackedRows(ctx, tp, from, limit)
	if len(rows) > 0 {
		rows = append(rows[:1:1], rows...)
	}
	return rows, err
}

// shrunk says that topics have one partition.
type shrunk struct{ catalog.Catalog }

func (c *shrunk) TopicSet(ctx context.Context, version int64) (catalog.TopicSet, error) {
	set, err := c.Catalog.TopicSet(ctx, version)
	for i := range set.Topics {
		set.Topics[i].Partitions = 1
	}
	return set, err
}

// A packed row may hold a part of an extent, cut at batches.
func TestPartsOfExtentsAreSound(t *testing.T) {
	l := newLife(t, 3)
	l.topic(1)
	l.start()
	l.produce(l.tps[0], l.tps[0], l.tps[0])
	l.produce(l.tps[0], l.tps[0], l.tps[0])
	l.tidy()
	l.stop()
	var parts []segment.PackedExtent
	var refs, live int64
	c := &liar{Catalog: l.cat}
	obj := l.folded()[0]
	d, err := segment.Describe(t.Context(), l.store, obj.Key, obj.Size)
	require.NoError(t, err)
	for _, x := range d.Extents {
		pos := x.Pos
		for b, err := range Batches(t.Context(), l.store, obj.Key, x) {
			require.NoError(t, err)
			h, err := recordbatch.ParseHeader(b)
			require.NoError(t, err)
			parts = append(parts, segment.PackedExtent{
				Object: obj.ID, Base: h.BaseOffset, End: h.LastOffset() + 1, Pos: pos, Len: int64(len(b)),
				LeaderEpoch: h.LeaderEpoch, MaxTimestamp: h.MaxTimestamp,
			})
			pos += int64(len(b))
			refs, live = refs+1, live+int64(len(b))
		}
	}
	require.GreaterOrEqual(t, refs, int64(6))
	c.rows = func(r *catalog.PackedRow) bool {
		r.Extents = segment.AppendPacked(nil, parts)
		return true
	}
	c.folded = func(o *catalog.Object) bool {
		o.Refs, o.Live = refs, live
		return true
	}
	l.cat = c
	require.Empty(t, l.verify(Options{}).Problems)
}

// Objects are looked at in chunks; the result is the same.
func TestChunksMakeNoDifference(t *testing.T) {
	l := aged(t)
	whole := l.verify(Options{})
	for _, limit := range []int64{1, 2, 7} {
		c := &checker{cat: l.cat, store: l.store, opts: Options{Parallel: 2, MaxProblems: 10, MaxOrphans: 10}, limit: limit}
		res, err := c.run(t.Context())
		require.NoError(t, err)
		require.Equal(t, whole, res)
	}
}

func TestOrphansAndProgressAreTold(t *testing.T) {
	l := aged(t)
	lost := segment.LogKey(time.Unix(1_700_000_000, 0), [16]byte{1}, 1, 99, 2)
	require.NoError(t, l.store.Put(t.Context(), lost, objstore.NewBody([]byte("abc"))))
	require.NoError(t, l.store.Put(t.Context(), "notes.txt", objstore.NewBody([]byte("abcd"))))
	last := map[Phase][2]int64{}
	res := l.verify(Options{Progress: func(p Phase, done, total int64) {
		require.GreaterOrEqual(t, done, last[p][0])
		last[p] = [2]int64{done, total}
	}})
	require.True(t, res.OK(), "an orphan is no error")
	require.EqualValues(t, 1, res.Orphans.Objects)
	require.EqualValues(t, 3, res.Orphans.Bytes)
	require.Equal(t, []string{lost}, res.OrphanKeys)
	require.Equal(t, Count{1, 4}, res.Foreign)
	require.Positive(t, res.Retired.Objects)
	require.Equal(t, res.Tail.Bytes+res.Folded.Bytes, last[PhaseObjects][0])
	require.Equal(t, last[PhaseObjects][1], last[PhaseObjects][0])
	require.Equal(t, [2]int64{3, 3}, last[PhasePartitions])
	require.Positive(t, last[PhaseOrphans][0])

	sum, err := Summarize(t.Context(), l.cat, l.store)
	require.NoError(t, err)
	require.Equal(t, res.Orphans, sum.Orphans)
	require.Equal(t, res.Retired, sum.Retired)
	require.Equal(t, res.Tail, sum.Tail)
	require.Equal(t, res.Folded, sum.Folded)
	require.Equal(t, sum.Stored.Bytes, sum.Tail.Bytes+sum.Folded.Bytes+sum.Retired.Bytes+sum.Orphans.Bytes+sum.Foreign.Bytes)
	require.NotEmpty(t, sum.Generations)

	for key, role := range map[string]Role{
		l.tailRows()[0].Key: RoleTail, l.folded()[0].Key: RoleFolded, lost: RoleOrphan,
	} {
		place, err := Locate(t.Context(), l.cat, key)
		require.NoError(t, err)
		require.Equal(t, role, place.Role)
	}
	retired, err := retiredKeys(t.Context(), l.cat)
	require.NoError(t, err)
	for key := range retired {
		place, err := Locate(t.Context(), l.cat, key)
		require.NoError(t, err)
		require.Equal(t, RoleRetired, place.Role)
	}
}

func TestProblemsKeptAreBounded(t *testing.T) {
	l := aged(t)
	l.cat = &liar{Catalog: l.cat, lease: func(*catalog.Lease) bool { return false }}
	res := l.verify(Options{MaxProblems: 2})
	require.Len(t, res.Problems, 2)
	require.EqualValues(t, 3, res.ProblemCount)
}

// broken is a store whose disk cannot be read in places.
type broken struct {
	objstore.Store

	err error
}

func (b *broken) GetRange(context.Context, string, int64, []byte) error { return b.err }

func TestAnUnreadableStoreIsAProblemAndAnEndedContextAnError(t *testing.T) {
	l := aged(t)
	store := l.store
	l.store = &broken{store, objstore.ErrUnavailable}
	res := l.verify(Options{})
	require.Equal(t, res.Tail.Objects+res.Folded.Objects, res.ByKind[Unreadable])
	require.Equal(t, res.ProblemCount, res.ByKind[Unreadable])

	l.store = &broken{store, objstore.ErrClosed}
	_, err := Run(t.Context(), l.cat, l.store, Options{})
	require.ErrorIs(t, err, objstore.ErrClosed)

	ctx, cancel := context.WithCancel(t.Context())
	_, err = Run(ctx, l.cat, store, Options{Progress: func(Phase, int64, int64) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
}

func TestBatchesOfDamagedBytesEndWithAnError(t *testing.T) {
	l := aged(t)
	obj := l.folded()[0]
	d, err := segment.Describe(t.Context(), l.store, obj.Key, obj.Size)
	require.NoError(t, err)
	x := d.Extents[0]
	l.rewrite(obj.Key, obj.Size, func(b []byte) []byte {
		b[x.Pos+8] = 0x7f // the length of the first batch
		return b
	})
	var last error
	for _, err := range Batches(t.Context(), l.store, obj.Key, x) {
		last = err
	}
	require.ErrorIs(t, last, segment.ErrCorrupt)
	x.Len = obj.Size
	for _, err := range Batches(t.Context(), l.store, obj.Key, x) {
		last = err
	}
	require.Error(t, last)
}

// Batches larger than the window, and many smaller ones.
func TestBatchesOfAllSizesAreRead(t *testing.T) {
	var slices [][]byte
	var batches []segment.Batch
	var size int64
	for _, n := range []int{1, 3 * batchWindow, 10, batchWindow - 70, batchWindow, 2*batchWindow + 1, 5} {
		b, err := recordbatch.Build(recordbatch.Spec{BaseOffset: int64(len(batches))}, []recordbatch.Record{{Value: make([]byte, n)}})
		require.NoError(t, err)
		slices = append(slices, b)
		batches = append(batches, segment.Batch{
			BaseOffset: int64(len(batches)), Offsets: 1, Records: 1, Length: int32(len(b)), ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
		})
		size += int64(len(b))
	}
	var builder segment.Builder
	builder.Begin()
	builder.Add(segment.Extent{End: int64(len(batches)), Batches: batches}, slices...)
	built, err := builder.Finish()
	require.NoError(t, err)
	store := storemem.New()
	require.NoError(t, store.Put(t.Context(), "k", objstore.Body{Slices: built.Slices, Size: built.Size, Checksum: built.Checksum}))
	d, err := segment.Describe(t.Context(), store, "k", built.Size)
	require.NoError(t, err)
	i := 0
	for b, err := range Batches(t.Context(), store, "k", d.Extents[0]) {
		require.NoError(t, err)
		require.True(t, recordbatch.ChecksumOK(b))
		require.Equal(t, len(slices[i]), len(b))
		i++
	}
	require.Equal(t, len(slices), i)
	for range Batches(t.Context(), store, "k", d.Extents[0]) {
		break // giving up is fine
	}
}
