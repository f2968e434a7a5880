package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// adminTimeout bounds making and looking up the topic.
const adminTimeout = 30 * time.Second

func (o *Options) baseOpts() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Bootstrap...),
		kgo.ClientID(o.ClientID),
		kgo.DisableClientMetrics(),
	}
	if o.Log != nil {
		opts = append(opts, kgo.WithLogger(clientLog{o.Log}))
	}
	return opts
}

func (o *Options) produceOpts() []kgo.Opt {
	codec, _ := o.Codec.Kgo()
	opts := append(o.baseOpts(),
		kgo.DefaultProduceTopic(o.Topic),
		kgo.RequiredAcks(o.Acks.Kgo()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(int32(o.BatchMaxBytes)),
		kgo.ProducerLinger(o.Linger),
		kgo.MaxBufferedRecords(o.MaxBuffered),
	)
	if !o.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	if o.InFlight > 0 {
		opts = append(opts, kgo.MaxProduceRequestsInflightPerBroker(o.InFlight))
	}
	return opts
}

func (o *Options) consumeOpts(from map[int32]kgo.Offset) []kgo.Opt {
	opts := append(o.baseOpts(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{o.Topic: from}),
		kgo.FetchMaxBytes(int32(o.FetchMaxBytes)),
		kgo.FetchMaxPartitionBytes(int32(o.FetchMaxPartitionBytes)),
		kgo.FetchMaxWait(o.FetchMaxWait),
		kgo.FetchMinBytes(int32(o.FetchMinBytes)),
		kgo.BrokerMaxReadBytes(int32(max(o.FetchMaxBytes*2, 100<<20))),
	)
	if !o.CheckCRCs {
		opts = append(opts, kgo.DisableFetchCRCValidation())
	}
	return opts
}

// admin runs f with an admin client, bounded in time.
func (o *Options) admin(ctx context.Context, f func(context.Context, *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	cl, err := kgo.NewClient(o.baseOpts()...)
	if err != nil {
		return fmt.Errorf("make admin client: %w", err)
	}
	defer cl.Close()
	return f(ctx, kadm.NewClient(cl))
}

// ensureTopic makes the topic when it does not exist, and sets o.Partitions to what it has.
func (o *Options) ensureTopic(ctx context.Context) error {
	return o.admin(ctx, func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.CreateTopic(ctx, int32(o.Partitions), int16(o.ReplicationFactor), o.TopicConfigs, o.Topic)
		made := err == nil
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s at %v: %w", o.Topic, o.Bootstrap, err)
		}
		n, err := o.countPartitions(ctx, adm, made)
		if err != nil {
			return err
		}
		o.Partitions = n
		return nil
	})
}

// countPartitions asks how many partitions the topic has; a topic just made may not be known everywhere yet.
func (o *Options) countPartitions(ctx context.Context, adm *kadm.Client, made bool) (int, error) {
	for {
		topics, err := adm.ListTopics(ctx, o.Topic)
		if err != nil {
			return 0, fmt.Errorf("look up topic %s at %v: %w", o.Topic, o.Bootstrap, err)
		}
		t := topics[o.Topic]
		err = t.Err
		if err == nil && len(t.Partitions) > 0 {
			for _, p := range t.Partitions.Sorted() {
				err = errors.Join(err, p.Err)
			}
			if err == nil {
				return len(t.Partitions), nil
			}
		}
		if !made || (err != nil && !kerr.IsRetriable(err) && !errors.Is(err, kerr.UnknownTopicOrPartition)) {
			return 0, fmt.Errorf("look up topic %s: %w", o.Topic, err)
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, fmt.Errorf("wait for topic %s to have leaders: %w", o.Topic, errors.Join(ctx.Err(), err))
		}
	}
}

// offsets returns the log start and the high watermark of every partition.
func (o *Options) offsets(ctx context.Context) (start, end map[int32]int64, err error) {
	err = o.admin(ctx, func(ctx context.Context, adm *kadm.Client) error {
		starts, err := adm.ListStartOffsets(ctx, o.Topic)
		if err == nil {
			err = starts.Error()
		}
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("read %s: the topic does not exist; produce to it first: %w", o.Topic, err)
		}
		if err != nil {
			return fmt.Errorf("list start offsets of %s: %w", o.Topic, err)
		}
		ends, err := adm.ListEndOffsets(ctx, o.Topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return fmt.Errorf("list end offsets of %s: %w", o.Topic, err)
		}
		start, end = make(map[int32]int64), make(map[int32]int64)
		starts.Each(func(l kadm.ListedOffset) { start[l.Partition] = l.Offset })
		ends.Each(func(l kadm.ListedOffset) { end[l.Partition] = l.Offset })
		return nil
	})
	return start, end, err
}

// deal splits partitions among n consumers.
func deal(from map[int32]int64, n int) []map[int32]kgo.Offset {
	n = min(n, len(from))
	out := make([]map[int32]kgo.Offset, n)
	for i := range out {
		out[i] = make(map[int32]kgo.Offset)
	}
	for i, p := range slices.Sorted(maps.Keys(from)) {
		out[i%n][p] = kgo.NewOffset().At(from[p])
	}
	return out
}

// clientLog hands the client's log to slog.
type clientLog struct{ log *slog.Logger }

func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	lv := slog.LevelWarn
	if level == kgo.LogLevelError {
		lv = slog.LevelError
	}
	l.log.Log(context.Background(), lv, "kafka client", append([]any{"event", msg}, keyvals...)...)
}
