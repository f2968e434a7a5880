package catalogtest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// testMembersOf: members are found by client id and host, but for those of the shards left out; State comes only where a row is
// another than it was known to be.
func testMembersOf(f *fleet) {
	f.shards(3)
	co, other := f.coordinate(f.register(), 0), f.coordinate(f.register(), 1)
	long := strings.Repeat("a client id may be long ", 1000) // more than a b-tree takes
	member := func(id, client, host string) catalog.GroupMember {
		m := groupMember(id)
		m.ClientID, m.ClientHost = client, host
		return m
	}
	co.put("g", "h")
	co.write(
		catalog.GroupChange{ID: "g", Members: []catalog.GroupMember{
			member("one", "c", "/10.0.0.1"), member("two", "c", "/10.0.0.1"), member("three", "c", "/10.0.0.2"), member("four", "d", "/10.0.0.1"),
		}},
		catalog.GroupChange{ID: "h", Members: []catalog.GroupMember{member("one", "c", "/10.0.0.1"), member("five", long, "/10.0.0.1")}},
	)
	other.put("i")
	other.write(catalog.GroupChange{ID: "i", Members: []catalog.GroupMember{member("six", "c", "/10.0.0.1")}})

	known := map[catalog.MemberName]int64{}
	ask := func(limit int, besides []int32, clients ...catalog.GroupClient) map[catalog.MemberName]catalog.ClientMember {
		f.Helper()
		got, err := f.b.MembersOf(f.ctx(), clients, besides, known, limit)
		f.ok(err)
		out := map[catalog.MemberName]catalog.ClientMember{}
		for _, m := range got {
			out[m.Name()] = m
		}
		require.Len(f, out, len(got), "each once")
		return out
	}
	names := func(of map[catalog.MemberName]catalog.ClientMember) []catalog.MemberName {
		var out []catalog.MemberName
		for n := range of {
			out = append(out, n)
		}
		slices.SortFunc(out, func(a, b catalog.MemberName) int {
			return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Member, b.Member))
		})
		return out
	}
	c1, c2 := catalog.GroupClient{ID: "c", Host: "/10.0.0.1"}, catalog.GroupClient{ID: "c", Host: "/10.0.0.2"}
	require.Empty(f, ask(10, nil), "no clients")
	require.Empty(f, ask(10, nil, catalog.GroupClient{ID: "c /10.0.0.1", Host: ""}, catalog.GroupClient{ID: "c ", Host: "10.0.0.1"}))
	found := ask(10, nil, c1, c1)
	require.Equal(f, []catalog.MemberName{{Group: "g", Member: "one"}, {Group: "g", Member: "two"}, {Group: "h", Member: "one"}, {Group: "i", Member: "six"}}, names(found))
	one := found[catalog.MemberName{Group: "g", Member: "one"}]
	require.Equal(f, member("one", "c", "/10.0.0.1"), one.GroupMember)
	require.Equal(f, catalog.GroupClassic, one.Kind)
	require.Equal(f, "consumer", one.ProtocolType)
	require.Len(f, ask(3, nil, c1), 3, "the limit")
	require.Empty(f, ask(0, nil, c1))
	require.Equal(f, []catalog.MemberName{{Group: "i", Member: "six"}}, names(ask(10, []int32{0, 2}, c1, c2)))
	require.Equal(f, []catalog.MemberName{{Group: "g", Member: "three"}, {Group: "h", Member: "five"}},
		names(ask(10, []int32{1}, c2, catalog.GroupClient{ID: long, Host: "/10.0.0.1"})))

	// What is known comes without State, until it is written again, be it as it was, or is another row.
	for n, m := range found {
		known[n] = m.Version
	}
	for n, m := range ask(10, nil, c1) {
		require.Nil(f, m.State, n)
		require.Equal(f, known[n], m.Version)
	}
	changed := member("one", "c", "/10.0.0.1")
	changed.State = []byte(`{"of": "another"}`)
	co.write(catalog.GroupChange{ID: "g", Members: []catalog.GroupMember{changed}}, catalog.GroupChange{ID: "h", MembersGone: []string{"one"}})
	co.write(catalog.GroupChange{ID: "h", Members: []catalog.GroupMember{member("one", "c", "/10.0.0.1")}})
	found = ask(10, nil, c1)
	require.Equal(f, changed.State, found[catalog.MemberName{Group: "g", Member: "one"}].State)
	require.NotNil(f, found[catalog.MemberName{Group: "h", Member: "one"}].State, "made anew")
	require.Nil(f, found[catalog.MemberName{Group: "g", Member: "two"}].State)

	// Offsets are no business of members, and those that are gone are not found.
	co.write(catalog.GroupChange{ID: "g", Offsets: []catalog.GroupOffset{groupOffset("t", 0, 1)}}, catalog.GroupChange{ID: "h", Delete: true})
	require.Nil(f, ask(10, nil, c1)[catalog.MemberName{Group: "g", Member: "two"}].State)
	co.write(catalog.GroupChange{ID: "g", AllMembersGone: true})
	require.Equal(f, []catalog.MemberName{{Group: "i", Member: "six"}}, names(ask(10, nil, c1, c2)))
}
