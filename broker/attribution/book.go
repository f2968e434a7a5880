package attribution

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
)

// Config is what a Book needs.
type Config struct {
	// Local tells what changed of members of the groups that this broker coordinates: [coordinator.Coordinator.TakeMembers].
	Local func(ctx context.Context) []coordinator.ShardMembers
	// Members finds those of groups that others coordinate; nil: there are none.
	Members Members
	// Topics are the topics as they are.
	Topics func() group.Topics
	// Told is called with what clients fetched, once for all of it: group "" is none.
	Told func(group, topic string, partition int32, records, bytes int)
	// Gone is called when nothing is known of a group any more.
	Gone   func(group string)
	Logger *slog.Logger
	// MaxClients and MaxSlots bound the clients, and what they fetch. Zero: 20,000 and 100,000.
	MaxClients, MaxSlots int

	now func() time.Time // for tests
}

// Members is the part of [catalog.Fleet] that a Book reads.
type Members interface {
	MembersOf(
		ctx context.Context, clients []catalog.GroupClient, besides []int32, known map[catalog.MemberName]int64, limit int,
	) ([]catalog.ClientMember, error)
}

const (
	// every is the time between rounds.
	every = 3 * time.Second
	// readEvery is the least time between two reads of the catalog, but for scrapes.
	readEvery = time.Second
	// restAfter is the least time between two rounds that members, or new clients, ask for, and restTimes how often as long as the
	// last one took it is at least, up to every: whatever clients come and go, rounds take a hundredth of a processor.
	restAfter, restTimes = 20 * time.Millisecond, 100
	// idleFor is how long a slot is kept that nobody fetches.
	idleFor = 90 * time.Second
	// forgetAfter is how long a group is remembered none of whose members fetches here.
	forgetAfter = 5 * time.Minute
	// readTimeout bounds a read of the catalog.
	readTimeout = 2 * time.Second
	// readClients and readMembers bound one read of the catalog.
	readClients, readMembers = 500, 20_000
)

// Book knows whose records clients fetch. Its methods are safe for concurrent use.
type Book struct {
	cfg  Config
	bell chan struct{} // capacity 1

	mu struct {
		sync.RWMutex
		clients map[catalog.GroupClient]*Client
	}
	slots atomic.Int64

	turn chan struct{} // capacity 1: one look at a time, which may wait for the catalog
	look struct {      // of who has the turn
		local    local
		remote   remote
		led      []int32 // shards, as of the last look
		readings map[readingKey]*reading
		groups   map[string]*use
		read     time.Time // when the catalog was read last
		failing  bool
	}
	positions sync.Map // readingKey -> *reading, for who asks while a look is under way
}

// reading is one partition read by a group, from this broker.
type reading struct {
	readingKey
	use      *use
	slots    int          // that are its; under look
	position atomic.Int64 // -1: not known
}

type readingKey struct {
	group string
	at    catalog.GroupPartition
}

// use is a group that was told of.
type use struct {
	readings int
	since    time.Time // since when there are none
	deleted  bool      // since there are none
	// telling counts the calls of Config.Told that are under way. A group is not gone before they have ended: what they tell
	// would bring it back for good.
	telling atomic.Int64
}

// New returns a book that knows nothing.
func New(cfg Config) *Book {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxClients == 0 {
		cfg.MaxClients = 20_000
	}
	if cfg.MaxSlots == 0 {
		cfg.MaxSlots = 100_000
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	b := &Book{cfg: cfg, bell: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	b.mu.clients = make(map[catalog.GroupClient]*Client)
	b.look.local.init()
	b.look.remote.init()
	b.look.readings = make(map[readingKey]*reading)
	b.look.groups = make(map[string]*use)
	return b
}

// Ring says that members changed: [coordinator.Hooks].Members. It never waits.
func (b *Book) Ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

// Run looks every few seconds, and when it is rung, until ctx ends.
func (b *Book) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-b.bell:
		}
		began := time.Now()
		b.round(ctx, false)
		rest := time.NewTimer(min(max(restAfter, restTimes*time.Since(began)), every))
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// Look tells what was fetched until now: it finds out whose it is, as far as that can be known within ctx. Where it cannot, also
// because another look takes longer than that, it is told later.
func (b *Book) Look(ctx context.Context) { b.round(ctx, true) }

// Client returns who fetches, by client id and address as its coordinator sees it; nil if there are too many.
func (b *Book) Client(id, host string) *Client {
	kept := group.Client{ID: id, Host: host}.Kept()
	name := catalog.GroupClient{ID: kept.ID, Host: kept.Host}
	b.mu.RLock()
	c, full := b.mu.clients[name], len(b.mu.clients) >= b.cfg.MaxClients
	b.mu.RUnlock()
	if c != nil || full {
		return c
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.mu.clients[name]; c != nil {
		return c
	}
	if len(b.mu.clients) >= b.cfg.MaxClients {
		return nil
	}
	c = &Client{b: b, name: name, used: b.cfg.now()}
	c.mu.slots = make(map[catalog.GroupPartition]*Slot)
	b.mu.clients[name] = c
	return c
}

// Position is the highest offset that a group has fetched of a partition from this broker, or skipped; -1 when that is not known. It goes
// back when the group does.
func (b *Book) Position(groupID, topic string, partition int32) int64 {
	r, ok := b.positions.Load(readingKey{groupID, catalog.GroupPartition{Topic: topic, Partition: partition}})
	if !ok {
		return -1
	}
	return r.(*reading).position.Load()
}

// Positions calls f for each position that is known.
func (b *Book) Positions(f func(group, topic string, partition int32, position int64)) {
	b.positions.Range(func(_, v any) bool {
		r := v.(*reading)
		if p := r.position.Load(); p >= 0 {
			f(r.group, r.at.Topic, r.at.Partition, p)
		}
		return true
	})
}
