package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type topicDescribeCmd struct {
	Names   []string `arg:"" optional:"" name:"topic" help:"Topics to describe; none for all."`
	Configs bool     `help:"Show all configs, those at their defaults too."`
	JSON    bool     `group:"output" help:"Write JSON, one object a topic."`
	clientFlags
}

type topicDetails struct {
	Topic      string             `json:"topic"`
	ID         string             `json:"id,omitempty"`
	Internal   bool               `json:"internal,omitempty"`
	Partitions []partitionDetails `json:"partitions"`
	Configs    []configDetails    `json:"configs"`
}

type partitionDetails struct {
	Partition     int32   `json:"partition"`
	Leader        int32   `json:"leader"`
	LeaderEpoch   int32   `json:"leader_epoch"`
	Replicas      []int32 `json:"replicas"`
	ISR           []int32 `json:"isr"`
	LogStart      *int64  `json:"log_start,omitempty"`
	HighWatermark *int64  `json:"high_watermark,omitempty"`
	Error         string  `json:"error,omitempty"`
}

type configDetails struct {
	Name   string  `json:"name"`
	Value  *string `json:"value"`
	Source string  `json:"source"`
}

// Run is kong's entry.
func (c *topicDescribeCmd) Run(a *app) error {
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		topics, err := adm.ListTopicsWithInternal(ctx, c.Names...)
		if err != nil {
			return c.explain("describe topics", err)
		}
		var errs []error
		var known []string
		for _, t := range topics.Sorted() {
			if t.Err != nil {
				errs = append(errs, c.explain("describe topic "+t.Topic, t.Err))
				continue
			}
			known = append(known, t.Topic)
		}
		if len(known) == 0 {
			return errors.Join(errs...)
		}
		all, err := c.gather(ctx, adm, topics, known)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for i := range all {
			if c.JSON {
				p := &printer{w: a.stdout}
				p.json(all[i])
				err = p.result()
			} else {
				err = all[i].write(a, i > 0)
			}
			if err != nil {
				return err
			}
		}
		return errors.Join(errs...)
	})
}

func (c *topicDescribeCmd) gather(
	ctx context.Context, adm *kadm.Client, topics kadm.TopicDetails, names []string,
) ([]topicDetails, error) {
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, c.explain("list start offsets", err)
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return nil, c.explain("list end offsets", err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, c.explain("describe configs", err)
	}
	var out []topicDetails
	for _, name := range names {
		t := topics[name]
		d := topicDetails{Topic: name, ID: topicID(t.ID), Internal: t.IsInternal, Configs: []configDetails{}}
		for _, p := range t.Partitions.Sorted() {
			pd := partitionDetails{
				Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
				Replicas: p.Replicas, ISR: p.ISR,
			}
			start, okStart := starts.Lookup(name, p.Partition)
			end, okEnd := ends.Lookup(name, p.Partition)
			if okStart && start.Err == nil {
				pd.LogStart = &start.Offset
			}
			if okEnd && end.Err == nil {
				pd.HighWatermark = &end.Offset
			}
			if err := errors.Join(p.Err, start.Err); err != nil {
				pd.Error = err.Error()
			}
			d.Partitions = append(d.Partitions, pd)
		}
		rc, err := configs.On(name, nil)
		if err == nil {
			err = rc.Err
		}
		if err != nil {
			return nil, c.explain("describe configs of "+name, err)
		}
		for _, cfg := range rc.Configs {
			if c.Configs || cfg.Source == kmsg.ConfigSourceDynamicTopicConfig {
				d.Configs = append(d.Configs, configDetails{Name: cfg.Key, Value: cfg.Value, Source: cfg.Source.String()})
			}
		}
		slices.SortFunc(d.Configs, func(a, b configDetails) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, d)
	}
	return out, nil
}

func (d *topicDetails) write(a *app, gap bool) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	p := &printer{w: w}
	if gap {
		p.printf("\n")
	}
	p.printf("topic %s", d.Topic)
	if d.ID != "" {
		p.printf(" (id %s)", d.ID)
	}
	p.printf("\n\nPARTITION\tLEADER\tEPOCH\tREPLICAS\tISR\tLOG START\tHIGH WATERMARK\tRECORDS\n")
	for _, pd := range d.Partitions {
		start, end, n := "-", "-", "-"
		if pd.LogStart != nil {
			start = fmt.Sprint(*pd.LogStart)
		}
		if pd.HighWatermark != nil {
			end = fmt.Sprint(*pd.HighWatermark)
		}
		if pd.LogStart != nil && pd.HighWatermark != nil {
			n = fmt.Sprint(*pd.HighWatermark - *pd.LogStart)
		}
		p.printf("%d\t%d\t%d\t%v\t%v\t%s\t%s\t%s",
			pd.Partition, pd.Leader, pd.LeaderEpoch, pd.Replicas, pd.ISR, start, end, n)
		if pd.Error != "" {
			p.printf("\t%s", pd.Error)
		}
		p.printf("\n")
	}
	if len(d.Configs) > 0 {
		p.printf("\nCONFIG\tVALUE\tSOURCE\n")
		for _, cfg := range d.Configs {
			value := "(hidden)"
			if cfg.Value != nil {
				value = *cfg.Value
			}
			p.printf("%s\t%s\t%s\n", cfg.Name, value, cfg.Source)
		}
	}
	if err := errors.Join(p.err, w.Flush()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
