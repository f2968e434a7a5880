// Package facts opens the catalog alone, for commands that look at a cluster or tell it something, in the words of `serve`.
//
// To look, nothing is migrated, made or written, and a running broker is not disturbed: SQLite's file is read beside it, a
// Postgres may be a standby. To change something, a Postgres catalog is opened as a broker opens it; the file of an
// embedded one is opened under the lock of its folder, which its broker holds while it runs.
package facts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/sqlite"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/datadir"
	"github.com/streamhouse/streamhouse/storage/objstore/fs"
)

// ErrVolatile means that the settings name a catalog that is gone with the process it was in.
var ErrVolatile = datadir.ErrVolatile

// ErrInUse means that a broker, or another command, owns the embedded catalog.
var ErrInUse = fs.ErrLocked

// restoreTimeout bounds a statement of [Change]: a restore touches the lease of each partition.
const restoreTimeout = 10 * time.Minute

// Flags say where the catalog is, in the words of `serve`.
type Flags struct {
	DataDir string `group:"storage" env:"STREAMHOUSE_DATA_DIR" default:"./streamhouse-data" type:"path" placeholder:"FOLDER" help:"The data folder of an embedded broker (default ./streamhouse-data)."`
	Catalog string `group:"storage" env:"STREAMHOUSE_CATALOG" placeholder:"URL" help:"Where the facts are kept, as given to serve (default sqlite:DATA-DIR/catalog.db)."`
}

// Resolve works out where that is. It touches nothing.
func (f Flags) Resolve() (config.Location, error) {
	at, err := datadir.Flags{DataDir: f.DataDir, Catalog: f.Catalog}.Resolve()
	if err == nil && at.Catalog.Kind == config.KindMemory {
		err = fmt.Errorf("--catalog %s: %w", at.Catalog, ErrVolatile)
	}
	return at.Catalog, err
}

// Facts is an open catalog. Close it.
type Facts struct {
	catalog.Catalog
	catalog.Operator

	// Fleet is nil for an embedded catalog.
	Fleet catalog.Fleet
	// Owned tells that no other process can use the catalog meanwhile.
	Owned bool

	closers []io.Closer // in the order opened
}

// open is what all implementations are.
type open interface {
	catalog.Catalog
	catalog.Operator
}

// Look opens a catalog to read it.
func Look(ctx context.Context, at config.Location, log *slog.Logger) (*Facts, error) {
	if at.Kind == config.KindPostgres {
		c, err := postgres.Open(ctx, postgres.Options{URL: at.URL, Logger: log, ReadOnly: true, ApplicationName: application})
		if err != nil {
			return nil, err
		}
		return &Facts{Catalog: c, Operator: c, Fleet: c, closers: []io.Closer{c}}, nil
	}
	if err := exists(at); err != nil {
		return nil, err
	}
	c, err := sqlite.Open(ctx, at.Path, sqlite.Options{Logger: log, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return &Facts{Catalog: c, Operator: c, closers: []io.Closer{c}}, nil
}

// Change opens a catalog to change it, migrated.
func Change(ctx context.Context, at config.Location, log *slog.Logger) (_ *Facts, err error) {
	f := &Facts{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	var c open
	if at.Kind == config.KindPostgres {
		p, err := postgres.Open(ctx, postgres.Options{URL: at.URL, Logger: log, StatementTimeout: restoreTimeout, ApplicationName: application})
		if err != nil {
			return nil, err
		}
		c, f.Fleet = p, p
	} else {
		lock, err := own(at)
		if err != nil {
			return nil, err
		}
		f.closers = append(f.closers, lock)
		if c, err = sqlite.Open(ctx, at.Path, sqlite.Options{Logger: log}); err != nil {
			return nil, err
		}
		f.Owned = true
	}
	f.Catalog, f.Operator = c, c
	f.closers = append(f.closers, c)
	return f, nil
}

// Close closes the catalog and gives the lock up.
func (f *Facts) Close() error {
	var errs []error
	for _, closer := range slices.Backward(f.closers) {
		errs = append(errs, closer.Close())
	}
	f.closers = nil
	return errors.Join(errs...)
}

// application is what pg_stat_activity shows.
const application = "streamhouse-cli"

// own locks the folder of an embedded catalog that exists.
func own(at config.Location) (io.Closer, error) {
	if err := exists(at); err != nil {
		return nil, err
	}
	lock, err := fs.Lock(filepath.Dir(at.Path))
	if errors.Is(err, fs.ErrLocked) {
		return nil, fmt.Errorf("an embedded catalog can be changed only while no broker runs on it; stop it first: %w", err)
	}
	return lock, err
}

func exists(at config.Location) error {
	info, err := os.Stat(at.Path)
	if err != nil {
		return fmt.Errorf("there is no catalog (is --data-dir or --catalog right?): %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the catalog %s is not a file: is --catalog right?", at.Path)
	}
	return nil
}

// Migration is one step of a catalog's schema.
type Migration struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	Applied   bool       `json:"applied"`
	AppliedAt *time.Time `json:"applied_at,omitempty"`
}

// Migrations lists the steps this program knows, in order. It changes nothing.
func Migrations(ctx context.Context, at config.Location, log *slog.Logger) (list []Migration, err error) {
	add := func(version int64, name string, applied bool, when time.Time) {
		m := Migration{Version: version, Name: name, Applied: applied}
		if applied {
			m.AppliedAt = &when
		}
		list = append(list, m)
	}
	if at.Kind == config.KindPostgres {
		steps, err := postgres.MigrationStatus(ctx, postgres.Options{URL: at.URL, Logger: log, ApplicationName: application})
		for _, m := range steps {
			add(m.Version, m.Name, m.Applied, m.AppliedAt)
		}
		return list, err
	}
	if err := exists(at); err != nil {
		return nil, err
	}
	steps, err := sqlite.MigrationStatus(ctx, at.Path)
	for _, m := range steps {
		add(m.Version, m.Name, m.Applied, m.AppliedAt)
	}
	return list, err
}

// Migrate brings a catalog's schema up to date; a Postgres one beside brokers that serve.
func Migrate(ctx context.Context, at config.Location, log *slog.Logger) error {
	if at.Kind == config.KindPostgres {
		_, err := postgres.Migrate(ctx, postgres.Options{URL: at.URL, Logger: log, ApplicationName: application})
		return err
	}
	f, err := Change(ctx, at, log) // opening migrates
	if err != nil {
		return err
	}
	return f.Close()
}
