package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options say where the catalog is and how long to wait for it. URL is needed; the rest has defaults.
type Options struct {
	// URL names the database: postgres://user:password@host:port/database, with libpq's parameters. Several hosts may be
	// listed for fail-over; the first that takes writes is used (target_session_attrs=read-write unless said otherwise).
	URL string
	// SessionURL is used for what needs a server session of its own: migrations, [Catalog.Listen] and [Catalog.Attach]. It must not lead through a
	// pooler that shares sessions. Default: URL.
	SessionURL string
	// ApplicationName is what pg_stat_activity shows. Default: streamhouse.
	ApplicationName string
	// Logger gets what nobody is answered. Default: discarded.
	Logger *slog.Logger

	// ReadOnly opens a catalog to look at it, a standby too: nothing is migrated, no clock corrected, and what would write
	// fails. ErrNoSchema if there is no catalog or an older one.
	ReadOnly bool

	// MaxConns bounds the connections for reads, folds and everything else that may take its time. Default: 8.
	MaxConns int
	// UrgentConns bounds those kept apart for commits, heartbeats and fences, so that a lease is not lost because
	// something else used all connections. Default: 4. Listen and Attach take one more each.
	UrgentConns int
	// GroupConns bounds those kept apart for writes of groups: so many shards may be at it at once, and neither wait for folds
	// nor keep heartbeats waiting. They are opened when needed. Default: 4.
	GroupConns int

	// ConnectTimeout bounds connecting to one host. Default: 3 s.
	ConnectTimeout time.Duration
	// StatementTimeout bounds one statement, at the server and here, where the whole call gets twice as long.
	// Default: 15 s.
	StatementTimeout time.Duration
	// UrgentTimeout bounds a commit, a heartbeat, a fence and a write of groups, at the server and here. Default: 5 s.
	UrgentTimeout time.Duration
	// LockTimeout bounds the wait for one row that somebody else has locked. Default: 3 s.
	LockTimeout time.Duration
	// IdleInTransactionTimeout is when the server ends a transaction whose client fell silent, and frees its locks.
	// Default: 5 s.
	IdleInTransactionTimeout time.Duration

	// PulseInterval is how often the catalog's clock is looked at. Expiries rest on it: see the package's doc. Default: 1 s.
	PulseInterval time.Duration
	// Now, if set, is the catalog's clock in place of the server's. For tests with one process.
	Now func() time.Time

	noticed pgconn.NoticeHandler // for what the server says besides its answers
	tracer  pgx.QueryTracer      // for tests
}

func withDefaults(o Options) (Options, error) {
	if o.URL == "" {
		return o, errors.New("no URL of a Postgres database given")
	}
	o.SessionURL = cmp.Or(o.SessionURL, o.URL)
	o.ApplicationName = cmp.Or(o.ApplicationName, "streamhouse")
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.ConnectTimeout, 3 * time.Second},
		{&o.StatementTimeout, 15 * time.Second},
		{&o.UrgentTimeout, 5 * time.Second},
		{&o.LockTimeout, 3 * time.Second},
		{&o.IdleInTransactionTimeout, 5 * time.Second},
		{&o.PulseInterval, time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 8
	}
	if o.UrgentConns <= 0 {
		o.UrgentConns = 4
	}
	if o.GroupConns <= 0 {
		o.GroupConns = 4
	}
	return o, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

// connConfig makes the settings of all connections. statement and lock are server-side timeouts, 0 for none.
func (o *Options) connConfig(url string, statement, lock time.Duration) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse the catalog's URL: %w", err) // the driver masks the password
	}
	o.harden(cfg, statement, lock)
	return cfg, nil
}

func (o *Options) harden(cfg *pgx.ConnConfig, statement, lock time.Duration) {
	params := cfg.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = o.ApplicationName
	}
	params["statement_timeout"], params["lock_timeout"] = "0", "0"
	if statement > 0 {
		params["statement_timeout"] = milliseconds(statement)
	}
	if lock > 0 {
		params["lock_timeout"] = milliseconds(lock)
	}
	params["idle_in_transaction_session_timeout"] = milliseconds(o.IdleInTransactionTimeout)
	// The statements are written for this level: a locked row is looked at again once its lock was waited for.
	params["default_transaction_isolation"] = "read committed"
	params["default_transaction_read_only"] = "off"
	if o.ReadOnly {
		params["default_transaction_read_only"] = "on"
	}
	params["timezone"] = "UTC"
	params["client_min_messages"] = "warning" // see cancelledWait
	// Each statement is meant to go from a few keys to their rows by an index. What the planner would rather do while a
	// table is small, and keep doing when it has grown, is a scan.
	params["plan_cache_mode"] = "force_generic_plan"
	params["enable_seqscan"], params["enable_hashjoin"], params["enable_mergejoin"], params["jit"] = "off", "off", "off", "off"
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = o.ConnectTimeout
	}
	if cfg.ValidateConnect == nil && !o.ReadOnly {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	// A peer that is gone without a word is noticed after about five seconds also while nothing is sent.
	dialer := net.Dialer{Timeout: cfg.ConnectTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3,
	}}
	cfg.DialFunc = dialer.DialContext
	cfg.Tracer, cfg.OnNotice = o.tracer, o.noticed
}

// pool is a pool with the time one call may take.
type pool struct {
	*pgxpool.Pool

	timeout time.Duration
}

func (o *Options) pool(ctx context.Context, conns int, statement, call time.Duration, prepare ...string) (*pool, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("parse the catalog's URL: %w", err)
	}
	o.harden(cfg.ConnConfig, statement, o.LockTimeout)
	cfg.MaxConns, cfg.MinConns = int32(min(conns, 10_000)), 0
	cfg.MaxConnIdleTime, cfg.HealthCheckPeriod, cfg.PingTimeout = time.Minute, 10*time.Second, o.ConnectTimeout
	cfg.MaxConnLifetime, cfg.MaxConnLifetimeJitter = 30*time.Minute, 5*time.Minute
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := o.checkServer(ctx, conn); err != nil {
			return err
		}
		for _, statement := range prepare { // before the first use, which would take a round trip more
			if _, err := conn.Prepare(ctx, statement, statement); err != nil {
				return fmt.Errorf("prepare a statement: %w", err)
			}
		}
		return nil
	}
	p, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("make a connection pool: %w", err)
	}
	return &pool{p, call}, nil
}

// oldestServer is the oldest Postgres that is supported, as server_version_num.
const oldestServer = 140000

// ErrUnsafe means that the server would acknowledge commits before they are durable.
var ErrUnsafe = errors.New("synchronous_commit is off: set it to on (or to remote_apply, remote_write or local, knowing what that means) for this role and database")

// ErrTooOld means that the server is older than Postgres 14.
var ErrTooOld = errors.New("the server is older than Postgres 14")

// checkServer refuses a server that cannot keep the catalog's promises, and pins synchronous_commit to what it is now, so
// that a changed configuration does not reach connections that were checked before.
func (o *Options) checkServer(ctx context.Context, conn *pgx.Conn) error {
	var version int
	var synchronous, fsync string
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int,
		set_config('synchronous_commit', current_setting('synchronous_commit'), false), current_setting('fsync')`,
		pgx.QueryExecModeExec).Scan(&version, &synchronous, &fsync)
	switch {
	case err != nil:
		return fmt.Errorf("ask for the server's settings: %w", err)
	case version < oldestServer:
		return fmt.Errorf("%w: version %d.%d", ErrTooOld, version/10000, version%10000)
	case o.ReadOnly:
		return nil // what it does with writes does not matter
	case synchronous == "off":
		return ErrUnsafe
	case fsync == "off":
		o.Logger.Warn("the catalog's server runs with fsync off: a power loss loses acknowledged data")
	}
	return nil
}
