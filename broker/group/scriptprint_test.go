package group

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// state shows the group as people see it.
func (sc *script) state() {
	g := sc.sim.group
	d := g.Describe(6)
	sc.print("%s %s generation=%d%s%s", code(d.ErrorCode), d.State, g.Epoch(), said(" type=%s", d.ProtocolType), said(" protocol=%s", d.Protocol))
	for _, m := range g.Members() {
		sc.print("  %s%s %v", sc.short(m.ID), said(" instance=%s", m.InstanceID), m.Partitions)
	}
	if next := g.Next(); !next.IsZero() {
		sc.print("  next in %s", next.Sub(sc.sim.now))
	}
	if g.Gone() {
		sc.print("  gone")
	}
}

// rows shows what is durable.
func (sc *script) rows() {
	r := sc.sim.rows
	if r == nil {
		sc.print("none")
		return
	}
	sc.print("%s epoch=%d%s%s%s", r.Phase, r.Epoch, said(" type=%s", r.ProtocolType), said(" protocol=%s", r.Protocol), said(" leader=%s", sc.short(r.Leader)))
	for _, m := range r.Members {
		sc.print("  %s %s", sc.short(m.ID), m.State)
	}
	for _, o := range r.Offsets {
		sc.print("  %s/%d=%d%s", o.Topic, o.Partition, o.Offset, said(" expires=%s", expiry(sc.sim.clock, o.ExpiresAt)))
	}
}

func expiry(since, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.Sub(since).String()
}

// said formats what is not empty.
func said(format, s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf(format, s)
}

// short is a member id as scripts show it: without most of the zeros of its random part.
func (sc *script) short(id string) string {
	if len(id) > 36 {
		return id[:len(id)-36] + strings.TrimLeft(id[len(id)-36:], "0")
	}
	return id
}

func code(c int16) string {
	if c == 0 {
		return "ok"
	}
	if err := kerr.TypedErrorForCode(c); err != nil {
		return err.Message
	}
	return strconv.Itoa(int(c))
}

// wrote shows a write as it is issued.
func (sc *script) wrote(n uint64, c *catalog.GroupChange) {
	var b strings.Builder
	fmt.Fprintf(&b, "write %d:", n)
	if c.Delete {
		b.WriteString(" delete")
	}
	if g := c.Group; g != nil {
		fmt.Fprintf(&b, " %s epoch=%d%s", g.Phase, g.Epoch, said(" leader=%s", sc.short(g.Leader)))
	}
	for i := range c.Members {
		b.WriteString(" +" + sc.short(c.Members[i].ID))
	}
	if c.AllMembersGone {
		b.WriteString(" -all")
	}
	for _, id := range c.MembersGone {
		b.WriteString(" -" + sc.short(id))
	}
	for _, o := range c.Offsets {
		fmt.Fprintf(&b, " %s/%d=%d", o.Topic, o.Partition, o.Offset)
	}
	for _, p := range c.OffsetsGone {
		fmt.Fprintf(&b, " -%s/%d", p.Topic, p.Partition)
	}
	sc.print("%s", b.String())
}

// answered shows an answer as it leaves, and lets the client take note of it.
func (sc *script) answered(a Answer, _ kmsg.Request) {
	c := sc.of[a.Token]
	var b strings.Builder
	fmt.Fprintf(&b, "t%d", a.Token)
	switch resp := a.Body.(type) {
	case *kmsg.JoinGroupResponse:
		sc.joinAnswered(&b, c, resp)
	case *kmsg.ConsumerGroupHeartbeatResponse:
		sc.consumerAnswered(&b, c, resp)
	case *kmsg.SyncGroupResponse:
		fmt.Fprintf(&b, " sync %s: %s", c.name, code(resp.ErrorCode))
		if resp.ErrorCode == 0 {
			fmt.Fprintf(&b, " %v", assignedPartitions(resp.MemberAssignment))
		}
	case *kmsg.HeartbeatResponse:
		fmt.Fprintf(&b, " heartbeat %s: %s", c.name, code(resp.ErrorCode))
	case *kmsg.LeaveGroupResponse:
		fmt.Fprintf(&b, " leave: %s", code(resp.ErrorCode))
		for _, m := range resp.Members {
			fmt.Fprintf(&b, " %s%s", sc.short(m.MemberID), said(" %s", code(m.ErrorCode)))
		}
	case *kmsg.OffsetCommitResponse:
		fmt.Fprintf(&b, " commit %s:", c.name)
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintf(&b, " %s/%d %s", t.Topic, p.Partition, code(p.ErrorCode))
			}
		}
	case *kmsg.OffsetDeleteResponse:
		fmt.Fprintf(&b, " delete offsets: %s", code(resp.ErrorCode))
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintf(&b, " %s/%d %s", t.Topic, p.Partition, code(p.ErrorCode))
			}
		}
	case *kmsg.DeleteGroupsResponse:
		fmt.Fprintf(&b, " delete: %s", code(resp.Groups[0].ErrorCode))
	default:
		fmt.Fprintf(&b, " %T", resp)
	}
	sc.print("%s", b.String())
}

func (sc *script) joinAnswered(b *strings.Builder, c *scriptClient, resp *kmsg.JoinGroupResponse) {
	fmt.Fprintf(b, " join %s: %s%s", c.name, code(resp.ErrorCode), said(" id=%s", sc.short(resp.MemberID)))
	if resp.ErrorCode == codeMemberIDRequired {
		c.id = resp.MemberID
	}
	if resp.ErrorCode != 0 {
		return
	}
	c.id, c.generation = resp.MemberID, resp.Generation
	fmt.Fprintf(b, " generation=%d protocol=%s leader=%s", resp.Generation, *resp.Protocol, sc.short(resp.LeaderID))
	if resp.SkipAssignment {
		b.WriteString(" skip-assignment")
	}
	if len(resp.Members) > 0 {
		b.WriteString(" members:")
		for _, m := range resp.Members {
			b.WriteString(" " + sc.short(m.MemberID))
		}
	}
}
