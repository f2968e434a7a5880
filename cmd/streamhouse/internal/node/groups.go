package node

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/metrics"
)

// scrapeWithin bounds how long a scrape waits for the lag of groups while the store or the catalog hangs. An answer that comes too late
// for Prometheus is a broker that is down, so it is well below the five seconds that some give a scrape.
const scrapeWithin = 2 * time.Second

var errNotStarted = errors.New("the broker is starting")

// groups tells the HTTP server and the metrics of consumer groups, once there is a broker.
type groups struct{ broker atomic.Pointer[broker.Broker] }

// scraped yields the lag of the groups that this broker coordinates: each group has one coordinator, so all brokers together
// export it once; and the positions of groups whose members fetch from this broker.
func (g *groups) scraped(yield func(metrics.LagSample)) error {
	b := g.broker.Load()
	if b == nil {
		return nil
	}
	type key struct {
		group, topic string
		partition    int32
	}
	at := make(map[key]int64)
	b.Positions(func(group, topic string, partition int32, position int64) {
		at[key{group, topic, partition}] = position
	})
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin)
	defer cancel()
	all, err := b.CoordinatedLags(ctx)
	for i := range all {
		for _, p := range all[i].Partitions {
			if p.Committed < 0 {
				continue
			}
			s := metrics.LagSample{
				Group: all[i].Group, Topic: p.Topic, Partition: p.Partition, Committed: p.Committed, Lag: p.Records, Seconds: math.NaN(), Position: -1,
			}
			if p.Age >= 0 {
				s.Seconds = p.Age.Seconds()
			}
			k := key{s.Group, s.Topic, s.Partition}
			if position, ok := at[k]; ok {
				s.Position = position
				delete(at, k)
			}
			yield(s)
		}
	}
	for k, position := range at {
		yield(metrics.LagSample{
			Group: k.group, Topic: k.topic, Partition: k.partition, Committed: -1, Lag: -1, Seconds: math.NaN(), Position: position,
		})
	}
	return err
}

// counted yields how many groups this broker coordinates.
func (g *groups) counted(yield func(metrics.GroupCount)) {
	b := g.broker.Load()
	if b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin)
	defer cancel()
	for _, c := range b.CountGroups(ctx) {
		yield(metrics.GroupCount{Type: string(c.Kind), State: c.State, Groups: c.Groups, Members: c.Members})
	}
}

// scrape is called before each scrape.
func (g *groups) scrape(ctx context.Context) {
	if b := g.broker.Load(); b != nil {
		b.AttributeReads(ctx)
	}
}

// Groups implements [metrics.Groups].
func (g *groups) Groups(ctx context.Context, after string, limit int) ([]metrics.GroupSummary, error) {
	b := g.broker.Load()
	if b == nil {
		return nil, errNotStarted
	}
	if catalog.CheckGroupsAfter(after) != nil {
		return nil, metrics.ErrNoName
	}
	list, nodes, err := b.Groups(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]metrics.GroupSummary, 0, len(list))
	for i := range list {
		out = append(out, metrics.GroupSummary{
			Group: list[i].Group, Kind: string(list[i].Kind), State: list[i].State, Members: list[i].Members, Coordinator: nodes[i],
		})
	}
	return out, nil
}

// GroupLag implements [metrics.Groups].
func (g *groups) GroupLag(ctx context.Context, group string, keep func(string, int32) bool) (metrics.GroupLag, error) {
	b := g.broker.Load()
	if b == nil {
		return metrics.GroupLag{}, errNotStarted
	}
	l, err := b.GroupLag(ctx, group, keep)
	switch {
	case errors.Is(err, broker.ErrNoGroup):
		return metrics.GroupLag{}, metrics.ErrNoGroup
	case err != nil:
		return metrics.GroupLag{}, err
	}
	out := metrics.GroupLag{Group: l.Group, State: l.State}
	for _, p := range l.Partitions {
		q := metrics.PartitionLag{Topic: p.Topic, Partition: p.Partition, Member: p.Member}
		q.CommittedOffset, q.HighWatermark, q.Lag = known(p.Committed), known(p.HighWatermark), known(p.Records)
		q.Position = known(p.Position)
		if p.Age >= 0 {
			q.LagSeconds = new(p.Age.Seconds())
		}
		out.TotalLag += max(p.Records, 0)
		out.Partitions = append(out.Partitions, q)
	}
	return out, nil
}

// known is nil for -1.
func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}
