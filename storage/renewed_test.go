package storage

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// deafCatalog does not answer heartbeats while it is told so.
type deafCatalog struct {
	catalog.Catalog
	mu   sync.Mutex
	deaf bool
}

func (c *deafCatalog) set(deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = deaf
}

func (c *deafCatalog) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	c.mu.Lock()
	deaf := c.deaf
	c.mu.Unlock()
	if deaf {
		return catalog.Heartbeat{}, errors.New("the line is dead")
	}
	return c.Catalog.Heartbeat(ctx, epoch)
}

// Every renewal of the session is told with what became of it: renewed, not answered, or refused for good.
func TestRenewalsAreToldWithTheirOutcome(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		deaf := &deafCatalog{Catalog: w.cat}
		w.cat = deaf
		var mu sync.Mutex
		var told []string
		e := w.open(ttl, func(c *Config) {
			c.Hooks.Renewed = func(status string) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, status)
			}
		})
		heard := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(told)
		}
		next := func() string {
			<-time.After(bubbleTTL / 3)
			synctest.Wait()
			all := heard()
			require.NotEmpty(t, all)
			return all[len(all)-1]
		}
		<-time.After(time.Millisecond) // between two of them
		require.Equal(t, "ok", next())
		deaf.set(true)
		require.Equal(t, "error", next())
		deaf.set(false)
		require.Equal(t, "ok", next())
		epoch := e.Epoch()
		require.NoError(t, w.cat.FenceBroker(t.Context(), epoch, catalog.FenceProvenDead))
		require.Equal(t, "lost", next())
		require.Equal(t, "ok", next(), "of the epoch after it")
		require.Greater(t, e.Epoch(), epoch)
		require.Equal(t, []string{"ok", "error", "ok", "lost", "ok"}, heard())
		e.Kill()
	})
}
