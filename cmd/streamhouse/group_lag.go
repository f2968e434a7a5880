package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type groupLagCmd struct {
	Groups []string `arg:"" optional:"" name:"group" help:"Groups to look at; none for all."`
	Topic  []string `short:"t" placeholder:"TOPIC[:PARTITION,...]" help:"Only these topics or partitions; repeat it for several."`
	Time   bool     `help:"Also show how old the oldest record is that was not committed past. Reads a batch of each partition that lags."`
	JSON   bool     `group:"output" help:"Write JSON, one object a group."`
	clientFlags
}

// Help is what --help shows below the summary.
func (*groupLagCmd) Help() string {
	return `Lag is the high watermark less the committed offset, in records. Partitions that a member is assigned, but nothing is committed
of, are shown without lag.

Examples:
  streamhouse group lag
  streamhouse group lag reports --topic orders --time`
}

type groupLag struct {
	Group      string         `json:"group"`
	State      string         `json:"state"`
	TotalLag   int64          `json:"total_lag"`
	Partitions []partitionLag `json:"partitions"`
}

type partitionLag struct {
	Topic           string   `json:"topic"`
	Partition       int32    `json:"partition"`
	CommittedOffset *int64   `json:"committed_offset"`
	HighWatermark   *int64   `json:"high_watermark"`
	Lag             *int64   `json:"lag"`
	LagSeconds      *float64 `json:"lag_seconds,omitempty"`
	Member          string   `json:"member,omitempty"`
	Error           string   `json:"error,omitempty"`
}

// Run is kong's entry.
func (c *groupLagCmd) Run(a *app) error {
	which, err := parseScope(c.Topic)
	if err != nil {
		return badUsage(err)
	}
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		names := c.Groups
		var errs []error
		if len(names) == 0 {
			listed, err := adm.ListGroups(ctx)
			errs = append(errs, c.explain("list groups", err))
			names = listed.Groups()
		}
		for i, name := range names {
			l, err := c.lagOf(ctx, a, adm, name, which)
			switch {
			case err != nil:
				err = c.explain("lag of group "+name, err)
			case c.JSON:
				p := &printer{w: a.stdout}
				p.json(l)
				err = p.result()
			default:
				err = l.write(a, c.Time, i > 0)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func (c *groupLagCmd) lagOf(ctx context.Context, a *app, adm *kadm.Client, name string, which scope) (*groupLag, error) {
	d, err := describeGroup(ctx, adm, name)
	if err != nil {
		return nil, err
	}
	committed, err := adm.FetchOffsets(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read committed offsets: %w", err)
	}
	parts := make(kadm.TopicsSet)
	committed.Each(func(o kadm.OffsetResponse) { parts.Add(o.Topic, o.Partition) })
	for i := range d.Members {
		for topic, ps := range d.Members[i].Assignment {
			parts.Add(topic, ps...)
		}
	}
	out := &groupLag{Group: name, State: d.State, Partitions: []partitionLag{}}
	if len(parts) == 0 {
		return out, nil
	}
	ends, err := adm.ListEndOffsets(ctx, parts.Topics()...)
	if err != nil && len(ends) == 0 {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	for _, t := range parts.Sorted() {
		for _, n := range t.Partitions {
			if !which.has(t.Topic, n) {
				continue
			}
			p := partitionLag{Topic: t.Topic, Partition: n}
			if m := d.owner(t.Topic, n); m != nil {
				p.Member = m.Member
			}
			end, okEnd := ends.Lookup(t.Topic, n)
			switch {
			case okEnd && end.Err == nil:
				p.HighWatermark = &end.Offset
			case okEnd:
				p.Error = end.Err.Error()
			default:
				p.Error = "the topic or partition is gone"
			}
			if o, ok := committed.Lookup(t.Topic, n); ok && o.At >= 0 {
				p.CommittedOffset = &o.At
				if p.HighWatermark != nil {
					lag := max(end.Offset-o.At, 0)
					p.Lag = &lag
					out.TotalLag += lag
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
	}
	if c.Time {
		return out, c.addTimes(ctx, a, out)
	}
	return out, nil
}

// addTimes reads the batch at each committed offset that lags, for its time.
func (c *groupLagCmd) addTimes(ctx context.Context, a *app, l *groupLag) error {
	from := map[string]map[int32]kgo.Offset{}
	due := map[partitionKey]*partitionLag{}
	for i := range l.Partitions {
		p := &l.Partitions[i]
		if p.Lag == nil {
			continue
		}
		p.LagSeconds = new(float64)
		if *p.Lag == 0 {
			continue
		}
		if from[p.Topic] == nil {
			from[p.Topic] = map[int32]kgo.Offset{}
		}
		from[p.Topic][p.Partition] = kgo.NewOffset().At(*p.CommittedOffset)
		due[partitionKey{p.Topic, p.Partition}] = p
	}
	if len(due) == 0 {
		return nil
	}
	cl, err := c.newClient(a, kgo.ConsumePartitions(from), kgo.FetchMaxPartitionBytes(1), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(due) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("read the times of %d partitions: %w", len(due), ctx.Err())
		}
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			key := partitionKey{f.Topic, f.Partition}
			p := due[key]
			if p == nil {
				return
			}
			switch {
			case f.Err != nil:
				p.LagSeconds, p.Error = nil, f.Err.Error()
			case len(f.Records) == 0:
				return
			default:
				*p.LagSeconds = max(a.now().Sub(f.Records[0].Timestamp).Seconds(), 0)
			}
			delete(due, key)
			cl.PauseFetchPartitions(map[string][]int32{f.Topic: {f.Partition}})
		})
	}
	return nil
}

type partitionKey struct {
	topic     string
	partition int32
}

func (l *groupLag) write(a *app, times, gap bool) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	p := &printer{w: w}
	if gap {
		p.printf("\n")
	}
	p.printf("group %s: %s, total lag %d\n", l.Group, l.State, l.TotalLag)
	if len(l.Partitions) > 0 {
		p.printf("\n  TOPIC\tPARTITION\tCOMMITTED\tHIGH WATERMARK\tLAG")
		if times {
			p.printf("\tOLDEST")
		}
		p.printf("\tMEMBER\n")
	}
	for i := range l.Partitions {
		part := &l.Partitions[i]
		p.printf("  %s\t%d\t%s\t%s\t%s", part.Topic, part.Partition, numberText(part.CommittedOffset), numberText(part.HighWatermark), numberText(part.Lag))
		if times {
			old := "-"
			if part.LagSeconds != nil {
				old = time.Duration(*part.LagSeconds * float64(time.Second)).Round(time.Millisecond).String()
			}
			p.printf("\t%s", old)
		}
		member := part.Member
		switch {
		case part.Error != "":
			member = part.Error
		case member == "":
			member = "-"
		}
		p.printf("\t%s\n", member)
	}
	return errors.Join(p.result(), w.Flush())
}

func numberText(n *int64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}
