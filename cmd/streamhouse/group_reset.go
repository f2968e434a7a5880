package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/recordio"
)

type groupResetCmd struct {
	Group  string        `arg:"" name:"group" help:"The group; one that does not exist is made."`
	Topic  []string      `short:"t" placeholder:"TOPIC[:PARTITION,...]" help:"These topics or partitions; repeat it for several. None: all that the group has committed."`
	To     string        `placeholder:"OFFSET" xor:"to" help:"Where to: start, end, N, +N (after the start), -N (from the end) or @TIME (milliseconds, 2006-01-02T15:04:05Z, or 1h for an hour ago)."`
	Shift  int64         `placeholder:"N" xor:"to" help:"Move each committed offset N records on; back for a negative N."`
	DryRun bool          `help:"Show the plan and change nothing."`
	Wait   time.Duration `placeholder:"DURATION" xor:"active" help:"How long to wait for the group's consumers to stop."`
	Online bool          `xor:"active" help:"Move a running group: its members are put out, and rejoin at the new offsets."`
	JSON   bool          `group:"output" help:"Write JSON, one object a partition."`
	clientFlags
}

// Help is what --help shows below the summary.
func (*groupResetCmd) Help() string {
	return `A group with members would overwrite its offsets, so it is refused. Stop its consumers, wait for them with --wait, or move it
while it runs with --online: all members are removed from the group, what they have not committed by then they cannot commit any
more, and they join again by themselves and go on from the new offsets. Clients see a rebalance; what they have in hand is read again or left out, as
the new offsets say.

Offsets outside of a partition become its start or its end.

Examples:
  streamhouse group reset reports --to start --dry-run
  streamhouse group reset reports --topic orders --to @2026-05-01T00:00:00Z
  streamhouse group reset reports --topic orders:0,3 --shift -1000 --online`
}

// resetPlan is what happens to one partition.
type resetPlan struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      *int64 `json:"from"` // null: nothing was committed
	To        int64  `json:"to"`
	Result    string `json:"result"`
	Error     string `json:"error,omitempty"`
}

// Run is kong's entry.
func (c *groupResetCmd) Run(a *app) error {
	if c.To == "" && c.Shift == 0 {
		return badUsage(errors.New("say where to: --to OFFSET or --shift N"))
	}
	var to recordio.Offset
	if c.To != "" {
		var err error
		if to, err = recordio.ParseOffset(c.To, a.now()); err != nil {
			return badUsage(fmt.Errorf("--to: %w", err))
		}
	}
	which, err := parseScope(c.Topic)
	if err != nil {
		return badUsage(err)
	}
	what := "reset group " + c.Group
	cl, err := c.newClient(a)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout+c.Wait)
	defer cancel()
	adm := kadm.NewClient(cl)
	plan, err := c.plan(ctx, adm, which, to)
	if err != nil {
		return c.explain(what, err)
	}
	var failed error
	if !c.DryRun {
		if c.Online {
			failed = c.moveOnline(ctx, cl, adm, plan)
		} else {
			failed = c.moveEmpty(ctx, adm, plan)
		}
	}
	return errors.Join(c.explain(what, failed), c.show(a, plan))
}

// plan works out the new offsets.
func (c *groupResetCmd) plan(ctx context.Context, adm *kadm.Client, which scope, to recordio.Offset) ([]resetPlan, error) {
	committed, err := adm.FetchOffsets(ctx, c.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // a group is made by its first commit
		return nil, fmt.Errorf("read committed offsets: %w", err)
	}
	topics := which.topics()
	if len(which) == 0 {
		for t := range committed {
			topics = append(topics, t)
		}
		if slices.Sort(topics); len(topics) == 0 {
			return nil, errors.New("it has committed nothing: name topics with --topic")
		}
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	var after kadm.ListedOffsets
	if to.Kind == recordio.OffsetTime && c.To != "" {
		if after, err = adm.ListOffsetsAfterMilli(ctx, to.Time.UnixMilli(), topics...); err != nil {
			return nil, fmt.Errorf("find the offsets by time: %w", err)
		}
	}
	var plan []resetPlan
	for topic, ps := range which {
		for _, p := range ps {
			if _, ok := starts.Lookup(topic, p); !ok {
				return nil, fmt.Errorf("topic %s has no partition %d", topic, p)
			}
		}
	}
	var errs []error
	starts.Each(func(start kadm.ListedOffset) {
		if !which.has(start.Topic, start.Partition) {
			return
		}
		was, has := committed.Lookup(start.Topic, start.Partition)
		has = has && was.At >= 0
		if !has && (len(which) == 0 || c.To == "") {
			return // only what is committed is meant, or can be shifted
		}
		end, ok := ends.Lookup(start.Topic, start.Partition)
		if err := cmpErr(start.Err, end.Err, ok); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", start.Topic, start.Partition, err))
			return
		}
		p := resetPlan{Topic: start.Topic, Partition: start.Partition, Result: "planned"}
		if has {
			p.From = &was.At
		}
		if c.To == "" {
			p.To = min(max(was.At+c.Shift, start.Offset), end.Offset)
		} else {
			found := int64(-1)
			if o, ok := after.Lookup(start.Topic, start.Partition); ok {
				if o.Err != nil {
					errs = append(errs, fmt.Errorf("%s:%d: %w", start.Topic, start.Partition, o.Err))
					return
				}
				found = o.Offset
			}
			p.To = to.Resolve(start.Offset, end.Offset, found)
		}
		plan = append(plan, p)
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(plan) == 0 {
		return nil, errors.New("no partition is meant: nothing is committed in what was named")
	}
	slices.SortFunc(plan, func(a, b resetPlan) int {
		if a.Topic != b.Topic {
			if a.Topic < b.Topic {
				return -1
			}
			return 1
		}
		return int(a.Partition) - int(b.Partition)
	})
	return plan, nil
}

func cmpErr(start, end error, ok bool) error {
	if !ok {
		return kerr.UnknownTopicOrPartition
	}
	return errors.Join(start, end)
}

// pollEvery is how often a group is looked at that should become empty.
const pollEvery = 200 * time.Millisecond

// moveEmpty commits once the group has no members.
func (c *groupResetCmd) moveEmpty(ctx context.Context, adm *kadm.Client, plan []resetPlan) error {
	deadline := time.Now().Add(c.Wait)
	for {
		d, err := describeGroup(ctx, adm, c.Group)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return err
		}
		if len(d.Members) == 0 {
			break
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("the group is %s and has %d members: stop its consumers, wait for them with --wait, or move it while it runs with --online", d.State, len(d.Members))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
	offsets := make(kadm.Offsets)
	for i := range plan {
		offsets.AddOffset(plan[i].Topic, plan[i].Partition, plan[i].To, -1)
	}
	answers, err := adm.CommitOffsets(ctx, c.Group, offsets)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	var errs []error
	for i := range plan {
		o, ok := answers.Lookup(plan[i].Topic, plan[i].Partition)
		if !ok {
			o.Err = errors.New("the broker did not answer for it")
		}
		errs = append(errs, plan[i].done(o.Err))
	}
	return errors.Join(errs...)
}

func (p *resetPlan) done(err error) error {
	if err != nil {
		p.Result, p.Error = "failed", err.Error()
		return fmt.Errorf("%s:%d: %w", p.Topic, p.Partition, err)
	}
	p.Result = "reset"
	return nil
}

// moveOnline puts all members out and commits before one of them is back; a member that was faster is put out again.
func (c *groupResetCmd) moveOnline(ctx context.Context, cl *kgo.Client, adm *kadm.Client, plan []resetPlan) error {
	commit, err := c.commitRequest(ctx, adm, plan)
	if err != nil {
		return err
	}
	for {
		d, err := describeGroup(ctx, adm, c.Group)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return err
		}
		if len(d.Members) > 0 {
			if err := c.putOut(ctx, cl, &d); err != nil {
				return err
			}
		}
		resp, err := commit.RequestWith(ctx, cl)
		if err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		again, err := c.settle(resp, plan)
		if !again {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("its members came back each time before the offsets were committed: %w", ctx.Err())
		}
	}
}

// commitRequest is a commit by nobody, which only an empty group takes. It names topics by id too, for versions from 10 on.
func (c *groupResetCmd) commitRequest(ctx context.Context, adm *kadm.Client, plan []resetPlan) (*kmsg.OffsetCommitRequest, error) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = c.Group, -1
	for i := range plan {
		if i == 0 || plan[i].Topic != plan[i-1].Topic {
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = plan[i].Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = plan[i].Partition, plan[i].To, -1
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, p)
	}
	var names []string
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	known, err := adm.ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("look the topics up: %w", err)
	}
	for i := range req.Topics {
		req.Topics[i].TopicID = known[req.Topics[i].Topic].ID
	}
	return req, nil
}

// putOut removes all members. Those that are gone meanwhile are no matter.
func (c *groupResetCmd) putOut(ctx context.Context, cl *kgo.Client, d *groupDetails) error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = c.Group
	reason := "streamhouse group reset --online"
	for i := range d.Members {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID, m.Reason = d.Members[i].Member, &reason
		if id := d.Members[i].Instance; id != "" {
			m.InstanceID = &id
		}
		req.Members = append(req.Members, m)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("put the members out: %w", err)
	}
	for i := range resp.Members {
		err := kerr.ErrorForCode(resp.Members[i].ErrorCode)
		if err != nil && !errors.Is(err, kerr.UnknownMemberID) {
			return fmt.Errorf("put member %s out: %w", resp.Members[i].MemberID, err)
		}
	}
	return nil
}

// settle notes what became of a commit; again when members were back before it.
func (*groupResetCmd) settle(resp *kmsg.OffsetCommitResponse, plan []resetPlan) (again bool, err error) {
	var errs []error
	i := 0
	for t := range resp.Topics {
		for p := range resp.Topics[t].Partitions {
			err := kerr.ErrorForCode(resp.Topics[t].Partitions[p].ErrorCode)
			switch {
			case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration):
				return true, nil
			case i < len(plan): // the answer is in the order of the request
				errs = append(errs, plan[i].done(err))
			}
			i++
		}
	}
	return false, errors.Join(errs...)
}

func (c *groupResetCmd) show(a *app, plan []resetPlan) error {
	if c.JSON {
		p := &printer{w: a.stdout}
		for i := range plan {
			p.json(plan[i])
		}
		return p.result()
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	p := &printer{w: w}
	p.printf("TOPIC\tPARTITION\tFROM\tTO\tRESULT\n")
	for i := range plan {
		p.printf("%s\t%d\t%s\t%d\t%s\n", plan[i].Topic, plan[i].Partition, numberText(plan[i].From), plan[i].To, plan[i].Result)
	}
	return errors.Join(p.result(), w.Flush())
}
