package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
)

// slowAnswer applies AcquireLeases of given partitions at once and holds its answer back.
type slowAnswer struct {
	catalog.Catalog
	applied chan struct{}
	gate    chan struct{}
}

func (c *slowAnswer) AcquireLeases(ctx context.Context, epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) ([]catalog.Lease, error) {
	ls, err := c.Catalog.AcquireLeases(ctx, epoch, tps)
	if tps != nil {
		close(c.applied)
		<-c.gate
	}
	return ls, err
}

// The answer to an AcquireLeases of an ended term arrives after the next term began.
func TestStaleAcquireOverwritesTerm(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	cat := &slowAnswer{Catalog: w.cat, applied: make(chan struct{}), gate: make(chan struct{})}
	e := w.open(func(c *Config) { c.Catalog = cat })
	old := e.term.Load()
	w.create(1) // a second topic
	done := make(chan error)
	go func() { done <- e.Acquire(ctx, []catalog.TopicPartition{w.logs[0].tp}) }()
	<-cat.applied
	require.NoError(t, w.cat.FenceBroker(ctx, old.epoch, catalog.FenceResigned))
	old.fail(catalog.ErrFenced)
	for e.term.Load() == old || e.term.Load() == nil {
		<-time.After(time.Millisecond)
	}
	for {
		if _, err := e.Leader(w.logs[0].tp); err == nil {
			break
		}
		<-time.After(time.Millisecond)
	}
	require.NoError(t, w.produce(ctx, e, w.logs[0], []byte("one")))
	close(cat.gate)
	require.NoError(t, <-done)
	p := e.lookup(w.logs[0].tp)
	p.mu.Lock()
	stale := p.mu.term == old
	p.mu.Unlock()
	_, err := w.send(ctx, e, w.logs[0], 1, []byte("two"))
	t.Logf("partition belongs to the ended term: %v; append: %v", stale, err)
	require.NoError(t, err, "the partition must still be led by the running term")
}

var _ = catfaulty.Lost
