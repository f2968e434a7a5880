package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"

	"github.com/streamhouse/streamhouse/catalog"
)

const SchemaVersion = schemaVersion

// WithTracer lets tests count what is sent.
func WithTracer(o Options, t pgx.QueryTracer) Options {
	o.tracer = t
	return o
}

// Pulse reads the catalog's clock now.
func (c *Catalog) Pulse(ctx context.Context) error { return c.pulse(ctx) }

// Hold takes n connections of a pool, which is known by its name, and gives a function that gives them back.
func (c *Catalog) Hold(ctx context.Context, name string, n int) (release func(), err error) {
	of := map[string]*pool{"general": c.general, "urgent": c.urgent, "groups": c.groups}[name]
	var conns []*pgxpool.Conn
	release = func() {
		for _, conn := range conns {
			conn.Release()
		}
	}
	for range n {
		conn, err := of.Acquire(ctx)
		if err != nil {
			release()
			return nil, err
		}
		conns = append(conns, conn)
	}
	return release, nil
}

// Statements that must stay quick with many rows, by name.
var HotStatements = map[string]string{
	"commit": commitOne, "heartbeat": heartbeatSQL, "pulse": pulseSQL, "read tail": readTailSQL, "packed rows": packedRowsSQL,
	"read merges": readMergesSQL, "packed spans": packedSpansSQL, "merge candidates": mergeCandidatesSQL, "sparse objects": sparseSQL,
	"groups of a shard": groupsOfShardSQL, "groups of all": groupsOfAllSQL, "one group": groupOfIDSQL, "held leases": heldSQL,
	"write groups": newGroupWrite(&catalog.GroupWrite{Changes: []catalog.GroupChange{
		{Delete: true},
		{
			Group: &catalog.Group{}, AllMembersGone: true, Members: make([]catalog.GroupMember, 1), MembersGone: make([]string, 1),
			Offsets: make([]catalog.GroupOffset, 1), OffsetsGone: make([]catalog.GroupPartition, 1),
		},
	}}).sql(),
}

// MigrateTo makes the schema of an earlier version.
func MigrateTo(ctx context.Context, o Options, version int64) error {
	o, err := withDefaults(o)
	if err != nil {
		return err
	}
	return migrating(ctx, &o, func(ctx context.Context, p *goose.Provider) error {
		_, err := p.UpTo(ctx, version)
		return err
	})
}

// ApplicationName is how the server knows this handle's connections.
func (c *Catalog) ApplicationName() string { return c.opts.ApplicationName }

// ConnConfig makes the settings of the catalog's own connections.
func ConnConfig(o Options) (*pgx.ConnConfig, error) {
	o, err := withDefaults(o)
	if err != nil {
		return nil, err
	}
	return o.connConfig(o.URL, 0, 0)
}
