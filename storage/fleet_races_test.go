package storage

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// lateAnswer holds the answers of some calls back.
type lateAnswer struct {
	catalog.Catalog

	mu    sync.Mutex
	loads chan struct{} // of the next LoadPartitions; nil: at once
	held  chan struct{} // closed when an answer is held back
}

func (c *lateAnswer) LoadPartitions(ctx context.Context, tps []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	states, err := c.Catalog.LoadPartitions(ctx, tps)
	c.mu.Lock()
	gate := c.loads
	c.loads = nil
	c.mu.Unlock()
	if gate != nil {
		close(c.held)
		<-gate
	}
	return states, err
}

// A load that is under way while its partition goes to another broker and comes back must not undo what was appended since.
func TestALateLoadFindsThePartitionBack(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 1)
	l := f.logs[0]
	cat := &lateAnswer{held: make(chan struct{})}
	puts := make(chan struct{})
	put := sync.OnceFunc(func() { close(puts) })
	a := f.join(1, func(c *Config) {
		cat.Catalog, c.Catalog = c.Catalog, cat
		c.Store = &gatedStore{Store: f.store, gate: puts}
	})
	b := f.join(2)
	t.Cleanup(put)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	gate := make(chan struct{})
	cat.loads = gate
	loaded := make(chan error)
	go func() {
		_, err := a.Offsets(ctx, l.tp)
		loaded <- err
	}()
	<-cat.held
	f.give(a, b, l.tp)
	require.NoError(t, f.produce(ctx, b.Engine, l, []byte("there")))
	f.give(b, a, l.tp)
	first, err := f.send(ctx, a.Engine, l, 1, []byte("one"))
	require.NoError(t, err)
	close(gate)
	require.NoError(t, <-loaded)
	second, err := f.send(ctx, a.Engine, l, 2, []byte("two"))
	require.NoError(t, err)
	put()
	for i, p := range []Pending{first, second} {
		<-p.Done()
		got, err := p.Result()
		require.NoError(t, err)
		l.ack(t, got.BaseOffset, [][]byte{[]byte("one"), []byte("two")}[i])
	}
	f.check(ctx, a.Engine)
}
