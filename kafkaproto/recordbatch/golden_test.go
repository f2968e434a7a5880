package recordbatch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

// capture answers just enough for a kgo producer of one topic with one
// partition, and hands the batches it produces to got.
func capture(conn net.Conn, got chan<- []byte) error {
	defer conn.Close()
	for {
		frame, err := kafkaproto.ReadFrame(conn, 10<<20, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
			return nil
		}
		if err != nil {
			return err
		}
		h, body, err := kafkaproto.ParseRequest(frame)
		if err != nil {
			return err
		}
		req, err := kafkaproto.DecodeBody(h, body)
		if err != nil {
			return err
		}
		resp := req.ResponseKind()
		switch r := resp.(type) {
		case *kmsg.ApiVersionsResponse:
			for key, version := range map[int16]int16{0: 9, 3: 9, 18: 3, 22: 4} {
				r.ApiKeys = append(r.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: version})
			}
		case *kmsg.MetadataResponse:
			topic := "t"
			r.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "broker", Port: 9092}}
			r.Topics = []kmsg.MetadataResponseTopic{{Topic: &topic, Partitions: []kmsg.MetadataResponseTopicPartition{{Leader: 1, Replicas: []int32{1}, ISR: []int32{1}}}}}
		case *kmsg.InitProducerIDResponse:
			r.ProducerID, r.ProducerEpoch = 42, 3
		case *kmsg.ProduceResponse:
			for _, t := range req.(*kmsg.ProduceRequest).Topics {
				rt := kmsg.ProduceResponseTopic{Topic: t.Topic}
				for _, p := range t.Partitions {
					got <- bytes.Clone(p.Records)
					rt.Partitions = append(rt.Partitions, kmsg.ProduceResponseTopicPartition{Partition: p.Partition})
				}
				r.Topics = append(r.Topics, rt)
			}
		default:
			return fmt.Errorf("unexpected %s", h.Name())
		}
		if _, err := conn.Write(kafkaproto.AppendResponse(nil, h.CorrelationID, resp)); err != nil {
			return err
		}
	}
}

// TestFranzGoBatches validates and reads what franz-go's own encoder writes.
func TestFranzGoBatches(t *testing.T) {
	for name, codec := range map[recordbatch.Codec]kgo.CompressionCodec{
		recordbatch.CodecNone:   kgo.NoCompression(),
		recordbatch.CodecGzip:   kgo.GzipCompression(),
		recordbatch.CodecSnappy: kgo.SnappyCompression(),
		recordbatch.CodecLZ4:    kgo.Lz4Compression(),
		recordbatch.CodecZstd:   kgo.ZstdCompression(),
	} {
		t.Run(name.String(), func(t *testing.T) {
			got := make(chan []byte, 100)
			cl, err := kgo.NewClient(
				kgo.SeedBrokers("broker:9092"),
				kgo.ProducerBatchCompression(codec),
				kgo.ProducerLinger(20*time.Millisecond),
				kgo.DefaultProduceTopic("t"),
				kgo.Dialer(func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					go func() {
						if err := capture(server, got); err != nil {
							t.Error(err)
						}
					}()
					return client, nil
				}))
			require.NoError(t, err)
			defer cl.Close()

			var want []*kgo.Record
			for i := range 1000 {
				r := &kgo.Record{Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i%13))}
				if i%3 != 0 {
					r.Key = fmt.Appendf(nil, "key %d", i)
				}
				switch i % 5 {
				case 0: // null
				case 1:
					r.Value = []byte{}
				default:
					r.Value = bytes.Repeat([]byte(fmt.Sprint(i, " ")), i%200)
				}
				for h := range i % 4 {
					r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprint("h", h), Value: []byte("v")})
				}
				want = append(want, r)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			require.NoError(t, cl.ProduceSync(ctx, want...).FirstErr())
			close(got)

			i := 0
			for b := range got {
				before := bytes.Clone(b)
				h, err := recordbatch.Validate(b, recordbatch.Limits{
					MaxBatchBytes: 1 << 20, NowMillis: 1_700_000_000_000,
					TimestampBeforeMaxMillis: 0, TimestampAfterMaxMillis: 12,
				})
				require.NoError(t, err)
				require.Equal(t, before, b, "nothing to repair")
				require.EqualValues(t, 42, h.ProducerID)
				require.EqualValues(t, 3, h.ProducerEpoch)
				require.EqualValues(t, i, h.BaseSequence)
				if h.NumRecords > 100 {
					require.Equal(t, name, h.Compression())
				}
				for r, err := range recordbatch.Records(b, 0) {
					require.NoError(t, err)
					w := want[i]
					require.Equal(t, w.Key, r.Key)
					require.Equal(t, w.Value, r.Value)
					require.Equal(t, w.Timestamp.UnixMilli(), h.FirstTimestamp+r.TimestampDelta)
					require.Len(t, r.Headers, len(w.Headers))
					for j := range w.Headers {
						require.Equal(t, recordbatch.RecordHeader(w.Headers[j]), r.Headers[j])
					}
					i++
				}
			}
			require.Equal(t, len(want), i)
		})
	}
}
