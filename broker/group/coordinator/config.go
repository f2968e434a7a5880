package coordinator

import (
	"errors"
	"log/slog"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage"
)

// The errors of requests. The broker translates each to one Kafka error code.
var (
	// ErrNotCoordinator: another broker coordinates the group, or nobody. NOT_COORDINATOR.
	ErrNotCoordinator = errors.New("this broker does not coordinate the group")
	// ErrLoading: the shard is being read from the catalog. COORDINATOR_LOAD_IN_PROGRESS.
	ErrLoading = errors.New("the coordinator is loading its groups")
	// ErrUnavailable: what the request changed is not durable yet, or there is no room for it. What was changed stays in
	// line to be written. COORDINATOR_NOT_AVAILABLE.
	ErrUnavailable = errors.New("the coordinator cannot write, or has too much to do")
	// ErrUnreadable: the group's rows do not decode. UNKNOWN_SERVER_ERROR.
	ErrUnreadable = errors.New("the group cannot be read")
)

// Leases is the storage engine as the coordinator sees it.
type Leases interface {
	// Epoch is the broker epoch under which leases are held now, 0 while there is none.
	Epoch() catalog.BrokerEpoch
	// Leader returns the lease epoch of a partition if its lease is held, trusted and not being handed over.
	Leader(tp catalog.TopicPartition) (epoch int32, err error)
	// Held are all leases, also those that are not trusted, being handed over or in doubt.
	Held() map[catalog.TopicPartition]catalog.LeaseEpoch
	// Watch returns a watcher that is told when a lease of these is gained or lost.
	Watch(tps ...catalog.TopicPartition) Watcher
}

// Watcher is told of leases that moved.
type Watcher interface {
	// C receives a value when something moved since the last Take.
	C() <-chan struct{}
	// Take appends what moved to dst.
	Take(dst []catalog.TopicPartition) []catalog.TopicPartition
	Close()
}

// EngineLeases are the leases of a storage engine.
func EngineLeases(e *storage.Engine) Leases { return engineLeases{e} }

type engineLeases struct{ *storage.Engine }

// Watch implements [Leases].
func (e engineLeases) Watch(tps ...catalog.TopicPartition) Watcher {
	w := e.NewWatcher()
	w.Add(tps...)
	return w
}

// Config is what a Coordinator needs. Zero numbers and durations mean the defaults named at each.
type Config struct {
	Groups catalog.Groups
	Leases Leases
	// Topic is the id of the internal topic whose partitions are the shards, and Shards their number.
	Topic  catalog.TopicID
	Shards int32
	Logger *slog.Logger
	Hooks  Hooks

	// CommitTimeout is offsets.commit.timeout.ms: how long a client waits at most until what it was answered with is durable.
	// 5 s.
	CommitTimeout time.Duration
	// MaxGroups bounds the groups of all shards that this broker leads. Beyond it new ones are refused. 1,000,000.
	MaxGroups int
	// MaxWaiting bounds the requests of one shard that are not answered. 100,000.
	MaxWaiting int
	// MaxChanges and MaxWriteBytes bound one statement, in groups and (roughly) in bytes; one larger change goes alone. 1,000
	// and 4 MiB.
	MaxChanges    int
	MaxWriteBytes int
	// LoadPage is how many groups one read of the catalog takes. 500.
	LoadPage int
	// CallTimeout bounds each call of the catalog; after it the call is made again. 5 s.
	CallTimeout time.Duration

	// For tests; nil: those of package group.
	newGroup  func(id string, shard int32, cfg group.Config, topics group.Topics, now time.Time) machine
	loadGroup func(rec catalog.GroupRecord, cfg group.Config, topics group.Topics, now time.Time) (machine, error)
}

// Hooks are told what happens, for metrics. Any may be nil; they must not block.
type Hooks struct {
	// Loaded: a shard was read, or (err) a read failed and is tried again.
	Loaded func(shard int32, groups int, took time.Duration, err error)
	// Written: a statement with changes of so many groups and offsets was applied, so long after it was first made.
	Written func(groups, offsets int, took time.Duration)
	// Retried: a statement failed and is made again.
	Retried func()
	// Groups: how many groups this broker coordinates.
	Groups func(n int)
	// Rebalancing: a group began to rebalance; a member that joins while one is under way begins none.
	Rebalancing func(kind catalog.GroupKind, why Why)
	// Rebalanced: a group is stable again, so long after its rebalance began. Those that ended otherwise, or began under another
	// coordinator, are not told.
	Rebalanced func(kind catalog.GroupKind, took time.Duration)
	// Shards: how many shards this broker has read and leads.
	Shards func(n int)
	// Members: [Coordinator.TakeMembers] has something to tell. Without it nothing is kept for that.
	Members func()
}

const (
	// stallAfter is from when on a write counts as held up: the timers of its group stand still until it is durable, and its
	// members get their time anew. It is below a third of the shortest session Kafka allows by default (6 s).
	stallAfter = 2 * time.Second
	// beatEvery is how often the coordinator's own clock is looked at, and stoodStill how far apart two looks must be for the
	// process to have stood still.
	beatEvery  = time.Second
	stoodStill = 3 * time.Second
	// loads is how many shards are read at a time.
	loads = 8
	// Pauses between tries of a call.
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

func (c *Config) setDefaults() error {
	switch {
	case c.Groups == nil, c.Leases == nil:
		return errors.New("a coordinator needs a catalog and the leases")
	case c.Shards <= 0:
		return errors.New("a coordinator needs a number of shards")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	def(&c.CommitTimeout, 5*time.Second)
	def(&c.MaxGroups, 1_000_000)
	def(&c.MaxWaiting, 100_000)
	def(&c.MaxChanges, 1000)
	def(&c.MaxWriteBytes, 4<<20)
	def(&c.LoadPage, 500)
	def(&c.CallTimeout, 5*time.Second)
	if c.newGroup == nil {
		c.newGroup = func(id string, shard int32, cfg group.Config, topics group.Topics, now time.Time) machine {
			return group.New(id, shard, cfg, topics, now)
		}
	}
	if c.loadGroup == nil {
		c.loadGroup = func(rec catalog.GroupRecord, cfg group.Config, topics group.Topics, now time.Time) (machine, error) {
			return group.Load(rec, cfg, topics, now)
		}
	}
	return nil
}

func def[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// machine is a [group.Group], as the shard that runs it sees it. Tests have others.
type machine interface {
	Step(now time.Time, e group.Event) group.Effects
	// Next is when it wants a Tick; zero: never.
	Next() time.Time
	// Gone says that nothing is left of the group, nor on its way to the catalog.
	Gone() bool
}
