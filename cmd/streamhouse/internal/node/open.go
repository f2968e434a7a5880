package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	catmem "github.com/streamhouse/streamhouse/catalog/memory"
	catmetered "github.com/streamhouse/streamhouse/catalog/metered"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/sqlite"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/fs"
	storemem "github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
	"github.com/streamhouse/streamhouse/storage/objstore/s3"
	"github.com/streamhouse/streamhouse/storage/objstore/slow"
)

// openData opens catalog and store.
func (n *Node) openData(ctx context.Context) error {
	if err := n.lockFolders(); err != nil {
		return err
	}
	cat, err := openCatalog(ctx, n.cfg, n.log)
	if err != nil {
		return fmt.Errorf("open the catalog: %w", err)
	}
	n.closers = append(n.closers, cat)
	n.source = cat
	shares, _ := cat.(catalog.Fleet)
	if n.catalog = cat; n.watch.on() {
		measured := catmetered.New(cat, n.watch.catalogHooks())
		n.catalog, shares = &tappedCatalog{Catalog: measured, read: n.watch.topicsRead}, measured.Fleet()
	}
	if n.shared() {
		n.fleet = newFleet(shares, n.metrics.Cluster, func() { n.watch.recount.Store(true) }, n.log)
		if err := lease.EnsureInternal(ctx, n.catalog); err != nil {
			return err
		}
	} else if err := lease.EnsureGroups(ctx, n.catalog); err != nil {
		return err
	}
	store, err := openStore(ctx, n.cfg, n.version, n.watch.s3Hooks(), n.log)
	if err != nil {
		return fmt.Errorf("open the object store: %w", err)
	}
	n.closers = append(n.closers, store)
	if l := n.cfg.Store.Latency; l > 0 {
		store = slow.New(store, slow.Latency{Put: l, Get: l, Other: l})
	}
	if n.store = store; n.watch.on() {
		n.store = metered.New(store, n.watch.storeHooks())
	}
	if n.tracer != nil {
		n.store = n.tracer.Store(n.store)
	}
	return nil
}

// shared tells whether other processes may use the catalog.
func (n *Node) shared() bool { return n.cfg.Catalog.Kind == config.KindPostgres }

// lockFolders makes and locks the folders that this process must have for itself.
func (n *Node) lockFolders() error {
	var folders []string
	if n.cfg.Catalog.Kind == config.KindSQLite {
		folders = append(folders, filepath.Dir(n.cfg.Catalog.Path))
	}
	if n.shared() && n.cfg.BrokerID < 0 { // it keeps the id
		folders = append(folders, n.cfg.DataDir)
	}
	if n.cfg.Store.Kind == config.KindFile && !slices.Contains(folders, n.cfg.Store.Path) {
		folders = append(folders, n.cfg.Store.Path)
	}
	for _, dir := range folders {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make the data folder: %w", err)
		}
		lock, err := fs.Lock(dir)
		if err != nil {
			return err
		}
		n.closers = append(n.closers, lock)
	}
	return nil
}

// openEngine registers the broker. With others it shares the partitions from here on.
func (n *Node) openEngine(ctx context.Context) (err error) {
	reg := catalog.Registration{ID: catalog.BrokerID(n.cfg.BrokerID), Rack: n.cfg.Rack, TTL: embeddedTTL}
	for _, l := range n.resolved {
		reg.Listeners = append(reg.Listeners, catalog.Listener{Name: l.Name, Host: l.Advertised.Host, Port: int32(l.Advertised.Port)})
	}
	cfg := storage.Config{
		Catalog: n.catalog, Store: n.store, Pool: n.pool, Logger: n.log, Hooks: n.watch.engineHooks(),
		Registration: reg, PredecessorsDead: n.fleet == nil, Process: uuid.New(),
		FlushInterval: n.cfg.FlushInterval, FlushBytes: int(n.cfg.FlushBytes),
		MaxUncommittedBytes: n.cfg.BufferBytes / 2, TailCacheBytes: n.cfg.TailCacheBytes, BlockCacheBytes: n.cfg.CacheBytes,
		HedgeUploads:  n.cfg.Store.Kind == config.KindS3,
		MergeInterval: n.cfg.MergeInterval, ObjectGrace: n.cfg.ObjectGrace,
	}
	if n.fleet != nil {
		cfg.Fleet, cfg.Controller = n.fleet.catalog, lease.ControllerLease()
		cfg.Registration.TTL, cfg.Hooks = fleetTTL, n.fleet.engineHooks(cfg.Hooks)
	}
	if n.tracer != nil {
		n.tracer.SetBroker(n.cfg.BrokerID)
		cfg.Tracer = n.tracer
	}
	if n.engine, err = storage.Open(ctx, cfg); err != nil {
		return fmt.Errorf("start the storage engine: %w", err)
	}
	if n.fleet != nil {
		return n.fleet.start(ctx, n.catalog, n.engine)
	}
	return nil
}

func (n *Node) openBroker(ctx context.Context) error {
	clusterID, err := n.catalog.ClusterID(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster id: %w", err)
	}
	endpoints := make(map[string]broker.Endpoint, len(n.resolved))
	for _, l := range n.resolved {
		endpoints[l.Name] = broker.Endpoint{Host: l.Advertised.Host, Port: int32(l.Advertised.Port)}
	}
	cfg := broker.Config{
		Log: n.engine, Catalog: n.catalog, Pool: n.pool, Logger: n.log, Observer: n.watch.brokerObserver(),
		NodeID: n.cfg.BrokerID, Rack: n.cfg.Rack, ClusterID: clusterID, Listeners: endpoints,
		AutoCreateTopics: n.cfg.AutoCreateTopics, NumPartitions: n.cfg.NumPartitions,
		Leases: coordinator.EngineLeases(n.engine), Group: &n.cfg.Group, OffsetCommitTimeout: n.cfg.OffsetCommitTimeout,
		Limits: broker.Limits{
			MaxConnections: n.cfg.MaxConnections, MaxConnectionsPerIP: n.cfg.MaxConnectionsPerIP,
			MaxRequestBytes: int(n.cfg.MaxRequestBytes), RequestMemoryBytes: n.cfg.BufferBytes, AnswerMemoryBytes: n.cfg.BufferBytes,
		},
	}
	if n.fleet != nil {
		cfg.Cluster, cfg.Members = n.fleet.cluster, n.fleet.catalog
	}
	if n.tracer != nil {
		cfg.Tracer = n.tracer
	}
	if n.broker, err = broker.New(cfg); err != nil {
		return fmt.Errorf("make the broker: %w", err)
	}
	n.groups.broker.Store(n.broker)
	return n.broker.RefreshTopics(ctx)
}

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
func openStore(ctx context.Context, cfg config.Config, version string, hooks s3.Hooks, log *slog.Logger) (objstore.Store, error) {
	switch at := cfg.Store; at.Kind {
	case config.KindFile:
		return fs.Open(at.Path, fs.Options{Logger: log}) //nolint:contextcheck // what it starts ends with Close
	case config.KindS3:
		opts, err := s3.ParseURL(at.URL)
		if err != nil {
			return nil, err
		}
		opts.Version, opts.Hooks = version, hooks
		return s3.Open(ctx, opts)
	case config.KindMemory:
		return storemem.New(), nil
	default:
		return nil, fmt.Errorf("store kind %q is not known", at.Kind)
	}
}
