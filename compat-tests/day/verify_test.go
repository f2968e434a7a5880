package day_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// requireWhole reads a partition from its first byte to its last and compares
// every byte with what was sent. It returns how many bytes of batches it read.
func requireWhole(t *testing.T, b *target.Broker, topic string, p *producer, batches int64) (read int64) {
	t.Helper()
	c := dial(t, b)
	want := bytes.Clone(p.batch)
	correlation := int32(0)
	for n := int64(0); n < batches; {
		records, end, err := fetch(c, correlation, topic, p.partition, n*batchRecords)
		correlation++
		require.NoError(t, err, "partition %d at batch %d", p.partition, n)
		require.Equal(t, batches*batchRecords, end, "high watermark of partition %d", p.partition)
		require.NotEmpty(t, records, "partition %d ends at batch %d", p.partition, n)
		for len(records) >= len(want) {
			got := records[:len(want)]
			p.stored(want, got, n)
			if !bytes.Equal(want, got) {
				require.Equal(t, want, got, "batch %d of partition %d", n, p.partition)
			}
			records = records[len(want):]
			read += int64(len(want))
			n++
		}
		// What is left is the beginning of a batch that did not fit.
		if len(records) > atLength {
			require.EqualValues(t, n*batchRecords, binary.BigEndian.Uint64(records))
		}
	}
	return read
}

// fetch reads up to 8 MiB of one partition; what it returns is good until the
// next read of the connection.
func fetch(c *connection, correlation int32, topic string, partition int32, offset int64) (records []byte, end int64, err error) {
	const most = 8 << 20
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = fetchVersion, -1, 10_000, 1, most
	req.SessionEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, offset, most
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if err := c.write(format.AppendRequest(nil, req, correlation)); err != nil {
		return nil, 0, err
	}
	if err := c.SetReadDeadline(time.Now().Add(answerWithin)); err != nil {
		return nil, 0, err
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = fetchVersion
	if err := c.read(correlation, resp); err != nil {
		return nil, 0, err
	}
	if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, 0, fmt.Errorf("error %d, %d topics", resp.ErrorCode, len(resp.Topics))
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return nil, 0, fmt.Errorf("error %d", got.ErrorCode)
	}
	return got.RecordBatches, got.HighWatermark, nil
}

// requireEnds reads the first and the last thousand records of every partition
// with a client, decompressed and parsed, and compares them with what was sent.
func requireEnds(t *testing.T, b *target.Broker, topic string, batches int64) {
	t.Helper()
	for p := range int32(partitions) {
		for _, n := range []int64{0, batches - 1} {
			cl := b.Client(t, kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
				topic: {p: kgo.NewOffset().At(n * batchRecords)},
			}))
			for i := 0; i < batchRecords; {
				ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
				fetches := cl.PollRecords(ctx, batchRecords-i)
				cancel()
				require.NoError(t, fetches.Err(), "partition %d at %d", p, n*batchRecords+int64(i))
				fetches.EachRecord(func(r *kgo.Record) {
					require.Equal(t, n*batchRecords+int64(i), r.Offset)
					require.Equal(t, firstTimestamp+n*batchMillis+timeDelta(i), r.Timestamp.UnixMilli())
					require.Equal(t, string(value(p, i)), string(r.Value))
					i++
				})
			}
			cl.Close()
		}
	}
}
