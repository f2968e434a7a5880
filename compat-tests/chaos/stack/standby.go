package stack

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/proxy"
)

// Standby gives Postgres a streaming standby at addr, host:port. It stays in recovery until Promote. Synchronous, as
// docs/operations.md asks for where a fail-over must lose nothing, it returns once commits wait for it.
func (s *Stack) Standby(ctx context.Context, addr string, synchronous bool) error {
	s.servers++
	b, err := preparePostgres(s.dir, fmt.Sprintf("postgres-%d", s.servers+1), addr)
	if err != nil {
		return err
	}
	if s.Replication != nil {
		s.Replication.Close()
	}
	if s.Replication, err = proxy.Listen(s.Postgres.addr); err != nil {
		return err
	}
	// Before the primary is told to wait for it: the copy must not inherit that, or it would wait for a standby once promoted.
	if out, err := b.run("", "pg_basebackup", "-d", s.Postgres.url("postgres", s.Replication.Addr(), "postgres"), "-D", b.Data, "-R",
		"-X", "stream", "-c", "fast", "--no-sync"); err != nil {
		return fmt.Errorf("copy the primary: %w: %s", err, out)
	}
	if err := b.Up(ctx); err != nil {
		return err
	}
	s.standby = b
	if !synchronous {
		return s.awaitStreaming(ctx, "async")
	}
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"} {
		if err := s.Postgres.exec(ctx, sql); err != nil {
			return err
		}
	}
	return s.awaitStreaming(ctx, "sync")
}

// awaitStreaming waits until the primary says that its standby streams, in this state.
func (s *Stack) awaitStreaming(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.Postgres.until(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, s.Postgres.url("postgres", s.Postgres.addr, "postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx) // it answered
		var n int
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1", state).Scan(&n)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d standbys are %s", n, state)
		}
		return err
	})
}

// Promote makes the standby the primary, in place of one that was killed, and leads the brokers' proxies to it.
func (s *Stack) Promote(ctx context.Context) error {
	if err := s.standby.exec(ctx, "SELECT pg_promote(true, 60)"); err != nil {
		return err
	}
	if err := s.standby.leads(ctx); err != nil {
		return err
	}
	s.Postgres, s.standby = s.standby, nil
	for _, b := range s.Brokers {
		b.Postgres.Repoint(s.Postgres.addr)
	}
	return nil
}

// leads says whether a server takes writes on a timeline that began with a promotion.
func (p *Postgres) leads(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.url("postgres", p.addr, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", p.name, err)
	}
	defer conn.Close(ctx) // it answered
	var recovering bool
	var walFile string
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&recovering); err != nil {
		return fmt.Errorf("ask %s whether it leads: %w", p.name, err)
	}
	if recovering {
		return fmt.Errorf("%s was promoted and is still in recovery", p.name)
	}
	if err := conn.QueryRow(ctx, "SELECT pg_walfile_name(pg_current_wal_lsn())").Scan(&walFile); err != nil {
		return fmt.Errorf("ask %s for its timeline: %w", p.name, err)
	}
	if walFile[:8] == "00000001" {
		return fmt.Errorf("%s writes %s: no timeline began", p.name, walFile)
	}
	return nil
}
