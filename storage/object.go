package storage

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// entry is one appended batch on its way into a log object.
type entry struct {
	p           *partition
	batch       []byte
	meta        segment.Batch
	leaderEpoch int32
	at          time.Time // of the append
}

// openObject gathers batches until it is sealed. Guarded by term.mu until then; afterwards by the goroutine that
// uploads it, and after that by the committer.
type openObject struct {
	flight  *flight
	entries []entry
	frames  []*slab.Buf // whose memory the batches lie in
	arena   *slab.Buf   // copies of small batches
	used    int         // of the arena
	bytes   int64
	extents int // upper bound: changes of partition
	began   time.Time
	// followed are those who follow an append in it.
	followed []any

	// From the seal on.
	seq      catalog.Sequence
	sealedAt time.Time
	trace    FlushTrace // nil: nobody follows it

	// From the upload on.
	row      catalog.TailEntry
	index    segment.Index
	slices   [][]byte // by batch, in layout order
	uploaded bool
	took     time.Duration // seal to end of upload
	orphans  []string      // keys of attempts that may exist besides the winner
}

const (
	minArena = 4 << 10
	maxArena = 256 << 10
)

// add takes a batch. The memory of a large one is kept by retaining its frame; a small one is copied.
func (o *openObject) add(en entry, frame *slab.Buf, pool *slab.Pool) {
	n := len(en.batch)
	switch {
	case frame != nil && n < copyBelow:
		if o.arena == nil || o.used+n > len(o.arena.Bytes()) {
			size := minArena // growing, so that an object of one tiny batch does not occupy much in the tail cache
			if o.arena != nil {
				size = min(2*len(o.arena.Bytes()), maxArena)
			}
			o.arena, o.used = pool.Get(size), 0
			o.frames = append(o.frames, o.arena)
		}
		dst := o.arena.Bytes()[o.used : o.used+n : o.used+n]
		copy(dst, en.batch)
		o.used += n
		en.batch = dst
	case frame != nil && (len(o.frames) == 0 || !slices.Contains(o.frames[max(0, len(o.frames)-4):], frame)):
		frame.Retain()
		o.frames = append(o.frames, frame)
	}
	if len(o.entries) == 0 || o.entries[len(o.entries)-1].p != en.p {
		o.extents++
	}
	o.entries = append(o.entries, en)
	o.bytes += int64(n)
}

// hold keeps the memory of the batches beyond the end of the object: until the function it returns is called, once.
func (o *openObject) hold() (release func()) {
	frames := slices.Clone(o.frames)
	for _, f := range frames {
		f.Retain()
	}
	return func() {
		for _, f := range frames {
			f.Release()
		}
	}
}

// layout sorts the batches by partition and offset and describes the extents.
func (o *openObject) layout(b *segment.Builder) (segment.Object, error) {
	slices.SortFunc(o.entries, func(x, y entry) int {
		if x.p != y.p {
			return x.p.tp.Compare(y.p.tp)
		}
		if x.meta.BaseOffset < y.meta.BaseOffset {
			return -1
		}
		return 1
	})
	batches := make([]segment.Batch, len(o.entries))
	o.slices = make([][]byte, len(o.entries))
	for i := range o.entries {
		batches[i], o.slices[i] = o.entries[i].meta, o.entries[i].batch
	}
	b.Begin()
	for i := 0; i < len(o.entries); {
		first := &o.entries[i]
		j := i
		maxTS := first.meta.MaxTimestamp
		for ; j < len(o.entries) && o.entries[j].p == first.p; j++ {
			maxTS = max(maxTS, o.entries[j].meta.MaxTimestamp)
		}
		last := &batches[j-1]
		b.Add(segment.Extent{
			TopicPartition: first.p.tp, LeaderEpoch: first.leaderEpoch,
			Base: first.meta.BaseOffset, End: last.BaseOffset + int64(last.Offsets),
			MaxTimestamp: maxTS, Batches: batches[i:j:j],
		}, o.slices[i:j]...)
		i = j
	}
	return b.Finish()
}

// tailObject is one committed object of the tail, in memory: what a tail row says, and the bytes while cached.
type tailObject struct {
	row    catalog.TailEntry
	slices [][]byte // by batch in layout order; valid while a reference is held
	frames []releaser
	cached int64 // bytes the frames occupy
	rotten bool  // its bytes could not be read for a merge; the keeper's
	// joins: when it was committed, an extent of it continued one of another broker's in the tail.
	joins bool
	refs  atomic.Int32
}

// tryRetain pins the bytes in memory; false when they are not cached (any more).
func (t *tailObject) tryRetain() bool {
	for {
		n := t.refs.Load()
		if n <= 0 {
			return false
		}
		if t.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release lets go of a pin; the last one, which follows the eviction, frees the memory.
func (t *tailObject) Release() {
	if t.refs.Add(-1) == 0 {
		for _, f := range t.frames {
			f.Release()
		}
		t.frames, t.slices = nil, nil
	}
}

func (t *tailObject) merged() bool { return t.row.First != t.row.Last }

// batchPos locates one batch inside a tail extent.
type batchPos struct {
	end   uint32 // offset after the batch, less the extent's base
	pos   uint32 // byte after the batch, less the extent's position
	maxTS int64
}

// tailExtent is one partition's run of batches in one object of the tail.
type tailExtent struct {
	obj         *tailObject
	base, end   int64
	leaderEpoch int32
	maxTS       int64
	pos         int64
	first       int // of its batches in obj.slices
	batches     []batchPos
}

func (x *tailExtent) size() int64 { return int64(x.batches[len(x.batches)-1].pos) }

// tailExtents describes the extents of an object for reads.
func tailExtents(obj *tailObject, ix *segment.Index) []tailExtent {
	n := 0
	for i := range ix.Extents {
		n += len(ix.Extents[i].Batches)
	}
	all := make([]batchPos, 0, n)
	out := make([]tailExtent, len(ix.Extents))
	for i := range ix.Extents {
		e := &ix.Extents[i]
		from := len(all)
		var pos uint32
		for j := range e.Batches {
			b := &e.Batches[j]
			pos += uint32(b.Length)
			all = append(all, batchPos{
				end: uint32(b.BaseOffset + int64(b.Offsets) - e.Base), pos: pos, maxTS: b.MaxTimestamp,
			})
		}
		out[i] = tailExtent{
			obj: obj, base: e.Base, end: e.End, leaderEpoch: e.LeaderEpoch, maxTS: e.MaxTimestamp,
			pos: e.Pos, first: from, batches: all[from:len(all):len(all)],
		}
	}
	return out
}

// ends are where partitions end in an object, each once: for people who read the catalog.
func (e *Engine) ends(ix *segment.Index) []catalog.PartitionEnd {
	if e.cfg.Fleet == nil {
		return nil
	}
	ends := make([]catalog.PartitionEnd, 0, len(ix.Extents))
	for i := range ix.Extents { // sorted by partition
		x := &ix.Extents[i]
		if n := len(ends); n > 0 && ends[n-1].TopicPartition == x.TopicPartition {
			ends[n-1].End = max(ends[n-1].End, x.End)
			continue
		}
		ends = append(ends, catalog.PartitionEnd{TopicPartition: x.TopicPartition, End: x.End})
	}
	return ends
}
