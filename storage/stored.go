package storage

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
)

// What a partition holds is known from memory, but for what other brokers do to its folded rows: they fold what they committed
// while they led it, and the controller folds what a dead one did, and drops what lies below a log start. After that, and after
// a take-over, the catalog is asked.

// sizeTries is how often it is asked for what changes meanwhile.
const sizeTries = 3

// Size is the bytes of the partition's log that the manifest names.
func (e *Engine) Size(ctx context.Context, tp catalog.TopicPartition) (int64, error) {
	p, err := e.lockLed(ctx, tp)
	if err != nil {
		return 0, err
	}
	ask := []sizing{{p: p, term: p.mu.term}}
	p.mu.Unlock()
	total := int64(0)
	err = e.sizes(ctx, ask, func(_ catalog.TopicID, n int64) { total = n })
	return total, err
}

// StoredBytes is the size of the logs of the partitions this broker leads, by topic: record bytes that the manifest names.
// The sum over all brokers is that of the cluster, since each partition has one leader. Topics without a partition led here
// are missing. The catalog is asked for partitions that nobody used since the lease was taken, and for those of which another
// broker folded something, once each, some thousands at a time.
func (e *Engine) StoredBytes(ctx context.Context) (map[catalog.TopicID]int64, error) {
	out := make(map[catalog.TopicID]int64)
	var ask []sizing
	for _, p := range e.all() {
		p.mu.Lock()
		switch {
		case !p.leadsLocked() || p.mu.dropped:
		case p.mu.sized:
			out[p.tp.Topic] += p.mu.bytes + p.mu.tailBytes
		default:
			ask = append(ask, sizing{p: p, term: p.mu.term})
		}
		p.mu.Unlock()
	}
	if err := e.sizes(ctx, ask, func(topic catalog.TopicID, n int64) { out[topic] += n }); err != nil {
		return nil, err
	}
	return out, nil
}

// sizing is a partition whose size is asked for, as led in a term.
type sizing struct {
	p     *partition
	term  *term
	stamp uint64
	tries int
}

// sizes tells what each partition holds, unless it is led no more.
func (e *Engine) sizes(ctx context.Context, ask []sizing, tell func(topic catalog.TopicID, bytes int64)) error {
	for len(ask) > 0 {
		page := ask[:min(len(ask), loadPage)]
		again, err := e.size(ctx, page, tell)
		if err != nil {
			return err
		}
		ask = append(ask[len(page):], again...)
	}
	return nil
}

// size is sizes for one page. It returns those of which something was folded or rewritten meanwhile: nobody knows whether the
// answer has it.
func (e *Engine) size(ctx context.Context, page []sizing, tell func(topic catalog.TopicID, bytes int64)) (again []sizing, err error) {
	var tps []catalog.TopicPartition
	for i := range page {
		p := page[i].p
		p.mu.Lock()
		page[i].stamp = p.mu.rowsStamp
		if !p.mu.sized {
			tps = append(tps, p.tp)
		}
		p.mu.Unlock()
	}
	var states []catalog.PartitionState
	if len(tps) > 0 {
		if states, err = e.cfg.Catalog.LoadPartitions(ctx, tps); err != nil {
			return nil, fmt.Errorf("read the sizes of %d partitions: %w", len(tps), translate(err))
		}
	}
	found := make(map[catalog.TopicPartition]*catalog.PartitionState, len(states))
	for i := range states {
		found[states[i].TopicPartition] = &states[i]
	}
	for i := range page {
		s := page[i]
		p := s.p
		p.mu.Lock()
		st := found[p.tp]
		current := p.mu.rowsStamp == s.stamp
		switch {
		case p.mu.term != s.term || p.mu.dropped:
		case !p.mu.sized && !current && s.tries < sizeTries:
			s.tries++
			again = append(again, s)
		case p.mu.sized:
			tell(p.tp.Topic, p.mu.bytes+p.mu.tailBytes)
		case st == nil:
			tell(p.tp.Topic, p.mu.tailBytes)
		default:
			tail := p.tailBytesLocked(st.LogEnd)
			p.mu.bytes, p.mu.sized, p.mu.asked = st.Bytes, current && tail == p.mu.tailBytes, true
			tell(p.tp.Topic, st.Bytes+tail)
		}
		p.mu.Unlock()
	}
	return again, nil
}

// grownLocked notes that the keeper changed how much is folded. What the catalog said meanwhile may have that, or not: it is asked again.
func (p *partition) grownLocked(n int64) {
	p.mu.bytes += n
	p.mu.sized = p.mu.sized && !p.mu.asked
}

// tailBytesLocked is what of the tail lies behind the folded offsets, which may not be known to be folded yet.
func (p *partition) tailBytesLocked(folded int64) int64 {
	n := p.mu.tailBytes
	for i := range p.mu.tail {
		if p.mu.tail[i].end > folded {
			break
		}
		n -= p.mu.tail[i].size()
	}
	return n
}
