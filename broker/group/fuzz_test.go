package group

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupKeys are the APIs a group takes.
var groupKeys = []kmsg.Key{
	kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetCommit, kmsg.OffsetDelete, kmsg.DeleteGroups,
	kmsg.ConsumerGroupHeartbeat,
}

// requestSeeds are lists of requests that mean something, as playRequests takes them.
func requestSeeds() [][]byte {
	var out [][]byte
	seed := func(reqs ...kmsg.Request) {
		var b []byte
		for _, r := range reqs {
			for i, k := range groupKeys {
				if int16(k) == r.Key() {
					body := r.AppendTo(nil)
					b = append(b, byte(i), byte(r.GetVersion()), 4)
					b = append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
				}
			}
		}
		out = append(out, b)
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 9, "g", "consumer", 10_000, 20_000
	join.InstanceID = new("i")
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscriptionOf("foo")}}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, "g", "i-000000000000000000000000000000000001", 1
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: sync.MemberID, MemberAssignment: assignment("foo/0")}}
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Version, beat.Group, beat.MemberID, beat.Generation = 3, "g", sync.MemberID, 1
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.Group, leave.Members = 5, "g", []kmsg.LeaveGroupRequestMember{{InstanceID: new("i")}}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.RetentionTimeMillis = 3, "g", 1000
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "foo", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1, Metadata: new("m")}}}}
	remove := kmsg.NewPtrOffsetDeleteRequest()
	remove.Group, remove.Topics = "g", []kmsg.OffsetDeleteRequestTopic{{Topic: "foo", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}
	drop := kmsg.NewPtrDeleteGroupsRequest()
	drop.Groups = []string{"g"}
	next := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	next.Version, next.Group, next.MemberID, next.RebalanceTimeoutMillis = 1, "g", "m", 1000
	next.SubscribedTopicNames, next.Topics = []string{"foo"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	seed(join, sync, beat, commit, leave, remove, drop)
	seed(commit, join, sync, join, sync)
	seed(next, next, join, beat, drop)
	seed(next, leave, join, next)
	return out
}

// FuzzRequests plays lists of requests as they may come from the wire, of any API and version, with time between: each is
// answered at most once, changes are such that the catalog takes them, and no row is made that cannot be loaded.
func FuzzRequests(f *testing.F) {
	for _, b := range requestSeeds() {
		f.Add(b)
	}
	f.Fuzz(playRequests)
}

// TestMangledRequests does the same with lists that mean something, cut up and changed here and there.
func TestMangledRequests(t *testing.T) {
	r := rand.New(rand.NewPCG(*randomSeed, 3))
	seeds := requestSeeds()
	for range 20 * *randomRuns {
		var in []byte
		for range 1 + r.IntN(3) {
			in = append(in, seeds[r.IntN(len(seeds))]...)
		}
		for range r.IntN(6) {
			switch i := r.IntN(len(in)); r.IntN(3) {
			case 0:
				in[i] = byte(r.Uint32())
			case 1:
				in[i] ^= 1 << r.IntN(8)
			default:
				n := min(1+r.IntN(8), len(in)-i)
				in = append(in[:i:i], append(slices.Clone(in[r.IntN(i+1):][:n]), in[i:]...)...)
			}
		}
		playRequests(t, in)
	}
}

// playRequests plays a list of: which API, version, seconds that pass, length of the body (two bytes), body.
func playRequests(t *testing.T, in []byte) {
	t.Helper()
	s := newSim(t)
	s.cfg.MaxMemberBytes = 10_000
	s.step(ConfigChanged{Config: s.cfg})
	for len(in) >= 5 {
		key, version, wait := groupKeys[int(in[0])%len(groupKeys)], int16(in[1]), time.Duration(in[2])*time.Second
		n := min(int(binary.BigEndian.Uint16(in[3:])), len(in)-5)
		body := in[5 : 5+n]
		in = in[5+n:]
		req := kmsg.RequestForKey(int16(key))
		req.SetVersion(version % (req.MaxVersion() + 1))
		if req.ReadFrom(body) == nil && !many(req) {
			s.request(req, "c\xff\x00")
		}
		s.pass(wait)
	}
	s.crash()
	s.pass(time.Hour)
}

// many says that a DeleteGroups is about more than this group: the caller splits it up.
func many(req kmsg.Request) bool {
	d, ok := req.(*kmsg.DeleteGroupsRequest)
	return ok && len(d.Groups) != 1
}
