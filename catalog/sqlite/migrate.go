package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is what the newest migration leaves in PRAGMA user_version: looking at that is much quicker than
	// asking goose, and most opens find it current.
	schemaVersion = 3
	// applicationID marks the file as a catalog of this program.
	applicationID = 1397246787
)

// migrate brings the file's schema up to date.
func migrate(ctx context.Context, db *conn, path string) error {
	var version, app, tables int64
	for query, into := range map[string]*int64{
		"PRAGMA user_version": &version, "PRAGMA application_id": &app, "SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if _, err := db.one(query, func(r row) { *into = r.int(0) }); err != nil {
			return fmt.Errorf("read the schema's version: %w", translate(err))
		}
	}
	switch {
	case app != applicationID && (app != 0 || version != 0):
		return fmt.Errorf("%s is an SQLite file of another program", path)
	case version > schemaVersion:
		return fmt.Errorf("%s has schema version %d, this program knows up to %d: use a newer program", path, version, schemaVersion)
	case version == schemaVersion:
		return nil
	}
	return runGoose(ctx, path)
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
