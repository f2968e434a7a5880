package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

type groupCmd struct {
	List     groupListCmd     `cmd:"" help:"List consumer groups."`
	Describe groupDescribeCmd `cmd:"" help:"Show members of groups and what they are assigned."`
	Lag      groupLagCmd      `cmd:"" help:"Show how far groups are behind."`
	Reset    groupResetCmd    `cmd:"" help:"Move the committed offsets of a group."`
	Delete   groupDeleteCmd   `cmd:"" help:"Delete groups, or some of their offsets."`
}

type groupListCmd struct {
	State []string `sep:"," placeholder:"STATE,..." help:"Only groups in these states, as Stable or Empty."`
	Kind  []string `sep:"," placeholder:"KIND,..." help:"Only groups of these kinds: classic, consumer."`
	JSON  bool     `group:"output" help:"Write JSON, one object a group."`
	clientFlags
}

type groupSummary struct {
	Group        string `json:"group"`
	State        string `json:"state"`
	ProtocolType string `json:"protocol_type"`
	Coordinator  int32  `json:"coordinator"`
}

// Run is kong's entry.
func (c *groupListCmd) Run(a *app) error {
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		groups, err := adm.ListGroupsByType(ctx, c.Kind, c.State...)
		if err != nil && len(groups) == 0 {
			return c.explain("list groups", err)
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		p := &printer{w: w}
		if c.JSON {
			p.w = a.stdout
		} else if len(groups) > 0 {
			p.printf("GROUP\tSTATE\tPROTOCOL TYPE\tCOORDINATOR\n")
		}
		for _, g := range groups.Sorted() {
			if c.JSON {
				p.json(groupSummary{Group: g.Group, State: g.State, ProtocolType: g.ProtocolType, Coordinator: g.Coordinator})
				continue
			}
			p.printf("%s\t%s\t%s\t%d\n", g.Group, g.State, g.ProtocolType, g.Coordinator)
		}
		return errors.Join(c.explain("list groups", err), p.result(), w.Flush())
	})
}

// groupDetails is one group of any kind.
type groupDetails struct {
	Group           string        `json:"group"`
	Kind            string        `json:"kind"` // classic or consumer
	State           string        `json:"state"`
	Protocol        string        `json:"protocol,omitempty"`
	Epoch           *int32        `json:"epoch,omitempty"` // of a consumer group
	AssignmentEpoch *int32        `json:"assignment_epoch,omitempty"`
	Coordinator     int32         `json:"coordinator"`
	Members         []groupMember `json:"members"`
}

type groupMember struct {
	Member     string             `json:"member"`
	Instance   string             `json:"instance,omitempty"`
	ClientID   string             `json:"client_id"`
	Host       string             `json:"host"`
	Epoch      *int32             `json:"epoch,omitempty"`
	Assignment map[string][]int32 `json:"assignment"`
}

// describeGroup finds out what kind a group is, and describes it.
func describeGroup(ctx context.Context, adm *kadm.Client, group string) (groupDetails, error) {
	if consumers, err := adm.DescribeConsumerGroups(ctx, group); err == nil {
		if g, ok := consumers[group]; ok && g.Err == nil {
			return consumerDetails(&g), nil
		}
	} // older brokers do not know the request, and all say of a classic group that there is none
	classic, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return groupDetails{}, err
	}
	g, ok := classic[group]
	switch {
	case !ok:
		return groupDetails{}, kerr.GroupIDNotFound
	case g.Err != nil:
		return groupDetails{}, withMessage(g.Err, g.ErrMessage)
	case g.State == "Dead":
		return groupDetails{}, kerr.GroupIDNotFound
	}
	d := groupDetails{Group: group, Kind: "classic", State: g.State, Protocol: g.Protocol, Coordinator: g.Coordinator.NodeID, Members: []groupMember{}}
	for i := range g.Members {
		from := &g.Members[i]
		m := groupMember{Member: from.MemberID, Instance: orEmpty(from.InstanceID), ClientID: from.ClientID, Host: from.ClientHost, Assignment: map[string][]int32{}}
		if as, ok := from.Assigned.AsConsumer(); ok {
			for _, t := range as.Topics {
				m.Assignment[t.Topic] = slices.Sorted(slices.Values(t.Partitions))
			}
		}
		d.Members = append(d.Members, m)
	}
	return d, nil
}

func consumerDetails(g *kadm.DescribedConsumerGroup) groupDetails {
	d := groupDetails{
		Group: g.Group, Kind: "consumer", State: g.State, Protocol: g.AssignorName, Epoch: &g.Epoch, AssignmentEpoch: &g.AssignmentEpoch,
		Coordinator: g.Coordinator.NodeID, Members: []groupMember{},
	}
	for i := range g.Members {
		from := &g.Members[i]
		m := groupMember{
			Member: from.MemberID, Instance: orEmpty(from.InstanceID), ClientID: from.ClientID, Host: from.ClientHost, Epoch: &from.MemberEpoch,
			Assignment: map[string][]int32{},
		}
		for _, t := range from.Assignment.Sorted() {
			m.Assignment[t.Topic] = t.Partitions
		}
		d.Members = append(d.Members, m)
	}
	return d
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// owner finds the member that a partition is assigned to; nil: none.
func (d *groupDetails) owner(topic string, partition int32) *groupMember {
	for i := range d.Members {
		if slices.Contains(d.Members[i].Assignment[topic], partition) {
			return &d.Members[i]
		}
	}
	return nil
}

type groupDescribeCmd struct {
	Groups []string `arg:"" name:"group" help:"Groups to describe."`
	JSON   bool     `group:"output" help:"Write JSON, one object a group."`
	clientFlags
}

// Run is kong's entry.
func (c *groupDescribeCmd) Run(a *app) error {
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		var errs []error
		for i, name := range c.Groups {
			d, err := describeGroup(ctx, adm, name)
			switch {
			case err != nil:
				err = c.explain("describe group "+name, err)
			case c.JSON:
				p := &printer{w: a.stdout}
				p.json(d)
				err = p.result()
			default:
				err = d.write(a, i > 0)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func (d *groupDetails) write(a *app, gap bool) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	p := &printer{w: w}
	if gap {
		p.printf("\n")
	}
	p.printf("group %s: %s, %s, coordinator %d", d.Group, d.State, d.Kind, d.Coordinator)
	if d.Protocol != "" {
		p.printf(", assignor %s", d.Protocol)
	}
	if d.Epoch != nil {
		p.printf(", epoch %d (assignment %d)", *d.Epoch, *d.AssignmentEpoch)
	}
	p.printf("\n")
	if len(d.Members) > 0 {
		p.printf("\n  MEMBER\tCLIENT\tHOST\tPARTITIONS\n")
	}
	for i := range d.Members {
		m := &d.Members[i]
		name := m.Member
		if m.Instance != "" {
			name += " (" + m.Instance + ")"
		}
		p.printf("  %s\t%s\t%s\t%s\n", name, m.ClientID, m.Host, assignmentText(m.Assignment))
	}
	return errors.Join(p.result(), w.Flush())
}

// assignmentText gives "orders[0-2,5] payments[1]", or "-".
func assignmentText(as map[string][]int32) string {
	var words []string
	for topic, ps := range as {
		if len(ps) > 0 {
			words = append(words, topic+"["+ranges(ps)+"]")
		}
	}
	if len(words) == 0 {
		return "-"
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// ranges writes sorted numbers with runs of three and more as A-B.
func ranges(ns []int32) string {
	var words []string
	for i := 0; i < len(ns); {
		j := i
		for j+1 < len(ns) && ns[j+1] == ns[j]+1 {
			j++
		}
		if j-i >= 2 {
			words = append(words, fmt.Sprintf("%d-%d", ns[i], ns[j]))
			i = j + 1
			continue
		}
		words = append(words, fmt.Sprint(ns[i]))
		i++
	}
	return strings.Join(words, ",")
}

type groupDeleteCmd struct {
	Groups []string `arg:"" name:"group" help:"Groups to delete."`
	Topic  []string `short:"t" placeholder:"TOPIC[:PARTITION,...]" help:"Delete only the offsets of these topics or partitions; repeat it for several."`
	JSON   bool     `group:"output" help:"Write JSON."`
	clientFlags
}

// Help is what --help shows below the summary.
func (*groupDeleteCmd) Help() string {
	return `A group with members is not deleted: stop its consumers first. Its offsets of topics that no member subscribes to can be.

Examples:
  streamhouse group delete reports
  streamhouse group delete reports --topic orders --topic payments:0,3`
}

// Run is kong's entry.
func (c *groupDeleteCmd) Run(a *app) error {
	return c.withAdmin(a, func(ctx context.Context, adm *kadm.Client) error {
		if len(c.Topic) > 0 {
			return c.deleteOffsets(ctx, a, adm)
		}
		answers, err := adm.DeleteGroups(ctx, c.Groups...)
		if err != nil && len(answers) == 0 {
			return c.explain("delete groups", err)
		}
		return report(a, c.JSON, "deleted", c.Groups, func(name string) error {
			g, ok := answers[name]
			if !ok {
				return c.explain("delete group "+name, cmp.Or(err, error(kerr.GroupIDNotFound)))
			}
			return c.explain("delete group "+name, g.Err)
		})
	})
}

func (c *groupDeleteCmd) deleteOffsets(ctx context.Context, a *app, adm *kadm.Client) error {
	scope, err := parseScope(c.Topic)
	if err != nil {
		return badUsage(err)
	}
	return report(a, c.JSON, "deleted offsets of", c.Groups, func(name string) error {
		committed, err := adm.FetchOffsets(ctx, name)
		if err != nil {
			return c.explain("read the offsets of group "+name, err)
		}
		which := make(kadm.TopicsSet)
		committed.Each(func(o kadm.OffsetResponse) {
			if scope.has(o.Topic, o.Partition) {
				which.Add(o.Topic, o.Partition)
			}
		})
		if len(which) == 0 {
			return fmt.Errorf("delete offsets of group %s: it has none committed in %s", name, strings.Join(c.Topic, " "))
		}
		answers, err := adm.DeleteOffsets(ctx, name, which)
		if err != nil {
			return c.explain("delete offsets of group "+name, err)
		}
		var errs []error
		for topic, ps := range answers {
			for p, err := range ps {
				if err != nil {
					errs = append(errs, c.explain(fmt.Sprintf("delete offset of group %s in %s:%d", name, topic, p), err))
				}
			}
		}
		return errors.Join(errs...)
	})
}
