package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is the newest migration's. A test compares it with the files.
	schemaVersion = 3
	// migrationTable is goose's history.
	migrationTable = "catalog_migrations"
	// migrationLock is the advisory lock under which one program at a time migrates.
	migrationLock = attachmentClass | 1<<47
	// migrationLockTimeout is how long DDL waits for a table: while it waits, brokers wait behind it.
	migrationLockTimeout = 2 * time.Second
	// migrationTries is how often DDL that waited in vain is tried again.
	migrationTries = 10
)

// ErrNewerSchema means that a newer program changed the schema in a way this one does not understand.
var ErrNewerSchema = errors.New("the catalog's schema was made by a newer program: use that version or a newer one")

// ErrNoSchema means that the database holds no catalog, or one that this program would have to migrate.
var ErrNoSchema = errors.New("the database holds no catalog that this version uses: a broker makes or migrates it when it starts, or `streamhouse migrate up`")

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	Applied   bool
	AppliedAt time.Time // zero unless applied; by the database's clock
}

// Migrate brings the schema up to date and returns the migrations it applied. Several programs may do it at once; one
// does, the others wait. It is safe while brokers serve.
func Migrate(ctx context.Context, opts Options) (applied []Migration, err error) {
	if opts, err = withDefaults(opts); err != nil {
		return nil, fmt.Errorf("migrate the catalog: %w", err)
	}
	err = migrating(ctx, &opts, func(ctx context.Context, p *goose.Provider) error {
		results, err := p.Up(ctx)
		for _, r := range results {
			applied = append(applied, Migration{Version: r.Source.Version, Name: r.Source.Path, Applied: true})
		}
		return err
	})
	if err != nil {
		return applied, fmt.Errorf("migrate the catalog: %w", openError(ctx, err))
	}
	return applied, nil
}

// MigrationStatus lists all migrations this program knows, in order. It changes nothing. ErrNewerSchema comes along with the
// list when the database knows more of them.
func MigrationStatus(ctx context.Context, opts Options) (list []Migration, err error) {
	if opts, err = withDefaults(opts); err != nil {
		return nil, fmt.Errorf("read the catalog's migrations: %w", err)
	}
	opts.ReadOnly = true
	conn, err := opts.direct(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the catalog's migrations: %w", openError(ctx, err))
	}
	defer closeConn(ctx, conn)
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	at := make(map[int64]time.Time)
	rows, err := conn.Query(ctx, "SELECT version_id, tstamp FROM "+migrationTable+" WHERE is_applied")
	if err == nil {
		err = each(rows, func(r pgx.Rows) error {
			var version int64
			var when time.Time
			err := r.Scan(&version, &when)
			at[version] = when.UTC()
			return err
		})
	}
	if err != nil && sqlState(err) != codeUndefinedTable {
		return nil, fmt.Errorf("read the catalog's migrations: %w", openError(ctx, err))
	}
	var newest int64
	for _, path := range files {
		version, err := goose.NumericComponent(path)
		if err != nil {
			return nil, fmt.Errorf("read the name of %s: %w", path, err)
		}
		when, applied := at[version]
		list = append(list, Migration{Version: version, Name: path[len("migrations/"):], Applied: applied, AppliedAt: when})
		newest = max(newest, version)
	}
	for version := range at {
		if version > newest {
			return list, fmt.Errorf("migration %d was applied, this program knows up to %d: %w", version, newest, ErrNewerSchema)
		}
	}
	return list, nil
}

// direct opens a connection of its own, past any pooler.
func (o *Options) direct(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := o.connConfig(o.SessionURL, 0, 0)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := o.checkServer(ctx, conn); err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	return conn, nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // a connection that cannot say farewell is closed all the same
}

// migrateToOpen migrates unless the schema is current, which is the usual case and takes two round trips.
func migrateToOpen(ctx context.Context, o *Options) error {
	conn, err := o.direct(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	err = checkSchema(ctx, conn)
	closeConn(ctx, conn)
	if !errors.Is(err, ErrNoSchema) || o.ReadOnly {
		return err
	}
	if _, err = Migrate(ctx, *o); err != nil {
		return err
	}
	return nil
}

// checkSchema looks whether this program may use the schema. ErrNoSchema: it has to be migrated first. ErrNewerSchema: a
// later migration took something away that this program uses.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	var version int64
	err := conn.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+migrationTable+" WHERE is_applied").Scan(&version)
	if sqlState(err) == codeUndefinedTable || (err == nil && version < schemaVersion) {
		return ErrNoSchema
	}
	if err != nil || version == schemaVersion {
		return err
	}
	var oldest int64
	err = conn.QueryRow(ctx, "SELECT value FROM catalog_counters WHERE name = 'oldest_program'").Scan(&oldest)
	if err == nil && oldest > schemaVersion {
		err = fmt.Errorf("schema %d needs a program that knows schema %d, this one knows %d: %w", version, oldest, schemaVersion, ErrNewerSchema)
	}
	return err
}

// migrating runs fn with goose, alone among all programs on this database.
func migrating(ctx context.Context, o *Options, fn func(context.Context, *goose.Provider) error) (err error) {
	lock, err := o.direct(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer closeConn(ctx, lock) // which unlocks
	if _, err := lock.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for others who migrate: %w", err)
	}
	if err := checkSchema(ctx, lock); err != nil && !errors.Is(err, ErrNoSchema) {
		return err
	}
	cfg, err := o.connConfig(o.SessionURL, 0, migrationLockTimeout)
	if err != nil {
		return err
	}
	// A migration may look at every row of a table.
	for _, param := range []string{"plan_cache_mode", "enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"} {
		delete(cfg.RuntimeParams, param)
	}
	cfg.RuntimeParams["client_min_messages"] = "warning"
	db := stdlib.OpenDB(*cfg)
	defer func() { err = errors.Join(err, db.Close()) }()
	for try := 1; ; try++ {
		if err = runGoose(ctx, db, fn); sqlState(err) != codeLockNotAvailable || try == migrationTries {
			return err
		}
		o.Logger.Warn("a migration waited in vain for a table in use; trying again", "try", try, "error", err)
	}
}

func runGoose(ctx context.Context, db *sql.DB, fn func(context.Context, *goose.Provider) error) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("open the migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(migrationTable), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("prepare the migrations: %w", err)
	}
	return fn(ctx, p)
}
