// Package datadir opens the catalog and the store of a broker that is stopped, for commands that look at them.
//
// Everything is opened under the lock that a broker holds while it runs, so that nothing moves meanwhile: SQLite would let
// a second process read, but many reads are no snapshot, and a check under a running broker would find damage where there
// is none. Nothing is made where nothing is; the store is opened for reading only. Opening the catalog does what a
// broker's start does to it: it recovers SQLite's log, and a file of an older version is migrated.
package datadir

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
	"github.com/streamhouse/streamhouse/catalog/sqlite"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/fs"
)

// ErrInUse means that a broker, or another command, uses the folder.
var ErrInUse = fs.ErrLocked

// ErrVolatile means that the settings name a catalog or store that is gone with the process it was in.
var ErrVolatile = errors.New("what was kept in memory is gone with its process: there is nothing to look at")

// Flags say where the data is, in the words of `serve`.
type Flags struct {
	DataDir string `group:"storage" env:"STREAMHOUSE_DATA_DIR" default:"./streamhouse-data" type:"path" placeholder:"FOLDER" help:"The broker's data folder (default ./streamhouse-data)."`
	Catalog string `group:"storage" env:"STREAMHOUSE_CATALOG" placeholder:"URL" help:"Where the facts are kept, as given to serve (default sqlite:DATA-DIR/catalog.db)."`
	Store   string `group:"storage" env:"STREAMHOUSE_STORE" placeholder:"URL" help:"Where the log is kept, as given to serve (default file:DATA-DIR/objects)."`
}

// Locations are where Flags point to.
type Locations struct {
	Catalog, Store config.Location
}

// Resolve works the locations out. It touches nothing.
func (f Flags) Resolve() (Locations, error) {
	// The rules are those of serve, so its settings decide; those that do not matter here have values that are good.
	all := config.Flags{
		DataDir: f.DataDir, Catalog: f.Catalog, Store: f.Store,
		Addr: "127.0.0.1:9092", HTTPAddr: "off", FlushBytes: 8 * config.MiB, MergeInterval: time.Second, NumPartitions: 1,
		MaxConnections: 1, MaxConnectionsPerIP: 1, MaxRequestBytes: 1 * config.MiB, MemoryLimit: 512 * config.MiB,
		BrokerID: -1, ShutdownTimeout: time.Second, LogLevel: "info", LogFormat: "text", MaxPartitionMetrics: 1,
	}
	c, err := all.WithGroupDefaults().Resolve()
	if err != nil {
		return Locations{}, err
	}
	return Locations{Catalog: c.Catalog, Store: c.Store}, nil
}

// Data is an open catalog and store. Close it.
type Data struct {
	Catalog catalog.Catalog
	Store   objstore.Store

	closers []io.Closer // in the order opened
}

// Open locks and opens both. The error wraps [ErrInUse] if another process is at it, [ErrVolatile] if there is nothing to
// open, and [os.ErrNotExist] if nothing is there.
func Open(ctx context.Context, at Locations, log *slog.Logger) (_ *Data, err error) {
	d := &Data{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if at.Catalog.Kind != config.KindSQLite {
		return nil, fmt.Errorf("--catalog %s: %w", at.Catalog, ErrVolatile)
	}
	if err := storeExists(at.Store); err != nil {
		return nil, err
	}
	if info, err := os.Stat(at.Catalog.Path); err != nil {
		return nil, fmt.Errorf("there is no catalog (is --data-dir right?): %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the catalog %s is not a file: is --catalog right?", at.Catalog.Path)
	}
	folders := []string{filepath.Dir(at.Catalog.Path), at.Store.Path}
	slices.Sort(folders)
	for _, dir := range slices.Compact(folders) {
		lock, err := fs.Lock(dir)
		if errors.Is(err, fs.ErrLocked) {
			return nil, fmt.Errorf("a log can be looked at only while no broker runs on it: %w", err)
		}
		if err != nil {
			return nil, err
		}
		d.closers = append(d.closers, lock)
	}
	cat, err := sqlite.Open(ctx, at.Catalog.Path, sqlite.Options{Logger: log})
	if err != nil {
		return nil, err
	}
	d.Catalog = cat
	d.closers = append(d.closers, cat)
	store, err := OpenStore(at) //nolint:contextcheck // what it starts ends with Close
	if err != nil {
		return nil, err
	}
	d.Store = store
	d.closers = append(d.closers, store)
	return d, nil
}

// Close closes everything and gives the locks up.
func (d *Data) Close() error {
	var errs []error
	for _, closer := range slices.Backward(d.closers) {
		errs = append(errs, closer.Close())
	}
	d.closers = nil
	return errors.Join(errs...)
}

// OpenStore opens the store alone, for reading. Objects never change, so no lock is needed: one may only vanish.
func OpenStore(at Locations) (objstore.Store, error) {
	if err := storeExists(at.Store); err != nil {
		return nil, err
	}
	store, err := fs.Open(at.Store.Path, fs.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return store, nil
}

func storeExists(at config.Location) error {
	if at.Kind != config.KindFile {
		return fmt.Errorf("--store %s: %w", at, ErrVolatile)
	}
	info, err := os.Stat(at.Path)
	if err != nil {
		return fmt.Errorf("there is no object store (is --data-dir right?): %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the object store %s is not a folder: is --store right?", at.Path)
	}
	return nil
}
