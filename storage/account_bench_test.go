package storage

import (
	"context"
	"fmt"
	"testing"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// BenchmarkAccount is what it costs to share one PUT out among the topics of an object of 2,000 batches, the hook left out.
func BenchmarkAccount(b *testing.B) {
	for _, topics := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("topics=", topics), func(b *testing.B) {
			var ix segment.Index
			for i := range topics {
				x := segment.Extent{TopicPartition: catalog.TopicPartition{Topic: catalog.TopicID{byte(i >> 8), byte(i)}}}
				for range 2000 / topics {
					x.Batches = append(x.Batches, segment.Batch{Length: 1000})
					x.Len += 1000
				}
				ix.Extents = append(ix.Extents, x)
			}
			e := &Engine{cfg: Config{Hooks: Hooks{Requested: func(string, catalog.TopicID, float64, float64) {}}}}
			s := &accountedStore{requested: e.cfg.Hooks.Requested}
			b.ReportAllocs()
			for b.Loop() {
				s.tell(e.onBehalfOfAll(context.Background(), &ix), requestPut, 2_000_000, nil)
			}
		})
	}
}
