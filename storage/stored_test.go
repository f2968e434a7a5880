package storage

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// meantime is a catalog that calls a function once a fold or an edit is applied, before its caller hears of that.
type meantime struct {
	catalog.Catalog
	do atomic.Pointer[func()]
}

func (c *meantime) applied(err error) error {
	if f := c.do.Load(); f != nil && err == nil {
		(*f)()
	}
	return err
}

// Fold implements [catalog.Catalog].
func (c *meantime) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	return c.applied(c.Catalog.Fold(ctx, epoch, f))
}

// Edit implements [catalog.Catalog].
func (c *meantime) Edit(ctx context.Context, epoch catalog.BrokerEpoch, e catalog.Edit) error {
	return c.applied(c.Catalog.Edit(ctx, epoch, e))
}

// Who asks the catalog what a partition holds may see what a fold or an edit adds or takes off before the keeper hears that it did:
// that is not to be counted twice, then or later.
func TestStoredBytesAskedForWhileTheyChange(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	cat := &meantime{Catalog: w.cat}
	e := w.open(func(c *Config) { c.Catalog = cat })
	l := w.logs[0]
	stored := func() int64 {
		t.Helper()
		all, err := e.StoredBytes(ctx)
		require.NoError(t, err)
		return all[w.topic]
	}
	var during []int64
	ask := func() {
		e.term.Load().unsize(l.tp) // as after a start
		during = append(during, stored(), stored())
	}
	for range 2 {
		for range 5 {
			require.NoError(t, w.produce(ctx, e, l, make([]byte, 10_000)))
		}
		require.NoError(t, e.Tidy(ctx))
	}
	for range 5 {
		require.NoError(t, w.produce(ctx, e, l, make([]byte, 10_000)))
	}
	total := stored()
	cat.do.Store(&ask)
	require.NoError(t, e.Tidy(ctx))
	cat.do.Store(nil)
	require.Equal(t, []int64{total, total}, during)
	require.Equal(t, total, stored(), "after the fold")

	_, err := e.DeleteRecords(ctx, l.tp, 10)
	require.NoError(t, err)
	cat.do.Store(&ask)
	require.NoError(t, e.Tidy(ctx))
	cat.do.Store(nil)
	states, err := w.cat.LoadPartitions(ctx, []catalog.TopicPartition{l.tp})
	require.NoError(t, err)
	require.Less(t, states[0].Bytes, total/2)
	require.Greater(t, len(during), 2)
	require.Equal(t, states[0].Bytes, stored(), "after the edit")
}
