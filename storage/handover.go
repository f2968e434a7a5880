package storage

import (
	"context"
	"errors"
	"fmt"
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
// another broker epoch. What is in flight when it is called is waited for before: while the store or the catalog hangs
// behind, the partitions stay open. With nil all of them were given away, or were not held. With an error each was given away, is open
// again, or is in doubt: closed, and in [Engine.Held], until the catalog tells. Those in doubt before stay so.
//
// The order is what keeps two brokers from writing one partition: nothing is appended once a partition is closed, all
// that was appended before is committed before the lease moves, and whoever gets the lease reads what was committed by
// then. A commit is guarded by the broker's row alone, so nothing else would refuse a later one.
func (e *Engine) HandOver(ctx context.Context, tps []catalog.TopicPartition, to catalog.BrokerEpoch) error {
	t := e.term.Load()
	if t == nil || e.cfg.Fleet == nil {
		return fmt.Errorf("hand %d partitions over: %w", len(tps), ErrNotLeader)
	}
	if err := t.landed(ctx); err != nil {
		return fmt.Errorf("hand %d partitions over to broker epoch %d: %w", len(tps), to, err)
	}
	ps, busy := t.closePartitions(tps)
	if len(ps) > 0 {
		e.cfg.Logger.Debug("partitions are closed", "partitions", len(ps), "to_broker_epoch", to)
		if err := t.landed(ctx); err != nil {
			t.reopen(ps)
			return fmt.Errorf("hand %d partitions over to broker epoch %d: %w", len(ps), to, err)
		}
		e.cfg.Logger.Debug("all is committed that was appended", "to_broker_epoch", to)
		if err := t.move(ctx, ps, to); err != nil {
			return fmt.Errorf("hand %d partitions over to broker epoch %d: %w", len(ps), to, err)
		}
	}
	if busy > 0 {
		return fmt.Errorf("hand over to broker epoch %d: whether %d partitions went elsewhere is not known yet: %w", to, busy, ErrUnavailable)
	}
	return nil
}

// lead is a partition held under a lease epoch. What is found out about the one says nothing about a later one.
type lead struct {
	p     *partition
	epoch int32
}

// closePartitions stops appends of those that are led and open. It counts those that another move has closed.
func (t *term) closePartitions(tps []catalog.TopicPartition) (ps []lead, busy int) {
	for _, tp := range tps {
		p := t.e.lookup(tp)
		if p == nil {
			continue
		}
		p.mu.Lock()
		switch {
		case p.mu.term != t:
		case p.mu.closed:
			busy++
		default:
			p.mu.closed = true
			ps = append(ps, lead{p, p.mu.leaderEpoch})
		}
		p.mu.Unlock()
	}
	return ps, busy
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

// reopen takes appends again, of those that are still held as they were.
func (t *term) reopen(ps []lead) {
	for _, l := range ps {
		l.p.mu.Lock()
		if l.p.mu.term == t && l.p.mu.leaderEpoch == l.epoch {
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
			t.e.heldChanged()
			lost[l.p.tp.Topic]--
			b.add(l.p)
		}
		l.p.mu.Unlock()
	}
	b.ring()
	t.e.noteHeld(lost, false)
}

// move moves the leases. A move whose answer was lost is made again: it does nothing where it was applied, and its answer
// says that all of them are gone. If that does not help it is made again in the background; until then they are in doubt.
func (t *term) move(ctx context.Context, ps []lead, to catalog.BrokerEpoch) error {
	for _, l := range ps {
		l.p.mu.Lock()
		if l.p.mu.term == t && l.p.mu.leaderEpoch == l.epoch {
			l.p.mu.doubt = true // until there is an answer
		}
		l.p.mu.Unlock()
	}
	t.name(ps)
	began, wait, doubt := time.Now(), backoff{}, false
	for {
		_, err := t.e.cfg.Fleet.MoveLeases(ctx, t.epoch, to, leasesOf(ps))
		switch {
		case err == nil: // those that the answer leaves out are not ours either
			t.settled(ps)
			t.resign(ps)
			return nil
		case errors.Is(err, catalog.ErrFenced):
			t.fail(fmt.Errorf("move leases: %w", err))
			return translate(err)
		case errors.Is(err, catalog.ErrInvalid), errors.Is(err, catalog.ErrNoSpace) && !doubt:
			t.settled(ps)
			t.reopen(ps)
			return translate(err)
		case errors.Is(err, catalog.ErrUnknownBroker) && !doubt:
			t.settled(ps)
			t.reopen(ps)
			return fmt.Errorf("the receiver is gone: %w", err)
		case errors.Is(err, catalog.ErrUnknownBroker), errors.Is(err, catalog.ErrClosed),
			time.Since(began) > moveTimeout, !wait.sleep(ctx):
			t.unsettled(moving{ps, to})
			return fmt.Errorf("whether the leases moved is not known yet: %w", translate(err))
		}
		doubt = true
	}
}

// moving is a move whose outcome is not known.
type moving struct {
	ps []lead
	to catalog.BrokerEpoch
}

// name notes that a move names partitions. Until it is settled none of them is taken over again, even if it comes back
// meanwhile. A late move would not take the lease from a leader that goes on appending, since it names an earlier lease
// epoch; this keeps that so whatever the catalog does.
func (t *term) name(ps []lead) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range ps {
		t.mu.moving[l.p.tp] = struct{}{}
	}
}

// settled notes that a move was answered, and will not be made again.
func (t *term) settled(ps []lead) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range ps {
		delete(t.mu.moving, l.p.tp)
	}
}

func leasesOf(ps []lead) []catalog.HeldLease {
	leases := make([]catalog.HeldLease, len(ps))
	for i, l := range ps {
		leases[i] = catalog.HeldLease{TopicPartition: l.p.tp, Epoch: catalog.LeaseEpoch(l.epoch)}
	}
	return leases
}

// unsettled has the term find out what became of a move in doubt.
func (t *term) unsettled(m moving) {
	t.mu.Lock()
	t.mu.doubtful = append(t.mu.doubtful, m)
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
		moves := t.mu.doubtful
		t.mu.doubtful = nil
		t.mu.Unlock()
		if len(moves) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-t.settle:
			}
			continue
		}
		var left []moving
		for _, m := range moves {
			err := t.settleMove(ctx, m)
			if err == nil {
				wait = backoff{}
				continue
			}
			left = append(left, m)
			if n, log := t.e.quiet.loud("settle"); log && ctx.Err() == nil {
				t.e.cfg.Logger.Warn("cannot find out who has leases that were moved, trying again", "failures", n, "partitions", len(m.ps), "error", err)
			}
		}
		t.mu.Lock()
		t.mu.doubtful = append(left, t.mu.doubtful...)
		t.mu.Unlock()
		if len(left) > 0 && !wait.sleep(ctx) {
			return
		}
	}
}

// settleMove makes a move again until the catalog answers. To read the leases instead would not do: an earlier try may
// still be on its way to the server, and be applied after they showed the leases as ours and we went on appending. Made
// again, it either succeeds, and then they are gone, whichever try moved them; or its receiver is fenced, which refuses
// all tries for ever, and only then the leases tell what an earlier one did.
func (t *term) settleMove(ctx context.Context, m moving) error {
	_, err := t.e.cfg.Fleet.MoveLeases(ctx, t.epoch, m.to, leasesOf(m.ps))
	switch {
	case err == nil:
		t.settled(m.ps)
		t.resign(m.ps)
		return nil
	case errors.Is(err, catalog.ErrFenced):
		t.fail(fmt.Errorf("move leases: %w", err))
		return nil
	case errors.Is(err, catalog.ErrUnknownBroker):
		return t.settleFrom(ctx, m.ps)
	default:
		return fmt.Errorf("move leases: %w", translate(err))
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
	t.settled(ps)
	t.reopen(kept)
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
			lost = append(lost, lead{p, p.mu.leaderEpoch})
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
