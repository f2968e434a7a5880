package group

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// consumer is the membership of a consumer group (KIP-848).
type consumer struct {
	g          *Group
	groupEpoch int32
}

func newConsumer(g *Group, epoch int32) *consumer { return &consumer{g: g, groupEpoch: epoch} }

func loadConsumer(*Group, catalog.GroupRecord, time.Time) (*consumer, error) {
	return nil, errors.New("consumer groups are not built yet")
}

func (*consumer) kind() catalog.GroupKind { return catalog.GroupConsumer }
func (*consumer) phase() string           { return phaseEmpty }
func (c *consumer) epoch() int32          { return c.groupEpoch }
func (*consumer) protocolType() string    { return consumerProtocolType }
func (*consumer) idle() bool              { return true }
func (*consumer) request(s *step, r *Request) {
	if resp, ok := r.Body.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse); ok {
		resp.ErrorCode = codeGroupIDNotFound
		s.answer(r.Token, resp)
	}
}
func (*consumer) tick(*step)          {}
func (*consumer) abandoned(Token)     {}
func (*consumer) resumed(*step)       {}
func (*consumer) topicsChanged(*step) {}
func (*consumer) configChanged(*step) {}
func (*consumer) next() time.Time     { return time.Time{} }
func (*consumer) fill(row *catalog.Group) {
	row.State = encodeState(classicState{Version: stateVersion})
}
func (*consumer) commit(*step, *kmsg.OffsetCommitRequest) int16 { return codeUnknownMemberID }
func (*consumer) fetch(*string, int32) int16                    { return codeNone }
func (*consumer) subscribed(string) bool                        { return false }
func (*consumer) deletable() int16                              { return codeNone }
func (*consumer) retention() (time.Time, bool)                  { return time.Time{}, true }
func (*consumer) describe(*kmsg.DescribeGroupsResponseGroup)    {}
func (*consumer) each(func(Member))                             {}
