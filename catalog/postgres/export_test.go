package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const SchemaVersion = schemaVersion

// WithTracer lets tests count what is sent.
func WithTracer(o Options, t pgx.QueryTracer) Options {
	o.tracer = t
	return o
}

// Pulse reads the catalog's clock now.
func (c *Catalog) Pulse(ctx context.Context) error { return c.pulse(ctx) }

// Statements that must stay quick with many rows, by name.
var HotStatements = map[string]string{
	"commit": commitOne, "heartbeat": heartbeatSQL, "pulse": pulseSQL, "read tail": readTailSQL, "packed rows": packedRowsSQL,
	"read merges": readMergesSQL, "packed spans": packedSpansSQL, "merge candidates": mergeCandidatesSQL, "sparse objects": sparseSQL,
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
