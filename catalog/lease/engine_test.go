package lease_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// history is what was committed by all, in the order of the commits: the judge of the simulation. Safe for concurrent use.
type history struct {
	mu    sync.Mutex
	parts map[catalog.TopicPartition]*committed
	gap   time.Duration // the longest since the mark that any partition went without a commit, of those that are over
	wrong []string
}

// committed is what is known of one partition.
type committed struct {
	run   *run // that committed it last
	epoch catalog.LeaseEpoch
}

// run is consecutive commits of one broker epoch with data of the same partitions, under the same leases. So what is true of
// a partition is written down when a run begins, not with each commit.
type run struct {
	by     catalog.BrokerEpoch
	leases map[catalog.TopicPartition]catalog.LeaseEpoch
	last   time.Time // zero: it has not begun
	taken  string    // a partition that somebody else has committed since: the run is over
}

// commit commits one object with data of all partitions of a run, and notes it in the same instant.
func (h *history) commit(ctx context.Context, c *link, seq catalog.Sequence, r *run) error {
	if err := c.gate(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := c.Commit(ctx, r.by, []catalog.TailEntry{{
		Epoch: r.by, First: seq, Last: seq, Object: catalog.ObjectID(int64(r.by)<<32 + int64(seq)), Key: fmt.Sprintf("%d/%d", r.by, seq),
	}})
	if err != nil {
		return err
	}
	now := time.Now()
	switch {
	case r.last.IsZero():
		h.beginLocked(r, now)
	case r.taken != "":
		h.wrong = append(h.wrong, fmt.Sprintf("broker epoch %d goes on committing %s", r.by, r.taken))
	default:
		h.gap = max(h.gap, now.Sub(r.last))
	}
	r.last = now
	return nil
}

// other names a partition of a run that somebody else has committed under a later lease epoch: who speaks for it now says what
// is wrong.
func (h *history) other(r *run) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tp, lease := range r.leases {
		if p := h.parts[tp]; p != nil && p.epoch > lease {
			return fmt.Sprintf("%s under lease epoch %d, which broker epoch %d has under %d", tp, lease, p.run.by, p.epoch)
		}
	}
	return ""
}

func (h *history) said(wrong string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, wrong)
}

func (h *history) beginLocked(r *run, now time.Time) {
	for tp, lease := range r.leases {
		p := h.parts[tp]
		if p == nil {
			p = &committed{epoch: -1}
			h.parts[tp] = p
		}
		if before := p.run; before != nil {
			if lease < p.epoch || lease == p.epoch && r.by != before.by {
				h.wrong = append(h.wrong, fmt.Sprintf("%s: broker epoch %d committed under lease epoch %d, after broker epoch %d under %d", tp, r.by, lease, before.by, p.epoch))
			}
			before.taken = fmt.Sprintf("%s, which broker epoch %d has under lease epoch %d", tp, r.by, lease)
			h.gap = max(h.gap, now.Sub(before.last))
		}
		p.run, p.epoch = r, lease
	}
}

// mark begins to measure gaps anew.
func (h *history) mark() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gap = 0
}

// worst is the longest time since the mark that any partition went without a commit, one not over counted up to now.
func (h *history) worst() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	gap := h.gap
	for _, p := range h.parts {
		gap = max(gap, time.Since(p.run.last))
	}
	return gap
}

// leadership is who committed a partition last, and under which lease epoch.
type leadership struct {
	by    catalog.BrokerEpoch
	lease catalog.LeaseEpoch
}

func (h *history) led() map[catalog.TopicPartition]leadership {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[catalog.TopicPartition]leadership)
	for tp, p := range h.parts {
		if time.Since(p.run.last) < time.Second {
			out[tp] = leadership{p.run.by, p.epoch}
		}
	}
	return out
}

// The times of the simulated engine.
const (
	sessionTTL = 6 * time.Second
	appendTime = 20 * time.Millisecond // from an append to its commit
	loadTime   = 40 * time.Millisecond // of a take-over
)

// engine stands for the storage engine: it appends to all it holds, all the time, and keeps its session. It never looks
// who else may hold what.
type engine struct {
	link    *link
	history *history
	id      catalog.BrokerID
	rack    string
	ctx     context.Context
	wg      *sync.WaitGroup
	flight  chan struct{} // capacity 1: an object in flight
	begun   func(catalog.Heartbeat)
	refuse  error // of Adopt, if not nil
	undone  bool  // Adopt finds that what shows as ours is somebody else's
	adopts  int
	again   func()

	mu    sync.Mutex
	epoch catalog.BrokerEpoch
	asked time.Time // when the session was last renewed
	said  int       // how often it spoke as a leader
	lives int
	seq   catalog.Sequence
	held  map[catalog.TopicPartition]*lead
	moved int64 // version of held
	open  *run  // those of held that are not closed; nil: to be made anew
}

type lead struct {
	epoch  catalog.LeaseEpoch
	closed bool
}

func (e *engine) Epoch() catalog.BrokerEpoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.epoch
}

func (e *engine) Held() map[catalog.TopicPartition]catalog.LeaseEpoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[catalog.TopicPartition]catalog.LeaseEpoch, len(e.held))
	for tp, l := range e.held {
		out[tp] = l.epoch
	}
	return out
}

func (e *engine) HeldVersion() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.moved
}

func (e *engine) Load() map[catalog.TopicPartition]float64 { return nil }

// install leads partitions, unless the epoch under which they were taken is over.
func (e *engine) install(ctx context.Context, leases []catalog.Lease) error {
	if !pause(ctx, loadTime) {
		return ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range leases {
		if l.Holder != e.epoch {
			continue
		}
		if have := e.held[l.TopicPartition]; have == nil || have.epoch < l.Epoch {
			e.held[l.TopicPartition] = &lead{epoch: l.Epoch}
			e.moved++
			e.open = nil
		}
	}
	return nil
}

func (e *engine) Acquire(ctx context.Context, tps []catalog.TopicPartition) error {
	epoch := e.Epoch()
	leases, err := e.link.AcquireLeases(ctx, epoch, tps)
	if err != nil {
		e.failed(epoch, err)
		return err
	}
	return e.install(ctx, leases)
}

func (e *engine) Adopt(ctx context.Context, leases []catalog.Lease) error {
	e.mu.Lock()
	refuse, undone := e.refuse, e.undone
	e.adopts++
	e.mu.Unlock()
	if refuse != nil || undone {
		pause(ctx, loadTime)
		return refuse
	}
	epoch := e.Epoch()
	var ours []catalog.TopicPartition
	for _, l := range leases {
		if l.Holder == epoch {
			ours = append(ours, l.TopicPartition)
		}
	}
	return e.Acquire(ctx, ours) // what the view shows may have been undone
}

func (e *engine) Lost(leases []catalog.Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range leases {
		if have := e.held[l.TopicPartition]; have != nil && have.epoch < l.Epoch {
			delete(e.held, l.TopicPartition)
			e.moved++
			e.open = nil
		}
	}
}

func (e *engine) HandOver(ctx context.Context, tps []catalog.TopicPartition, to catalog.BrokerEpoch) error {
	e.mu.Lock()
	epoch := e.epoch
	var held []catalog.HeldLease
	for _, tp := range tps {
		if l := e.held[tp]; l != nil {
			l.closed = true
			held = append(held, catalog.HeldLease{TopicPartition: tp, Epoch: l.epoch})
		}
	}
	e.open = nil
	e.mu.Unlock()
	select { // all that was appended before is committed
	case e.flight <- struct{}{}:
		<-e.flight
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := e.link.MoveLeases(ctx, epoch, to, held)
	switch {
	case err == nil:
		e.forget(epoch, tps)
	case errors.Is(err, catalog.ErrUnknownBroker):
		e.reopen(epoch, tps)
	case errors.Is(err, catalog.ErrFenced):
		e.failed(epoch, err)
	default: // in doubt
		e.wg.Go(func() { e.settle(epoch, tps) })
	}
	return err
}

// settle finds out what became of a move whose answer was lost. What moved is left to Lost.
func (e *engine) settle(epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) {
	for pause(e.ctx, 100*time.Millisecond) {
		set, err := e.link.LeaseSet(e.ctx, 0)
		if err != nil {
			continue
		}
		ours := make(map[catalog.TopicPartition]bool)
		for _, l := range set.Leases {
			ours[l.TopicPartition] = l.Holder == epoch
		}
		var still []catalog.TopicPartition
		for _, tp := range tps {
			if ours[tp] {
				still = append(still, tp)
			}
		}
		e.reopen(epoch, still)
		return
	}
}

func (e *engine) forget(epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, tp := range tps {
		if e.epoch == epoch {
			delete(e.held, tp)
			e.moved++
		}
	}
	e.open = nil
}

func (e *engine) reopen(epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, tp := range tps {
		if l := e.held[tp]; l != nil && e.epoch == epoch {
			l.closed = false
		}
	}
	e.open = nil
}

// failed ends the epoch under which something failed, if it is fenced.
func (e *engine) failed(epoch catalog.BrokerEpoch, err error) {
	if !errors.Is(err, catalog.ErrFenced) {
		return
	}
	e.mu.Lock()
	if e.epoch != epoch { // a late answer
		e.mu.Unlock()
		return
	}
	e.epoch = 0
	clear(e.held)
	e.moved++
	e.open = nil
	e.mu.Unlock()
	e.again()
}

// session registers, and renews the session or registers anew.
func (e *engine) session() {
	for e.ctx.Err() == nil {
		if e.Epoch() == 0 {
			e.mu.Lock()
			e.lives++
			r := catalog.Registration{ID: e.id, Incarnation: [16]byte{byte(e.id), byte(e.lives), byte(e.lives >> 8)}, Rack: e.rack, TTL: sessionTTL}
			copy(r.Incarnation[4:], fmt.Sprintf("%p", e))
			e.mu.Unlock()
			asked := time.Now()
			if b, err := e.link.RegisterBroker(e.ctx, r); err == nil {
				e.mu.Lock()
				e.epoch, e.seq, e.asked = b.Epoch, 0, asked
				e.mu.Unlock()
				e.again()
			} else if !pause(e.ctx, 100*time.Millisecond) {
				return
			}
			continue
		}
		ctx, cancel := context.WithTimeout(e.ctx, sessionTTL/3)
		asked, epoch := time.Now(), e.Epoch()
		beat, err := e.link.Heartbeat(ctx, epoch)
		cancel()
		if err == nil {
			e.mu.Lock()
			e.asked = asked
			e.mu.Unlock()
			e.begun(beat)
		} else {
			e.failed(epoch, err)
			if e.Epoch() == 0 {
				continue
			}
		}
		if !pause(e.ctx, sessionTTL/3) {
			return
		}
	}
}

// opened is what is appended to now, and the sequence of the next commit.
func (e *engine) opened() (*run, catalog.Sequence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil || e.open.by != e.epoch {
		e.open = &run{by: e.epoch, leases: make(map[catalog.TopicPartition]catalog.LeaseEpoch)}
		for tp, l := range e.held {
			if !l.closed {
				e.open.leases[tp] = l.epoch
			}
		}
	}
	return e.open, e.seq + 1
}

// appends has an object in flight all the time.
func (e *engine) appends() {
	for pause(e.ctx, appendTime/2) {
		e.flight <- struct{}{}
		r, seq := e.opened()
		if len(r.leases) > 0 && r.by != 0 {
			pause(e.ctx, appendTime)
			if err := e.history.commit(e.ctx, e.link, seq, r); err != nil {
				e.failed(r.by, err)
			} else {
				e.mu.Lock()
				if e.epoch == r.by {
					e.seq = seq
				}
				e.mu.Unlock()
			}
		}
		<-e.flight
	}
}

// speaks says all the time what only a leader may: where the logs that it leads end. It does so as the storage engine does:
// while its session is trusted, and once the catalog affirmed it.
func (e *engine) speaks() {
	for pause(e.ctx, appendTime) {
		r, _ := e.opened()
		e.mu.Lock()
		trusted := time.Since(e.asked) < sessionTTL-sessionTTL/5
		e.mu.Unlock()
		if len(r.leases) == 0 || r.by == 0 || !trusted {
			continue
		}
		wrong := e.history.other(r)
		ctx, cancel := context.WithTimeout(e.ctx, time.Second)
		err := e.link.Unfenced(ctx, r.by)
		cancel()
		e.mu.Lock()
		led := e.open == r && e.epoch == r.by
		if led && err == nil {
			e.said++
		}
		e.mu.Unlock()
		if wrong != "" && led && err == nil {
			e.history.said(fmt.Sprintf("broker epoch %d speaks for %s", r.by, wrong))
		}
	}
}
