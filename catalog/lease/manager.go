package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Manager shares the partitions of a cluster with the other brokers' managers. Safe for concurrent use.
type Manager struct {
	cfg  Config
	log  *slog.Logger
	view atomic.Pointer[View]
	bell chan struct{} // capacity 1: something was posted
	over chan struct{} // closed when Run has returned

	attacher attacher

	mu struct {
		sync.Mutex
		posted []func() // for the deciding goroutine; nobody takes them once it is over
		wake   bool     // the view may be old
		over   bool
		beat   catalog.Heartbeat
		beatAt time.Time
	}

	loop // the deciding goroutine's own
}

// loop is what only the goroutine in Run may touch.
type loop struct {
	ctx     context.Context //nolint:containedctx // Run's, for the workers it starts
	workers *sync.WaitGroup
	next    time.Time // when to look again at the latest

	epoch   catalog.BrokerEpoch // the engine's
	brokers []catalog.Broker    // as last listed, with their heartbeats
	leaving map[catalog.BrokerEpoch]bool

	stale    bool // the view may be old: read it
	hurry    bool // and do not pace that
	lastRead time.Time
	nextRead time.Time     // pacing
	credit   time.Duration // for reading before it is due; see pace
	readOK   bool          // the last try to read succeeded
	waiters  []chan struct{}

	tick     time.Time // when the next one is due
	ticked   bool      // this step is one
	bury     buryState
	hold     holdState
	ask      askState
	drain    *drainState
	dirty    bool // view, epoch or leaving changed: index again
	failures map[string]int
}

// New returns a manager that does nothing before [Manager.Run].
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, log: cfg.Logger, bell: make(chan struct{}, 1), over: make(chan struct{})}
	m.view.Store(NewView(catalog.LeaseSet{}, nil))
	m.leaving = make(map[catalog.BrokerEpoch]bool)
	m.failures = make(map[string]int)
	m.stale = true
	m.attacher.init()
	m.bury.init()
	m.hold.init()
	m.ask.init()
	return m, nil
}

// View is the latest snapshot; empty before the first was read.
func (m *Manager) View() *View { return m.view.Load() }

// Beat hands over the answer of a heartbeat that the engine sent: it tells of changes whose announcement was lost.
func (m *Manager) Beat(h catalog.Heartbeat) {
	m.mu.Lock()
	m.mu.beat, m.mu.beatAt = h, time.Now()
	m.mu.Unlock()
	if h.LeasesVersion != m.View().Version() {
		m.Wake()
	}
}

// Wake makes the manager look at everything: the engine's epoch changed, or the caller changed leases or topics.
func (m *Manager) Wake() {
	m.mu.Lock()
	m.mu.wake = true
	m.mu.Unlock()
	m.ring()
}

// Refresh waits until a view is in force that was read after the call.
func (m *Manager) Refresh(ctx context.Context) (*View, error) {
	read := make(chan struct{})
	m.post(func() {
		m.stale, m.hurry = true, true
		m.waiters = append(m.waiters, read)
	})
	select {
	case <-read:
		return m.View(), nil
	case <-m.over:
		return nil, fmt.Errorf("read the leases: %w", catalog.ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("read the leases: %w", ctx.Err())
	}
}

// post has f run by the deciding goroutine. It does not wait.
func (m *Manager) post(f func()) {
	m.mu.Lock()
	if !m.mu.over {
		m.mu.posted = append(m.mu.posted, f)
	}
	m.mu.Unlock()
	m.ring()
}

func (m *Manager) ring() {
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

// posted runs what was posted.
func (m *Manager) posted() {
	m.mu.Lock()
	posted := m.mu.posted
	m.mu.posted = nil
	m.stale = m.stale || m.mu.wake
	m.mu.wake = false
	m.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// Run does the manager's work until ctx ends, and then waits for what is under way. It is called once.
func (m *Manager) Run(ctx context.Context) {
	defer close(m.over)
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	m.ctx, m.workers = ctx, &workers
	defer func() {
		m.mu.Lock()
		m.mu.over = true
		m.mu.Unlock()
		m.posted()
		m.drain.end(catalog.ErrClosed)
	}()
	if m.cfg.Fleet != nil {
		workers.Go(func() { m.listen(ctx) })
		workers.Go(func() { m.keepAttached(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.bell:
		case <-timer.C:
		}
		m.posted()
		m.step(time.Now()) //nolint:contextcheck // m.ctx is ctx
		timer.Reset(max(0, time.Until(m.next)))
	}
}

// wakeAt sees to it that the next step comes at t at the latest.
func (m *Manager) wakeAt(t time.Time) {
	if t.Before(m.next) {
		m.next = t
	}
}

// step looks at everything once.
func (m *Manager) step(now time.Time) {
	m.ticked = !now.Before(m.tick)
	if m.ticked {
		m.tick = now.Add(m.cfg.Tick)
	}
	m.next = m.tick
	m.identify()
	m.refresh(now)
	if m.cfg.Fleet != nil {
		m.fenceExpired(now)
		m.fenceDetached(now)
		if m.hurry {
			m.refresh(now) // somebody's leases became free
		}
	}
	if m.epoch == 0 {
		m.drain.end(nil) // nothing is held
		return
	}
	if !m.readOK {
		return
	}
	m.index(now)
	m.lose()
	m.adopt(now)
	m.take(now)
	m.give(now)
	m.drainStep(now)
	m.control(now)
}

// identify notices that the engine has another epoch.
func (m *Manager) identify() {
	epoch := m.cfg.Partitions.Epoch()
	if epoch == m.epoch {
		return
	}
	m.epoch = epoch
	m.attacher.attach(epoch)
	m.hold.forget()
	m.stale, m.dirty = true, true
}

// refresh reads the view if it may be old.
func (m *Manager) refresh(now time.Time) {
	m.mu.Lock()
	known := m.mu.beat.LeasesVersion
	m.mu.Unlock()
	if !m.stale && !m.ticked && known <= m.View().Version() {
		return
	}
	if now.Before(m.nextRead) && !m.hurry {
		m.stale = true
		m.wakeAt(m.nextRead)
		return
	}
	began := time.Now()
	err := m.read()
	m.readOK = err == nil
	took := time.Since(began)
	if !m.call("read the leases", err) {
		m.stale = true
		m.nextRead = began.Add(took + min(m.pause("read the leases"), m.cfg.Tick))
		m.wakeAt(m.nextRead)
		return
	}
	m.stale, m.hurry = false, false
	m.pace(began, took)
	m.log.Debug("read the leases", "version", m.View().Version(), "took", took)
	m.hold.settle()
	for _, w := range m.waiters {
		close(w)
	}
	m.waiters = nil
}

// pace decides when the view may be read next: a tenth of the time is for reading it. What was not used of that, up to a
// tenth of a Tick, may be used at once: a hand-over tells of itself several times in a few milliseconds, and for who waits
// for it each one may be what counts. So small views are read each time, large ones at most once a Tick.
//
// What counts is what reading costs, not how long it takes where the machine or the catalog is busy: clients would wait ten
// times as long just then.
func (m *Manager) pace(began time.Time, took time.Duration) {
	cost := min(took, readCost+time.Duration(m.View().Len())*readCostEach)
	earned := m.cfg.Tick / 10
	if !m.lastRead.IsZero() {
		earned = min(earned, m.credit+began.Sub(m.lastRead)/10)
	}
	m.credit = max(earned-cost, -m.cfg.Tick/10)
	m.lastRead = began
	m.nextRead = began.Add(max(0, -10*m.credit))
}

// readCost and readCostEach are what it costs at most to read a view, and each lease in it: processor time of this broker
// and of the catalog.
const (
	readCost     = 500 * time.Microsecond
	readCostEach = 3 * time.Microsecond
)

// read reads leases, then brokers, so that a holder that is not listed is fenced.
func (m *Manager) read() error {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.CallTimeout)
	defer cancel()
	old := m.View()
	set, err := m.cfg.Catalog.LeaseSet(ctx, old.Version())
	if err != nil {
		return fmt.Errorf("read the leases: %w", err)
	}
	brokers, err := m.cfg.Catalog.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	m.brokers = brokers
	m.bury.listed(brokers)
	if set.Version == old.Version() && set.Version != 0 {
		return nil
	}
	if set.Version < old.Version() {
		m.log.Warn("the catalog's leases have an older version than before: was it restored?", "version", set.Version, "before", old.Version())
	}
	v := NewView(set, brokers)
	m.view.Store(v)
	m.dirty = true
	for epoch := range m.leaving {
		if _, ok := v.Broker(epoch); !ok {
			delete(m.leaving, epoch)
		}
	}
	if m.cfg.Hooks.Viewed != nil {
		m.cfg.Hooks.Viewed(v)
	}
	return nil
}

// call notes how a call of the catalog went, and tells whether it went well. Failures are logged when they begin.
func (m *Manager) call(what string, err error) bool {
	if err == nil {
		delete(m.failures, what)
		return true
	}
	if m.ctx.Err() != nil {
		return false
	}
	m.failures[what]++
	if m.failures[what] == 1 {
		m.log.Warn("a call of the catalog failed and is tried again", "call", what, "error", err)
	}
	if m.cfg.Hooks.Failed != nil {
		m.cfg.Hooks.Failed(what, err)
	}
	return false
}

// pause is how long to wait after the failures of a call so far.
func (m *Manager) pause(what string) time.Duration { return backoff(m.cfg.Retry, m.failures[what]) }

// backoff doubles a pause with each failure, up to 16 times as much.
func backoff(pause time.Duration, failures int) time.Duration {
	return pause << min(max(failures-1, 0), 4)
}

// announce wakes the others. It is best effort: their next heartbeat tells them too.
func (m *Manager) announce(a catalog.Announcement) {
	if m.cfg.Fleet == nil {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.CallTimeout)
	defer cancel()
	if err := m.cfg.Fleet.Announce(ctx, a); err != nil && m.ctx.Err() == nil {
		m.log.Debug("cannot wake the other brokers", "error", err)
	}
}

// listen hears what others announce, for as long as ctx lasts.
func (m *Manager) listen(ctx context.Context) {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := m.cfg.Fleet.Listen(ctx, func(a catalog.Announcement) {
			failures = 0
			m.heard(a)
		})
		if ctx.Err() != nil || errors.Is(err, catalog.ErrClosed) {
			return
		}
		m.log.Debug("listening to the other brokers ended and begins again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff(m.cfg.Retry, failures) / 4):
		}
	}
}

func (m *Manager) heard(a catalog.Announcement) {
	if a.Leases || a.Leaving {
		m.log.Debug("heard of leases", "from", a.From, "leases", a.Leases, "leaving", a.Leaving)
	}
	if m.cfg.Hooks.Heard != nil {
		m.cfg.Hooks.Heard(a)
	}
	if a.Leaving {
		m.post(func() {
			if !m.leaving[a.From] {
				m.leaving[a.From] = true
				m.dirty = true
			}
		})
	}
	switch {
	case a == (catalog.Announcement{}): // the catalog answers, perhaps after a while in which it did not
		m.post(func() { m.stale, m.hurry = true, true })
	case a.Leases:
		m.Wake()
	}
}
