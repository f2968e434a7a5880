package lease

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Partitions is the storage engine, as the manager sees it. All methods are safe for concurrent use and honour ctx; the
// manager never names a partition in two calls at once.
type Partitions interface {
	// Epoch is the broker epoch under which the engine holds leases now, 0 while it has none. It changes when the engine
	// lost its epoch and registered anew; call [Manager.Wake] then.
	Epoch() catalog.BrokerEpoch
	// Held are the partitions the engine regards as its own, with the lease epoch of each, also those that are closed for
	// a hand-over, or in doubt because the catalog does not answer. The map does not change and is not changed: it is asked
	// for at every step, so it should cost nothing while nothing changes hands.
	Held() map[catalog.TopicPartition]catalog.LeaseEpoch
	// HeldVersion grows with each change of what Held tells.
	HeldVersion() int64
	// Acquire takes those of the leases that are free (catalog.Leases.AcquireLeases) and takes over what it got. It is
	// not an error that somebody else was faster.
	Acquire(ctx context.Context, partitions []catalog.TopicPartition) error
	// Adopt takes over partitions whose leases the catalog shows as held by Epoch: they were moved to us, or the answer
	// of an Acquire was lost. Leases of another holder than the epoch now are to be ignored. What shows may be undone: it
	// leads only those that the catalog says it holds when it is asked with AcquireLeases.
	Adopt(ctx context.Context, leases []catalog.Lease) error
	// HandOver stops appends of the partitions, commits all that is in flight, and moves the leases to another broker epoch
	// (catalog.Fleet.MoveLeases). When it returns each partition is either in Held, open again or in doubt, or was
	// given away. With nil all were given away, or had not been held.
	HandOver(ctx context.Context, partitions []catalog.TopicPartition, to catalog.BrokerEpoch) error
	// Lost tells which leases the catalog shows with another holder under a later lease epoch than Held has: a move whose
	// answer was lost. The engine stops leading those it holds under an earlier lease epoch.
	Lost(leases []catalog.Lease)
	// Load is the traffic of all partitions of the cluster, in bytes/s committed, by partition; those without may be
	// absent. Asked of the controller only, every [Config.LoadInterval] at most. The map is the caller's.
	Load() map[catalog.TopicPartition]float64
}

// Hooks are told what happens, for metrics. They run on the manager's goroutines, so they must be quick and safe for
// concurrent use. Any may be nil.
type Hooks struct {
	Viewed     func(v *View)                                   // a new view is in force
	Acquired   func(n int, d time.Duration, err error)         // free leases were asked for
	Adopted    func(n int, d time.Duration, err error)         // leases moved to us were taken over
	Giving     func(n int)                                     // a hand-over of leases begins
	HandedOver func(n int, d time.Duration, err error)         // leases were handed over
	Fenced     func(b catalog.Broker, why catalog.FenceReason) // we fenced a broker epoch
	Asked      func(moves int)                                 // as controller, we asked for moves
	Failed     func(call string, err error)                    // a call of the catalog failed and is tried again
	Heard      func(a catalog.Announcement)                    // every announcement, the zero one too: look at everything
	Superseded func(b catalog.Broker)                          // another living process has registered our broker id since we did
}

// Config is what a Manager needs. Zero durations and numbers mean the defaults named at each.
type Config struct {
	Catalog    catalog.Catalog
	Fleet      catalog.Fleet // nil: this process alone uses the catalog
	Partitions Partitions
	Logger     *slog.Logger
	Hooks      Hooks

	// Tick is how often everything is looked at when nothing wakes us, and how often the controller plans: 1 s.
	Tick time.Duration
	// Confirm is how long a process must be detached before it counts as dead: 300 ms.
	Confirm time.Duration
	// Leftover is how long a free lease is left to the broker that comes first for it: 300 ms.
	Leftover time.Duration
	// Gather is how long leases are left alone where nobody holds any: for brokers that start at the same time. 500 ms.
	Gather time.Duration
	// DetachPoll is how often all observers together ask who is attached: 100 ms. Each asks that often times their number, give or take half,
	// at least every 2 s.
	DetachPoll time.Duration
	// CallTimeout bounds each call of the catalog: 3 s.
	CallTimeout time.Duration
	// MovesPerBroker is how many moves from one broker the controller has under way, and so how many it asks for a Tick:
	// 20. It is also how many partitions one hand-over takes.
	MovesPerBroker int
	// HandOvers is how many hand-overs go on at once: 4.
	HandOvers int
	// DrainBatch is how many partitions one hand-over takes while draining: 500.
	DrainBatch int
	// AcquireBatch is how many free leases are taken at once: 20,000.
	AcquireBatch int
	// LoadInterval is how often the controller looks at bytes/s: 10 s.
	LoadInterval time.Duration
	// Recent is for how long a lease that was moved is not moved for its load: 1 min.
	Recent time.Duration
	// Retry is the pause after the engine failed to do something, doubled with each failure up to 16 times as much:
	// 250 ms.
	Retry time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if c.Catalog == nil || c.Partitions == nil || c.Logger == nil {
		return c, errors.New("a lease manager needs a catalog, an engine and a logger")
	}
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{
		{&c.Tick, time.Second},
		{&c.Confirm, 300 * time.Millisecond},
		{&c.Leftover, 300 * time.Millisecond},
		{&c.Gather, 500 * time.Millisecond},
		{&c.DetachPoll, 100 * time.Millisecond},
		{&c.CallTimeout, 3 * time.Second},
		{&c.LoadInterval, 10 * time.Second},
		{&c.Recent, time.Minute},
		{&c.Retry, 250 * time.Millisecond},
	} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	for _, n := range []struct {
		at    *int
		value int
	}{{&c.MovesPerBroker, 20}, {&c.HandOvers, 4}, {&c.DrainBatch, 500}, {&c.AcquireBatch, 20_000}} {
		if *n.at <= 0 {
			*n.at = n.value
		}
	}
	return c, nil
}
