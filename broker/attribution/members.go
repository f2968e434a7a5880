package attribution

import (
	"context"
	"slices"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
)

// owner is whose a partition is, for one client.
type owner struct {
	group string
	many  bool // several groups: nobody's
}

// local are the members of groups that this broker coordinates.
type local struct {
	groups map[string]*localGroup
	shards map[int32]map[string]bool // groups by shard
	of     map[catalog.GroupClient]map[string]bool
}

type localGroup struct {
	shard int32
	owned map[catalog.GroupClient][]catalog.GroupPartition
}

func (l *local) init() {
	l.groups = make(map[string]*localGroup)
	l.shards = make(map[int32]map[string]bool)
	l.of = make(map[catalog.GroupClient]map[string]bool)
}

// take applies what changed. It returns the clients that are concerned, the groups that were deleted, and the shards that are led.
func (l *local) take(all []coordinator.ShardMembers) (clients map[catalog.GroupClient]bool, gone []string, led []int32) {
	clients = make(map[catalog.GroupClient]bool)
	for i := range all {
		led = append(led, all[i].Shard)
	}
	for shard, groups := range l.shards {
		if !slices.Contains(led, shard) {
			for id := range groups {
				l.drop(id, clients)
			}
		}
	}
	for i := range all {
		m := &all[i]
		if m.Whole {
			for id := range l.shards[m.Shard] {
				if _, again := m.Groups[id]; !again {
					l.drop(id, clients)
				}
			}
		}
		for _, id := range m.Gone {
			l.drop(id, clients)
			gone = append(gone, id)
		}
		for id, members := range m.Groups {
			l.drop(id, clients)
			l.add(id, m.Shard, members, clients)
		}
	}
	return clients, gone, led
}

func (l *local) drop(id string, clients map[catalog.GroupClient]bool) {
	g := l.groups[id]
	if g == nil {
		return
	}
	for c := range g.owned {
		clients[c] = true
		if delete(l.of[c], id); len(l.of[c]) == 0 {
			delete(l.of, c)
		}
	}
	delete(l.groups, id)
	if delete(l.shards[g.shard], id); len(l.shards[g.shard]) == 0 {
		delete(l.shards, g.shard)
	}
}

func (l *local) add(id string, shard int32, members []group.Member, clients map[catalog.GroupClient]bool) {
	g := &localGroup{shard: shard, owned: make(map[catalog.GroupClient][]catalog.GroupPartition)}
	for i := range members {
		m := &members[i]
		if len(m.Partitions) > 0 {
			c := catalog.GroupClient{ID: m.Client.ID, Host: m.Client.Host}
			g.owned[c] = append(g.owned[c], m.Partitions...)
		}
	}
	if len(g.owned) == 0 {
		return
	}
	l.groups[id] = g
	if l.shards[shard] == nil {
		l.shards[shard] = make(map[string]bool)
	}
	l.shards[shard][id] = true
	for c := range g.owned {
		clients[c] = true
		if l.of[c] == nil {
			l.of[c] = make(map[string]bool)
		}
		l.of[c][id] = true
	}
}

// remote are the members of other groups, by client, as read last.
type remote struct {
	of map[catalog.GroupClient][]remoteMember
}

type remoteMember struct {
	name    catalog.MemberName
	version int64
	owned   []catalog.GroupPartition
}

// unread is the version of no row.
const unread = -1

func (r *remote) init() { r.of = make(map[catalog.GroupClient][]remoteMember) }

// read asks the catalog for the members that clients are, but for those of the shards besides.
func (r *remote) read(ctx context.Context, from Members, topics group.Topics, clients []catalog.GroupClient, besides []int32) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	known := make(map[catalog.MemberName]int64)
	before := make(map[catalog.MemberName][]catalog.GroupPartition)
	for _, c := range clients {
		for i := range r.of[c] {
			m := &r.of[c][i]
			known[m.name], before[m.name] = m.version, m.owned
		}
	}
	found, err := from.MembersOf(ctx, clients, besides, known, readMembers)
	if err != nil {
		return err
	}
	for _, c := range clients {
		delete(r.of, c)
	}
	if len(found) >= readMembers {
		return nil // of some there may be more: then nothing is known of any
	}
	for i := range found {
		f := &found[i]
		m := remoteMember{name: f.Name(), version: f.Version, owned: before[f.Name()]}
		if f.State != nil {
			var all bool
			if m.owned, all, err = group.Owned(f.Kind, f.ProtocolType, &f.GroupMember, topics); err != nil {
				continue // a newer broker's: its partitions are not known
			}
			if !all {
				m.version = unread // a topic was made a moment ago: it is known when the row is read again
			}
		}
		c := catalog.GroupClient{ID: f.ClientID, Host: f.ClientHost}
		r.of[c] = append(r.of[c], m)
	}
	return nil
}

// ownedBy are the partitions of a client.
func (b *Book) ownedBy(c catalog.GroupClient) map[catalog.GroupPartition]owner {
	out := make(map[catalog.GroupPartition]owner)
	add := func(id string, owned []catalog.GroupPartition) {
		for _, p := range owned {
			o, ok := out[p]
			switch {
			case !ok:
				out[p] = owner{group: id}
			case o.group != id:
				out[p] = owner{many: true}
			}
		}
	}
	for id := range b.look.local.of[c] {
		add(id, b.look.local.groups[id].owned[c])
	}
	for i := range b.look.remote.of[c] {
		add(b.look.remote.of[c][i].name.Group, b.look.remote.of[c][i].owned)
	}
	return out
}
