package storage

import (
	"cmp"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// partition is one partition's state in this process. The object lives as long as the topic, across terms, so that
// watchers stay registered; what belongs to a term is reset when it ends. In a fleet there is one for every partition with
// extents in the cluster's tail, and for those that are read here or were; see [Engine.forget].
type partition struct {
	tp      catalog.TopicPartition
	loading chan struct{} // capacity 1: one load at a time
	mu      struct {
		sync.Mutex
		dropped bool // the topic was deleted
		orphan  bool // no longer in Engine.mu.partitions: look it up again
		// term and leaderEpoch: the lease, nil when this broker does not hold it. gave is the last lease epoch that was
		// given away in this term: it never comes back.
		term        *term
		leaderEpoch int32
		gave        catalog.LeaseEpoch
		// closed: held, but nothing is appended and nothing answered that needs the leader: it is being handed over. doubt:
		// it may have been, the answer was lost.
		closed, doubt bool
		watchers      map[*Watcher]struct{}

		// tail are the extents of the tail that end above foldedEnd, by offset. Those of a partition that is followed may
		// have gaps, as long as one broker's rows came before another's older ones.
		tail      []tailExtent
		tailBytes int64
		foldedEnd int64 // offsets below are found in packed rows
		committed int64 // bytes that came into the tail, ever: for Engine.Load

		// loaded: all below is known, with the folded row; producers and epochs only of partitions that are led.
		loaded    bool
		loadedAt  time.Time
		logStart  int64
		next      int64 // log end: the next offset to assign
		hw        int64 // end of what the manifest names, as far as it hangs together
		producers producers
		damage    error // producers were not to be read: nobody can tell a resend from a new batch
		epochs    []catalog.EpochStart
		bytes     int64 // of the folded extents
		sized     bool  // bytes is right: not after another broker folded something. See StoredBytes
		asked     bool  // bytes was read since the keeper looked last: a change that it hears of now may be in it
		rows      []cachedRow
		path      path // of readers through what is in the store
		// rowsStamp grows whenever something folded or rewritten is taken out, so that a slow load does not install what
		// was true before.
		rowsStamp uint64
	}
}

// cachedRow is a packed row as read from the catalog, decoded.
type cachedRow struct {
	base, end int64
	extents   []segment.PackedExtent
}

// maxCachedRows bounds the packed rows kept per partition; more are read again when needed.
const maxCachedRows = 4

func newPartition(tp catalog.TopicPartition) *partition {
	p := &partition{tp: tp, loading: make(chan struct{}, 1)}
	p.mu.gave = -1
	p.mu.watchers = make(map[*Watcher]struct{})
	return p
}

// watch registers a watcher; false if the object was forgotten.
func (p *partition) watch(w *Watcher) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.orphan {
		return false
	}
	p.mu.watchers[w] = struct{}{}
	return true
}

func (p *partition) unwatch(w *Watcher) {
	p.mu.Lock()
	delete(p.mu.watchers, w)
	p.mu.Unlock()
}

// resetLocked forgets everything a term knew.
func (p *partition) resetLocked() {
	p.mu.term, p.mu.leaderEpoch, p.mu.gave, p.mu.loaded = nil, 0, -1, false
	p.mu.closed, p.mu.doubt = false, false
	p.mu.producers, p.mu.damage = producers{}, nil
	p.mu.epochs, p.mu.tail, p.mu.rows = nil, nil, nil
	p.mu.logStart, p.mu.next, p.mu.hw, p.mu.foldedEnd, p.mu.bytes, p.mu.tailBytes = 0, 0, 0, 0, 0, 0
	p.mu.sized = false
	p.mu.rowsStamp++
}

// leadsLocked tells whether this broker may append to the partition and speak for it, but for the time: see
// term.trusted.
func (p *partition) leadsLocked() bool { return p.mu.term != nil && !p.mu.closed }

// reignLocked is whose word what is said of the partition now is.
func (p *partition) reignLocked() reign { return reign{p.mu.term, p.mu.leaderEpoch} }

// resignLocked makes a partition that was led one that is followed. All that was appended to it is committed.
func (p *partition) resignLocked() {
	p.mu.gave = max(p.mu.gave, catalog.LeaseEpoch(p.mu.leaderEpoch))
	p.mu.term, p.mu.closed, p.mu.doubt = nil, false, false
	p.mu.producers, p.mu.damage, p.mu.epochs, p.mu.sized = producers{}, nil, nil, false
}

// installLocked takes the folded row and joins the tail on it.
func (p *partition) installLocked(st *catalog.PartitionState) {
	p.foldTailLocked(st.LogEnd)
	p.mu.logStart = max(p.mu.logStart, st.LogStart)
	p.mu.hw = max(p.mu.hw, st.LogEnd)
	p.mu.bytes, p.mu.sized, p.mu.asked = st.Bytes, true, true
	p.mu.loaded, p.mu.loadedAt = true, time.Now()
	p.joinLocked()
}

// appendTailLocked adds an extent that this broker committed, at the high watermark.
func (p *partition) appendTailLocked(x tailExtent) {
	p.mu.tail = append(p.mu.tail, x)
	p.mu.tailBytes += x.size()
	p.mu.committed += x.size()
	p.mu.hw = x.end
	p.noteEpochLocked(x.leaderEpoch, x.base)
}

func (p *partition) noteEpochLocked(epoch int32, base int64) {
	if n := len(p.mu.epochs); n == 0 || int32(p.mu.epochs[n-1].Epoch) < epoch {
		p.mu.epochs = append(p.mu.epochs, catalog.EpochStart{Epoch: catalog.LeaseEpoch(epoch), Start: base})
	}
}

// insertLocked adds an extent that another broker committed, wherever it belongs.
func (p *partition) insertLocked(x tailExtent) {
	if x.end <= p.mu.foldedEnd {
		return // the row was folded before it was read
	}
	tail := p.mu.tail
	i := sort.Search(len(tail), func(i int) bool { return tail[i].base > x.base })
	p.mu.tail = slices.Insert(tail, i, x)
	p.mu.tailBytes += x.size()
	p.mu.committed += x.size()
	p.joinLocked()
}

// joinLocked moves the high watermark over what hangs together.
func (p *partition) joinLocked() {
	if !p.mu.loaded {
		return
	}
	tail := p.mu.tail
	i := sort.Search(len(tail), func(i int) bool { return tail[i].end > p.mu.hw })
	for ; i < len(tail) && tail[i].base <= p.mu.hw; i++ {
		p.mu.hw = tail[i].end
	}
}

// gapLocked tells whether there are extents that do not hang together with the others yet.
func (p *partition) gapLocked() bool {
	n := len(p.mu.tail)
	return p.mu.loaded && n > 0 && p.mu.tail[n-1].end > p.mu.hw
}

// swapExtentsLocked replaces the extents of merged objects. They may lie apart: a partition that moved away and came back
// has another broker's between them. False if it has none of them.
func (p *partition) swapExtentsLocked(gone map[*tailObject]bool, by []tailExtent) bool {
	kept := make([]tailExtent, 0, len(p.mu.tail))
	found := false
	for _, x := range p.mu.tail {
		if gone[x.obj] {
			found = true
			p.mu.tailBytes -= x.size()
			continue
		}
		kept = append(kept, x)
	}
	if !found {
		return false
	}
	for _, x := range by {
		if x.end > p.mu.foldedEnd {
			kept = append(kept, x)
			p.mu.tailBytes += x.size()
		}
	}
	slices.SortFunc(kept, func(a, b tailExtent) int { return cmp.Compare(a.base, b.base) })
	p.mu.tail = kept
	p.mu.rowsStamp++
	return true
}

// foldTailLocked forgets tail extents that are now folded.
func (p *partition) foldTailLocked(end int64) {
	n := sort.Search(len(p.mu.tail), func(i int) bool { return p.mu.tail[i].end > end })
	for i := range p.mu.tail[:n] {
		p.mu.tailBytes -= p.mu.tail[i].size()
	}
	p.mu.tail = slices.Clone(p.mu.tail[n:])
	p.mu.foldedEnd = max(p.mu.foldedEnd, end)
	if p.mu.loaded {
		p.mu.hw = max(p.mu.hw, end) // everything below is folded, also what was not read
		p.joinLocked()
	}
	p.dropRowsLocked()
}

func (p *partition) dropRowsLocked() {
	p.mu.rows = nil
	p.mu.rowsStamp++
}

// offsetsLocked is what clients are told.
func (p *partition) offsetsLocked() Offsets {
	end := max(p.mu.hw, p.mu.logStart)
	o := Offsets{
		LogStart: p.mu.logStart, HighWatermark: end, LastStable: end, LeaderEpoch: p.mu.leaderEpoch, LogStartEpoch: -1,
	}
	if es := p.mu.epochs; o.LogStart < end && len(es) > 0 {
		i := sort.Search(len(es), func(i int) bool { return es[i].Start > o.LogStart })
		o.LogStartEpoch = int32(es[max(i-1, 0)].Epoch)
	}
	return o
}
