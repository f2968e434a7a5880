// Command e2e_producer_consumer writes records to a topic and reads them back through a consumer group, with franz-go. It
// compares every record, and exits with 1 when one is missing, differs, or came more than once.
//
//	go run ./examples/e2e_producer_consumer --bootstrap localhost:9092 --records 100000
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	var o options
	flag.StringVar(&o.bootstrap, "bootstrap", "localhost:9092", "a broker")
	flag.IntVar(&o.records, "records", 10_000, "how many records to write")
	flag.IntVar(&o.partitions, "partitions", 6, "partitions of the topic, which is made anew")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "how long all may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e_producer_consumer:", err)
		os.Exit(1)
	}
}

type options struct {
	bootstrap           string
	records, partitions int
	timeout             time.Duration
}

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	// Names of their own, so that the example can be run again and again.
	name := "e2e-" + strconv.FormatInt(time.Now().UnixNano(), 36)

	producer, err := kgo.NewClient(kgo.SeedBrokers(o.bootstrap), kgo.ClientID("e2e-producer"))
	if err != nil {
		return err
	}
	defer producer.Close()
	admin := kadm.NewClient(producer)
	if _, err := admin.CreateTopic(ctx, int32(o.partitions), -1, nil, name); err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	began := time.Now()
	if err := produce(ctx, producer, name, o.records); err != nil {
		return err
	}
	fmt.Printf("produced %d records to %s in %s\n", o.records, name, time.Since(began).Round(time.Millisecond))

	began = time.Now()
	if err := consume(ctx, o, name); err != nil {
		return err
	}
	fmt.Printf("consumed %d records as group %s in %s: each once, all as they were sent\n", o.records, name, time.Since(began).Round(time.Millisecond))

	// Nothing of the example stays.
	if _, err := admin.DeleteTopic(ctx, name); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	if _, err := admin.DeleteGroup(ctx, name); err != nil {
		return fmt.Errorf("delete group %s: %w", name, err)
	}
	return nil
}

// produce writes records and waits until all are acknowledged: until then they may be lost.
func produce(ctx context.Context, cl *kgo.Client, topic string, n int) error {
	var failed error
	for i := range n {
		r := &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: value(i), Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(strconv.Itoa(i))}}}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil && failed == nil {
				failed = err // promises are called one at a time
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("produce: %w", failed)
	}
	return nil
}

func value(i int) []byte { return fmt.Appendf(nil, "record %d of the example, squared %d", i, i*i) }

// consume reads as a group until every record came, commits, and looks for records too many.
func consume(ctx context.Context, o options, topic string) error {
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(o.bootstrap), kgo.ClientID("e2e-consumer"),
		kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	seen := make([]bool, o.records)
	for left := o.records; left > 0; {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d of %d records did not come: %w", left, o.records, err)
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		var wrong error
		fetches.EachRecord(func(r *kgo.Record) {
			if err := check(r, seen); err != nil {
				wrong = errors.Join(wrong, err)
			}
			left--
		})
		if wrong != nil {
			return wrong
		}
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	more, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if n := cl.PollFetches(more).NumRecords(); n > 0 {
		return fmt.Errorf("%d records too many", n)
	}
	return nil
}

func check(r *kgo.Record, seen []bool) error {
	i, err := strconv.Atoi(string(r.Key))
	switch {
	case err != nil || i < 0 || i >= len(seen):
		return fmt.Errorf("partition %d offset %d: a key nobody sent: %q", r.Partition, r.Offset, r.Key)
	case seen[i]:
		return fmt.Errorf("partition %d offset %d: record %d came twice", r.Partition, r.Offset, i)
	case !bytes.Equal(r.Value, value(i)), len(r.Headers) != 1, !bytes.Equal(r.Headers[0].Value, r.Key):
		return fmt.Errorf("partition %d offset %d: record %d is not as it was sent: %q", r.Partition, r.Offset, i, r.Value)
	}
	seen[i] = true
	return nil
}
