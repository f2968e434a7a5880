// Command e2e_offset_tracking shows how far a consumer group is behind, while it falls behind and catches up, as the broker
// tells it in three places: Kafka's admin API, the broker's JSON and its metrics. It exits with 1 when one of them is wrong.
//
//	go run ./examples/e2e_offset_tracking --bootstrap localhost:9092 --http http://localhost:8080
package main

import (
	"context"
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
	flag.Var(&o.https, "http", "HTTP endpoint of a broker, as http://localhost:8080; of a fleet's each one, for the group's coordinator is one of them")
	flag.Int64Var(&o.records, "records", 3_000, "how many records to write, in three parts")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "how long all may take")
	flag.Parse()
	if len(o.https) == 0 {
		o.https = endpoints{"http://localhost:8080"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e_offset_tracking:", err)
		os.Exit(1)
	}
}

type options struct {
	bootstrap string
	https     endpoints
	records   int64
	timeout   time.Duration
}

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	name := "lag-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.bootstrap), kgo.ClientID("lag-producer"))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(ctx, 3, -1, nil, name); err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	t := &tracker{admin: admin, https: o.https, name: name}
	part := o.records / 3
	fmt.Printf("topic and group are both called %s\n\n%-52s %10s %10s %10s\n", name, "", "admin API", "JSON", "metrics")

	steps := []struct {
		what string
		do   func() error
		lag  int64
	}{
		{fmt.Sprintf("%d records written, all read and committed", part), func() error {
			return first(produce(ctx, cl, name, part), consume(ctx, o.bootstrap, name, part))
		}, 0},
		{fmt.Sprintf("%d more written, nobody reads", part), func() error { return produce(ctx, cl, name, part) }, part},
		{fmt.Sprintf("%d more written, nobody reads", part), func() error { return produce(ctx, cl, name, part) }, 2 * part},
		{fmt.Sprintf("%d read and committed", part), func() error { return consume(ctx, o.bootstrap, name, part) }, part},
		{"the rest read and committed", func() error { return consume(ctx, o.bootstrap, name, part) }, 0},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		if err := t.expect(ctx, s.what, s.lag); err != nil {
			return err
		}
	}
	if _, err := admin.DeleteTopic(ctx, name); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	_, err = admin.DeleteGroup(ctx, name)
	return err
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func produce(ctx context.Context, cl *kgo.Client, topic string, n int64) error {
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: []byte("to be counted")}
	}
	return cl.ProduceSync(ctx, records...).FirstErr()
}

// consume reads exactly n records as the group, commits behind them, and leaves.
func consume(ctx context.Context, bootstrap, name string, n int64) error {
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap), kgo.ClientID("lag-consumer"), kgo.ConsumerGroup(name), kgo.ConsumeTopics(name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	for n > 0 {
		fetches := cl.PollRecords(ctx, int(n))
		if err := first(ctx.Err(), fetches.Err()); err != nil {
			return err
		}
		records := fetches.Records()
		if err := cl.CommitRecords(ctx, records...); err != nil {
			return err
		}
		n -= int64(len(records))
	}
	return nil
}
