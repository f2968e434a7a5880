package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

type topicCmd struct {
	Create   topicCreateCmd   `cmd:"" help:"Create topics."`
	List     topicListCmd     `cmd:"" help:"List topics."`
	Describe topicDescribeCmd `cmd:"" help:"Show partitions, offsets and configs of topics."`
	Alter    topicAlterCmd    `cmd:"" help:"Add partitions, set and reset configs."`
	Delete   topicDeleteCmd   `cmd:"" help:"Delete topics and all their records."`
}

// withAdmin runs f with an admin client, bounded by --timeout.
func (f *clientFlags) withAdmin(a *app, do func(context.Context, *kadm.Client) error) error {
	cl, err := f.newClient(a)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(a.ctx, f.Timeout)
	defer cancel()
	return do(ctx, kadm.NewClient(cl))
}

type topicCreateCmd struct {
	Names             []string          `arg:"" name:"topic" help:"Topics to create."`
	Partitions        int32             `short:"p" default:"-1" placeholder:"N" help:"Partitions of each; -1 leaves it to the broker (default ${default})."`
	ReplicationFactor int16             `short:"r" default:"-1" placeholder:"N" help:"Copies; -1 leaves it to the broker. StreamHouse takes any: the object store keeps the copies (default ${default})."`
	Set               map[string]string `short:"c" mapsep:"," placeholder:"KEY=VALUE" help:"A config of the topic, as retention.ms=86400000; repeat it for several."`
	IfNotExists       bool              `help:"Be content when it exists."`
	ValidateOnly      bool              `help:"Have the broker check it, and create nothing."`
	JSON              bool              `group:"output" help:"Write JSON."`
	clientFlags
}

// Help is what --help shows below the summary.
func (*topicCreateCmd) Help() string {
	return `Examples:
  streamhouse topic create orders
  streamhouse topic create orders payments --partitions 12 --set retention.ms=604800000 --set cleanup.policy=delete`
}

// topicOutcome is what became of one topic, in JSON.
type topicOutcome struct {
	Topic      string `json:"topic"`
	Partitions int32  `json:"partitions,omitempty"`
	Result     string `json:"result"`
	Error      string `json:"error,omitempty"`
}

// Run is kong's entry.
func (c *topicCreateCmd) Run(a *app) error {
	if c.Partitions == 0 || c.Partitions < -1 {
		return badUsage(fmt.Errorf("--partitions %d: want 1 or more, or -1 for the broker's default", c.Partitions))
	}
	configs := make(map[string]*string, len(c.Set))
	for k, v := range c.Set {
		configs[k] = &v
	}
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		create := adm.CreateTopics
		done := "created"
		if c.ValidateOnly {
			create, done = adm.ValidateCreateTopics, "valid"
		}
		answers, err := create(ctx, c.Partitions, c.ReplicationFactor, configs, c.Names...)
		if err != nil {
			return c.explain("create topics", err)
		}
		p := &printer{w: a.stdout}
		var errs []error
		for _, name := range c.Names {
			t := answers[name]
			out := topicOutcome{Topic: name, Partitions: max(t.NumPartitions, 0), Result: done}
			switch {
			case t.Err == nil:
			case c.IfNotExists && errors.Is(t.Err, kerr.TopicAlreadyExists):
				out.Result = "exists"
			default:
				err := withMessage(t.Err, t.ErrMessage)
				out.Result, out.Error = "failed", err.Error()
				errs = append(errs, c.explain("create topic "+name, err))
			}
			switch {
			case c.JSON:
				p.json(out)
			case out.Result != "failed":
				p.printf("%s %s\n", out.Result, name)
			}
		}
		return errors.Join(append(errs, p.result())...)
	})
}

// withMessage adds the broker's words to an error code.
func withMessage(err error, message string) error {
	if message == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, message)
}

type topicListCmd struct {
	Internal bool `help:"Show internal topics too."`
	JSON     bool `group:"output" help:"Write JSON."`
	clientFlags
}

type topicSummary struct {
	Topic      string `json:"topic"`
	ID         string `json:"id,omitempty"`
	Partitions int    `json:"partitions"`
	Internal   bool   `json:"internal,omitempty"`
}

// Run is kong's entry.
func (c *topicListCmd) Run(a *app) error {
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		list := adm.ListTopics
		if c.Internal {
			list = adm.ListTopicsWithInternal
		}
		topics, err := list(ctx)
		if err != nil {
			return c.explain("list topics", err)
		}
		if c.JSON {
			p := &printer{w: a.stdout}
			for _, t := range topics.Sorted() {
				p.json(topicSummary{
					Topic: t.Topic, ID: topicID(t.ID), Partitions: len(t.Partitions), Internal: t.IsInternal,
				})
			}
			return p.result()
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		p := &printer{w: w}
		if len(topics) > 0 {
			p.printf("TOPIC\tPARTITIONS\n")
		}
		for _, t := range topics.Sorted() {
			p.printf("%s\t%d\n", t.Topic, len(t.Partitions))
		}
		return errors.Join(p.result(), w.Flush())
	})
}

func topicID(id kadm.TopicID) string {
	if id == (kadm.TopicID{}) {
		return ""
	}
	return id.String()
}

type topicAlterCmd struct {
	Names      []string          `arg:"" name:"topic" help:"Topics to alter."`
	Partitions int               `short:"p" placeholder:"N" help:"Raise the number of partitions to N. It cannot be lowered."`
	Set        map[string]string `short:"c" mapsep:"," placeholder:"KEY=VALUE" help:"Set a config; repeat it for several."`
	Reset      []string          `placeholder:"KEY" help:"Set a config back to its default; repeat it for several."`
	JSON       bool              `group:"output" help:"Write JSON."`
	clientFlags
}

// Help is what --help shows below the summary.
func (*topicAlterCmd) Help() string {
	return `Examples:
  streamhouse topic alter orders --partitions 24
  streamhouse topic alter orders --set max.message.bytes=2097152 --reset retention.ms`
}

// Run is kong's entry.
func (c *topicAlterCmd) Run(a *app) error {
	if c.Partitions == 0 && len(c.Set) == 0 && len(c.Reset) == 0 {
		return badUsage(errors.New("nothing to alter: give --partitions, --set or --reset"))
	}
	if c.Partitions < 0 {
		return badUsage(fmt.Errorf("--partitions %d: want 1 or more", c.Partitions))
	}
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		failed := make(map[string]error)
		if err := c.alterConfigs(ctx, adm, failed); err != nil {
			return err
		}
		if c.Partitions > 0 {
			answers, err := adm.UpdatePartitions(ctx, c.Partitions, c.Names...)
			if err != nil {
				return c.explain("raise partitions", err)
			}
			for _, t := range answers {
				if t.Err != nil {
					err := fmt.Errorf("raise partitions to %d: %w", c.Partitions, withMessage(t.Err, t.ErrMessage))
					failed[t.Topic] = errors.Join(failed[t.Topic], err)
				}
			}
		}
		return report(a, c.JSON, "altered", c.Names, func(name string) error {
			return c.explain("alter topic "+name, failed[name])
		})
	})
}

func (c *topicAlterCmd) alterConfigs(ctx context.Context, adm *kadm.Client, failed map[string]error) error {
	var changes []kadm.AlterConfig
	for k, v := range c.Set {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
	}
	for _, k := range c.Reset {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
	}
	if len(changes) == 0 {
		return nil
	}
	slices.SortFunc(changes, func(a, b kadm.AlterConfig) int { return strings.Compare(a.Name, b.Name) })
	answers, err := adm.AlterTopicConfigs(ctx, changes, c.Names...)
	if err != nil {
		return c.explain("alter configs", err)
	}
	for _, t := range answers {
		if t.Err != nil {
			failed[t.Name] = withMessage(t.Err, t.ErrMessage)
		}
	}
	return nil
}

type topicDeleteCmd struct {
	Names    []string `arg:"" name:"topic" help:"Topics to delete."`
	IfExists bool     `help:"Be content when it does not exist."`
	JSON     bool     `group:"output" help:"Write JSON."`
	clientFlags
}

// Run is kong's entry.
func (c *topicDeleteCmd) Run(a *app) error {
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		answers, err := adm.DeleteTopics(ctx, c.Names...)
		if err != nil {
			return c.explain("delete topics", err)
		}
		return report(a, c.JSON, "deleted", c.Names, func(name string) error {
			t := answers[name]
			if c.IfExists && errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
				return nil
			}
			return c.explain("delete topic "+name, t.Err)
		})
	})
}

// report writes an outcome for each name, and returns what failed.
func report(a *app, asJSON bool, done string, names []string, failure func(string) error) error {
	p := &printer{w: a.stdout}
	var errs []error
	for _, name := range names {
		err := failure(name)
		errs = append(errs, err)
		switch {
		case asJSON && err != nil:
			p.json(topicOutcome{Topic: name, Result: "failed", Error: err.Error()})
		case asJSON:
			p.json(topicOutcome{Topic: name, Result: done})
		case err == nil:
			p.printf("%s %s\n", done, name)
		}
	}
	return errors.Join(append(errs, p.result())...)
}
