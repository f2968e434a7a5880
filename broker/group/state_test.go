package group

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// TestClassicRows fixes how classic groups are kept: a broker of another release reads these rows. What is here for a version
// never changes.
func TestClassicRows(t *testing.T) {
	const member = `{"v":1,"session_timeout_ms":45000,"rebalance_timeout_ms":300000,` +
		`"protocols":[{"name":"range","metadata":"AAE="},{"name":"sticky"}],"assignment":"AgM="}`
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rec := catalog.GroupRecord{
		Group: catalog.Group{
			ID: "g", Shard: 3, Kind: catalog.GroupClassic, ProtocolType: "consumer", Protocol: "range", Phase: "Stable", Epoch: 7,
			Leader: "b", State: []byte(`{"v":1}`), ChangedAt: now.Add(-time.Hour),
		},
		Members: []catalog.GroupMember{
			{ID: "a", InstanceID: "i", ClientID: "c", ClientHost: "/h", State: []byte(member)},
			{ID: "b", ClientID: "c", ClientHost: "/h", State: []byte(`{"v":1,"session_timeout_ms":10000,"rebalance_timeout_ms":60000,"protocols":[{"name":"range"}]}`)},
		},
	}
	g, err := Load(rec, DefaultConfig(), newSimTopics(1), now)
	require.NoError(t, err)
	require.Equal(t, rec.Group, *g.groupRow())
	c := g.m.(*classic)
	for i, id := range []string{"a", "b"} {
		require.Equal(t, rec.Members[i], c.byID[id].row())
	}
	require.Equal(t, []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 1}}, {Name: "sticky"}}, c.byID["a"].protocols)
	require.Equal(t, []byte{2, 3}, c.byID["a"].assignment)
	require.Equal(t, 45*time.Second, c.byID["a"].session)
	require.Equal(t, 5*time.Minute, c.byID["a"].rebalance)
	require.Equal(t, c.byID["b"], c.leader)
	require.Equal(t, now.Add(10*time.Second), g.Next(), "sessions start anew")
}

// TestRowsOfOthers: rows that this broker cannot read are refused, not guessed at.
func TestRowsOfOthers(t *testing.T) {
	row := func(state string) catalog.GroupRecord {
		return catalog.GroupRecord{Group: catalog.Group{ID: "g", Kind: catalog.GroupClassic, Phase: "Empty", State: []byte(state)}}
	}
	for name, rec := range map[string]catalog.GroupRecord{
		"newer":                    row(`{"v":2}`),
		"no version":               row(`{}`),
		"no JSON":                  row(`x`),
		"a kind that is not there": {Group: catalog.Group{ID: "g", Kind: "share", State: []byte(`{"v":1}`)}},
		"member": {
			Group:   catalog.Group{ID: "g", Kind: catalog.GroupClassic, Phase: "Stable", State: []byte(`{"v":1}`)},
			Members: []catalog.GroupMember{{ID: "a", State: []byte(`{"v":9}`)}},
		},
	} {
		_, err := Load(rec, DefaultConfig(), newSimTopics(1), time.Unix(1, 0))
		require.Error(t, err, name)
	}
	// What a later release adds, and an older one need not know, is passed over.
	_, err := Load(row(`{"v":1,"more":[1]}`), DefaultConfig(), newSimTopics(1), time.Unix(1, 0))
	require.NoError(t, err)
}

// FuzzConsumerProtocol: whatever clients send each other is read without harm, and no more is made of it than it holds.
func FuzzConsumerProtocol(f *testing.F) {
	f.Add(subscriptionOf("foo,bar"))
	f.Add(assignment("foo/0,bar/7"))
	f.Add([]byte{0, 1, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		topics, _ := subscribedTopics(b)
		require.LessOrEqual(t, len(topics), len(b))
		require.LessOrEqual(t, len(assignedPartitions(b)), len(b))
	})
}

func TestConsumerProtocol(t *testing.T) {
	topics, ok := subscribedTopics(subscriptionOf("foo,bar"))
	require.True(t, ok)
	require.Equal(t, []string{"foo", "bar"}, topics)
	for _, b := range [][]byte{nil, []byte("junk"), {0, 0, 0, 0, 0, 1, 0xff, 0xff}, {0xff, 0xff, 0, 0, 0, 0}} {
		_, ok := subscribedTopics(b)
		require.False(t, ok, "%x", b)
	}
	// Only the part that all versions share counts: a later version's rest is not looked at.
	_, ok = subscribedTopics([]byte{0, 99, 0, 0, 0, 0, 1, 2, 3})
	require.True(t, ok)

	require.Equal(t, []catalog.GroupPartition{{Topic: "foo", Partition: 1}, {Topic: "bar", Partition: 0}}, assignedPartitions(assignment("foo/1,bar/0")))
	require.Nil(t, assignedPartitions([]byte("junk")))
}
