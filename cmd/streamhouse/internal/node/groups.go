package node

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/metrics"
)

// scrapeWithin bounds how long a scrape waits for the lag of groups.
const scrapeWithin = 5 * time.Second

var errNotStarted = errors.New("the broker is starting")

// groups tells the HTTP server and the metrics of consumer groups, once there is a broker.
type groups struct{ broker atomic.Pointer[broker.Broker] }

// scraped yields the lag of the groups that this broker coordinates: each group has one coordinator, so all brokers together
// export it once. While a shard is read, its groups are exported by nobody.
func (g *groups) scraped(yield func(metrics.LagSample)) {
	b := g.broker.Load()
	if b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin)
	defer cancel()
	all, err := b.CoordinatedLags(ctx)
	if err != nil {
		return // what is known half would look like groups that are gone
	}
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
			yield(s)
		}
	}
}

// Groups implements [metrics.Groups].
func (g *groups) Groups(ctx context.Context, after string, limit int) ([]metrics.GroupSummary, error) {
	b := g.broker.Load()
	if b == nil {
		return nil, errNotStarted
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
