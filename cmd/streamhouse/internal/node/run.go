package node

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Run serves until ctx ends or a listener fails, then stops everything within the shutdown timeout. Call it once.
func (n *Node) Run(ctx context.Context) error {
	serveCtx, stop := context.WithCancel(context.WithoutCancel(ctx)) // clients are served until what they write to has moved
	defer stop()
	failed := make(chan error, len(n.listeners)+4)
	for i, ln := range n.listeners {
		name := n.resolved[i].Name
		go func() { failed <- n.broker.Serve(serveCtx, ln, name) }()
	}
	go func() {
		n.refresh(serveCtx)
		failed <- nil
	}()
	go func() {
		n.eachSecond(serveCtx)
		failed <- nil
	}()
	go func() {
		n.broker.Coordinate(serveCtx)
		failed <- nil
	}()
	go func() {
		n.measureStored(serveCtx)
		failed <- nil
	}()
	running := len(n.listeners) + 4
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	case err = <-n.superseded():
	case err = <-n.engine.Stopped():
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

// superseded tells why this broker has to give way to another one; nil when it is alone.
func (n *Node) superseded() <-chan error {
	if n.fleet == nil {
		return nil
	}
	return n.fleet.superseded
}

// stop hands the leases over, and ends the broker, then the engine, then HTTP.
func (n *Node) stop(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, n.cfg.ShutdownTimeout)
	defer cancel()
	if n.fleet != nil {
		leases, cancelLeases := context.WithTimeout(limit, n.cfg.ShutdownTimeout/2)
		n.fleet.drain(leases)
		cancelLeases()
	}
	answers, cancelAnswers := context.WithTimeout(limit, n.cfg.ShutdownTimeout*3/4)
	defer cancelAnswers()
	if err := n.broker.Shutdown(answers); err != nil {
		// Who does not take its answers must not keep those from being committed that did.
		n.log.Warn("clients were cut off: they did not take their answers in time", "error", err)
	}
	err := n.engine.Close(limit)
	if n.fleet != nil {
		n.fleet.announce(catalog.Announcement{Leases: true}) //nolint:contextcheck // its registration has ended; sent in the background
		n.fleet.stop()
	}
	if n.tracer != nil {
		n.tracer.Shutdown(limit)
	}
	if n.http == nil {
		return err
	}
	return errors.Join(err, n.http.Shutdown(limit))
}

// refresh looks for topics changed by others when they say so, and once a second; the broker's own changes it knows at once.
func (n *Node) refresh(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var changed <-chan struct{}
	if n.fleet != nil {
		changed = n.fleet.topics
	}
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		err := n.broker.RefreshTopics(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			n.log.Warn("cannot refresh topics; trying again every second", "error", err)
		}
		failing = err != nil
	}
}

// eachSecond counts leases, for one can be lost without a word: not renewed in time. It also gives memory back when there is nothing to
// do. Nothing in it may wait for the catalog, which is what hangs when leases are lost that way.
func (n *Node) eachSecond(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var r rest
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.countLeases()
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
	if n.fleet != nil {
		n.fleet.stop()
	}
	if n.tracer != nil {
		n.tracer.Shutdown(ctx)
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
