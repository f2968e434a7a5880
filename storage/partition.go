package storage

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// partition is one partition's state in this process. The object lives as long as the topic, across terms, so that
// watchers stay registered; what belongs to a term is reset when it ends.
type partition struct {
	tp      catalog.TopicPartition
	loading chan struct{} // capacity 1: one load at a time
	mu      struct {
		sync.Mutex
		dropped bool
		// term and leaderEpoch: the lease, nil when this broker does not hold it.
		term        *term
		leaderEpoch int32
		watchers    map[*Watcher]struct{}

		// loaded: all below is known.
		loaded    bool
		logStart  int64
		next      int64 // log end: the next offset to assign
		hw        int64 // end of what the manifest names
		producers producers
		epochs    []catalog.EpochStart
		foldedEnd int64 // offsets below are found in packed rows
		tail      []tailExtent
		bytes     int64 // of the folded extents
		tailBytes int64
		rows      []cachedRow
		rowsStamp uint64 // grows with each change of packed rows, so that a slow load does not install old ones
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
	p.mu.watchers = make(map[*Watcher]struct{})
	return p
}

func (p *partition) watch(w *Watcher) {
	p.mu.Lock()
	p.mu.watchers[w] = struct{}{}
	p.mu.Unlock()
}

func (p *partition) unwatch(w *Watcher) {
	p.mu.Lock()
	delete(p.mu.watchers, w)
	p.mu.Unlock()
}

// resetLocked forgets everything a term knew.
func (p *partition) resetLocked() {
	p.mu.term, p.mu.leaderEpoch, p.mu.loaded = nil, 0, false
	p.mu.producers = producers{}
	p.mu.epochs, p.mu.tail, p.mu.rows = nil, nil, nil
	p.mu.logStart, p.mu.next, p.mu.hw, p.mu.foldedEnd, p.mu.bytes, p.mu.tailBytes = 0, 0, 0, 0, 0, 0
	p.mu.rowsStamp++
}

// installLocked takes the folded row.
func (p *partition) installLocked(st *catalog.PartitionState) error {
	ps, err := decodeProducers(st.Producers)
	if err != nil {
		return fmt.Errorf("load partition %s: %w", p.tp, err)
	}
	p.mu.producers = ps
	p.mu.tail, p.mu.tailBytes = nil, 0
	p.dropRowsLocked()
	p.mu.logStart = max(p.mu.logStart, st.LogStart)
	p.mu.foldedEnd, p.mu.hw, p.mu.next = st.LogEnd, st.LogEnd, st.LogEnd
	p.mu.epochs = slices.Clone(st.LeaderEpochs)
	p.mu.bytes = st.Bytes
	p.mu.loaded = true
	return nil
}

// appendTailLocked adds a committed extent at the high watermark.
func (p *partition) appendTailLocked(x tailExtent) {
	p.mu.tail = append(p.mu.tail, x)
	p.mu.tailBytes += x.size()
	p.mu.hw = x.end
	if n := len(p.mu.epochs); n == 0 || int32(p.mu.epochs[n-1].Epoch) < x.leaderEpoch {
		p.mu.epochs = append(p.mu.epochs, catalog.EpochStart{Epoch: catalog.LeaseEpoch(x.leaderEpoch), Start: x.base})
	}
}

// foldTailLocked forgets tail extents that are now folded.
func (p *partition) foldTailLocked(end int64) {
	n := sort.Search(len(p.mu.tail), func(i int) bool { return p.mu.tail[i].end > end })
	for i := range p.mu.tail[:n] {
		p.mu.tailBytes -= p.mu.tail[i].size()
	}
	p.mu.tail = slices.Clone(p.mu.tail[n:])
	p.mu.foldedEnd = max(p.mu.foldedEnd, end)
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

// load brings the partition's folded row into memory, once a term. Partitions with extents in the tail were loaded
// when the term began, so the row is all there is to know.
func (e *Engine) load(ctx context.Context, p *partition) error {
	p.mu.Lock()
	loaded, led := p.mu.loaded, p.mu.term != nil
	p.mu.Unlock()
	if loaded {
		return nil
	}
	if !led {
		return e.absent(p.tp)
	}
	select {
	case p.loading <- struct{}{}:
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return fmt.Errorf("load partition %s: %w", p.tp, ctx.Err())
	}
	p.mu.Lock()
	t := p.mu.term
	loaded = p.mu.loaded
	p.mu.Unlock()
	if loaded {
		return nil
	}
	states, err := e.cfg.Catalog.LoadPartitions(ctx, []catalog.TopicPartition{p.tp})
	if err != nil {
		return fmt.Errorf("load partition %s: %w", p.tp, translate(err))
	}
	if len(states) == 0 {
		return fmt.Errorf("load partition %s: %w", p.tp, ErrUnknownPartition)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.term == nil || p.mu.term != t {
		return fmt.Errorf("load partition %s: %w", p.tp, ErrNotLeader)
	}
	return p.installLocked(&states[0])
}
