package group

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// Group is one group of any kind, or of none yet: a group that nobody has written is made by [New] for the first request
// about it, answers as Kafka does for a group that does not exist, and is [Group.Gone] if that request left nothing.
// It is not safe for concurrent use; reads may run beside each other.
type Group struct {
	id     string
	shard  int32
	cfg    Config
	topics Topics

	m       machine
	offsets offsets

	saved     bool   // the group has a row, once all writes issued are durable
	write     uint64 // of the last change issued
	durable   uint64 // of the last change known to be durable
	nextCheck time.Time
	changedAt time.Time // of the last change of phase, or when the group was made
	version   uint64    // see MembersVersion

	step step // of the Step at work; here so that a heartbeat allocates no more than its answer
}

// machine is the membership of a group, in one of the two protocols. Its methods are called from Group alone. All of them
// may ask the group for its config and topics; what follows from an event they tell the step.
type machine interface {
	kind() catalog.GroupKind
	// phase is Kafka's name of the state: Empty, PreparingRebalance, CompletingRebalance, Stable, Assigning, Reconciling.
	phase() string
	// epoch is the generation or the group epoch.
	epoch() int32
	// protocolType is "consumer" or what the members said, empty for a group that never had one.
	protocolType() string
	// idle says that there are no members, nor clients on the way to become some: nothing to keep but the epoch.
	idle() bool

	// size is how many members there are.
	size() int

	// request is a request about membership: of any protocol, to a group of this kind. It answers, now or in a later step.
	request(s *step, r *Request)
	tick(s *step)
	abandoned(token Token)
	resumed(s *step)
	topicsChanged(s *step)
	configChanged(s *step)
	// next is when tick has something to do; zero: never.
	next() time.Time

	// fill completes the group's row: all but ID, Shard, Kind, ProtocolType, Phase, Epoch, ChangedAt.
	fill(row *catalog.Group)

	// commit decides whether a client may commit offsets, by Kafka's error code; it may extend the member's session.
	commit(s *step, req *kmsg.OffsetCommitRequest) int16
	// fetch decides the same for OffsetFetch with a member id (version 9).
	fetch(memberID *string, memberEpoch int32) int16
	// subscribed says whether offsets of a topic are in use: they neither expire nor can they be deleted.
	subscribed(topic string) bool
	// deletable decides whether offsets may be deleted by a client.
	deletable() int16
	// retention says from when the retention of an offset runs (zero: from its commit); ok is false if none expires now.
	retention() (from time.Time, ok bool)

	// describe fills what DescribeGroups tells of the group and its members.
	describe(out *kmsg.DescribeGroupsResponseGroup)
	// each calls f for each member, by member id. Partitions are those it owns, as far as the broker understands them.
	each(f func(Member))
}

// Member is what people are told of a member beside Kafka's own describe requests.
type Member struct {
	ID         string
	InstanceID string // empty: none
	Client     Client
	Partitions []catalog.GroupPartition // not to be changed
}

// New makes a group that does not exist yet.
func New(id string, shard int32, cfg Config, topics Topics, now time.Time) *Group {
	g := &Group{id: id, shard: shard, cfg: cfg, topics: topics, changedAt: now}
	g.nextCheck = now.Add(cfg.OffsetCheck)
	g.m = newClassic(g, 0)
	return g
}

// Load makes a group from its rows. Sessions start anew: what a member has not heard of the former coordinator is no fault of
// its. A row that does not decode is an error; the group cannot be served then.
func Load(rec catalog.GroupRecord, cfg Config, topics Topics, now time.Time) (*Group, error) {
	g := New(rec.ID, rec.Shard, cfg, topics, now)
	g.saved, g.changedAt = true, rec.ChangedAt
	for _, o := range rec.Offsets {
		g.offsets.set(o)
	}
	var err error
	switch rec.Kind {
	case catalog.GroupClassic:
		g.m, err = loadClassic(g, rec, now)
	case catalog.GroupConsumer:
		g.m, err = loadConsumer(g, rec, now)
	default:
		err = fmt.Errorf("unknown kind %q", rec.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("load group %q: %w", rec.ID, err)
	}
	return g, nil
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// Shard is the coordinator shard the group belongs to.
func (g *Group) Shard() int32 { return g.shard }

// Step takes an event.
func (g *Group) Step(now time.Time, e Event) Effects {
	s := &g.step
	*s = step{g: g, now: now}
	switch e := e.(type) {
	case Request:
		g.request(s, &e)
	case Tick:
		g.tick(s)
	case Written:
		g.durable = max(g.durable, e.Write)
		g.offsets.written(g.durable)
	case Abandoned:
		g.m.abandoned(e.Token)
	case Resumed:
		g.m.resumed(s)
	case TopicsChanged:
		g.topicsChanged(s, e.Topics)
	case ConfigChanged:
		g.cfg = e.Config
		g.nextCheck = minTime(g.nextCheck, now.Add(g.cfg.OffsetCheck))
		g.m.configChanged(s)
	}
	return s.effects()
}

// Next is when the next Tick is due; zero: never, as things are.
func (g *Group) Next() time.Time {
	next := g.m.next()
	if g.saved {
		next = minTime(next, g.nextCheck)
	}
	return next
}

// Gone says that nothing is left of the group, in memory or in the catalog, and nothing is on its way there: the runner may
// forget it.
func (g *Group) Gone() bool {
	return !g.saved && g.write == g.durable && g.m.idle()
}

// exists says whether the group exists for clients. One that was deleted does not, although its rows may still be there.
func (g *Group) exists() bool { return g.saved || !g.m.idle() }

// become turns the group into one of another kind.
func (g *Group) become(s *step, m machine) {
	if m.phase() != g.m.phase() {
		g.changedAt = s.now
	}
	g.m = m
	s.membersChanged()
}

func (g *Group) request(s *step, r *Request) {
	switch body := r.Body.(type) {
	case *kmsg.OffsetCommitRequest:
		g.commitOffsets(s, r, body)
	case *kmsg.OffsetDeleteRequest:
		g.deleteOffsets(s, r, body)
	case *kmsg.DeleteGroupsRequest:
		g.delete(s, r)
	case *kmsg.JoinGroupRequest:
		if g.m.kind() != catalog.GroupClassic && g.m.phase() == phaseEmpty {
			g.become(s, newClassic(g, g.m.epoch()))
		}
		g.m.request(s, r)
	case *kmsg.ConsumerGroupHeartbeatRequest:
		g.consumerHeartbeat(s, r, body)
	default:
		g.m.request(s, r)
	}
}

// delete answers DeleteGroups: the group with its offsets, if it has no members.
func (g *Group) delete(s *step, r *Request) {
	resp := r.Body.ResponseKind().(*kmsg.DeleteGroupsResponse)
	out := kmsg.NewDeleteGroupsResponseGroup()
	out.Group = g.id
	switch {
	case !g.exists():
		out.ErrorCode = codeGroupIDNotFound
	case g.m.phase() != phaseEmpty:
		out.ErrorCode = codeNonEmptyGroup
	default:
		s.forget()
	}
	resp.Groups = append(resp.Groups, out)
	s.later(r.Token, resp)
}

func (g *Group) tick(s *step) {
	g.m.tick(s)
	if g.saved && !s.now.Before(g.nextCheck) {
		g.nextCheck = s.now.Add(g.cfg.OffsetCheck)
		g.expire(s)
	}
}

func (g *Group) topicsChanged(s *step, topics Topics) {
	before := g.topics
	g.topics = topics
	g.topicsGone(s, before)
	g.m.topicsChanged(s)
}

// minTime is the earlier of two times, where zero is never.
func minTime(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
