package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// term is one broker epoch of this process: the only thing that appends. It ends when the epoch is fenced or the
// engine closes, and never comes back.
type term struct {
	e     *Engine
	epoch catalog.BrokerEpoch

	// trustedUntil is when the session must have been renewed: asked + TTL, less a margin. Monotonic nanoseconds
	// since start.
	start        time.Time
	trustedUntil atomic.Int64

	wake     chan struct{} // something to seal
	slots    chan struct{} // capacity Config.UploadSlots
	uploads  workers
	ready    chan struct{} // an upload ended
	failed   chan error    // capacity 1: why the term must end
	ended    atomic.Bool   // set before partitions are taken from the term: none may be given to it afterwards
	doubt    bool          // a rewrite of the tail may have been applied without our knowing; the keeper's
	feed     feed
	affirmer affirmer
	tell     chan struct{} // capacity 1: something was committed that nobody was told of
	settle   chan struct{} // capacity 1: there are moves in doubt
	told     atomic.Int64  // the last sequence committed

	mu struct {
		sync.Mutex
		open        *openObject
		full        []*openObject // sealed by size, waiting for a slot, oldest first
		inflight    []*openObject // all not yet committed or failed, in the order of their sequences to be
		uncommitted int64
		room        chan struct{} // closed when uncommitted or the tail shrinks
		closing     bool          // no new appends: draining or over
		idle        chan struct{} // closed when inflight gets empty, if somebody drains
		seq         catalog.Sequence
		lastSeal    time.Time
		hurry       bool                                // seal the open object at once: it is waited for
		doubtful    []moving                            // moves whose answer was lost
		moving      map[catalog.TopicPartition]struct{} // named by moves that are under way, or may be made again
		trouble     error                               // the last failure of store or catalog, nil after a success

		// tails are the committed and unfolded objects by broker epoch, in sequence order.
		tails map[catalog.BrokerEpoch][]*tailObject
		// rows and indexSize are of those that this broker answers for: its own, or all if it is alone. At their bound
		// producers wait.
		rows      int
		indexSize int64
	}
}

// begin registers a broker epoch, loads what the manifest says and takes the free leases.
func (e *Engine) begin(ctx context.Context) (*term, error) {
	cat := e.cfg.Catalog
	asked := time.Now()
	reg := e.cfg.Registration
	if _, err := rand.Read(reg.Incarnation[:]); err != nil {
		return nil, fmt.Errorf("make an incarnation id: %w", err)
	}
	if err := e.foresee(ctx); err != nil {
		return nil, err
	}
	b, err := cat.RegisterBroker(ctx, reg)
	if err != nil {
		return nil, fmt.Errorf("register the broker: %w", err)
	}
	e.clock.note(b.LastHeartbeat)
	if int64(b.Epoch) <= e.newest.Load() {
		return nil, fmt.Errorf("%w (it gave out broker epoch %d, and had given out %d)", ErrCatalogLost, b.Epoch, e.newest.Load())
	}
	e.sawEpoch(b.Epoch)
	if err := e.claim(ctx, b.Epoch); err != nil {
		return nil, err
	}
	if err := e.fencePredecessors(ctx, b.Epoch); err != nil {
		return nil, err
	}
	t := &term{
		e: e, epoch: b.Epoch, start: asked,
		wake: make(chan struct{}, 1), slots: make(chan struct{}, e.cfg.UploadSlots),
		uploads: workers{work: make(chan func())},
		ready:   make(chan struct{}, 1), failed: make(chan error, 1), tell: make(chan struct{}, 1),
		settle: make(chan struct{}, 1), affirmer: affirmer{wake: make(chan struct{}, 1)},
	}
	t.feed.init()
	t.trust(asked)
	t.mu.seq = b.LastSequence
	t.mu.room = make(chan struct{})
	t.mu.tails = make(map[catalog.BrokerEpoch][]*tailObject)
	t.mu.moving = make(map[catalog.TopicPartition]struct{})
	if err := t.load(ctx); err != nil {
		// Nobody was given this term: appends go only where a lease was installed, which is the last step.
		e.endTerm(t)
		return nil, err
	}
	t.feed.decoded = nil
	e.term.Store(t)
	e.noteEpoch(t.epoch)
	rows, _ := t.tailSize()
	e.cfg.Logger.Info("broker epoch began", "broker_epoch", t.epoch, "tail_objects", rows)
	return t, nil
}

// load reads the tail, renews the session, which a long load may have used up, and, if nobody shares the catalog, takes
// the free leases. In a fleet they are others' to share out ([Engine.Acquire]).
func (t *term) load(ctx context.Context) error {
	if err := t.look(ctx, nil, time.Time{}); err != nil {
		return err
	}
	asked := time.Now()
	beat, err := t.e.cfg.Catalog.Heartbeat(ctx, t.epoch)
	if err != nil {
		return fmt.Errorf("renew the session: %w", err)
	}
	t.e.clock.note(beat.Now)
	t.trust(asked)
	if t.e.cfg.Fleet != nil {
		return nil
	}
	return t.acquire(ctx, nil)
}

// fencePredecessors fences the epochs that are proven dead: all others of an embedded catalog, or, in a later term of this
// process, its own earlier ones.
func (e *Engine) fencePredecessors(ctx context.Context, own catalog.BrokerEpoch) error {
	if last := e.lastEpoch; last != 0 { // this process's own, which ended
		if err := e.cfg.Catalog.FenceBroker(ctx, last, catalog.FenceResigned); err != nil {
			return fmt.Errorf("fence broker epoch %d: %w", last, err)
		}
	}
	e.lastEpoch = own
	if !e.cfg.PredecessorsDead {
		return nil
	}
	brokers, err := e.cfg.Catalog.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	for i := range brokers {
		if b := &brokers[i]; b.Epoch < own && !b.Fenced {
			if err := e.cfg.Catalog.FenceBroker(ctx, b.Epoch, catalog.FenceProvenDead); err != nil {
				return fmt.Errorf("fence broker epoch %d: %w", b.Epoch, err)
			}
		}
	}
	return nil
}

// replay adds a committed batch to a producer state.
func replay(ps *producers, b *segment.Batch, at int64) {
	if b.ProducerID < 0 || b.BaseSequence < 0 {
		return
	}
	ps.add(b.ProducerID, b.ProducerEpoch, sent{
		first: b.BaseSequence, last: lastSeq(b.BaseSequence, b.Offsets), base: b.BaseOffset,
	}, at)
}

func lastSeq(first, n int32) int32 {
	return int32((int64(first) + int64(n) - 1) & 0x7fffffff)
}

// trust extends the lease from when its renewal was asked for.
func (t *term) trust(asked time.Time) {
	ttl := t.e.cfg.Registration.TTL
	t.trustedUntil.Store(int64(asked.Sub(t.start) + ttl - ttl/5))
}

func (t *term) trusted() bool {
	return t.e.cfg.PredecessorsDead || int64(time.Since(t.start)) < t.trustedUntil.Load()
}

func (t *term) trouble() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.trouble
}

func (t *term) setTrouble(err error) {
	t.mu.Lock()
	t.mu.trouble = err
	t.mu.Unlock()
}

// fail asks the term to end; the first reason stays.
func (t *term) fail(err error) {
	select {
	case t.failed <- err:
	default:
	}
}

// run works until the term has to end, then fails what is uncommitted. It returns why.
func (t *term) run(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	t.uploads.end = ctx.Done()
	var wg sync.WaitGroup
	wg.Go(func() { t.flush(ctx) })
	wg.Go(func() { t.commit(ctx) })
	wg.Go(func() { t.renew(ctx) })
	if t.e.cfg.Fleet != nil {
		wg.Go(func() { t.follow(ctx) })
		wg.Go(func() { t.announce(ctx) })
		wg.Go(func() { t.settleMoves(ctx) })
		wg.Go(func() { t.affirms(ctx) })
	}
	var err error
	select {
	case err = <-t.failed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.mu.Lock()
	t.mu.closing = true
	t.mu.Unlock()
	cancel()
	wg.Wait()
	t.uploads.Wait()
	t.abandon()
	return err
}

// abandon fails every append that was not committed. Nobody uploads or commits any more.
func (t *term) abandon() {
	t.mu.Lock()
	lost, dropped := t.mu.inflight, t.mu.uncommitted
	t.mu.inflight, t.mu.full, t.mu.open = nil, nil, nil
	t.mu.uncommitted = 0
	t.freeRoomLocked()
	t.mu.Unlock()
	t.buffered(-dropped)
	for _, o := range lost {
		for i := range o.entries {
			if hook := t.e.cfg.Hooks.Failed; hook != nil {
				hook(o.entries[i].p.tp, int(o.entries[i].meta.Records))
			}
		}
		o.flight.err = fmt.Errorf("broker epoch %d ended before the commit: %w", t.epoch, ErrNotLeader)
		close(o.flight.done)
		o.ended(o.flight.err)
		for _, f := range o.frames {
			f.Release()
		}
	}
}

func (t *term) buffered(moved int64) {
	if hook := t.e.cfg.Hooks.Buffered; hook != nil {
		hook(moved)
	}
}

func (t *term) retried() {
	if hook := t.e.cfg.Hooks.Retried; hook != nil {
		hook()
	}
}

func (t *term) freeRoomLocked() {
	close(t.mu.room)
	t.mu.room = make(chan struct{})
	if t.mu.idle != nil && len(t.mu.inflight) == 0 {
		close(t.mu.idle)
		t.mu.idle = nil
	}
}

// drain stops appends and waits until everything appended is committed.
func (t *term) drain(ctx context.Context) error {
	t.mu.Lock()
	t.mu.closing = true
	if len(t.mu.inflight) == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.mu.idle == nil {
		t.mu.idle = make(chan struct{})
	}
	idle := t.mu.idle
	t.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("commit what was appended: %w", ctx.Err())
	}
}

// renew keeps the session alive, three times per TTL.
func (t *term) renew(ctx context.Context) {
	tick := time.NewTicker(t.e.cfg.Registration.TTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked, known := time.Now(), catalog.Sequence(t.told.Load())
		beat, err := t.e.cfg.Catalog.Heartbeat(ctx, t.epoch)
		status := "ok"
		switch {
		case err == nil:
			t.e.clock.note(beat.Now)
			t.trust(asked)
			t.positions(&beat, asked)
			if lost := behind(beat.Tails, t.epoch, known); lost != nil {
				t.fail(lost)
			}
		case errors.Is(err, catalog.ErrFenced):
			status = "lost"
			t.fail(fmt.Errorf("renew the session: %w", err))
		case ctx.Err() != nil:
			return
		default:
			status = "error"
			if n, log := t.e.quiet.loud("renew"); log {
				t.e.cfg.Logger.Warn("cannot renew the broker's session", "broker_epoch", t.epoch, "failures", n, "error", err)
			}
		}
		if t.e.cfg.Hooks.Renewed != nil {
			t.e.cfg.Hooks.Renewed(status)
		}
	}
}

// noteTail adds a committed object to the tail.
func (t *term) noteTail(obj *tailObject) {
	t.mu.Lock()
	t.mu.tails[obj.row.Epoch] = append(t.mu.tails[obj.row.Epoch], obj)
	t.countLocked(obj, 1)
	t.mu.Unlock()
}

func (t *term) countLocked(obj *tailObject, n int) {
	if obj.row.Epoch == t.epoch || t.e.cfg.Fleet == nil {
		t.mu.rows += n
		t.mu.indexSize += int64(n) * int64(len(obj.row.Index))
	}
}
