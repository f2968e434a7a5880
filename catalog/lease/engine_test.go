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
	wrong []string
}

type committed struct {
	tp    catalog.TopicPartition
	by    catalog.BrokerEpoch
	epoch catalog.LeaseEpoch
	last  time.Time     // zero: nothing was committed yet
	gap   time.Duration // the longest since the mark
}

// appended is a partition that an engine appends to, under a lease epoch.
type appended struct {
	*committed

	lease catalog.LeaseEpoch
}

// of returns what was committed of a partition.
func (h *history) of(tp catalog.TopicPartition) *committed {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parts[tp]
	if p == nil {
		p = &committed{tp: tp, epoch: -1}
		h.parts[tp] = p
	}
	return p
}

// commit commits one object with data of all these partitions, and notes it in the same instant.
func (h *history) commit(ctx context.Context, c *link, epoch catalog.BrokerEpoch, seq catalog.Sequence, parts []appended) error {
	if err := c.gate(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := c.Commit(ctx, epoch, []catalog.TailEntry{{
		Epoch: epoch, First: seq, Last: seq, Object: catalog.ObjectID(int64(epoch)<<32 + int64(seq)), Key: fmt.Sprintf("%d/%d", epoch, seq),
	}})
	if err != nil {
		return err
	}
	now := time.Now()
	for _, p := range parts {
		if p.lease < p.epoch || p.lease == p.epoch && epoch != p.by {
			h.wrong = append(h.wrong, fmt.Sprintf("%s: broker epoch %d committed under lease epoch %d, after broker epoch %d under %d", p.tp, epoch, p.lease, p.by, p.epoch))
		}
		if !p.last.IsZero() {
			p.gap = max(p.gap, now.Sub(p.last))
		}
		p.by, p.committed.epoch, p.last = epoch, p.lease, now
	}
	return nil
}

// mark begins to measure gaps anew.
func (h *history) mark() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.parts {
		p.gap = 0
	}
}

// worst is the longest time since the mark that any partition went without a commit, one not over counted up to now.
func (h *history) worst() (gap time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.parts {
		if !p.last.IsZero() {
			gap = max(gap, p.gap, time.Since(p.last))
		}
	}
	return gap
}

func (h *history) led() map[catalog.TopicPartition]catalog.BrokerEpoch {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[catalog.TopicPartition]catalog.BrokerEpoch)
	for tp, p := range h.parts {
		if time.Since(p.last) < time.Second {
			out[tp] = p.by
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
	again   func()

	mu    sync.Mutex
	epoch catalog.BrokerEpoch
	lives int
	seq   catalog.Sequence
	held  map[catalog.TopicPartition]*lead
	open  []appended // those of held that are not closed; nil: to be made anew. Never changed once made
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
			e.open = nil
		}
	}
	return nil
}

func (e *engine) Acquire(ctx context.Context, tps []catalog.TopicPartition) error {
	leases, err := e.link.AcquireLeases(ctx, e.Epoch(), tps)
	if err != nil {
		e.failed(err)
		return err
	}
	return e.install(ctx, leases)
}

func (e *engine) Adopt(ctx context.Context, leases []catalog.Lease) error {
	return e.install(ctx, leases)
}

func (e *engine) Lost(leases []catalog.Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range leases {
		if have := e.held[l.TopicPartition]; have != nil && have.epoch < l.Epoch {
			delete(e.held, l.TopicPartition)
			e.open = nil
		}
	}
}

func (e *engine) HandOver(ctx context.Context, tps []catalog.TopicPartition, to catalog.BrokerEpoch) error {
	e.mu.Lock()
	epoch := e.epoch
	for _, tp := range tps {
		if l := e.held[tp]; l != nil {
			l.closed = true
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
	_, err := e.link.MoveLeases(ctx, epoch, to, tps)
	switch {
	case err == nil:
		e.forget(epoch, tps)
	case errors.Is(err, catalog.ErrUnknownBroker):
		e.reopen(epoch, tps)
	case errors.Is(err, catalog.ErrFenced):
		e.failed(err)
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

// failed ends the epoch if it is fenced.
func (e *engine) failed(err error) {
	if !errors.Is(err, catalog.ErrFenced) {
		return
	}
	e.mu.Lock()
	e.epoch = 0
	clear(e.held)
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
			if b, err := e.link.RegisterBroker(e.ctx, r); err == nil {
				e.mu.Lock()
				e.epoch, e.seq = b.Epoch, 0
				e.mu.Unlock()
				e.again()
			} else if !pause(e.ctx, 100*time.Millisecond) {
				return
			}
			continue
		}
		ctx, cancel := context.WithTimeout(e.ctx, sessionTTL/3)
		beat, err := e.link.Heartbeat(ctx, e.Epoch())
		cancel()
		if err == nil {
			e.begun(beat)
		} else {
			e.failed(err)
			if e.Epoch() == 0 {
				continue
			}
		}
		if !pause(e.ctx, sessionTTL/3) {
			return
		}
	}
}

// opened is what is appended to now.
func (e *engine) opened() (catalog.BrokerEpoch, catalog.Sequence, []appended) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil {
		e.open = make([]appended, 0, len(e.held))
		for tp, l := range e.held {
			if !l.closed {
				e.open = append(e.open, appended{e.history.of(tp), l.epoch})
			}
		}
	}
	return e.epoch, e.seq + 1, e.open
}

// appends has an object in flight all the time.
func (e *engine) appends() {
	for pause(e.ctx, appendTime/2) {
		e.flight <- struct{}{}
		epoch, seq, parts := e.opened()
		if len(parts) > 0 && epoch != 0 {
			pause(e.ctx, appendTime)
			switch err := e.history.commit(e.ctx, e.link, epoch, seq, parts); {
			case err == nil:
				e.mu.Lock()
				if e.epoch == epoch {
					e.seq = seq
				}
				e.mu.Unlock()
			default:
				e.failed(err)
			}
		}
		<-e.flight
	}
}
