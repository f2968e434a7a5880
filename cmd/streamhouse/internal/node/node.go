package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/tracing"
	"github.com/streamhouse/streamhouse/metrics"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// Node is a running broker.
type Node struct {
	cfg     config.Config
	version string
	log     *slog.Logger
	metrics *metrics.Metrics
	watch   *observer
	tracer  *tracing.Tracer // nil: nothing is traced

	catalog   catalog.Catalog
	source    catalog.Catalog // below the wrappers of catalog
	store     objstore.Store
	fleet     *fleet // nil: this broker is alone
	pool      *slab.Pool
	engine    *storage.Engine // set before phase is serving
	broker    *broker.Broker
	groups    groups
	http      *metrics.Server
	phase     atomic.Pointer[string] // why it is not ready, or ""
	listeners []net.Listener
	resolved  []config.Listener
	closers   []io.Closer // in the order opened
}

// Start opens everything. On error nothing is left open.
func Start(ctx context.Context, cfg config.Config, version string, log *slog.Logger) (_ *Node, err error) {
	n := prepare(ctx, cfg, version, log)
	defer func() {
		if err != nil {
			n.abort(ctx)
		}
	}()
	for _, step := range n.steps() {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// prepare makes a node with all that cannot fail.
func prepare(ctx context.Context, cfg config.Config, version string, log *slog.Logger) *Node {
	debug.SetMemoryLimit(cfg.MemoryLimit)
	n := &Node{cfg: cfg, version: version, log: log}
	n.phase.Store(&starting)
	n.metrics = &metrics.Metrics{} // which records nothing
	if cfg.Metrics {
		n.metrics = metrics.New(metrics.Options{MaxPartitions: cfg.MaxPartitionMetrics, Version: version, Logger: log})
	}
	n.metrics.Lag.Tell(n.groups.scraped)
	n.metrics.Groups.Tell(n.groups.counted)
	n.watch = newObserver(n.metrics)
	n.pool = slab.NewPool(cfg.BufferBytes / 4)
	if cfg.TracingEndpoint != nil {
		n.tracer = tracing.New(ctx, tracing.Options{Endpoint: cfg.TracingEndpoint, Ratio: cfg.TracingSample, Version: version, Logger: log})
	}
	return n
}

// steps open everything, in this order.
func (n *Node) steps() []func(context.Context) error {
	return []func(context.Context) error{n.openData, n.listen, n.identify, n.openEngine, n.openBroker, n.serve}
}

// serve says that all is there.
func (n *Node) serve(context.Context) error {
	n.countLeases()
	n.phase.Store(&serving)
	return nil
}

// What /ready says while the engine is not asked.
var starting, serving, stopping = "the broker is starting", "", "the broker is stopping"

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
		Addr: n.cfg.HTTPAddr, Metrics: n.metrics, Ready: n.ready, Scrape: n.groups.scrape, Groups: &n.groups, Pprof: n.cfg.Pprof, Logger: n.log,
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
	if phase != &starting && n.watch.on() {
		n.watch.cachesSeen(n.engine.CacheStats)
		n.watch.limitsSeen(n.engine.FlushStats(), n.broker.Usage(), n.pool.InUse())
		n.watch.poolsSeen(n.source)
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
	if n.fleet != nil {
		if err := n.fleet.ready(); err != nil {
			return err
		}
	}
	store := make(chan error, 1)
	go func() { store <- n.engine.ReadyStore(ctx) }()
	switch catalog, store := n.ping(ctx), <-store; {
	case catalog == nil:
		return store
	case store == nil:
		return catalog
	default:
		return fmt.Errorf("%w; %w", catalog, store)
	}
}

func (n *Node) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	switch err := n.catalog.Ping(ctx); {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("the catalog does not answer within %v: %w", pingWithin, err)
	case err != nil:
		return fmt.Errorf("the catalog does not take writes: %w", err)
	}
	return nil
}

// pingWithin is how long the catalog may take to answer whether it is there: less than who asks for /ready waits for the reason.
const pingWithin = 1500 * time.Millisecond

func (n *Node) countLeases() {
	if !n.watch.on() {
		return
	}
	held := func(tp catalog.TopicPartition) bool {
		_, err := n.engine.Leader(tp)
		return err == nil
	}
	led := held
	if n.fleet != nil {
		led = n.fleet.leads
		n.fleet.metrics.Controls(held(lease.ControllerLease())) // by the engine, as leases are: a view only gets old while the catalog is away
	}
	n.watch.countLeases(held, led)
}
