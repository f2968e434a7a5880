package broker

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestProduceAndFetchWithFranz(t *testing.T) {
	tb := start(t, func(c *Config) { c.AutoCreateTopics, c.NumPartitions = true, 3 })
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		const n = 2000
		cl := tb.client(kgo.DefaultProduceTopic(name), kgo.ProducerBatchCompression(codec), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics(name))
		for i := range n {
			cl.Produce(t.Context(), &kgo.Record{Key: fmt.Append(nil, i%10), Value: fmt.Append(nil, "value ", i), Headers: []kgo.RecordHeader{{Key: "h", Value: nil}}}, func(_ *kgo.Record, err error) { require.NoError(t, err) })
		}
		require.NoError(t, cl.Flush(t.Context()))
		seen := map[string]bool{}
		next := map[int32]int64{}
		ctx, cancel := context.WithCancel(t.Context())
		for len(seen) < n {
			fs := cl.PollFetches(ctx)
			require.Empty(t, fs.Errors())
			fs.EachRecord(func(r *kgo.Record) {
				require.False(t, seen[string(r.Value)])
				require.Equal(t, next[r.Partition], r.Offset)
				next[r.Partition]++
				seen[string(r.Value)] = true
			})
		}
		cancel()
	}
}

func (b *Broker) sessionsOpen() int {
	b.sessions.mu.Lock()
	defer b.sessions.mu.Unlock()
	return len(b.sessions.mu.byID)
}
