package postgres

import "time"

// PoolStats is what one of the catalog's connection pools tells of itself. Waits, Waited and Cancelled count from the
// opening.
type PoolStats struct {
	Name                string // general, urgent or groups
	Acquired, Idle, Max int
	Waits               int64 // statements that found no idle connection
	Waited              time.Duration
	Cancelled           int64 // statements that gave up before they had one
}

// PoolStats tells how the connection pools are used. Safe for concurrent use.
func (c *Catalog) PoolStats() []PoolStats {
	out := make([]PoolStats, 0, 3)
	for _, p := range []struct {
		name string
		pool *pool
	}{{"general", c.general}, {"urgent", c.urgent}, {"groups", c.groups}} {
		s := p.pool.Stat()
		out = append(out, PoolStats{
			Name: p.name, Acquired: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Max: int(s.MaxConns()),
			Waits: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime(), Cancelled: s.CanceledAcquireCount(),
		})
	}
	return out
}
