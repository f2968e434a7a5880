package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// commitOffsets answers OffsetCommit, versions 0 to 10, in Kafka's order: topics first, then the member, then each partition.
// What is accepted is answered once it is durable.
//
// Deviations: negative offsets, metadata that is not text, and partitions beyond [Config.MaxOffsets] are refused with
// INVALID_COMMIT_OFFSET_SIZE; Kafka takes them.
func (g *Group) commitOffsets(s *step, r *Request, req *kmsg.OffsetCommitRequest) {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	topics, some := make([]Topic, len(req.Topics)), false
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewOffsetCommitResponseTopic()
		out.Topic, out.TopicID = rt.Topic, rt.TopicID
		var code int16
		topics[i], code = g.topicOf(req.Version, rt)
		for j := range rt.Partitions {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = rt.Partitions[j].Partition, code
			if code == codeNone && (p.Partition < 0 || p.Partition >= topics[i].Partitions) {
				p.ErrorCode = codeUnknownTopicOrPartition
			}
			some = some || p.ErrorCode == codeNone
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	if !some {
		s.answer(r.Token, resp)
		return
	}
	if code := g.mayCommit(s, req); code != codeNone {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == codeNone {
					p.ErrorCode = code
				}
			}
		}
		s.refuse(r.Token, resp, code)
		return
	}
	indexes := make(map[catalog.GroupPartition]int, len(req.Topics)) // index in s.offsets: of a partition named twice, the last counts
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			out := &resp.Topics[i].Partitions[j]
			if out.ErrorCode != codeNone {
				continue
			}
			o, pcode := g.offsetOf(s.now, req, &topics[i], &req.Topics[i].Partitions[j])
			if pcode == codeNone && !g.offsets.known(o.At()) && g.offsets.count+len(g.offsets.pending)+len(indexes) >= g.cfg.MaxOffsets {
				pcode = codeInvalidCommitOffsetSize
			}
			if out.ErrorCode = pcode; pcode != codeNone {
				continue
			}
			if before, ok := indexes[o.At()]; ok {
				s.offsets[before] = o
				continue
			}
			indexes[o.At()] = len(s.offsets)
			s.offsets = append(s.offsets, o)
		}
	}
	s.later(r.Token, resp)
}

// topicOf finds the topic of a commit: by id from version 10 on (KIP-848).
func (g *Group) topicOf(version int16, rt *kmsg.OffsetCommitRequestTopic) (Topic, int16) {
	if version >= 10 {
		if t, ok := g.topics.ByID(catalog.TopicID(rt.TopicID)); ok {
			return t, codeNone
		}
		return Topic{}, codeUnknownTopicID
	}
	if t, ok := g.topics.ByName(rt.Topic); ok {
		return t, codeNone
	}
	return Topic{}, codeUnknownTopicOrPartition
}

// mayCommit decides whether the client may commit to this group. A group that does not exist is made for those that commit
// without being members.
func (g *Group) mayCommit(s *step, req *kmsg.OffsetCommitRequest) int16 {
	if !g.exists() && generationOf(req) >= 0 {
		if req.Version >= 9 {
			return codeGroupIDNotFound
		}
		return codeIllegalGeneration
	}
	return g.m.commit(s, req)
}

// generationOf is the generation or member epoch a commit names; below 0 for who is no member.
func generationOf(req *kmsg.OffsetCommitRequest) int32 {
	if req.Version < 1 {
		return -1
	}
	return req.Generation
}

// offsetOf makes a committed offset of a request's.
func (g *Group) offsetOf(now time.Time, req *kmsg.OffsetCommitRequest, t *Topic, p *kmsg.OffsetCommitRequestTopicPartition) (catalog.GroupOffset, int16) {
	o := catalog.GroupOffset{
		Topic: t.Name, TopicID: t.ID, Partition: p.Partition, Offset: p.Offset, LeaderEpoch: -1, CommittedAt: now,
	}
	if p.Metadata != nil {
		o.Metadata = *p.Metadata
	}
	if len(o.Metadata) > g.cfg.OffsetMetadataMax {
		return o, codeOffsetMetadataTooLarge
	}
	if req.Version >= 6 && p.LeaderEpoch >= 0 {
		o.LeaderEpoch = p.LeaderEpoch
	}
	if req.Version == 1 && p.Timestamp >= 0 {
		o.CommittedAt = time.UnixMilli(min(p.Timestamp, catalog.MaxGroupTime.UnixMilli()))
	}
	if req.Version >= 2 && req.Version <= 4 && req.RetentionTimeMillis >= 0 {
		// Kafka knows one special value, -1, and lets others below 0 expire at once; here they mean the same as -1.
		o.ExpiresAt = time.UnixMilli(now.UnixMilli() + min(req.RetentionTimeMillis, catalog.MaxGroupTime.UnixMilli()-now.UnixMilli()))
	}
	if o.Check() != nil {
		return o, codeInvalidCommitOffsetSize
	}
	return o, codeNone
}

// deleteOffsets answers OffsetDelete (KIP-496).
func (g *Group) deleteOffsets(s *step, r *Request, req *kmsg.OffsetDeleteRequest) {
	resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	if resp.ErrorCode = codeGroupIDNotFound; g.exists() {
		resp.ErrorCode = g.m.deletable()
	}
	if resp.ErrorCode != codeNone {
		s.answer(r.Token, resp)
		return
	}
	seen := make(map[catalog.GroupPartition]bool)
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewOffsetDeleteResponseTopic()
		out.Topic = rt.Topic
		t, live := g.topics.ByName(rt.Topic)
		subscribed := g.m.subscribed(rt.Topic)
		for j := range rt.Partitions {
			p := kmsg.NewOffsetDeleteResponseTopicPartition()
			p.Partition = rt.Partitions[j].Partition
			switch {
			case !live || p.Partition < 0 || p.Partition >= t.Partitions:
				p.ErrorCode = codeUnknownTopicOrPartition
			case subscribed:
				p.ErrorCode = codeGroupSubscribedToTopic
			}
			out.Partitions = append(out.Partitions, p)
			where := catalog.GroupPartition{Topic: rt.Topic, Partition: p.Partition}
			if p.ErrorCode == codeNone && !seen[where] && g.offsets.known(where) {
				seen[where] = true
				s.offsetsGone = append(s.offsetsGone, where)
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	s.later(r.Token, resp)
}

// expire removes what nobody wants any more: offsets whose retention is over (KIP-211), those of topics that are gone, and at
// last a group without members and offsets.
func (g *Group) expire(s *step) {
	from, ok := g.m.retention()
	kept := false
	for o := range g.offsets.all() {
		old := g.stale(s.now, &o)
		if ok && !g.m.subscribed(o.Topic) {
			old = old || g.expired(s.now, from, &o)
		}
		if !old || g.offsets.isPending(o.At()) {
			kept = true
			continue
		}
		s.offsetsGone = append(s.offsetsGone, o.At())
	}
	if !kept && len(g.offsets.pending) == 0 && g.m.phase() == phaseEmpty && g.m.idle() {
		s.forget()
	}
}

func (g *Group) expired(now, from time.Time, o *catalog.GroupOffset) bool {
	if !o.ExpiresAt.IsZero() {
		return !now.Before(o.ExpiresAt)
	}
	if from.IsZero() {
		from = o.CommittedAt
	}
	return now.Sub(from) >= g.cfg.OffsetRetention
}

// stale says that an offset is of a topic that is gone. What was committed lately is believed: the snapshot of topics may be
// older than the commit, when the coordinator of the commit knew of a topic that this one has not heard of yet.
func (g *Group) stale(now time.Time, o *catalog.GroupOffset) bool {
	if now.Sub(o.CommittedAt) < g.cfg.OffsetCheck {
		return false
	}
	t, ok := g.topics.ByName(o.Topic)
	return !ok || (o.TopicID != catalog.TopicID{} && o.TopicID != t.ID)
}

// topicsGone removes the offsets of topics that were there before and are not now, or are others of the same name; also those
// that are on their way.
func (g *Group) topicsGone(s *step, before Topics) {
	var gone map[catalog.GroupPartition]bool
	look := func(o *catalog.GroupOffset) {
		was, ok := before.ByName(o.Topic)
		if !ok || (o.TopicID != catalog.TopicID{} && o.TopicID != was.ID) {
			return
		}
		if now, ok := g.topics.ByName(o.Topic); (ok && now.ID == was.ID) || gone[o.At()] {
			return
		}
		if gone == nil {
			gone = make(map[catalog.GroupPartition]bool)
		}
		gone[o.At()] = true
		s.offsetsGone = append(s.offsetsGone, o.At())
	}
	for o := range g.offsets.all() {
		look(&o)
	}
	for i := range g.offsets.flights {
		for j := range g.offsets.flights[i].put {
			look(&g.offsets.flights[i].put[j])
		}
	}
}

// FetchOffsets is the group's part of an OffsetFetch answer, versions 1 to 10: of the partitions asked for, or, without
// topics, of all. Offsets are those that are durable. With stable, a partition with a commit on its way is
// UNSTABLE_OFFSET_COMMIT (KIP-447): a client that takes over the partition asks again until the commit of the former owner has
// been decided. Topics that do not exist, and ids from version 10 on, are looked up here; authorization is the caller's.
func (g *Group) FetchOffsets(req *kmsg.OffsetFetchRequestGroup, version int16, stable bool) kmsg.OffsetFetchResponseGroup {
	out := kmsg.NewOffsetFetchResponseGroup()
	out.Group = g.id
	if g.exists() {
		if out.ErrorCode = g.m.fetch(req.MemberID, req.MemberEpoch); out.ErrorCode != codeNone {
			return out
		}
	}
	if req.Topics == nil {
		g.fetchAll(&out, version, stable)
		return out
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		name, code := rt.Topic, codeNone
		var id catalog.TopicID
		if version >= 10 {
			id = catalog.TopicID(rt.TopicID)
			t, ok := g.topics.ByID(id)
			if name = t.Name; !ok {
				code = codeUnknownTopicID
			}
		}
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = name, rt.TopicID
		for _, p := range rt.Partitions {
			t.Partitions = append(t.Partitions, g.fetchOne(name, id, p, code, stable))
		}
		out.Topics = append(out.Topics, t)
	}
	return out
}

// fetchAll tells all offsets there are. By id only those of topics that live can be told, and not those of another topic that
// had the name before.
func (g *Group) fetchAll(out *kmsg.OffsetFetchResponseGroup, version int16, stable bool) {
	for o := range g.Offsets() {
		t, ok := g.topics.ByName(o.Topic)
		if version >= 10 && (!ok || (o.TopicID != catalog.TopicID{} && o.TopicID != t.ID)) {
			continue
		}
		n := len(out.Topics)
		if n == 0 || out.Topics[n-1].Topic != o.Topic {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic, rt.TopicID = o.Topic, t.ID
			out.Topics = append(out.Topics, rt)
			n++
		}
		rt := &out.Topics[n-1]
		rt.Partitions = append(rt.Partitions, g.fetchOne(o.Topic, catalog.TopicID{}, o.Partition, codeNone, stable))
	}
}

func (g *Group) fetchOne(topic string, id catalog.TopicID, partition int32, code int16, stable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = partition, -1, -1, new(""), code
	if code != codeNone {
		return p
	}
	if stable && g.offsets.isPending(catalog.GroupPartition{Topic: topic, Partition: partition}) {
		p.ErrorCode = codeUnstableOffsetCommit
		return p
	}
	none := catalog.TopicID{}
	if o, ok := g.Offset(topic, partition); ok && (id == none || o.TopicID == none || o.TopicID == id) {
		p.Offset, p.LeaderEpoch, p.Metadata = o.Offset, o.LeaderEpoch, new(o.Metadata)
	}
	return p
}
