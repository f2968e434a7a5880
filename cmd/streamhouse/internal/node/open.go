package node

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/streamhouse/streamhouse/catalog"
	catmem "github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/sqlite"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/fs"
	storemem "github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/s3"
)

// openCatalog opens what --catalog names, migrated. The caller holds the lock on the folder of an SQLite file.
func openCatalog(ctx context.Context, cfg config.Config, log *slog.Logger) (catalog.Catalog, error) {
	switch at := cfg.Catalog; at.Kind {
	case config.KindSQLite:
		return sqlite.Open(ctx, at.Path, sqlite.Options{Logger: log})
	case config.KindPostgres:
		return postgres.Open(ctx, postgres.Options{URL: at.URL, Logger: log})
	case config.KindMemory:
		return catmem.New(nil), nil
	default:
		return nil, fmt.Errorf("catalog kind %q is not known", at.Kind)
	}
}

// openStore opens what --store names.
func openStore(ctx context.Context, cfg config.Config, version string, log *slog.Logger) (objstore.Store, error) {
	switch at := cfg.Store; at.Kind {
	case config.KindFile:
		return fs.Open(at.Path, fs.Options{Logger: log}) //nolint:contextcheck // what it starts ends with Close
	case config.KindS3:
		opts, err := s3.ParseURL(at.URL)
		if err != nil {
			return nil, err
		}
		opts.Version = version
		return s3.Open(ctx, opts)
	case config.KindMemory:
		return storemem.New(), nil
	default:
		return nil, fmt.Errorf("store kind %q is not known", at.Kind)
	}
}
