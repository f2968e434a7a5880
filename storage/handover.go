package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// handOverTimeout is how long a hand-over waits for what is in flight. Then the partitions are opened again.
	handOverTimeout = 5 * time.Second
	// moveTimeout is how long a move in doubt is tried again before the caller is told; it is settled afterwards.
	moveTimeout = 5 * time.Second
)

// HandOver stops appends of the partitions, waits until everything in flight is committed, and moves their leases to
// another broker epoch. With nil all of them were given away, or were not held. With an error each is open again, or in
// doubt: closed, and in [Engine.Held], until the catalog tells.
//
// The order is what keeps two brokers from writing one partition: nothing is appended once a partition is closed, all
// that was appended before is committed before the lease moves, and whoever gets the lease reads what was committed by
// then. A commit is guarded by the broker's row alone, so nothing else would refuse a later one.
func (e *Engine) HandOver(ctx context.Context, tps []catalog.TopicPartition, to catalog.BrokerEpoch) error {
	t := e.term.Load()
	if t == nil || e.cfg.Fleet == nil {
		return fmt.Errorf("hand %d partitions over: %w", len(tps), ErrNotLeader)
	}
	ps, doubtful := t.closePartitions(tps)
	if len(ps) == 0 {
		return nil
	}
	if err := t.landed(ctx); err != nil {
		t.reopen(ps, doubtful)
		t.unsettled(slices.DeleteFunc(ps, func(l lead) bool { return !doubtful[l.p] }))
		return fmt.Errorf("hand %d partitions over to broker epoch %d: %w", len(ps), to, err)
	}
	if err := t.move(ctx, ps, to, len(doubtful) > 0); err != nil {
		return fmt.Errorf("hand %d partitions over to broker epoch %d: %w", len(ps), to, err)
	}
	return nil
}

// lead is a partition held under a lease epoch, after so many tries to move it. What is found out about the one says nothing
// about a later one.
type lead struct {
	p     *partition
	epoch int32
	moves int
}

// closePartitions stops appends of those that are led, and tells which of them are in doubt already.
func (t *term) closePartitions(tps []catalog.TopicPartition) (ps []lead, doubtful map[*partition]bool) {
	doubtful = make(map[*partition]bool)
	for _, tp := range tps {
		p := t.e.lookup(tp)
		if p == nil {
			continue
		}
		p.mu.Lock()
		if p.mu.term == t {
			p.mu.closed = true
			p.mu.moves++
			if p.mu.doubt {
				doubtful[p] = true
			}
			ps = append(ps, lead{p, p.mu.leaderEpoch, p.mu.moves})
		}
		p.mu.Unlock()
	}
	return ps, doubtful
}

// landed seals the open object and waits until all that is in flight now is committed.
func (t *term) landed(ctx context.Context) error {
	t.mu.Lock()
	if len(t.mu.inflight) == 0 {
		t.mu.Unlock()
		return nil
	}
	last := t.mu.inflight[len(t.mu.inflight)-1].flight // objects commit in order
	t.mu.hurry = t.mu.open != nil
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	limit := time.NewTimer(handOverTimeout)
	defer limit.Stop()
	select {
	case <-last.done:
		return last.err
	case <-limit.C:
		return fmt.Errorf("what was appended is not committed after %s: %w", handOverTimeout, ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reopen takes appends again, of those that are still held as they were, that nobody tries to move again, and that are not
// excepted.
func (t *term) reopen(ps []lead, not map[*partition]bool) {
	for _, l := range ps {
		l.p.mu.Lock()
		if l.p.mu.term == t && l.p.mu.leaderEpoch == l.epoch && l.p.mu.moves == l.moves && !not[l.p] {
			l.p.mu.closed, l.p.mu.doubt = false, false
		}
		l.p.mu.Unlock()
	}
}

// resign stops leading partitions whose leases are another's.
func (t *term) resign(ps []lead) {
	lost := make(map[catalog.TopicID]int)
	var b bell
	for _, l := range ps {
		l.p.mu.Lock()
		if l.p.mu.term == t && l.p.mu.leaderEpoch == l.epoch {
			l.p.resignLocked()
			lost[l.p.tp.Topic]--
			b.add(l.p)
		}
		l.p.mu.Unlock()
	}
	b.ring()
	t.e.noteHeld(lost, false)
}

// move moves the leases. A move whose answer was lost is made again: it does nothing where it was applied, and its answer
// says that all of them are gone. If that does not help, what became of them is found out in the background; until then
// they are in doubt, as some may be from an earlier try.
func (t *term) move(ctx context.Context, ps []lead, to catalog.BrokerEpoch, doubt bool) error {
	tps := make([]catalog.TopicPartition, len(ps))
	for i, l := range ps {
		tps[i] = l.p.tp
		l.p.mu.Lock()
		if l.p.mu.term == t && l.p.mu.leaderEpoch == l.epoch {
			l.p.mu.doubt = true // until there is an answer
		}
		l.p.mu.Unlock()
	}
	began, wait := time.Now(), backoff{}
	for {
		_, err := t.e.cfg.Fleet.MoveLeases(ctx, t.epoch, to, tps)
		switch {
		case err == nil: // those that the answer leaves out are not ours either
			t.resign(ps)
			return nil
		case errors.Is(err, catalog.ErrFenced):
			t.fail(fmt.Errorf("move leases: %w", err))
			return translate(err)
		case errors.Is(err, catalog.ErrInvalid) && !doubt, errors.Is(err, catalog.ErrNoSpace) && !doubt:
			t.reopen(ps, nil)
			return translate(err)
		case errors.Is(err, catalog.ErrUnknownBroker) && !doubt:
			t.reopen(ps, nil)
			return fmt.Errorf("the receiver is gone: %w", err)
		case errors.Is(err, catalog.ErrUnknownBroker), errors.Is(err, catalog.ErrInvalid), errors.Is(err, catalog.ErrClosed),
			time.Since(began) > moveTimeout, !wait.sleep(ctx):
			// An earlier try may have moved them, and the receiver be fenced since: only the leases tell.
			t.unsettled(ps)
			return fmt.Errorf("whether the leases moved is not known yet: %w", translate(err))
		}
		doubt = true
	}
}

// unsettled has the term find out what became of partitions in doubt.
func (t *term) unsettled(ps []lead) {
	t.mu.Lock()
	t.mu.doubtful = append(t.mu.doubtful, ps...)
	t.mu.Unlock()
	select {
	case t.settle <- struct{}{}:
	default:
	}
}

// settleMoves finds out, for as long as the term lives, what became of moves whose answers were lost.
func (t *term) settleMoves(ctx context.Context) {
	wait := backoff{}
	for {
		t.mu.Lock()
		ps := t.mu.doubtful
		t.mu.doubtful = nil
		t.mu.Unlock()
		if len(ps) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-t.settle:
			}
			continue
		}
		err := t.settleFrom(ctx, ps)
		if err == nil {
			wait = backoff{}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if n, log := t.e.quiet.loud("settle"); log {
			t.e.cfg.Logger.Warn("cannot find out who has leases that were moved, trying again", "failures", n, "partitions", len(ps), "error", err)
		}
		t.mu.Lock()
		t.mu.doubtful = append(ps, t.mu.doubtful...)
		t.mu.Unlock()
		if !wait.sleep(ctx) {
			return
		}
	}
}

// settleFrom decides from the catalog's leases.
func (t *term) settleFrom(ctx context.Context, ps []lead) error {
	set, err := t.e.cfg.Catalog.LeaseSet(ctx, 0)
	if err != nil {
		return fmt.Errorf("read the leases: %w", translate(err))
	}
	ours := make(map[catalog.TopicPartition]int32, len(ps))
	for _, l := range ps {
		ours[l.p.tp] = -1
	}
	for i := range set.Leases {
		l := &set.Leases[i]
		if _, asked := ours[l.TopicPartition]; asked && l.Holder == t.epoch {
			ours[l.TopicPartition] = int32(l.Epoch)
		}
	}
	var kept, lost []lead
	for _, l := range ps {
		if ours[l.p.tp] == l.epoch {
			kept = append(kept, l)
		} else {
			lost = append(lost, l)
		}
	}
	t.reopen(kept, nil)
	t.resign(lost)
	return nil
}

// Lost tells which leases the catalog shows with another holder, under a later lease epoch than the one held: a move
// whose answer was lost. The engine stops leading them.
func (e *Engine) Lost(leases []catalog.Lease) {
	t := e.term.Load()
	if t == nil {
		return
	}
	var lost []lead
	for _, l := range leases {
		p := e.lookup(l.TopicPartition)
		if p == nil || l.Holder == t.epoch {
			continue
		}
		p.mu.Lock()
		if p.mu.term == t && p.mu.leaderEpoch < int32(l.Epoch) {
			if !p.mu.closed {
				// Nothing but our own hand-over moves a lease of a broker epoch that is not fenced.
				t.fail(fmt.Errorf("the lease of %s went to broker epoch %d: %w", p.tp, l.Holder, catalog.ErrFenced))
			}
			lost = append(lost, lead{p, p.mu.leaderEpoch, p.mu.moves})
		}
		p.mu.Unlock()
	}
	t.resign(lost)
}

// Load is the traffic of all partitions of the cluster, in bytes/s committed since it was asked for last; empty the first
// time, and of partitions that were not seen then.
func (e *Engine) Load() map[catalog.TopicPartition]float64 {
	now := time.Now()
	bytes := make(map[catalog.TopicPartition]int64)
	for _, p := range e.all() {
		p.mu.Lock()
		bytes[p.tp] = p.mu.committed
		p.mu.Unlock()
	}
	e.traffic.Lock()
	before, at := e.traffic.bytes, e.traffic.at
	e.traffic.bytes, e.traffic.at = bytes, now
	e.traffic.Unlock()
	rates := make(map[catalog.TopicPartition]float64)
	passed := now.Sub(at).Seconds()
	for tp, n := range bytes {
		if was, ok := before[tp]; ok && n > was && passed > 0 {
			rates[tp] = float64(n-was) / passed
		}
	}
	return rates
}
