package chaos_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

func catalogFaults() []fault {
	return []fault{
		{name: "restart-postgres", run: restartPostgres, still: true},
		{name: "kill-postgres", run: killPostgres, still: true},
		{name: "freeze-postgres", run: freezePostgres},
		{name: "lose-commits", run: loseCommits},
		{name: "exhaust-postgres", run: exhaustPostgres},
		{name: "lock-rows", run: lockRows},
		{name: "lose-wakeups", run: loseWakeups},
		{name: "catalog-clock-ahead", run: catalogClockAhead, still: true},
	}
}

// restartPostgres throws all brokers out and starts the server again. None may
// lose its session for that.
func restartPostgres(r *round) error {
	if err := r.Postgres.Stop(); err != nil {
		return err
	}
	r.hold(0, 2*time.Second, 10*time.Second)
	return r.Postgres.Up(r.ctx)
}

// killPostgres kills its main process with SIGKILL; it recovers from its log.
func killPostgres(r *round) error {
	if err := r.Postgres.Kill(); err != nil {
		return err
	}
	r.hold(0, 2*time.Second, 10*time.Second)
	return r.Postgres.Up(r.ctx)
}

// freezePostgres lets the server hang: connections stand and nothing is answered.
func freezePostgres(r *round) error {
	if err := r.Postgres.Freeze(); err != nil {
		return err
	}
	r.hold(time.Second, 4*time.Second, 15*time.Second)
	return r.Postgres.Thaw()
}

// loseCommits resets connections at a commit, which the server gets all the same:
// before its broker tries again, meanwhile, or after.
func loseCommits(r *round) error {
	later := []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond, time.Second}[r.random.IntN(5)]
	var before, lost int64
	for _, b := range r.Brokers {
		before += b.Postgres.Lost()
		b.Postgres.LoseCommits(1+r.random.IntN(3), later)
	}
	r.note("applied %s later", later)
	r.hold(2*time.Second, 3*time.Second, 6*time.Second)
	for _, b := range r.Brokers {
		lost += b.Postgres.Lost()
	}
	r.note("%d commits", lost-before)
	if lost == before {
		return errors.New("no commit was lost: the fault did not happen")
	}
	return nil
}

// exhaustPostgres breaks the brokers' connections and takes all that they could have, before they do.
func exhaustPostgres(r *round) (err error) {
	for _, b := range r.Brokers {
		b.Postgres.Reset()
	}
	var taken []*pgx.Conn
	defer func() {
		for _, c := range taken {
			err = errors.Join(err, c.Close(r.ctx))
		}
	}()
	admin, err := r.Postgres.Connect(r.ctx)
	if err != nil {
		return err
	}
	defer admin.Close(r.ctx) // it answered
	for left := 1; left > 0 && r.ctx.Err() == nil; {
		const theirs = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'streamhouse' AND application_name <> 'chaos'"
		if err := admin.QueryRow(r.ctx, theirs).Scan(&left); err != nil {
			return fmt.Errorf("count the brokers' connections: %w", err)
		}
		for {
			c, err := r.Postgres.ConnectPlain(r.ctx)
			if err != nil {
				break // all are taken
			}
			taken = append(taken, c)
		}
	}
	for _, b := range r.Brokers {
		b.Postgres.Heal()
	}
	r.note("%d connections", len(taken))
	r.hold(2*time.Second, 4*time.Second, 10*time.Second)
	return nil
}

// lockRows has another session hold locks for 5 s that commits need: those on
// the brokers' rows, or on the whole tail.
func lockRows(r *round) error {
	conn, err := r.Postgres.Connect(r.ctx)
	if err != nil {
		return err
	}
	defer conn.Close(r.ctx) // it answered
	lock := []string{
		"SELECT FROM catalog_brokers FOR UPDATE",
		"LOCK TABLE catalog_tail IN ACCESS EXCLUSIVE MODE",
		"LOCK TABLE catalog_leases IN ACCESS EXCLUSIVE MODE",
	}[r.random.IntN(3)]
	r.note("%s", lock)
	tx, err := conn.Begin(r.ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if _, err := tx.Exec(r.ctx, lock); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	r.wait(5 * time.Second)
	return tx.Rollback(r.ctx)
}

// loseWakeups lets no notification through, and kills a leader meanwhile: all
// must be found without.
func loseWakeups(r *round) error {
	var before, dropped int64
	for _, b := range r.Brokers {
		before += b.Postgres.Dropped()
		b.Postgres.DropNotifications(true)
	}
	since := time.Now()
	r.hold(2*time.Second, 3*time.Second, 15*time.Second)
	if err := r.awaitAcks(since.Add(time.Second)); err != nil {
		return fmt.Errorf("without wake-ups: %w", err)
	}
	err := killLeader(r)
	for _, b := range r.Brokers {
		dropped += b.Postgres.Dropped()
	}
	r.note("%d wake-ups lost", dropped-before)
	if err == nil && dropped == before && len(r.Brokers) > 1 {
		err = errors.New("no wake-up was lost: the fault did not happen")
	}
	return err
}

// catalogClockAhead starts the server with a clock that is 10 s ahead, and later
// with one that is right again. Nothing may run out for that.
func catalogClockAhead(r *round) error {
	for _, ahead := range []string{"10 s", "0 s"} {
		if err := r.Postgres.Stop(); err != nil {
			return err
		}
		// The catalog asks for the server's clock in one place. Changed while the
		// server is down, so that nobody sees it step.
		err := r.Postgres.Offline("CREATE OR REPLACE FUNCTION catalog_wall_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS " +
			"$$ SELECT clock_timestamp() + interval '" + ahead + "' $$\n")
		if err != nil {
			return err
		}
		if err := r.Postgres.Up(r.ctx); err != nil {
			return err
		}
		r.hold(2*time.Second, 3*time.Second, 10*time.Second)
	}
	return nil
}
