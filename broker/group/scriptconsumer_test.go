package group

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// scriptConsumer is what a client of KIP-848 knows of itself.
type scriptConsumer struct {
	epoch    int32
	assigned []kmsg.ConsumerGroupHeartbeatRequestTopic
}

// consumerCommand plays a command about consumer groups:
//
//	chb NAME [join|leave|leave-static] [topics=] [regex=] [owned=foo/0,foo/1|none|all] [instance=] [rack=] [assignor=] [rebalance=]
//	    [epoch=] [id=] [v=]    a ConsumerGroupHeartbeat; one that joins names its topics (or a regex) and owns nothing
//	describe                   ConsumerGroupDescribe
//	grow TOPIC N
func (sc *script) consumerCommand(name string, a args) bool {
	switch name {
	case "chb":
		sc.consumerHeartbeat(a)
	case "describe":
		sc.describeConsumer()
	case "grow":
		next := simTopics{version: sc.sim.topic.version + 1, byName: map[string]Topic{}, names: sc.sim.topic.names}
		for n, t := range sc.sim.topic.byName {
			if n == a.words[0] {
				_, err := fmt.Sscan(a.words[1], &t.Partitions)
				if err != nil {
					panic(err)
				}
			}
			next.byName[n] = t
		}
		sc.sim.topic = next
		sc.sim.step(TopicsChanged{Topics: next})
	default:
		return false
	}
	return true
}

func (sc *script) consumerHeartbeat(a args) {
	c := sc.client(a)
	if c.consumer == nil {
		c.consumer = &scriptConsumer{}
		c.id = a.string("id", c.name)
	}
	if i := a.named["instance"]; i != "" {
		c.instance = i
	}
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID = int16(a.int("v", 1)), sc.sim.id, sc.id(a, c)
	req.InstanceID = sc.instance(a, c)
	req.RackID, req.ServerAssignor = a.nullable("rack"), a.nullable("assignor")
	req.SubscribedTopicRegex = a.nullable("regex")
	if r := a.duration("rebalance", 0); r > 0 {
		req.RebalanceTimeoutMillis = millis(r)
	}
	if t, ok := a.named["topics"]; ok {
		req.SubscribedTopicNames = []string{}
		if t != "" {
			req.SubscribedTopicNames = strings.Split(t, ",")
		}
	}
	action := ""
	if len(a.words) > 1 {
		action = a.words[1]
	}
	switch action {
	case "join":
		c.consumer.epoch, c.consumer.assigned = 0, nil
		req.RebalanceTimeoutMillis = millis(a.duration("rebalance", time60))
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil {
			req.SubscribedTopicNames = []string{"foo"}
		}
	case "leave":
		c.consumer.epoch = epochLeave
	case "leave-static":
		c.consumer.epoch = epochStaticLeave
	}
	switch own := a.string("owned", ""); own {
	case "":
	case "none":
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	case "all":
		req.Topics = append([]kmsg.ConsumerGroupHeartbeatRequestTopic{}, c.consumer.assigned...)
	default:
		req.Topics = nil
		for p := range strings.SplitSeq(own, ",") {
			name, n := parsePartition(p)
			t, _ := sc.sim.topic.ByName(name)
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.ID, Partitions: []int32{n}})
		}
	}
	req.MemberEpoch = int32(a.int("epoch", int(c.consumer.epoch)))
	sc.send(c, req)
}

const time60 = 60_000_000_000

// nullable is a named word, nil if it is not there.
func (a args) nullable(name string) *string {
	if v, ok := a.named[name]; ok {
		return &v
	}
	return nil
}

// consumerAnswered shows an answer to a ConsumerGroupHeartbeat, and lets the client take note of it.
func (sc *script) consumerAnswered(b *strings.Builder, c *scriptClient, resp *kmsg.ConsumerGroupHeartbeatResponse) {
	fmt.Fprintf(b, " chb %s: %s", c.name, code(resp.ErrorCode))
	if resp.ErrorCode != 0 {
		fmt.Fprintf(b, " %q", *resp.ErrorMessage)
		return
	}
	c.id, c.consumer.epoch = *resp.MemberID, resp.MemberEpoch
	fmt.Fprintf(b, " epoch=%d%s", resp.MemberEpoch, said(" id=%s", strings.TrimPrefix(sc.short(c.id), c.name)))
	if ms := resp.HeartbeatIntervalMillis; ms != 5000 && ms != 0 {
		fmt.Fprintf(b, " next in %dms", ms)
	}
	if resp.Assignment == nil {
		return
	}
	c.consumer.assigned = nil
	var as assignor.Assignment
	for _, t := range resp.Assignment.Topics {
		as = append(as, assignor.Partitions{Topic: t.TopicID, Partitions: t.Partitions})
		c.consumer.assigned = append(c.consumer.assigned, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.TopicID, Partitions: t.Partitions})
	}
	fmt.Fprintf(b, " %s", sc.assignment(as))
}

func (sc *script) assignment(a assignor.Assignment) string {
	var b strings.Builder
	for _, t := range a {
		name := "?"
		if topic, ok := sc.sim.topic.ByID(t.Topic); ok {
			name = topic.Name
		}
		fmt.Fprintf(&b, "%s%v", name, t.Partitions)
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

func (sc *script) describeConsumer() {
	d := sc.sim.group.DescribeConsumer()
	if d.ErrorCode != 0 {
		sc.print("%s %q", code(d.ErrorCode), *d.ErrorMessage)
		return
	}
	sc.print("%s epoch=%d assignment-epoch=%d assignor=%s", d.State, d.Epoch, d.AssignmentEpoch, d.AssignorName)
	show := func(a kmsg.Assignment) string {
		var as assignor.Assignment
		for _, t := range a.TopicPartitions {
			as = append(as, assignor.Partitions{Topic: catalog.TopicID(t.TopicID), Partitions: t.Partitions})
		}
		return sc.assignment(as)
	}
	deref := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, m := range d.Members {
		kind := "consumer"
		if m.MemberType == memberTypeClassic {
			kind = "classic"
		}
		sc.print("  %s %s epoch=%d topics=%v%s%s%s has %s target %s", sc.short(m.MemberID), kind, m.MemberEpoch, m.SubscribedTopics,
			said(" regex=%s", deref(m.SubscribedTopicRegex)), said(" instance=%s", deref(m.InstanceID)), said(" rack=%s", deref(m.RackID)),
			show(m.Assignment), show(m.TargetAssignment))
	}
}
