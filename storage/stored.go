package storage

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
)

// StoredBytes is the size of the logs of the partitions this broker leads, by topic: record bytes that the manifest names.
// The sum over all brokers is that of the cluster, since each partition has one leader. Topics without a partition led here
// are missing. Of partitions that nobody used since the lease was taken the catalog is asked, some thousands at a time.
func (e *Engine) StoredBytes(ctx context.Context) (map[catalog.TopicID]int64, error) {
	out := make(map[catalog.TopicID]int64)
	var ask []catalog.TopicPartition
	for _, p := range e.all() {
		p.mu.Lock()
		if p.leadsLocked() && !p.mu.dropped {
			n := p.mu.tailBytes
			if p.mu.loaded {
				n += p.mu.bytes
			} else {
				ask = append(ask, p.tp)
			}
			out[p.tp.Topic] += n
		}
		p.mu.Unlock()
	}
	for len(ask) > 0 {
		page := ask[:min(len(ask), loadPage)]
		ask = ask[len(page):]
		states, err := e.cfg.Catalog.LoadPartitions(ctx, page)
		if err != nil {
			return nil, fmt.Errorf("read the sizes of %d partitions: %w", len(page), translate(err))
		}
		for i := range states {
			out[states[i].TopicPartition.Topic] += states[i].Bytes
		}
	}
	return out, nil
}
