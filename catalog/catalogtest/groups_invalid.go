package catalogtest

import (
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// testGroupsInvalid: what is wrong whatever the catalog holds is refused, also before the lease is looked at.
func testGroupsInvalid(s *suite) {
	s.shards(1)
	co := s.coordinate(s.register(), 0)
	co.put("g")
	before := text(s.group("g"))
	base := func() catalog.GroupWrite {
		return co.next(
			catalog.GroupChange{ID: "first", Group: groupRow(0, "first")},
			catalog.GroupChange{
				ID: "g", Group: groupRow(0, "g"), Members: []catalog.GroupMember{groupMember("m"), groupMember("n")}, MembersGone: []string{"o", "p"},
				Offsets:     []catalog.GroupOffset{groupOffset("t", 0, 1), groupOffset("t", 1, 1)},
				OffsetsGone: []catalog.GroupPartition{{Topic: "t", Partition: 2}, {Topic: "u", Partition: 0}},
			})
	}
	early, late := time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), catalog.MaxGroupTime.Add(1)
	write := map[string]func(w *catalog.GroupWrite){
		"a negative shard":       func(w *catalog.GroupWrite) { w.Shard = -1 },
		"no holder":              func(w *catalog.GroupWrite) { w.Holder = 0 },
		"a lease never held":     func(w *catalog.GroupWrite) { w.Lease = -1 },
		"number 0":               func(w *catalog.GroupWrite) { w.Number = 0 },
		"two changes of a group": func(w *catalog.GroupWrite) { w.Changes[0] = catalog.GroupChange{ID: "g"} },
	}
	change := map[string]func(ch *catalog.GroupChange){
		"no id": func(ch *catalog.GroupChange) { *ch = catalog.GroupChange{} },
		"an id too long": func(ch *catalog.GroupChange) {
			*ch = catalog.GroupChange{ID: strings.Repeat("x", catalog.MaxGroupID+1)}
		},
		"an id that is no text": func(ch *catalog.GroupChange) { *ch = catalog.GroupChange{ID: "g\xff"} },
		"an id with a NUL":      func(ch *catalog.GroupChange) { *ch = catalog.GroupChange{ID: "g\x00"} },
		"deleted and put": func(ch *catalog.GroupChange) {
			*ch = catalog.GroupChange{ID: "g", Delete: true, Group: groupRow(0, "g")}
		},
		"deleted and cleared":  func(ch *catalog.GroupChange) { *ch = catalog.GroupChange{ID: "g", Delete: true, AllMembersGone: true} },
		"deleted with members": func(ch *catalog.GroupChange) { *ch = catalog.GroupChange{ID: "g", Delete: true, Members: ch.Members} },
		"deleted, members gone": func(ch *catalog.GroupChange) {
			*ch = catalog.GroupChange{ID: "g", Delete: true, MembersGone: ch.MembersGone}
		},
		"deleted with offsets": func(ch *catalog.GroupChange) { *ch = catalog.GroupChange{ID: "g", Delete: true, Offsets: ch.Offsets} },
		"deleted, offsets gone": func(ch *catalog.GroupChange) {
			*ch = catalog.GroupChange{ID: "g", Delete: true, OffsetsGone: ch.OffsetsGone}
		},
		"another group's row":         func(ch *catalog.GroupChange) { ch.Group.ID = "h" },
		"another shard's row":         func(ch *catalog.GroupChange) { ch.Group.Shard = 1 },
		"no kind":                     func(ch *catalog.GroupChange) { ch.Group.Kind = "" },
		"an unknown kind":             func(ch *catalog.GroupChange) { ch.Group.Kind = "share" },
		"no phase":                    func(ch *catalog.GroupChange) { ch.Group.Phase = "" },
		"a negative epoch":            func(ch *catalog.GroupChange) { ch.Group.Epoch = -1 },
		"a leader that is no text":    func(ch *catalog.GroupChange) { ch.Group.Leader = "\xff" },
		"a protocol with a NUL":       func(ch *catalog.GroupChange) { ch.Group.Protocol = "\x00" },
		"no state":                    func(ch *catalog.GroupChange) { ch.Group.State = nil },
		"a state that is no JSON":     func(ch *catalog.GroupChange) { ch.Group.State = []byte("{") },
		"a state that is no text":     func(ch *catalog.GroupChange) { ch.Group.State = []byte("\"\xff\"") },
		"no time":                     func(ch *catalog.GroupChange) { ch.Group.ChangedAt = time.Time{} },
		"too late":                    func(ch *catalog.GroupChange) { ch.Group.ChangedAt = late },
		"no member id":                func(ch *catalog.GroupChange) { ch.Members[1].ID = "" },
		"a member id too long":        func(ch *catalog.GroupChange) { ch.Members[1].ID = strings.Repeat("x", catalog.MaxMemberID+1) },
		"a client id that is no text": func(ch *catalog.GroupChange) { ch.Members[1].ClientID = "\xff" },
		"an instance with a NUL":      func(ch *catalog.GroupChange) { ch.Members[1].InstanceID = "\x00" },
		"no state of a member":        func(ch *catalog.GroupChange) { ch.Members[1].State = nil },
		"a member twice":              func(ch *catalog.GroupChange) { ch.Members[1].ID = "m" },
		"a member put and gone":       func(ch *catalog.GroupChange) { ch.MembersGone[1] = "m" },
		"a member gone twice":         func(ch *catalog.GroupChange) { ch.MembersGone[1] = "o" },
		"gone, not text":              func(ch *catalog.GroupChange) { ch.MembersGone[1] = "\x00" },
		"no topic":                    func(ch *catalog.GroupChange) { ch.Offsets[1].Topic = "" },
		"a topic too long":            func(ch *catalog.GroupChange) { ch.Offsets[1].Topic = strings.Repeat("x", catalog.MaxGroupTopic+1) },
		"a topic that is no text":     func(ch *catalog.GroupChange) { ch.Offsets[1].Topic = "\xff" },
		"a negative partition":        func(ch *catalog.GroupChange) { ch.Offsets[1].Partition = -1 },
		"a negative offset":           func(ch *catalog.GroupChange) { ch.Offsets[1].Offset = -1 },
		"leader epoch -2":             func(ch *catalog.GroupChange) { ch.Offsets[1].LeaderEpoch = -2 },
		"metadata that is no text":    func(ch *catalog.GroupChange) { ch.Offsets[1].Metadata = "\xff" },
		"no time of commit":           func(ch *catalog.GroupChange) { ch.Offsets[1].CommittedAt = time.Time{} },
		"expired before 1970":         func(ch *catalog.GroupChange) { ch.Offsets[1].ExpiresAt = early },
		"expires never":               func(ch *catalog.GroupChange) { ch.Offsets[1].ExpiresAt = late },
		"a partition twice":           func(ch *catalog.GroupChange) { ch.Offsets[1].Partition = 0 },
		"a partition put and gone":    func(ch *catalog.GroupChange) { ch.OffsetsGone[1] = catalog.GroupPartition{Topic: "t"} },
		"a partition gone twice":      func(ch *catalog.GroupChange) { ch.OffsetsGone[1] = ch.OffsetsGone[0] },
		"no topic of what is gone":    func(ch *catalog.GroupChange) { ch.OffsetsGone[1].Topic = "" },
	}
	for what, spoil := range change {
		write[what] = func(w *catalog.GroupWrite) { spoil(&w.Changes[1]) }
	}
	for what, spoil := range write {
		for _, held := range []bool{true, false} {
			w := base()
			if !held {
				w.Lease++
			}
			spoil(&w)
			_, err := s.c.WriteGroups(s.ctx(), w)
			s.is(err, catalog.ErrInvalid, what)
			require.False(s, catalog.Retriable(err), what)
			s.noGroup("first", what)
			require.Equal(s, before, text(s.group("g")), what)
		}
	}

	// What is at the bounds is taken.
	long := strings.Repeat("ü", catalog.MaxGroupID/2)
	ch := catalog.GroupChange{ID: long, Group: groupRow(0, long)}
	for i := range 3 {
		m, o := groupMember(string(rune('a'+i))+"_"+long[:catalog.MaxMemberID-2]), groupOffset(strings.Repeat("x", catalog.MaxGroupTopic), int32(1<<31-1-i), 1<<63-1)
		m.ClientID, o.Metadata = strings.Repeat("\t\n\"'\\", 20_000), strings.Repeat("¶", 50_000)
		o.ExpiresAt, o.CommittedAt = catalog.MaxGroupTime, time.Unix(0, 0).UTC()
		ch.Members, ch.Offsets = append(ch.Members, m), append(ch.Offsets, o)
	}
	co.write(ch)
	got := s.group(long)
	require.Len(s, got.Members, 3)
	require.Len(s, got.Offsets, 3)
	require.Equal(s, text(ch.Members), text(got.Members))
	require.Equal(s, text(ch.Offsets[0]), text(got.Offsets[2]))
}
