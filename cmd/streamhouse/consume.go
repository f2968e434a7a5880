package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/recordio"
)

type consumeCmd struct {
	Topic string `arg:"" help:"Topic to read."`

	Partition []int32 `group:"consume" short:"p" sep:"," placeholder:"N" help:"Partitions to read; none for all."`
	Offset    string  `group:"consume" short:"o" default:"start" placeholder:"WHERE" help:"Where to start: start, end, N, +N, -N (before the end), @TIME (default ${default})."`
	Follow    bool    `group:"consume" short:"f" help:"Wait for more at the end, until interrupted."`
	Count     int64   `group:"consume" short:"n" placeholder:"N" help:"Stop after N records."`

	ReadUncommitted bool `group:"consume" help:"Also read records of transactions that are open or were aborted."`

	Format string `group:"output" default:"raw" placeholder:"FORMAT" help:"raw (values, a line each), json, or a layout such as '%p/%o %k %v\\n' (see below; default ${default})."`
	Quiet  bool   `group:"output" short:"q" help:"Do not say how many records were read."`
	clientFlags
}

// Help is what --help shows below the summary.
func (*consumeCmd) Help() string {
	return `Layouts:
  %t topic   %p partition   %o offset   %e leader epoch   %d timestamp in ms
  %k key     %v value       %h headers as k=v,k=v, or each as in %h{%k:%v }
  %K %V %H   length of key and value, number of headers      %% a percent sign
  modifiers: %k{hex}  %v{base64}  %d{go[2006-01-02T15:04:05Z07:00]}  %o{big64}

Examples:
  streamhouse consume orders
  streamhouse consume orders --partition 0 --offset -10 --format '%p/%o %k: %v\n'
  streamhouse consume orders --offset @1h --format json --follow
  streamhouse consume orders --offset @2026-01-31T12:00:00Z --count 1

Without --follow it reads up to where the log ended when it started.`
}

// span is what is read of a partition: from offset at, up to end.
type span struct {
	at, end int64
}

// Run is kong's entry.
func (c *consumeCmd) Run(a *app) error {
	format, err := recordio.NewFormatter(c.Format)
	if err != nil {
		return badUsage(fmt.Errorf("--format: %w", err))
	}
	where, err := recordio.ParseOffset(c.Offset, a.now())
	if err != nil {
		return badUsage(fmt.Errorf("--offset: %w", err))
	}
	if c.Count < 0 {
		return badUsage(fmt.Errorf("--count %d: want 1 or more", c.Count))
	}
	var spans map[int32]span
	err = c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		var err error
		spans, err = c.spans(ctx, adm, where)
		return err
	})
	if err != nil {
		return err
	}
	n, err := c.consume(a, format, spans)
	if !c.Quiet {
		say(a.stderr, "%d records read from %s\n", n, c.Topic)
	}
	if c.Follow && a.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // an interrupt is how following ends
	}
	return err
}

// spans works out what to read of each partition.
func (c *consumeCmd) spans(ctx context.Context, adm *kadm.Client, where recordio.Offset) (map[int32]span, error) {
	starts, err := adm.ListStartOffsets(ctx, c.Topic)
	if err != nil {
		return nil, c.explain("list start offsets of "+c.Topic, err)
	}
	listEnds := adm.ListCommittedOffsets
	if c.ReadUncommitted {
		listEnds = adm.ListEndOffsets
	}
	ends, err := listEnds(ctx, c.Topic)
	if err != nil {
		return nil, c.explain("list end offsets of "+c.Topic, err)
	}
	var after kadm.ListedOffsets
	if where.Kind == recordio.OffsetTime {
		if after, err = adm.ListOffsetsAfterMilli(ctx, where.Time.UnixMilli(), c.Topic); err != nil {
			return nil, c.explain("list offsets by time of "+c.Topic, err)
		}
	}
	out := make(map[int32]span)
	for partition, start := range starts[c.Topic] {
		if partition < 0 || (len(c.Partition) > 0 && !slices.Contains(c.Partition, partition)) {
			if partition < 0 { // how a topic that cannot be listed is told
				return nil, c.explain("consume "+c.Topic, start.Err)
			}
			continue
		}
		end := ends[c.Topic][partition]
		if err := errors.Join(start.Err, end.Err); err != nil {
			return nil, c.explain(fmt.Sprintf("list offsets of %s partition %d", c.Topic, partition), err)
		}
		first := int64(-1)
		if l, ok := after.Lookup(c.Topic, partition); ok {
			if l.Err != nil {
				return nil, c.explain(fmt.Sprintf("list offsets by time of %s partition %d", c.Topic, partition), l.Err)
			}
			first = l.Offset
		}
		out[partition] = span{at: where.Resolve(start.Offset, end.Offset, first), end: end.Offset}
	}
	if len(starts[c.Topic]) == 0 {
		return nil, c.explain("consume "+c.Topic, kerr.UnknownTopicOrPartition)
	}
	for _, p := range c.Partition {
		if _, ok := out[p]; !ok {
			return nil, badUsage(fmt.Errorf("--partition %d: topic %s has partitions 0 to %d",
				p, c.Topic, len(starts[c.Topic])-1))
		}
	}
	return out, nil
}

// consume writes the records of the spans, and returns how many those were.
func (c *consumeCmd) consume(a *app, format *recordio.Formatter, spans map[int32]span) (n int64, err error) {
	from := make(map[int32]kgo.Offset)
	for p, s := range spans {
		if c.Follow || s.at < s.end {
			from[p] = kgo.NewOffset().At(s.at)
		}
	}
	if len(from) == 0 {
		return 0, nil
	}
	isolation := kgo.ReadCommitted()
	if c.ReadUncommitted {
		isolation = kgo.ReadUncommitted()
	}
	cl, err := c.newClient(a,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: from}),
		kgo.FetchIsolationLevel(isolation),
		// The last record before the end may be a transaction marker: it must be seen to know that the end is reached.
		kgo.KeepControlRecords(),
	)
	if err != nil {
		return 0, err
	}
	defer cl.CloseAllowingRebalance()
	out := bufio.NewWriterSize(a.stdout, 256<<10)
	defer func() {
		if e := out.Flush(); e != nil && err == nil {
			err = fmt.Errorf("write records: %w", e)
		}
	}()
	left := len(from)
	var line []byte
	for left > 0 {
		fetches := cl.PollFetches(a.ctx)
		for _, fe := range fetches.Errors() {
			if a.ctx.Err() != nil {
				return n, a.ctx.Err()
			}
			return n, c.explain(fmt.Sprintf("consume %s partition %d", c.Topic, fe.Partition), fe.Err)
		}
		var done bool
		fetches.EachPartition(func(tp kgo.FetchTopicPartition) {
			s := spans[tp.Partition]
			for _, r := range tp.Records {
				past := !c.Follow && r.Offset >= s.end
				if !r.Attrs.IsControl() && !past && !done {
					line = format.Append(line[:0], &tp.FetchPartition, r)
					if _, e := out.Write(line); e != nil && err == nil {
						err = fmt.Errorf("write records: %w", e)
					}
					n++
					done = c.Count > 0 && n >= c.Count
				}
				if !c.Follow && s.at < s.end && r.Offset+1 >= s.end {
					left--
					s.at = s.end // counted once
					spans[tp.Partition] = s
				}
			}
		})
		if err != nil || done {
			return n, err
		}
		if e := out.Flush(); e != nil {
			return n, fmt.Errorf("write records: %w", e)
		}
	}
	return n, nil
}
