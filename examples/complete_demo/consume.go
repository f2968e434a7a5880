package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The groups, by the end of their names.
const (
	groupSteady = "-billing"   // one member, which keeps up
	groupSlow   = "-analytics" // stands still for the second third of the time
	groupMoving = "-audit"     // its second member comes and goes
)

func groupSuffixes() []string { return []string{groupSteady, groupSlow, groupMoving} }

func (o options) groupNames() (names []string) {
	for _, suffix := range groupSuffixes() {
		names = append(names, o.name+suffix)
	}
	return names
}

func member(o options, group, client string, streams []*stream) (*kgo.Client, error) {
	var topics []string
	for _, s := range streams {
		if s.readBy(group) {
			topics = append(topics, s.topic)
		}
	}
	return kgo.NewClient(
		kgo.SeedBrokers(o.bootstrap), kgo.ClientID(o.name+client),
		kgo.ConsumerGroup(o.name+group), kgo.ConsumeTopics(topics...), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(time.Second), kgo.AutoCommitMarks(),
	)
}

// consume reads until ctx ends; each is called for each record. What was read is committed at the end.
func consume(ctx context.Context, cl *kgo.Client, each func(*kgo.Record)) error {
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return commitLast(context.WithoutCancel(ctx), cl)
		}
		if err := fetches.Err(); err != nil {
			group, _ := cl.GroupMetadata()
			return fmt.Errorf("consume as %s: %w", group, err)
		}
		fetches.EachRecord(each)
		cl.MarkCommitRecords(fetches.Records()...)
	}
}

func commitLast(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return cl.CommitMarkedOffsets(ctx)
}

func steady(ctx context.Context, o options, streams []*stream) error {
	cl, err := member(o, groupSteady, "-billing-1", streams)
	if err != nil {
		return err
	}
	byTopic := make(map[string]*stream)
	for _, s := range streams {
		byTopic[s.topic] = s
	}
	return consume(ctx, cl, func(r *kgo.Record) { byTopic[r.Topic].read.Add(1) })
}

// slow stops fetching for a third of the time, and stays a member.
func slow(ctx context.Context, o options, streams []*stream) error {
	cl, err := member(o, groupSlow, "-analytics-1", streams)
	if err != nil {
		return err
	}
	var topics []string
	for _, s := range streams {
		if s.readBy(groupSlow) {
			topics = append(topics, s.topic)
		}
	}
	pause := time.AfterFunc(o.duration/3, func() { cl.PauseFetchTopics(topics...) })
	resume := time.AfterFunc(2*o.duration/3, func() { cl.ResumeFetchTopics(topics...) })
	defer pause.Stop()
	defer resume.Stop()
	return consume(ctx, cl, func(*kgo.Record) {})
}

func stays(ctx context.Context, o options, streams []*stream) error {
	cl, err := member(o, groupMoving, "-audit-1", streams)
	if err != nil {
		return err
	}
	return consume(ctx, cl, func(*kgo.Record) {})
}

// comesAndGoes joins and leaves, so that the group rebalances: five times while records are produced.
func comesAndGoes(ctx context.Context, o options, streams []*stream) error {
	for range 5 {
		cl, err := member(o, groupMoving, "-audit-2", streams)
		if err != nil {
			return err
		}
		while, cancel := context.WithTimeout(ctx, o.duration/10)
		err = consume(while, cl, func(*kgo.Record) {})
		cancel()
		if err != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.duration / 10):
		}
	}
	return nil
}
