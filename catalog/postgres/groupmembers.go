package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

// membersOfSQL has $1, $2: the clients; $3: the shards left out; $4, $5, $6: the members known, with versions; $7: the limit. A
// row's version is the transaction that wrote it.
const membersOfSQL = `SELECT g.id, g.kind, g.protocol_type, m.member_id, m.instance_id, m.client_id, m.client_host, m.xmin::text::bigint,
		CASE WHEN k.version = m.xmin::text::bigint THEN NULL ELSE m.state::text END
	FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS c (id, host)
	JOIN catalog_group_members m ON m.client_id || ' ' || m.client_host = c.id || ' ' || c.host AND m.client_id = c.id AND m.client_host = c.host
	JOIN catalog_groups g ON g.shard = m.shard AND g.id = m.group_id
	LEFT JOIN unnest($4::text[], $5::text[], $6::bigint[]) AS k (group_id, member_id, version)
		ON k.group_id = m.group_id AND k.member_id = m.member_id
	WHERE m.shard <> ALL ($3::int[]) LIMIT $7`

// MembersOf implements [catalog.Fleet].
func (c *Catalog) MembersOf(
	ctx context.Context, clients []catalog.GroupClient, besides []int32, known map[catalog.MemberName]int64, limit int,
) ([]catalog.ClientMember, error) {
	ids, hosts := make([]string, 0, len(clients)), make([]string, 0, len(clients))
	for _, cl := range clients {
		ids, hosts = append(ids, cl.ID), append(hosts, cl.Host)
	}
	groups, members, versions := make([]string, 0, len(known)), make([]string, 0, len(known)), make([]int64, 0, len(known))
	for name, version := range known {
		groups, members, versions = append(groups, name.Group), append(members, name.Member), append(versions, version)
	}
	if besides == nil {
		besides = []int32{} // a null would match nothing
	}
	return collect(ctx, c, "read the members that clients are", membersOfSQL, func(r pgx.Rows) (m catalog.ClientMember, err error) {
		var state *string
		err = r.Scan(&m.Group, (*string)(&m.Kind), &m.ProtocolType, &m.ID, &m.InstanceID, &m.ClientID, &m.ClientHost, &m.Version, &state)
		if state != nil {
			m.State = []byte(*state)
		}
		return m, err
	}, ids, hosts, besides, groups, members, versions, limited(limit))
}
