package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
)

// shard is one shard under one lease. Its goroutine alone touches what is not said to be for others.
type shard struct {
	c *Coordinator
	n int32
	lease

	bell      chan struct{} // capacity 1: there is something to look at
	quit      chan struct{} // closed by stop
	stopping  sync.Once
	over      chan struct{} // closed when its goroutine has ended
	suspended atomic.Bool   // written by its goroutine

	// For TakeMembers; written by its goroutine.
	ready  atomic.Bool // the shard's groups are known
	untold atomic.Bool // there is something to tell

	mu struct {
		sync.Mutex
		inbox     []*op
		abandoned []*op
		waiting   int // operations taken and not answered
		over      bool
	}

	work state
}

// state is the goroutine's own.
type state struct {
	ctx     context.Context //nolint:containedctx // run's, for the calls it starts
	workers sync.WaitGroup
	groups  map[string]*entry
	timers  timers
	tokens  map[group.Token]*op // answers that machines owe
	token   group.Token
	overdue []*op // answers that wait for a write, oldest first
	still   uint64

	loading bool
	loaded  chan loaded

	topics  *group.Topics
	configs *Configs

	// What [Coordinator.TakeMembers] has not been told: groups whose members changed. Nil: nobody asks.
	moved map[string]struct{}
	whole bool // it has been told nothing since the shard was read

	dirty   []*entry // groups with changes that are in no statement, oldest first
	flight  []*entry // groups in the statement in flight; empty: there is none
	number  int64    // of the last statement that was applied
	wrote   chan wrote
	stopped bool // the lease is over
}

// entry is one group.
type entry struct {
	id string
	m  machine

	due   time.Time // of its Tick; zero: none
	place int       // in timers; -1: not there
	course
	seen uint64 // MembersVersion, as far as noticed
	held bool   // its timers stand still until its writes are durable

	cfg     group.Config
	changes []*change // in no statement yet, oldest first
	flying  *change   // in the statement in flight
	asked   uint64    // number of the last change
	written uint64    // number of the last durable one
	later   []laterAnswer
	owed    int // answers that its machine owes
}

func newShard(c *Coordinator, n int32, l lease) *shard {
	s := &shard{c: c, n: n, lease: l, bell: make(chan struct{}, 1), quit: make(chan struct{}), over: make(chan struct{})}
	s.work.loaded = make(chan loaded, 1)
	s.work.wrote = make(chan wrote, 1)
	s.work.tokens = make(map[group.Token]*op)
	return s
}

// leads tells whether the shard may speak: the engine holds its lease, and can be sure of that. For everybody.
func (s *shard) leads() bool {
	epoch, err := s.c.cfg.Leases.Leader(s.c.partition(s.n))
	return err == nil && catalog.LeaseEpoch(epoch) == s.epoch
}

// put hands an operation over. For everybody.
func (s *shard) put(o *op) error {
	s.mu.Lock()
	switch {
	case s.mu.over:
		s.mu.Unlock()
		return ErrNotCoordinator
	case s.mu.waiting >= s.c.cfg.MaxWaiting:
		s.mu.Unlock()
		return ErrUnavailable
	}
	s.mu.waiting++
	s.mu.inbox = append(s.mu.inbox, o)
	s.mu.Unlock()
	s.ring()
	return nil
}

// abandon says that nobody waits for an operation any more. For everybody.
func (s *shard) abandon(o *op) {
	s.mu.Lock()
	if !s.mu.over {
		s.mu.abandoned = append(s.mu.abandoned, o)
	}
	s.mu.Unlock()
	s.ring()
}

// ring has the shard look at everything. For everybody.
func (s *shard) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// stop ends the shard; it does not wait. For everybody.
func (s *shard) stop() { s.stopping.Do(func() { close(s.quit) }) }

// isOver tells whether the shard has ended. For everybody.
func (s *shard) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// run is the shard's goroutine.
func (s *shard) run(ctx context.Context) {
	w := &s.work
	ctx, cancel := context.WithCancel(ctx)
	defer s.end(cancel)
	w.ctx = ctx
	w.still = s.c.stood(time.Now(), false)
	s.load() //nolint:contextcheck // it takes w.ctx, which is this one
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !w.stopped {
		select {
		case <-ctx.Done():
			return
		case <-s.quit:
			return
		case <-s.bell:
		case <-timer.C:
		case l := <-w.loaded:
			s.install(l)
		case r := <-w.wrote:
			s.written(r) //nolint:contextcheck // the same
		}
		if w.stopped {
			return
		}
		s.turn() //nolint:contextcheck // the same
		if next := s.next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(0, time.Until(next)))
		}
	}
}

// turn looks at everything once.
func (s *shard) turn() {
	w := &s.work
	s.mu.Lock()
	inbox, abandoned := s.mu.inbox, s.mu.abandoned
	s.mu.inbox, s.mu.abandoned = nil, nil
	s.mu.Unlock()

	if !s.leads() {
		if !s.suspended.Swap(true) {
			s.refuse(ErrNotCoordinator)
		}
		for _, o := range inbox {
			s.reply(o, answer{err: ErrNotCoordinator})
		}
		return
	}
	still := s.c.stood(time.Now(), false)
	if s.suspended.Swap(false) || still != w.still {
		s.stepAll(group.Resumed{})
	}
	w.still = still
	s.news()
	for _, o := range inbox {
		s.take(o)
	}
	for _, o := range abandoned {
		s.drop(o)
	}
	s.tick()
	s.expire()
	s.send()
}

// news tells the groups of topics and configs that changed.
func (s *shard) news() {
	w := &s.work
	if w.loading {
		return // the groups are made of what is new then
	}
	if topics := s.c.topics.Load(); topics != w.topics {
		w.topics = topics
		s.stepAll(group.TopicsChanged{Topics: *topics})
	}
	if configs := s.c.config.Load(); configs != w.configs {
		w.configs = configs
		for _, e := range w.groups {
			if cfg := configs.Of(e.id); !sameConfig(&cfg, &e.cfg) {
				e.cfg = cfg
				s.step(e, group.ConfigChanged{Config: cfg})
			}
		}
	}
}

func (s *shard) add(id string, cfg group.Config, m machine) *entry {
	e := &entry{id: id, m: m, place: -1, cfg: cfg}
	s.work.groups[id] = e
	return e
}

// step has a group take an event and does what follows.
func (s *shard) step(e *entry, ev group.Event) {
	now := time.Now()
	eff := e.m.Step(now, ev)
	s.noticeMembers(e)
	s.observe(e, eff.Notes, now)
	if eff.Change != nil {
		s.changed(e, eff.Write, eff.Change, now)
	}
	for i := range eff.Now {
		if o := s.due(e, &eff.Now[i]); o != nil {
			s.reply(o, answer{body: eff.Now[i].Body})
		}
	}
	for i := range eff.Later {
		o := s.due(e, &eff.Later[i])
		switch {
		case o == nil:
		case e.asked == e.written:
			s.reply(o, answer{body: eff.Later[i].Body})
		default:
			o.deadline = now.Add(s.c.cfg.CommitTimeout)
			s.work.overdue = append(s.work.overdue, o)
			e.later = append(e.later, laterAnswer{e.asked, o, eff.Later[i].Body})
		}
	}
	s.settle(e)
}

// settle sets the timer of a group, or forgets one of which nothing is left.
func (s *shard) settle(e *entry) {
	w := &s.work
	if e.m.Gone() && e.owed == 0 && e.asked == e.written && w.groups[e.id] == e {
		w.timers.set(e, time.Time{})
		delete(w.groups, e.id)
		s.noticed(e.id)
		s.c.counted(-1)
		return
	}
	if !e.held {
		w.timers.set(e, e.m.Next())
	}
}

// stepAll has all groups take an event.
func (s *shard) stepAll(ev group.Event) {
	for _, e := range s.work.groups {
		s.step(e, ev)
	}
}

// tick gives the groups that are due their Tick. A group whose write is held up gets none before that is durable: its members
// could not be told what they wait for, and what followed could not be written either.
func (s *shard) tick() {
	w := &s.work
	now := time.Now()
	for len(w.timers) > 0 && !w.timers[0].due.After(now) {
		e := w.timers[0]
		if since := e.since(); !since.IsZero() && now.Sub(since) >= stallAfter {
			e.held = true
			w.timers.set(e, time.Time{})
			continue
		}
		s.step(e, group.Tick{})
		if e.place >= 0 && !e.due.After(now) {
			w.timers.set(e, now.Add(time.Millisecond)) // a machine must not keep the shard busy
		}
	}
}

// since is when the oldest change of the group that is not durable was made; zero: there is none.
func (e *entry) since() time.Time {
	switch {
	case e.flying != nil:
		return e.flying.first
	case len(e.changes) > 0:
		return e.changes[0].first
	default:
		return time.Time{}
	}
}

// next is when to look again; zero: when something happens.
func (s *shard) next() time.Time {
	w := &s.work
	if s.suspended.Load() {
		return time.Time{} // the coordinator looks every second whether it leads again
	}
	var next time.Time
	if len(w.timers) > 0 {
		next = w.timers[0].due
	}
	if len(w.overdue) > 0 {
		if at := w.overdue[0].deadline; next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// end answers everything that waits, and ends what is under way.
func (s *shard) end(cancel context.CancelFunc) {
	w := &s.work
	cancel()
	s.mu.Lock()
	s.mu.over = true
	inbox := s.mu.inbox
	s.mu.inbox, s.mu.abandoned = nil, nil
	s.mu.Unlock()
	w.stopped = true
	s.refuse(ErrNotCoordinator)
	for _, o := range inbox {
		s.reply(o, answer{err: ErrNotCoordinator})
	}
	s.isReady(false)
	s.c.counted(-len(w.groups))
	w.groups = nil
	w.workers.Wait()
	close(s.over)
	s.c.ring()
}
