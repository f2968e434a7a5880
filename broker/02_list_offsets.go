package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// ListOffsets (key 2), versions 1–11.
//
// Behaviour: the leader alone answers, once the catalog affirmed that it still led when it had the answer. All special timestamps; by
// time, the first record at or after it that the isolation level may see.
//
// Deviations: internal topics have no records, whatever they stand for. There is no second tier: earliest local is the
// log start, latest tiered and earliest pending upload are unknown (-1).

// The special timestamps of ListOffsets.
const (
	tsLatest         = -1
	tsEarliest       = -2
	tsMax            = -3 // version 7 and later
	tsEarliestLocal  = -4 // version 8 and later
	tsLatestTiered   = -5 // version 9 and later
	tsEarliestToMove = -6 // version 11 and later
)

func (b *Broker) listOffsets(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.ListOffsetsRequest)
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.Version = r.version
	im := b.topics.load()
	resp.Topics = make([]kmsg.ListOffsetsResponseTopic, 0, len(req.Topics))
	var said []leaderSays
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = rt.Topic
		out.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, 0, len(rt.Partitions))
		t := im.byName[rt.Topic]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.Timestamp, p.Offset, p.LeaderEpoch = rp.Partition, -1, -1, -1
			switch {
			case t == nil || !t.has(rp.Partition):
				p.ErrorCode = codeUnknownTopicOrPartition
			case t.internal: // stands for the role of a coordinator, and has no log
				if rp.Timestamp == tsLatest || rp.Timestamp == tsEarliest || rp.Timestamp == tsEarliestLocal {
					p.Offset = 0
				}
			default:
				tp := t.partition(rp.Partition)
				if epoch := b.listOffset(ctx, tp, req, rp, &p); p.ErrorCode == codeNone {
					said = append(said, leaderSays{tp: tp, epoch: epoch, topic: i, partition: j})
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	for _, s := range b.unaffirmed(ctx, said) {
		p := &resp.Topics[s.topic].Partitions[s.partition]
		p.ErrorCode, p.Timestamp, p.Offset, p.LeaderEpoch = s.code, -1, -1, -1
	}
	return resp, nil
}

// listOffset answers one partition and returns the leader epoch under which it did: to be compared afterwards, since an
// answer computed from a log that has moved meanwhile must not be believed.
func (b *Broker) listOffset(ctx context.Context, tp catalog.TopicPartition, req *kmsg.ListOffsetsRequest, rp *kmsg.ListOffsetsRequestTopicPartition, p *kmsg.ListOffsetsResponseTopicPartition) (epoch int32) {
	epoch, code := b.checkLeaderEpoch(tp, rp.CurrentLeaderEpoch)
	if code != codeNone {
		p.ErrorCode = code
		return epoch
	}
	if !knownTimestamp(rp.Timestamp, req.Version) {
		p.ErrorCode = codeUnsupportedVersion
		return epoch
	}
	if err := b.findOffset(ctx, tp, rp.Timestamp, req.IsolationLevel == readCommitted, p); err != nil {
		p.ErrorCode = codeOf(err)
		if !routine(p.ErrorCode) {
			b.limited.warn("list offsets failed", "partition", tp, "timestamp", rp.Timestamp, "error", err)
		}
		p.Timestamp, p.Offset, p.LeaderEpoch = -1, -1, -1
	}
	return epoch
}

// knownTimestamp tells whether a timestamp means something in a version of the API.
func knownTimestamp(ts int64, version int16) bool {
	switch {
	case ts >= tsEarliest:
		return true
	case ts == tsMax:
		return version >= 7
	case ts == tsEarliestLocal:
		return version >= 8
	case ts == tsLatestTiered:
		return version >= 9
	case ts == tsEarliestToMove:
		return version >= 11
	default:
		return false
	}
}

func (b *Broker) findOffset(ctx context.Context, tp catalog.TopicPartition, ts int64, committed bool, p *kmsg.ListOffsetsResponseTopicPartition) error {
	if ts == tsLatestTiered || ts == tsEarliestToMove {
		return nil
	}
	o, err := b.cfg.Log.Offsets(ctx, tp)
	if err != nil {
		return err
	}
	end := o.HighWatermark
	if committed {
		end = o.LastStable
	}
	switch ts {
	case tsLatest:
		p.Offset, p.LeaderEpoch = end, o.LeaderEpoch
	case tsEarliest, tsEarliestLocal:
		p.Offset, p.LeaderEpoch = o.LogStart, o.LogStartEpoch
	case tsMax:
		m, err := b.cfg.Log.MaxTimestamp(ctx, tp)
		if err != nil {
			return err
		}
		if m.Offset >= 0 {
			p.Offset, p.Timestamp, p.LeaderEpoch = m.Offset, m.Timestamp, m.LeaderEpoch
		}
	default:
		f, err := b.cfg.Log.OffsetForTimestamp(ctx, tp, ts)
		if err != nil {
			return err
		}
		if f.Offset >= 0 && f.Offset < end {
			p.Offset, p.Timestamp, p.LeaderEpoch = f.Offset, f.Timestamp, f.LeaderEpoch
		}
	}
	return nil
}
