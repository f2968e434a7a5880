package broker

import (
	"context"

	"github.com/streamhouse/streamhouse/catalog"
)

// leaderSays is one answer of a request that only the leader of a partition may give: whoever believes a wrong one skips
// data.
type leaderSays struct {
	tp    catalog.TopicPartition
	epoch int32 // under which it was found
	// where it is in the response
	topic, partition int
	code             int16 // why it must be taken back
}

// unaffirmed returns the answers that must be taken back: those given under a leader epoch that was over, or may have been,
// when they were found. The catalog is asked once for all of them, and before the leader epochs are compared: what another
// broker leads since shows in one or the other.
func (b *Broker) unaffirmed(ctx context.Context, said []leaderSays) []leaderSays {
	if len(said) == 0 {
		return nil
	}
	unsure := b.cfg.Log.Affirm(ctx)
	var back []leaderSays
	for _, s := range said {
		after, err := b.cfg.Log.Leader(s.tp)
		switch {
		case err != nil:
			s.code = codeOf(err)
		case unsure != nil || after != s.epoch:
			s.code = codeNotLeaderOrFollower
		default:
			continue
		}
		back = append(back, s)
	}
	return back
}
