package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// lateFence answers FenceBroker late.
type lateFence struct {
	catalog.Catalog
	after func()
}

func (c *lateFence) FenceBroker(ctx context.Context, epoch catalog.BrokerEpoch, why catalog.FenceReason) error {
	err := c.Catalog.FenceBroker(ctx, epoch, why)
	if why == catalog.FenceResigned {
		c.after()
	}
	return err
}

// Close resigns, a renewal sees the fence before Close goes on, and the engine registers anew.
func TestCloseLeavesNoBroker(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	cat := &lateFence{Catalog: w.cat}
	e := w.open(func(c *Config) { c.Catalog = cat; c.Registration.TTL = 30 * time.Millisecond })
	old := e.term.Load()
	cat.after = func() { // 100 ms between the fence and its answer: a renewal every 10
		for range 100 {
			if now := e.term.Load(); now != nil && now != old {
				return
			}
			<-time.After(time.Millisecond)
		}
	}
	require.NoError(t, e.Close(ctx))
	bs, err := w.cat.ListBrokers(ctx)
	require.NoError(t, err)
	for _, b := range bs {
		require.True(t, b.Fenced, "broker epoch %d outlives Close and holds the leases", b.Epoch)
	}
}
