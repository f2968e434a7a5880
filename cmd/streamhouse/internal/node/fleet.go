package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/metrics"
	"github.com/streamhouse/streamhouse/storage"
)

const (
	// embeddedTTL is the session of a broker that is alone: nobody waits for its end.
	embeddedTTL = 10 * time.Second
	// fleetTTL is that of one of several: as long do others wait for a broker that is cut off without a word.
	fleetTTL = 6 * time.Second
	// idPatience is how long a broker waits for another process of its id to end: more than a session, and than a server
	// takes to notice that a machine is gone.
	idPatience = 15 * time.Second
	// lingerFor is how long a broker that has handed its leases over goes on to answer clients.
	lingerFor = time.Second
	// announceTimeout bounds a wake-up of others. It is sent in the background.
	announceTimeout = time.Second
)

// errSuperseded ends a broker whose id another process, which lives, has registered since.
var errSuperseded = errors.New("another process that lives has registered this broker's id: give each broker its own --broker-id, or a --data-dir of its own")

// fleet is this broker's part in sharing the partitions of a cluster. It is made before the engine, whose hooks it serves.
type fleet struct {
	catalog catalog.Fleet
	log     *slog.Logger
	metrics *metrics.Cluster
	recount func() // leases may have changed

	cluster *cluster
	engine  *storage.Engine // set by start
	manager *lease.Manager  // set by start
	started atomic.Bool     // both are

	topics     chan struct{} // capacity 1: others may have changed topics
	superseded chan error    // capacity 1: why this broker has to end

	end context.CancelFunc // of the manager; nil before start
	wg  sync.WaitGroup
}

func newFleet(c catalog.Fleet, m *metrics.Cluster, recount func(), log *slog.Logger) *fleet {
	f := &fleet{catalog: c, log: log, metrics: m, recount: recount, topics: make(chan struct{}, 1), superseded: make(chan error, 1)}
	f.cluster = newCluster(f)
	return f
}

// engineHooks adds to hooks what connects the engine to the fleet. The engine calls them before there is a manager, which
// looks at everything when it begins.
func (f *fleet) engineHooks(hooks storage.Hooks) storage.Hooks {
	hooks.Heartbeat = func(h catalog.Heartbeat) {
		if f.started.Load() {
			f.manager.Beat(h)
		}
	}
	hooks.Epoch = func(catalog.BrokerEpoch) {
		f.recount()
		if f.started.Load() {
			f.manager.Wake()
		}
	}
	hooks.Followed = f.metrics.Followed
	return hooks
}

// start shares partitions from now on, and returns once it is known who leads what. ctx bounds only the start.
func (f *fleet) start(ctx context.Context, cat catalog.Catalog, engine *storage.Engine) (err error) {
	f.engine = engine
	f.manager, err = lease.New(lease.Config{Catalog: cat, Fleet: f.catalog, Partitions: engine, Logger: f.log, Hooks: f.hooks()})
	if err != nil {
		return fmt.Errorf("share the partitions: %w", err)
	}
	f.started.Store(true)
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	f.end = end
	f.wg.Go(func() { f.manager.Run(run) })
	if _, err := f.manager.Refresh(ctx); err != nil {
		return fmt.Errorf("share the partitions: %w", err)
	}
	return nil
}

func (f *fleet) hooks() lease.Hooks {
	moved := func(how metrics.LeaseMove) func(int, time.Duration, error) {
		return func(n int, took time.Duration, err error) {
			f.metrics.Moved(how, n, took, err == nil)
			f.cluster.moves()
			f.recount()
		}
	}
	return lease.Hooks{
		Viewed: func(v *lease.View) {
			f.cluster.viewed(v)
			f.metrics.Seen(len(f.cluster.latest().nodes))
			f.recount()
		},
		Acquired: moved(metrics.LeaseAcquired), Adopted: moved(metrics.LeaseAdopted), HandedOver: moved(metrics.LeaseHandedOver),
		Giving: func(int) { f.cluster.moves() },
		Fenced: func(_ catalog.Broker, why catalog.FenceReason) {
			if why == catalog.FenceExpired {
				f.metrics.Fenced(metrics.FenceExpired)
			} else {
				f.metrics.Fenced(metrics.FenceDetached)
			}
		},
		Asked: f.metrics.Asked,
		Heard: func(a catalog.Announcement) {
			f.engine.Heard(a)
			if a.Leaving {
				f.cluster.leaves(a.From)
			}
			if a.Topics || a == (catalog.Announcement{}) {
				select {
				case f.topics <- struct{}{}:
				default: // it will be looked at
				}
			}
		},
		Superseded: func(b catalog.Broker) {
			select {
			case f.superseded <- fmt.Errorf("broker %d, epoch %d: %w", b.ID, b.Epoch, errSuperseded):
			default: // it ends already
			}
		},
	}
}

// announce wakes the others, as far as that goes.
func (f *fleet) announce(a catalog.Announcement) {
	a.From = f.engine.Epoch()
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	if err := f.catalog.Announce(ctx, a); err != nil {
		f.log.Debug("cannot wake the other brokers; they look by themselves", "error", err)
	}
}

// ready tells why this broker does not serve its share, or nil: it holds leases, or there are none for it to hold.
func (f *fleet) ready() error {
	v := f.cluster.latest()
	if v.number == 0 {
		return errors.New("the leases are not read yet")
	}
	own, known := v.Broker(f.engine.Epoch())
	switch {
	case !known:
		return errors.New("the broker's registration is not seen yet")
	case own.Draining || len(f.engine.Held()) > 0:
		return nil
	case v.Free() > 0:
		return errors.New("the broker holds no leases while some are free")
	}
	for l := range v.All() {
		if l.Holder == own.Epoch {
			return errors.New("the broker is taking its leases over, and leads nothing yet")
		}
	}
	return nil
}

// leads tells whether any broker leads a partition.
func (f *fleet) leads(tp catalog.TopicPartition) bool {
	_, _, ok := f.cluster.latest().View.LeaderOf(tp)
	return ok
}

// drain gives all leases to the other brokers, and stays for a while to tell clients where they went. What cannot be given
// is given up when the engine closes.
func (f *fleet) drain(ctx context.Context) {
	began, held := time.Now(), len(f.engine.Held())
	f.cluster.moves()
	switch err := f.manager.Drain(ctx); {
	case err == nil:
		f.log.Info("all leases were handed over", "took", time.Since(began))
		if held > 0 {
			f.linger(ctx)
		}
	case errors.Is(err, lease.ErrAlone):
		f.log.Info("no other broker can take the leases: they are given up")
	default:
		f.log.Warn("not all leases were handed over: they are given up", "error", err)
	}
}

// linger waits until clients that send often have been told who leads what they write to. One whose connection closes
// instead has to ask for metadata, which takes it hundreds of milliseconds: longer than the move.
func (f *fleet) linger(ctx context.Context) {
	enough := time.NewTimer(lingerFor)
	defer enough.Stop()
	select {
	case <-enough.C:
	case <-ctx.Done():
	}
}

// stop ends the sharing. The engine has given its leases up by then, or is to be found dead.
func (f *fleet) stop() {
	if f.end != nil {
		f.end()
		f.wg.Wait()
	}
}
