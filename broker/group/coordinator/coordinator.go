package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
)

// Coordinator runs the groups of the shards that this broker leads. Safe for concurrent use.
type Coordinator struct {
	cfg    Config
	slots  []slot
	bell   chan struct{} // capacity 1: look at the leases
	done   chan struct{} // closed when Run has returned
	loads  chan struct{} // capacity loads: shards being read
	groups atomic.Int64  // of all shards
	ready  readyShards
	topics atomic.Pointer[group.Topics]
	config atomic.Pointer[Configs]

	beat struct { // notices that the process stood still
		sync.Mutex
		last  time.Time
		still uint64 // how often it did
	}
}

// Configs gives the config of each group.
type Configs struct {
	// Version differs between configs that differ.
	Version int64
	// Of is the config of a group. It is called from several goroutines, and gives the same for as long as Version is the
	// same.
	Of func(groupID string) group.Config
}

// slot is where a shard is while this broker leads it.
type slot struct {
	shard atomic.Pointer[shard]
	dead  atomic.Pointer[lease] // a lease that the catalog says is over, whatever the engine still believes
}

// lease is the right under which a shard is run.
type lease struct {
	broker catalog.BrokerEpoch
	epoch  catalog.LeaseEpoch
}

// New returns a coordinator that coordinates nothing before Run.
func New(cfg Config, topics group.Topics, configs Configs) (*Coordinator, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	c := &Coordinator{
		cfg: cfg, slots: make([]slot, cfg.Shards),
		bell: make(chan struct{}, 1), done: make(chan struct{}), loads: make(chan struct{}, loads),
	}
	c.topics.Store(&topics)
	c.config.Store(&configs)
	return c, nil
}

// Run follows the leases until ctx ends: it loads shards that were gained and drops those that were lost. Then everything
// that waits is answered with ErrNotCoordinator. It returns when all of that is done, and is called once.
func (c *Coordinator) Run(ctx context.Context) {
	defer close(c.done)
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	var tps []catalog.TopicPartition
	for i := range c.cfg.Shards {
		tps = append(tps, c.partition(i))
	}
	w := c.cfg.Leases.Watch(tps...)
	defer w.Close()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	var moved []catalog.TopicPartition
	for {
		c.stood(time.Now(), true)
		c.follow(ctx, &workers)
		select {
		case <-ctx.Done():
			for i := range c.slots {
				if s := c.slots[i].shard.Swap(nil); s != nil {
					s.stop()
				}
			}
			return
		case <-w.C():
			moved = w.Take(moved[:0])
		case <-c.bell:
		case <-tick.C:
		}
	}
}

func (c *Coordinator) partition(shard int32) catalog.TopicPartition {
	return catalog.TopicPartition{Topic: c.cfg.Topic, Partition: shard}
}

// ring has Run look at the leases.
func (c *Coordinator) ring() {
	select {
	case c.bell <- struct{}{}:
	default:
	}
}

// follow compares the shards with the leases.
func (c *Coordinator) follow(ctx context.Context, workers *sync.WaitGroup) {
	broker := c.cfg.Leases.Epoch()
	var held map[catalog.TopicPartition]catalog.LeaseEpoch
	for i := range c.slots {
		n, at := int32(i), &c.slots[i]
		epoch, err := c.cfg.Leases.Leader(c.partition(n))
		now := lease{broker, catalog.LeaseEpoch(epoch)}
		s := at.shard.Load()
		if s != nil && s.isOver() { // the catalog refused it
			at.dead.Store(&s.lease)
			at.shard.Store(nil)
			s = nil
		}
		switch {
		case s == nil:
		case err == nil && s.lease == now:
			if s.suspended.Load() {
				s.ring()
			}
			continue
		case err == nil:
			s.stop()
			at.shard.Store(nil)
			s = nil
		default:
			if held == nil {
				held = c.cfg.Leases.Held()
			}
			if have, ok := held[c.partition(n)]; s.broker == broker && ok && have == s.epoch {
				s.ring() // not trusted now, or being handed over: it suspends itself
				continue
			}
			s.stop()
			at.shard.Store(nil)
			s = nil
		}
		if dead := at.dead.Load(); err == nil && (dead == nil || *dead != now) {
			s = newShard(c, n, now)
			at.shard.Store(s)
			workers.Go(func() { s.run(ctx) })
		}
	}
	if c.cfg.Leases.Epoch() != broker { // what was just started has the wrong one
		c.ring()
	}
}

// stood tells how often this process stood still, as far as that is known at now. Whoever finds the beat late, be it Run or a
// shard that is about to look at its timers, counts it: the timers of a process that goes on after a stop are all due at once,
// before it has read what clients sent meanwhile.
func (c *Coordinator) stood(now time.Time, beat bool) uint64 {
	b := &c.beat
	b.Lock()
	defer b.Unlock()
	late := !b.last.IsZero() && now.Sub(b.last) > stoodStill
	if late {
		b.still++
	}
	if late || beat {
		b.last = now
	}
	return b.still
}

// SetTopics tells of a new snapshot of the topics.
func (c *Coordinator) SetTopics(t group.Topics) {
	c.topics.Store(&t)
	c.ringAll()
}

// SetConfigs tells of new configs.
func (c *Coordinator) SetConfigs(configs Configs) {
	c.config.Store(&configs)
	c.ringAll()
}

func (c *Coordinator) ringAll() {
	for i := range c.slots {
		if s := c.slots[i].shard.Load(); s != nil {
			s.ring()
		}
	}
}

// ShardOf is the shard of a group.
func (c *Coordinator) ShardOf(groupID string) int32 { return ShardOf(groupID, c.cfg.Shards) }

// Do has a group take a request, and waits for its answer, which may be long: that of a JoinGroup comes when all members have
// joined. ErrNotCoordinator; ErrLoading; ErrUnavailable; ctx's error when that ends first, and then nobody is answered.
// What the request changed may have happened with each of them but the first two.
func (c *Coordinator) Do(ctx context.Context, groupID string, body kmsg.Request, client group.Client) (kmsg.Response, error) {
	o := newOp(groupID)
	o.req = group.Request{Body: body, Client: client, NewMemberID: newID()}
	if err := c.do(ctx, c.ShardOf(groupID), o); err != nil {
		return nil, err
	}
	return o.answer.body, nil
}

// Read shows a group, one without anything if there is none; it must not be kept. The errors of Do.
func (c *Coordinator) Read(ctx context.Context, groupID string, f func(g *group.Group)) error {
	o := newOp(groupID)
	o.read = func(m machine) {
		if g, ok := m.(*group.Group); ok {
			f(g)
		}
	}
	return c.do(ctx, c.ShardOf(groupID), o)
}

// Each shows all groups of the shards that this broker leads, in no order. ErrLoading, when it has shown the others, if some of them
// are being read. A shard that is lost meanwhile is left out. If ctx ends, f may be called after Each has returned.
func (c *Coordinator) Each(ctx context.Context, f func(g *group.Group)) error {
	var failed error
	for i := range c.cfg.Shards {
		if _, err := c.cfg.Leases.Leader(c.partition(i)); err != nil {
			continue
		}
		o := newOp("")
		o.each = func(m machine) {
			if g, ok := m.(*group.Group); ok {
				f(g)
			}
		}
		err := c.do(ctx, i, o)
		if ctx.Err() != nil {
			return err
		}
		if err != nil && !errors.Is(err, ErrNotCoordinator) {
			failed = fmt.Errorf("shard %d: %w", i, err)
		}
	}
	return failed
}

// do hands an operation to its shard and waits.
func (c *Coordinator) do(ctx context.Context, shard int32, o *op) error {
	at := &c.slots[shard]
	s := at.shard.Load()
	if s == nil {
		epoch, err := c.cfg.Leases.Leader(c.partition(shard))
		dead := at.dead.Load()
		if err != nil || dead != nil && dead.epoch == catalog.LeaseEpoch(epoch) || c.isOver() {
			return ErrNotCoordinator
		}
		c.ring()
		return ErrLoading
	}
	if err := s.put(o); err != nil {
		return err
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		s.abandon(o)
		return fmt.Errorf("wait for the coordinator: %w", ctx.Err())
	}
	if o.answer.err != nil {
		return o.answer.err
	}
	// What is told from memory is true only if nobody else could have the lease by then; what is durable is true anyway.
	if !o.answer.durable && !s.leads() {
		return ErrNotCoordinator
	}
	return nil
}

func (c *Coordinator) isOver() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// counted moves the number of groups.
func (c *Coordinator) counted(by int) {
	if by == 0 {
		return
	}
	n := c.groups.Add(int64(by))
	if c.cfg.Hooks.Groups != nil {
		c.cfg.Hooks.Groups(int(n))
	}
}

// newID is a random UUID, as text.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
