// Command complete_demo puts load on a broker so that every panel of the dashboards moves: waves of records to three topics,
// in large and in small batches, some of which the broker has to refuse; a group that keeps up, one that stands still for a
// third of the time and catches up, and one whose members come and go. At the end it waits for the groups to catch up, and
// exits with 1 when a record is missing or a lag remains.
//
//	go run ./examples/complete_demo --bootstrap localhost:9092 --duration 5m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	var o options
	flag.StringVar(&o.bootstrap, "bootstrap", "localhost:9092", "a broker")
	flag.DurationVar(&o.duration, "duration", 3*time.Minute, "how long to produce")
	flag.StringVar(&o.name, "name", "demo", "what names of topics and groups begin with")
	flag.Float64Var(&o.rate, "rate", 2_000, "records a second of all topics together, on average")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "complete_demo:", err)
		os.Exit(1)
	}
}

type options struct {
	bootstrap string
	name      string
	duration  time.Duration
	rate      float64
}

// catchUp is how long the groups may take to read what is left when production has ended.
const catchUp = time.Minute

func run(ctx context.Context, o options) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.bootstrap), kgo.ClientID("demo-admin"))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	streams := streams(o.name)
	if err := makeTopics(ctx, admin, streams); err != nil {
		return err
	}
	if err := forget(ctx, admin, o, streams); err != nil {
		return err
	}

	fmt.Printf("producing about %.0f records a second for %s; the group %q stands still from %s to %s\n",
		o.rate, o.duration, o.name+groupSlow, (o.duration / 3).Round(time.Second), (2 * o.duration / 3).Round(time.Second))
	consuming, stop := context.WithCancel(ctx)
	defer stop()
	groups, failed := consumers(consuming, o, streams)

	progress := time.NewTicker(10 * time.Second)
	defer progress.Stop()
	produced := make(chan error, 1)
	go func() { produced <- produceAll(ctx, o, streams) }()
	for done := false; !done; {
		select {
		case err := <-produced:
			if err != nil {
				return err
			}
			done = true
		case err := <-failed:
			return err
		case <-progress.C:
			tell(ctx, admin, o, streams)
		}
	}
	fmt.Println("produced; waiting for the groups to catch up")
	if err := await(ctx, admin, o, failed); err != nil {
		return err
	}
	tell(ctx, admin, o, streams)
	stop()
	groups.Wait()
	return verdict(o, streams)
}

// makeTopics makes the topics that are not there from an earlier run.
func makeTopics(ctx context.Context, admin *kadm.Client, streams []*stream) error {
	for _, s := range streams {
		limit := fmt.Sprint(maxMessageBytes)
		_, err := admin.CreateTopic(ctx, s.partitions, -1, map[string]*string{"max.message.bytes": &limit}, s.topic)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", s.topic, err)
		}
	}
	return nil
}

// forget puts the groups to the end of the topics: what an earlier run left unread is not this one's.
func forget(ctx context.Context, admin *kadm.Client, o options, streams []*stream) error {
	for _, g := range groupSuffixes() {
		var topics []string
		for _, s := range streams {
			if s.readBy(g) {
				topics = append(topics, s.topic)
			}
		}
		ends, err := admin.ListEndOffsets(ctx, topics...)
		if err == nil {
			err = ends.Error()
		}
		if err == nil {
			err = admin.CommitAllOffsets(ctx, o.name+g, ends.Offsets())
		}
		if err != nil {
			return fmt.Errorf("put group %s to the end (does an earlier run go on?): %w", o.name+g, err)
		}
	}
	return nil
}

// tell prints where all are.
func tell(ctx context.Context, admin *kadm.Client, o options, streams []*stream) {
	acked, refused := int64(0), int64(0)
	for _, s := range streams {
		acked += s.acked.Load()
		refused += s.refused.Load()
	}
	line := fmt.Sprintf("%s  acknowledged %9d  refused %5d  lag:", time.Now().Format(time.TimeOnly), acked, refused)
	lags, err := admin.Lag(ctx, o.groupNames()...)
	if err != nil {
		fmt.Println(line, err)
		return
	}
	for _, g := range o.groupNames() {
		line += fmt.Sprintf("  %s %d (%s)", g, lags[g].Lag.Total(), lags[g].State)
	}
	fmt.Println(line)
}

// await waits until no group has a lag.
func await(ctx context.Context, admin *kadm.Client, o options, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	for {
		left := int64(0)
		lags, err := admin.Lag(ctx, o.groupNames()...)
		if err == nil {
			err = lags.Error()
		}
		for _, g := range o.groupNames() {
			left += lags[g].Lag.Total()
		}
		if err == nil && left == 0 {
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%d records are not read %s after the last was produced: %w", left, catchUp, errors.Join(err, ctx.Err()))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// verdict compares what was acknowledged with what the group that never rebalances read.
func verdict(o options, streams []*stream) error {
	var wrong []error
	for _, s := range streams {
		acked, read := s.acked.Load(), s.read.Load()
		if s.readBy(groupSteady) && acked != read {
			wrong = append(wrong, fmt.Errorf("%s: %d records were acknowledged, group %s read %d", s.topic, acked, o.name+groupSteady, read))
		}
	}
	if len(wrong) == 0 {
		fmt.Println("every acknowledged record was read, no lag is left")
	}
	return errors.Join(wrong...)
}

// consumers starts the groups' members. The first failure is told; the group waits for all to end.
func consumers(ctx context.Context, o options, streams []*stream) (*sync.WaitGroup, <-chan error) {
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	start := func(member func(context.Context) error) {
		wg.Go(func() {
			if err := member(ctx); err != nil && ctx.Err() == nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	start(func(ctx context.Context) error { return steady(ctx, o, streams) })
	start(func(ctx context.Context) error { return slow(ctx, o, streams) })
	start(func(ctx context.Context) error { return stays(ctx, o, streams) })
	start(func(ctx context.Context) error { return comesAndGoes(ctx, o, streams) })
	return &wg, failed
}
