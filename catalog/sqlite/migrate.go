package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is what the newest migration leaves in PRAGMA user_version: looking at that is much quicker than
	// asking goose, and most opens find it current.
	schemaVersion = 4
	// applicationID marks the file as a catalog of this program.
	applicationID = 1397246787
)

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	Applied   bool
	AppliedAt time.Time // zero unless applied
}

// MigrationStatus lists the migrations this program knows, in order. It changes nothing.
func MigrationStatus(ctx context.Context, path string) (list []Migration, err error) {
	db, err := openConn(path, "ro", "busy_timeout = 5000")
	if err != nil {
		return nil, fmt.Errorf("read the catalog's migrations: %w", err)
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if _, err := isCurrent(db, path); err != nil {
		return nil, fmt.Errorf("read the catalog's migrations: %w", err)
	}
	at := make(map[int64]time.Time)
	err = db.query(ctx, "SELECT version_id, unixepoch(tstamp) FROM goose_db_version WHERE is_applied = 1", func(r row) error {
		at[r.int(0)] = time.Unix(r.int(1), 0).UTC()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog's migrations: %w", translate(err))
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, fmt.Errorf("read the name of %s: %w", file, err)
		}
		when, applied := at[version]
		list = append(list, Migration{Version: version, Name: file[len("migrations/"):], Applied: applied, AppliedAt: when})
	}
	return list, nil
}

// migrate brings the file's schema up to date.
func migrate(ctx context.Context, db *conn, path string) error {
	current, err := isCurrent(db, path)
	if err != nil || current {
		return err
	}
	return runGoose(ctx, path)
}

// isCurrent tells whether the schema needs no migration. Files of other programs, and of newer ones, are refused.
func isCurrent(db *conn, path string) (bool, error) {
	var version, app, tables int64
	for query, into := range map[string]*int64{
		"PRAGMA user_version": &version, "PRAGMA application_id": &app, "SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if _, err := db.one(query, func(r row) { *into = r.int(0) }); err != nil {
			return false, fmt.Errorf("read the schema's version: %w", translate(err))
		}
	}
	switch {
	case app != applicationID && (app != 0 || version != 0):
		return false, fmt.Errorf("%s is an SQLite file of another program", path)
	case version > schemaVersion:
		return false, fmt.Errorf("%s has schema version %d, this program knows up to %d: use a newer program", path, version, schemaVersion)
	}
	return version == schemaVersion, nil
}

func runGoose(ctx context.Context, path string) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("open the migrations: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path, "rw")+"&_busy_timeout=5000&_foreign_keys=on&_synchronous=FULL")
	if err != nil {
		return fmt.Errorf("open %s to migrate it: %w", path, translate(err))
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("prepare the migrations: %w", translate(err))
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate %s: %w", path, translate(err))
	}
	return nil
}
