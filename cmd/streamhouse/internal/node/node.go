package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/catalog"
	catmetered "github.com/streamhouse/streamhouse/catalog/metered"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/metrics"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/fs"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
	"github.com/streamhouse/streamhouse/storage/objstore/slow"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// embeddedBrokerID is the node id of a broker whose operator named none: there is one.
const embeddedBrokerID = 1

// Node is a running broker.
type Node struct {
	cfg     config.Config
	version string
	log     *slog.Logger
	metrics *metrics.Metrics
	watch   *observer

	catalog   catalog.Catalog
	store     objstore.Store
	pool      *slab.Pool
	engine    *storage.Engine // set before phase is serving
	broker    *broker.Broker
	http      *metrics.Server
	phase     atomic.Pointer[string] // why it is not ready, or ""
	listeners []net.Listener
	resolved  []config.Listener
	closers   []io.Closer // in the order opened
}

// Start opens everything. On error nothing is left open.
func Start(ctx context.Context, cfg config.Config, version string, log *slog.Logger) (_ *Node, err error) {
	debug.SetMemoryLimit(cfg.MemoryLimit)
	n := &Node{cfg: cfg, version: version, log: log}
	n.phase.Store(&starting)
	defer func() {
		if err != nil {
			n.abort(ctx)
		}
	}()
	n.metrics = metrics.New(metrics.Options{MaxPartitions: cfg.MaxPartitionMetrics, Version: version, Logger: log})
	n.watch = newObserver(n.metrics)
	pool := slab.NewPool(cfg.BufferBytes / 4)
	n.pool = pool
	embedded, err := n.openData(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.listen(ctx); err != nil {
		return nil, err
	}
	if err := n.openEngine(ctx, pool, embedded); err != nil {
		return nil, err
	}
	if err := n.openBroker(ctx, pool); err != nil {
		return nil, err
	}
	n.countLeases()
	n.phase.Store(&serving)
	return n, nil
}

// What /ready says while the engine is not asked.
var starting, serving, stopping = "the broker is starting", "", "the broker is stopping"

// openData opens catalog and store. It reports whether no other process can use this catalog.
func (n *Node) openData(ctx context.Context) (embedded bool, err error) {
	var folders []string
	if n.cfg.Catalog.Kind == config.KindSQLite {
		folders = append(folders, filepath.Dir(n.cfg.Catalog.Path))
	}
	if n.cfg.Store.Kind == config.KindFile && !slices.Contains(folders, n.cfg.Store.Path) {
		folders = append(folders, n.cfg.Store.Path)
	}
	for _, dir := range folders {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return false, fmt.Errorf("make the data folder: %w", err)
		}
		lock, err := fs.Lock(dir)
		if err != nil {
			return false, err
		}
		n.closers = append(n.closers, lock)
	}
	cat, err := openCatalog(ctx, n.cfg, n.log)
	if err != nil {
		return false, fmt.Errorf("open the catalog: %w", err)
	}
	n.closers = append(n.closers, cat)
	n.catalog = &tappedCatalog{Catalog: catmetered.New(cat, n.watch.catalogHooks()), read: n.watch.topicsRead}
	store, err := openStore(ctx, n.cfg, n.version, n.log)
	if err != nil {
		return false, fmt.Errorf("open the object store: %w", err)
	}
	n.closers = append(n.closers, store)
	if l := n.cfg.Store.Latency; l > 0 {
		store = slow.New(store, slow.Latency{Put: l, Get: l, Other: l})
	}
	n.store = metered.New(store, n.watch.storeHooks())
	return n.cfg.Catalog.Kind != config.KindPostgres, nil
}

func (n *Node) openEngine(ctx context.Context, pool *slab.Pool, embedded bool) (err error) {
	id := n.cfg.BrokerID
	if id < 0 {
		id = embeddedBrokerID
	}
	n.cfg.BrokerID = id
	reg := catalog.Registration{ID: catalog.BrokerID(id), Rack: n.cfg.Rack, TTL: 10 * time.Second}
	for _, l := range n.resolved {
		reg.Listeners = append(reg.Listeners, catalog.Listener{Name: l.Name, Host: l.Advertised.Host, Port: int32(l.Advertised.Port)})
	}
	n.engine, err = storage.Open(ctx, storage.Config{
		Catalog: n.catalog, Store: n.store, Pool: pool, Logger: n.log, Hooks: n.watch.engineHooks(),
		Registration: reg, PredecessorsDead: embedded, Process: uuid.New(),
		FlushInterval: n.cfg.FlushInterval, FlushBytes: int(n.cfg.FlushBytes),
		MaxUncommittedBytes: n.cfg.BufferBytes / 2, TailCacheBytes: n.cfg.TailCacheBytes, BlockCacheBytes: n.cfg.CacheBytes,
		MergeInterval: n.cfg.MergeInterval, ObjectGrace: n.cfg.ObjectGrace,
	})
	if err != nil {
		return fmt.Errorf("start the storage engine: %w", err)
	}
	return nil
}

func (n *Node) openBroker(ctx context.Context, pool *slab.Pool) error {
	clusterID, err := n.catalog.ClusterID(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster id: %w", err)
	}
	endpoints := make(map[string]broker.Endpoint, len(n.resolved))
	for _, l := range n.resolved {
		endpoints[l.Name] = broker.Endpoint{Host: l.Advertised.Host, Port: int32(l.Advertised.Port)}
	}
	n.broker, err = broker.New(broker.Config{
		Log: n.engine, Catalog: n.catalog, Pool: pool, Logger: n.log, Observer: n.watch.brokerObserver(),
		NodeID: n.cfg.BrokerID, Rack: n.cfg.Rack, ClusterID: clusterID, Listeners: endpoints,
		AutoCreateTopics: n.cfg.AutoCreateTopics, NumPartitions: n.cfg.NumPartitions,
		Limits: broker.Limits{
			MaxConnections: n.cfg.MaxConnections, MaxConnectionsPerIP: n.cfg.MaxConnectionsPerIP,
			MaxRequestBytes: int(n.cfg.MaxRequestBytes), RequestMemoryBytes: n.cfg.BufferBytes, AnswerMemoryBytes: n.cfg.BufferBytes,
		},
	})
	if err != nil {
		return fmt.Errorf("make the broker: %w", err)
	}
	return n.broker.RefreshTopics(ctx)
}

// listen binds all addresses, so that one in use is an error before anything is registered. HTTP is served from here on.
func (n *Node) listen(ctx context.Context) error {
	for _, l := range n.cfg.Listeners {
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", l.Bind.String())
		if err != nil {
			return fmt.Errorf("listener %s: bind %s: %w", l.Name, l.Bind, err)
		}
		n.listeners = append(n.listeners, ln)
		if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
			l = l.WithBoundPort(uint16(tcp.Port))
		}
		n.resolved = append(n.resolved, l)
	}
	if n.cfg.HTTPAddr == "" {
		return nil
	}
	server, err := metrics.NewServer(ctx, metrics.ServerOptions{
		Addr: n.cfg.HTTPAddr, Metrics: n.metrics, Ready: n.ready, Pprof: n.cfg.Pprof, Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("--http-addr: %w", err)
	}
	n.http = server
	server.Start()
	return nil
}

// Listeners are the addresses in force, ports filled in.
func (n *Node) Listeners() []config.Listener { return n.resolved }

// HTTPAddr is where /metrics is served; nil when it is not.
func (n *Node) HTTPAddr() net.Addr {
	if n.http == nil {
		return nil
	}
	return n.http.Addr()
}

// ready is asked for /ready and before each scrape.
func (n *Node) ready(ctx context.Context) error {
	phase := n.phase.Load()
	if phase != &starting {
		n.watch.cachesSeen(n.engine.CacheStats)
	}
	if *phase != serving {
		return errors.New(*phase)
	}
	if n.watch.recount.Load() {
		n.countLeases()
	}
	if err := n.engine.Ready(); err != nil {
		return err
	}
	if err := n.catalog.Ping(ctx); err != nil {
		return fmt.Errorf("the catalog does not take writes: %w", err)
	}
	return nil
}

func (n *Node) countLeases() {
	n.watch.countLeases(func(tp catalog.TopicPartition) bool {
		_, err := n.engine.Leader(tp)
		return err == nil
	})
}

// Run serves until ctx ends or a listener fails, then stops everything within the shutdown timeout. Call it once.
func (n *Node) Run(ctx context.Context) error {
	serveCtx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, len(n.listeners)+1)
	for i, ln := range n.listeners {
		name := n.resolved[i].Name
		go func() { failed <- n.broker.Serve(serveCtx, ln, name) }()
	}
	go func() { failed <- n.refresh(serveCtx) }()
	running := len(n.listeners) + 1
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	n.log.Info("stopping")
	n.phase.Store(&stopping)
	errs := []error{err, n.stop(context.WithoutCancel(ctx))}
	stop()
	for range running {
		errs = append(errs, <-failed)
	}
	n.closeAll()
	n.log.Info("stopped")
	return errors.Join(errs...)
}

// stop ends the broker, then the engine, then HTTP.
func (n *Node) stop(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, n.cfg.ShutdownTimeout)
	defer cancel()
	answers, cancelAnswers := context.WithTimeout(limit, n.cfg.ShutdownTimeout*3/4)
	defer cancelAnswers()
	if err := n.broker.Shutdown(answers); err != nil {
		// Who does not take its answers must not keep those from being committed that did.
		n.log.Warn("clients were cut off: they did not take their answers in time", "error", err)
	}
	err := n.engine.Close(limit)
	if n.http == nil {
		return err
	}
	return errors.Join(err, n.http.Shutdown(limit))
}

// refresh looks for topics changed by others once a second; the broker's own changes it knows at once. It also gives memory
// back when there is nothing to do.
func (n *Node) refresh(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var r rest
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := n.broker.RefreshTopics(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("cannot refresh topics", "error", err)
			}
			n.countLeases() // a lease can be lost without a word: not renewed in time
			drop, free := r.second(n.watch.traffic.Swap(false), n.watch.work.Swap(false))
			if drop {
				n.engine.DropBlocks()
				n.pool.Trim()
			}
			if free {
				debug.FreeOSMemory()
			}
		}
	}
}

// abort undoes a start that failed. The engine, if it is there, ends as in a crash.
func (n *Node) abort(ctx context.Context) {
	if n.http != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := n.http.Shutdown(ctx); err != nil {
			n.log.Warn("cannot stop HTTP", "error", err)
		}
	}
	if n.engine != nil {
		n.engine.Kill()
	}
	n.closeAll()
}

// closeAll closes listeners, store, catalog and locks: what was opened last, first.
func (n *Node) closeAll() {
	for _, l := range n.listeners {
		_ = l.Close() // closed by Serve already, if that ran
	}
	for _, c := range slices.Backward(n.closers) {
		if err := c.Close(); err != nil {
			n.log.Warn("cannot close", "error", err)
		}
	}
}
