package storage

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

var _ lease.Partitions = (*Engine)(nil)

// managed is a member whose leases a lease manager looks after, wired as the binary does it.
type managed struct {
	*member
	manager *lease.Manager
	end     context.CancelFunc
	over    sync.WaitGroup
}

func (f *fleet) manage(id catalog.BrokerID, change ...func(*Config)) *managed {
	f.t.Helper()
	m := &managed{}
	var manager atomic.Pointer[lease.Manager]
	change = append(change, func(c *Config) {
		c.Registration.TTL, c.Controller = bubbleTTL, lease.ControllerLease()
		c.MergeInterval, c.FoldInterval = time.Second, 5*time.Second
		c.Hooks.Heartbeat = func(h catalog.Heartbeat) {
			if lm := manager.Load(); lm != nil {
				lm.Beat(h)
			}
		}
		c.Hooks.Epoch = func(catalog.BrokerEpoch) {
			if lm := manager.Load(); lm != nil {
				lm.Wake()
			}
		}
	})
	m.member = f.joinDeaf(id, change...) // the manager listens
	var err error
	m.manager, err = lease.New(lease.Config{
		Catalog: m.handle, Fleet: m.handle, Partitions: m.Engine, Logger: slog.New(slog.DiscardHandler),
		Hooks: lease.Hooks{Heard: m.Heard},
	})
	require.NoError(f.t, err)
	manager.Store(m.manager)
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	m.end = cancel
	m.over.Go(func() { m.manager.Run(ctx) })
	return m
}

// crash ends the process at once: its connections drop.
func (m *managed) crash() {
	_ = m.handle.Close()
	m.end()
	m.over.Wait()
	m.die()
}

// TestManagedFleet runs engines under lease managers: brokers come, die and leave, and partitions find their leaders, while
// a producer for each partition goes on.
func TestManagedFleet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFleet(t, 30)
		c := &crew{fleet: f, h: newHistory(t), members: make([]atomic.Pointer[member], 4)}
		brokers := make([]*managed, 4)
		for i := range 3 {
			brokers[i] = f.manage(catalog.BrokerID(i + 1))
			c.members[i].Store(brokers[i].member)
		}
		ctx := t.Context()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var worst atomic.Int64 // between two acknowledgements of a partition
		for _, l := range f.logs {
			wg.Go(func() {
				last := time.Now()
				for n := int32(0); ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
					text := string(value(int(l.tp.Partition), int(n), 20))
					for {
						offset, err := c.tryOne(ctx, l, n, text)
						if err == nil {
							c.h.ack(l.tp, offset, text)
							break
						}
						<-time.After(5 * time.Millisecond)
					}
					if gap := int64(time.Since(last)); gap > worst.Load() {
						worst.Store(gap)
					}
					last = time.Now()
				}
			})
		}
		gap := func(what string, limit time.Duration) {
			t.Helper()
			d := time.Duration(worst.Swap(0))
			t.Logf("%s: a partition went %s without an acknowledgement", what, d)
			require.Less(t, d, limit, what)
		}
		<-time.After(5 * time.Second)
		worst.Store(0) // the beginning
		<-time.After(5 * time.Second)
		gap("three brokers", time.Second)
		for i := range 3 {
			require.InDelta(t, 10, len(brokers[i].Held()), 1, "balanced")
		}

		brokers[3] = f.manage(4)
		c.members[3].Store(brokers[3].member)
		<-time.After(30 * time.Second)
		gap("a fourth came", time.Second)
		require.InDelta(t, 7, len(brokers[3].Held()), 1.5)

		c.members[1].Store(nil)
		brokers[1].crash()
		<-time.After(10 * time.Second)
		gap("one died", time.Second)

		drain, cancel := context.WithTimeout(ctx, 10*time.Second)
		require.NoError(t, brokers[0].manager.Drain(drain))
		cancel()
		require.Empty(t, brokers[0].Held())
		<-time.After(5 * time.Second)
		gap("one left", time.Second)

		f.fence(brokers[2].Epoch()) // and lives on
		<-time.After(20 * time.Second)
		gap("one was fenced", 4*time.Second)
		require.NotEmpty(t, brokers[2].Held(), "a new epoch gets its share")

		close(stop)
		wg.Wait()
		c.judgeOnly()
		for i, b := range brokers {
			if i != 1 {
				b.crash()
			}
		}
	})
}
