package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders (key 43), versions 0–2. The holder of a partition's lease is always its first replica, the preferred
// leader: ELECTION_NOT_NEEDED. As in Kafka, such partitions are left out when all are asked for. A free lease is taken
// without being asked to; until then a preferred election is PREFERRED_LEADER_NOT_AVAILABLE, an unclean one
// ELIGIBLE_LEADERS_NOT_AVAILABLE.

func (b *Broker) electLeaders(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.ElectLeadersRequest)
	resp := kmsg.NewPtrElectLeadersResponse()
	resp.Version = r.version
	resp.Topics = []kmsg.ElectLeadersResponseTopic{}
	if r.version >= 1 && req.ElectionType != 0 && req.ElectionType != 1 {
		resp.ErrorCode = codeInvalidRequest
		return resp, nil
	}
	im, f := b.topics.load(), b.fleet()
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = rt.Topic
		t := im.byName[rt.Topic]
		for _, n := range rt.Partitions {
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition = n
			if t == nil || !t.has(n) {
				p.ErrorCode, p.ErrorMessage = codeUnknownTopicOrPartition, new(msgUnknownTopic)
			} else if leader, _ := b.leaderOf(f, t.partition(n)); leader < 0 {
				p.ErrorCode, p.ErrorMessage = codePreferredLeaderNotAvailable, new("Nobody leads the partition now; the brokers take its lease by themselves.")
				if req.ElectionType == 1 {
					p.ErrorCode = codeEligibleLeadersNotAvailable
				}
			} else {
				p.ErrorCode, p.ErrorMessage = codeElectionNotNeeded, new("Leader election not needed for topic partition.")
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}
