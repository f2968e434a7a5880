package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/cache"
	"github.com/streamhouse/streamhouse/storage/objstore/hedge"
)

// Engine holds the partitions this broker leads. Safe for concurrent use.
type Engine struct {
	cfg       Config
	tail      *tailCache
	blocks    *cache.Cache
	names     objectNames
	term      atomic.Pointer[term]
	ids       idBlock
	pids      idBlock
	clock     catalogClock
	uploads   hedge.Meter // how long PUTs of log objects take
	store     storeSight
	quiet     quiet
	lastEpoch catalog.BrokerEpoch // of this process's latest term; begin's
	merges    mergeState          // the keeper's
	orphans   orphanSweep         // used by the keeper alone
	trims     trims
	suspect   atomic.Bool  // topics that are held may have been deleted: see dropDeleted
	topics    atomic.Int64 // the catalog's version of them, as heartbeats tell

	traffic struct { // of the last Load
		sync.Mutex
		bytes map[catalog.TopicPartition]int64
		at    time.Time
	}

	heldVersion atomic.Int64 // see heldChanged
	holdings    atomic.Pointer[holdings]

	cancel  context.CancelFunc
	closing atomic.Bool           // no new term
	stopped atomic.Pointer[error] // why there will be no term any more
	lost    chan error            // capacity 1
	newest  atomic.Int64          // the largest broker epoch that the catalog was seen to have given out
	wg      sync.WaitGroup

	mu struct {
		sync.RWMutex
		partitions map[catalog.TopicPartition]*partition
		// waiting are the watchers of partitions that have no object here.
		waiting map[catalog.TopicPartition]map[*Watcher]struct{}
		held    map[catalog.TopicID]int
		closed  bool
	}

	// rewrite is held while the keeper works, so that tests can drive it step by step. Capacity 1.
	rewrite chan struct{}
	// nudge wakes the keeper.
	nudge chan struct{}
}

// Open registers a broker epoch, takes the free leases and loads the tail. It returns when the engine can append
// and read; ctx bounds only that.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	if hook := cfg.Hooks.Requested; hook != nil {
		cfg.Store = &accountedStore{Store: cfg.Store, requested: hook}
	}
	e := &Engine{cfg: cfg, tail: &tailCache{budget: cfg.TailCacheBytes}, rewrite: make(chan struct{}, 1), nudge: make(chan struct{}, 1)}
	e.lost = make(chan error, 1)
	e.mu.partitions = make(map[catalog.TopicPartition]*partition)
	e.mu.waiting = make(map[catalog.TopicPartition]map[*Watcher]struct{})
	e.mu.held = make(map[catalog.TopicID]int)
	e.ids.kind, e.ids.size = catalog.IDObject, 10_000
	e.pids.kind, e.pids.size = catalog.IDProducer, 1_000
	e.blocks = cache.New(cache.Config{
		Store: cfg.Store, Pool: cfg.Pool, Bytes: cfg.BlockCacheBytes, FooterBytes: cfg.BlockCacheBytes / 4,
		Hooks: cache.Hooks{Hit: cfg.Hooks.CacheHit, Miss: cfg.Hooks.CacheMiss},
	})
	t, err := e.begin(ctx)
	if err != nil {
		e.blocks.Close()
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the engine outlives the call that opened it
	e.cancel = cancel
	e.wg.Go(func() { e.live(run, t) })
	e.wg.Go(func() { e.keep(run) })
	return e, nil
}

// live runs one term after the other.
func (e *Engine) live(ctx context.Context, t *term) {
	for {
		err := t.run(ctx)
		e.endTerm(t)
		if ctx.Err() != nil || e.closing.Load() {
			return
		}
		if err = t.whyEnded(ctx, err); fatal(err) {
			e.lose(ctx, err)
			return
		}
		e.cfg.Logger.Warn("broker epoch ended, registering anew", "broker_epoch", t.epoch, "error", err)
		wait := backoff{}
		if time.Since(t.start) < time.Second && !wait.sleep(ctx) { // one that ended at once: do not spin
			return
		}
		for {
			if t, err = e.begin(ctx); err == nil {
				break
			}
			if fatal(err) {
				e.lose(ctx, err)
				return
			}
			if n, log := e.quiet.loud("begin"); log {
				e.cfg.Logger.Error("cannot begin a new broker epoch, trying again", "failures", n, "error", err)
			}
			if !wait.sleep(ctx) {
				return
			}
		}
	}
}

// endTerm makes every partition say ErrNotLeader until the next term has loaded it.
func (e *Engine) endTerm(t *term) {
	t.ended.Store(true)
	begun := e.term.CompareAndSwap(t, nil)
	var b bell
	for _, p := range e.all() {
		p.mu.Lock()
		p.resetLocked() // also what a load installed before its lease was taken
		e.heldChanged()
		b.add(p)
		p.mu.Unlock()
	}
	e.tail.clear()
	b.ring()
	e.noteHeld(nil, true)
	if begun {
		e.noteEpoch(0)
	}
}

func (e *Engine) all() []*partition {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Collect(maps.Values(e.mu.partitions))
}

// partitionFor returns the partition's object, made on demand. The caller has checked that the topic exists.
func (e *Engine) partitionFor(tp catalog.TopicPartition) *partition {
	if p := e.lookup(tp); p != nil {
		return p
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.mu.partitions[tp]
	if p == nil {
		p = newPartition(tp)
		if ws := e.mu.waiting[tp]; ws != nil {
			p.mu.watchers = ws
			delete(e.mu.waiting, tp)
		}
		e.mu.partitions[tp] = p
	}
	return p
}

// lock returns the partition's object, made on demand, with its lock held.
func (e *Engine) lock(tp catalog.TopicPartition) *partition {
	for {
		p := e.partitionFor(tp)
		p.mu.Lock()
		if !p.mu.orphan {
			return p
		}
		p.mu.Unlock()
	}
}

// forget drops a partition's object that nothing needs any more: it is not led, nothing of it is in the tail, nobody
// watches it, and what was loaded to read it can be loaded again. Objects come with the tail, also of topics that were
// deleted, so they must go with it.
func (e *Engine) forget(p *partition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.term != nil || len(p.mu.tail) > 0 || len(p.mu.watchers) > 0 || p.mu.gave >= 0 || e.mu.partitions[p.tp] != p {
		return
	}
	p.mu.orphan, p.mu.loaded = true, false
	delete(e.mu.partitions, p.tp)
}

func (e *Engine) lookup(tp catalog.TopicPartition) *partition {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.mu.partitions[tp]
}

// absent says why a partition cannot be used here.
func (e *Engine) absent(tp catalog.TopicPartition) error {
	if p := e.lookup(tp); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.mu.dropped {
			return fmt.Errorf("use partition %s: %w", tp, ErrUnknownPartition)
		}
	}
	return fmt.Errorf("use partition %s: %w", tp, ErrNotLeader)
}

// Leader returns the leader epoch under which this broker may append to the partition and answer for it; otherwise
// ErrNotLeader or ErrUnknownPartition.
func (e *Engine) Leader(tp catalog.TopicPartition) (int32, error) {
	p := e.lookup(tp)
	if p == nil {
		return -1, e.absent(tp)
	}
	p.mu.Lock()
	t, epoch, leads := p.mu.term, p.mu.leaderEpoch, p.leadsLocked()
	p.mu.Unlock()
	if !leads {
		return -1, e.absent(tp)
	}
	if !t.trusted() {
		return -1, fmt.Errorf("use partition %s: lease not renewed in time: %w", tp, ErrNotLeader)
	}
	return epoch, nil
}

// DropTopic forgets a deleted topic: appends and reads of it fail with ErrUnknownPartition from now on. Appends
// under way still get their outcome.
func (e *Engine) DropTopic(id catalog.TopicID) {
	var b bell
	for _, p := range e.all() {
		if p.tp.Topic != id {
			continue
		}
		p.mu.Lock()
		p.mu.dropped = true
		p.mu.term, p.mu.closed, p.mu.doubt = nil, false, false
		e.heldChanged()
		b.add(p)
		p.mu.Unlock()
	}
	b.ring()
	e.mu.Lock()
	for tp := range e.mu.partitions {
		if tp.Topic == id {
			delete(e.mu.partitions, tp)
		}
	}
	delete(e.mu.held, id)
	held := maps.Clone(e.mu.held)
	e.mu.Unlock()
	if e.cfg.Hooks.Leases != nil {
		e.cfg.Hooks.Leases(held)
	}
}

// NextProducerID hands out a producer id never used before in this cluster.
func (e *Engine) NextProducerID(ctx context.Context) (int64, error) {
	return e.pids.next(ctx, e.cfg.Catalog)
}

// Ready tells why the engine cannot serve now; nil when it can.
func (e *Engine) Ready() error {
	t := e.term.Load()
	switch {
	case e.stopped.Load() != nil:
		return *e.stopped.Load()
	case t == nil:
		return errors.New("no broker epoch: the catalog does not take a registration")
	case !t.trusted():
		return errors.New("the broker's session could not be renewed in time: is the catalog reachable?")
	}
	return t.trouble()
}

// Close commits what was appended, for as long as ctx allows, gives the leases up by fencing its own broker epoch,
// and ends. Waiting appends that could not be committed fail with ErrNotLeader.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	closed := e.mu.closed
	e.mu.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	e.closing.Store(true)
	var errs []error
	if t := e.term.Load(); t != nil {
		errs = append(errs, t.drain(ctx))
	}
	e.cancel()
	e.wg.Wait()
	// Not ctx: it may have run out while draining, and the leases must be given up all the same.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	// What is not this engine's catalog any more is not told of its end: whoever finds it dead would sweep.
	if e.stopped.Load() != nil {
		// nothing to give up
	} else if err := e.cfg.Catalog.FenceBroker(last, e.lastEpoch, catalog.FenceResigned); err != nil {
		errs = append(errs, fmt.Errorf("resign the broker epoch: %w", err))
	}
	e.tail.clear()
	e.blocks.Close()
	return errors.Join(errs...)
}

// Kill ends the engine as a crash would: nothing is flushed, committed or given up. For tests of recovery.
func (e *Engine) Kill() {
	e.mu.Lock()
	e.mu.closed = true
	e.mu.Unlock()
	e.cancel()
	e.wg.Wait()
	e.tail.clear()
	e.blocks.Close()
}

// resignTimeout bounds giving up the broker epoch at the end.
const resignTimeout = 5 * time.Second

// loserTimeout bounds the deletion of superseded upload attempts.
const loserTimeout = 10 * time.Second

// idBlock hands out ids from blocks of the catalog.
type idBlock struct {
	kind catalog.IDKind
	size int64
	sem  chan struct{}
	once sync.Once
	at   int64
	end  int64
}

func (b *idBlock) next(ctx context.Context, cat catalog.Catalog) (int64, error) {
	b.once.Do(func() { b.sem = make(chan struct{}, 1) })
	select {
	case b.sem <- struct{}{}:
		defer func() { <-b.sem }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if b.at == b.end {
		first, err := cat.AllocateIDs(ctx, b.kind, b.size)
		if err != nil {
			return 0, fmt.Errorf("allocate %s ids: %w", b.kind, translate(err))
		}
		b.at, b.end = first, first+b.size
	}
	id := b.at
	b.at++
	return id, nil
}

// backoff waits longer each time, with jitter left to the callers' own variety: one engine has one committer.
type backoff struct{ d time.Duration }

func (b *backoff) sleep(ctx context.Context) bool {
	b.d = min(max(10*time.Millisecond, 2*b.d), time.Second)
	timer := time.NewTimer(b.d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// translate maps the catalog's errors to the engine's.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, catalog.ErrFenced), errors.Is(err, catalog.ErrNotHolder):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, catalog.ErrUnknownTopic), errors.Is(err, catalog.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrUnknownPartition, err)
	case errors.Is(err, catalog.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}
