package storage

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
)

// StoredBytes is the size of the logs of the partitions this broker leads, by topic: record bytes that the manifest names.
// The sum over all brokers is that of the cluster, since each partition has one leader. Topics without a partition led here
// are missing. Of partitions that nobody used since the lease was taken the catalog is asked, once, some thousands at a
// time.
func (e *Engine) StoredBytes(ctx context.Context) (map[catalog.TopicID]int64, error) {
	out := make(map[catalog.TopicID]int64)
	var ask []sizing
	for _, p := range e.all() {
		p.mu.Lock()
		if p.leadsLocked() && !p.mu.dropped {
			out[p.tp.Topic] += p.mu.tailBytes
			if p.mu.loaded || p.mu.sized {
				out[p.tp.Topic] += p.mu.bytes
			} else {
				ask = append(ask, sizing{p: p, term: p.mu.term, stamp: p.mu.rowsStamp})
			}
		}
		p.mu.Unlock()
	}
	for len(ask) > 0 {
		page := ask[:min(len(ask), loadPage)]
		ask = ask[len(page):]
		if err := e.size(ctx, page, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sizing is a partition whose size the catalog is asked for.
type sizing struct {
	p     *partition
	term  *term
	stamp uint64
}

// size asks for the sizes of partitions, adds them up by topic, and remembers those that nothing changed meanwhile.
func (e *Engine) size(ctx context.Context, page []sizing, out map[catalog.TopicID]int64) error {
	tps := make([]catalog.TopicPartition, len(page))
	for i := range page {
		tps[i] = page[i].p.tp
	}
	states, err := e.cfg.Catalog.LoadPartitions(ctx, tps)
	if err != nil {
		return fmt.Errorf("read the sizes of %d partitions: %w", len(page), translate(err))
	}
	bytes := make(map[catalog.TopicPartition]int64, len(states))
	for i := range states {
		bytes[states[i].TopicPartition] = states[i].Bytes
	}
	for i := range page {
		p := page[i].p
		n, known := bytes[p.tp]
		out[p.tp.Topic] += n
		p.mu.Lock()
		if known && !p.mu.loaded && p.mu.term == page[i].term && p.mu.rowsStamp == page[i].stamp {
			p.mu.bytes, p.mu.sized = n, true
		}
		p.mu.Unlock()
	}
	return nil
}
