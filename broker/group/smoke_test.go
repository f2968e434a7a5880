package group

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestSmoke(t *testing.T) {
	now := time.Unix(1000, 0)
	g := New("g", 1, DefaultConfig(), nil, now)
	j := kmsg.NewPtrJoinGroupRequest()
	j.Version, j.Group, j.SessionTimeoutMillis, j.RebalanceTimeoutMillis, j.ProtocolType = 9, "g", 10000, 60000, "consumer"
	j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	e := g.Step(now, Request{Body: j, Client: Client{"c", "/1"}, Token: 1, NewMemberID: "u"})
	id := e.Now[0].Body.(*kmsg.JoinGroupResponse).MemberID
	require.Equal(t, "c-u", id)
	j.MemberID = id
	e = g.Step(now, Request{Body: j, Client: Client{"c", "/1"}, Token: 2})
	require.Empty(t, e.Now)
	now = g.Next()
	e = g.Step(now, Tick{})
	require.Len(t, e.Later, 1)
	require.Equal(t, uint64(1), e.Write)
	sy := kmsg.NewPtrSyncGroupRequest()
	sy.Version, sy.Generation, sy.MemberID = 3, 1, id
	sy.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: id, MemberAssignment: []byte("x")}}
	e = g.Step(now, Request{Body: sy, Token: 3})
	require.Equal(t, "x", string(e.Later[0].Body.(*kmsg.SyncGroupResponse).MemberAssignment))
	require.Equal(t, "Stable", g.Phase())
}
