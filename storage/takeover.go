package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Epoch is the broker epoch under which the engine holds leases now; 0 while it has none.
func (e *Engine) Epoch() catalog.BrokerEpoch {
	if t := e.term.Load(); t != nil {
		return t.epoch
	}
	return 0
}

// Held are the partitions the engine regards as its own, with the lease epoch of each, also those that are being handed
// over, or in doubt because the catalog did not answer. The map is shared and must not be changed: it is made anew when
// something changed hands, and given out again as long as nothing did.
func (e *Engine) Held() map[catalog.TopicPartition]catalog.LeaseEpoch {
	version := e.heldVersion.Load() // before the partitions are looked at: what changes meanwhile is looked at next time
	if h := e.holdings.Load(); h != nil && h.version == version {
		return h.leases
	}
	held := make(map[catalog.TopicPartition]catalog.LeaseEpoch)
	for _, p := range e.all() {
		p.mu.Lock()
		if p.mu.term != nil {
			held[p.tp] = catalog.LeaseEpoch(p.mu.leaderEpoch)
		}
		p.mu.Unlock()
	}
	e.holdings.Store(&holdings{version, held})
	return held
}

// HeldVersion grows with each change of what Held tells, at once.
func (e *Engine) HeldVersion() int64 { return e.heldVersion.Load() }

// holdings are what Held told last. Immutable.
type holdings struct {
	version int64
	leases  map[catalog.TopicPartition]catalog.LeaseEpoch
}

// heldChanged is called by whoever changes the term or the leader epoch of a partition, before its lock is given back: a look
// at the partition that misses the change then has an old version.
func (e *Engine) heldChanged() { e.heldVersion.Add(1) }

// Moving tells of a partition whose lease this broker epoch has, as far as the caller knows, that the lease is on its way: not
// taken over yet, being handed over, or gone.
func (e *Engine) Moving(tp catalog.TopicPartition) bool {
	t, p := e.term.Load(), e.lookup(tp)
	if t == nil || p == nil {
		return t != nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.mu.dropped && (p.mu.term != t || p.mu.closed)
}

// Acquire takes those of the leases that are free, and takes over what it got. It is not an error that another broker was
// faster.
func (e *Engine) Acquire(ctx context.Context, tps []catalog.TopicPartition) error {
	t := e.term.Load()
	if t == nil {
		return fmt.Errorf("acquire leases: %w", ErrNotLeader)
	}
	if len(tps) == 0 {
		return nil
	}
	return t.acquire(ctx, tps)
}

// acquire takes free leases; nil means all.
func (t *term) acquire(ctx context.Context, tps []catalog.TopicPartition) error {
	leases, err := t.e.cfg.Catalog.AcquireLeases(ctx, t.epoch, tps)
	if err != nil {
		t.fenced(err)
		return fmt.Errorf("acquire leases: %w", translate(err))
	}
	return t.takeOver(ctx, leases)
}

// fenced ends the term if that is what an error of the catalog says.
func (t *term) fenced(err error) {
	if errors.Is(err, catalog.ErrFenced) {
		t.fail(err)
	}
}

// Adopt takes over partitions whose leases the catalog shows as held by this broker epoch: they were moved here, or the
// answer of an Acquire was lost. Leases of other holders are ignored, and those that were given away since.
//
// What shows may be undone by a fail-over of the catalog, and then another broker may have the lease, under the same lease
// epoch. So the leases are acquired: those that we hold stay as they are, and are ours on every server to come when that is
// answered; those that were undone and are free we get; those that somebody else has are not led.
func (e *Engine) Adopt(ctx context.Context, leases []catalog.Lease) error {
	t := e.term.Load()
	if t == nil {
		return fmt.Errorf("adopt leases: %w", ErrNotLeader)
	}
	news, moving := t.newLeases(leases)
	if len(news) > 0 {
		tps := make([]catalog.TopicPartition, len(news))
		for i := range news {
			tps[i] = news[i].TopicPartition
		}
		if err := t.acquire(ctx, tps); err != nil {
			return err
		}
	}
	return unsettledMoves(moving)
}

// unsettledMoves is the error of a take-over that left partitions out because a move still names them.
func unsettledMoves(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("take over %d partitions: a move of them is not settled yet: %w", n, ErrUnavailable)
}

// takeOver begins to lead partitions whose leases are this broker epoch's. All that earlier holders committed is visible
// by now: a fence, or the move, came after it.
//
//  1. Follow every broker epoch to where it is now. What is missing afterwards was folded.
//  2. Load the folded rows of partitions that have extents in the tail, replay the tail on them, see that they join.
//  3. Only then append. Partitions without extents in the tail are loaded when somebody asks for them.
//
// The rows are loaded after the tail was read: whatever was folded in between is in them, so that nothing has to be looked
// at twice, and a take-over asks the same few things whatever the number of partitions.
func (t *term) takeOver(ctx context.Context, leases []catalog.Lease) error {
	news, moving := t.newLeases(leases)
	if len(news) > 0 {
		if err := t.takeOverNew(ctx, news); err != nil {
			return err
		}
	}
	return unsettledMoves(moving)
}

func (t *term) takeOverNew(ctx context.Context, news []catalog.Lease) error {
	defer t.e.suspect.Store(true) // that they are held although their topic is gone
	if t.e.cfg.Fleet != nil {
		if err := t.look(ctx, nil, time.Time{}); err != nil {
			return fmt.Errorf("take over %d partitions: %w", len(news), translate(err))
		}
		t.e.cfg.Logger.Debug("followed the others before a take-over", "partitions", len(news))
	}
	var eager []*bringing
	var b bell
	gained := make(map[catalog.TopicID]int)
	for i := range news {
		l := &news[i]
		p := t.e.lock(l.TopicPartition)
		switch {
		case t.ended.Load() || p.mu.dropped || !p.newLocked(t, l):
		case len(p.mu.tail) > 0:
			eager = append(eager, &bringing{p: p, lead: true, lease: l})
		default:
			if p.mu.term == nil {
				gained[l.Topic]++
			}
			p.mu.term, p.mu.leaderEpoch = t, int32(l.Epoch)
			t.e.heldChanged()
			p.mu.closed, p.mu.doubt, p.mu.loaded, p.mu.sized = false, false, false, false
			p.mu.rowsStamp++ // of a load for a follower that is under way
			b.add(p)
		}
		p.mu.Unlock()
	}
	b.ring()
	t.e.noteHeld(gained, false)
	if _, err := t.bring(ctx, eager); err != nil {
		return fmt.Errorf("take over %d partitions: %w", len(eager), err)
	}
	if t.e.cfg.Fleet != nil {
		if t.ended.Load() {
			return fmt.Errorf("take over %d partitions: broker epoch %d ended: %w", len(news), t.epoch, ErrNotLeader)
		}
		for i := range news {
			t.e.trims.note(news[i].TopicPartition) // an earlier holder may have died before it dropped what lies below a log start
		}
	}
	return nil
}

// newLeases are those that are ours and not led under yet. What is held under an earlier lease epoch went away and came
// back without our knowing, in a move whose answer was lost: others may have appended. Those that a move still names are
// only counted.
func (t *term) newLeases(leases []catalog.Lease) (out []catalog.Lease, moving int) {
	for _, l := range leases {
		if l.Holder != t.epoch {
			continue
		}
		if p := t.e.lookup(l.TopicPartition); p != nil {
			p.mu.Lock()
			isNew := p.newLocked(t, &l)
			p.mu.Unlock()
			if !isNew {
				continue
			}
		}
		t.mu.Lock()
		_, named := t.mu.moving[l.TopicPartition]
		t.mu.Unlock()
		if named {
			moving++
			continue
		}
		out = append(out, l)
	}
	return out, moving
}

func (p *partition) newLocked(t *term, l *catalog.Lease) bool {
	return l.Epoch > p.mu.gave && (p.mu.term != t || p.mu.leaderEpoch < int32(l.Epoch))
}

func (e *Engine) noteHeld(gained map[catalog.TopicID]int, all bool) {
	if len(gained) == 0 && !all {
		return
	}
	e.mu.Lock()
	if all {
		clear(e.mu.held)
	}
	for id, n := range gained {
		if e.mu.held[id] += n; e.mu.held[id] <= 0 {
			delete(e.mu.held, id)
		}
	}
	held := maps.Clone(e.mu.held)
	e.mu.Unlock()
	if e.cfg.Hooks.Leases != nil {
		e.cfg.Hooks.Leases(held)
	}
}

func (e *Engine) noteEpoch(epoch catalog.BrokerEpoch) {
	if e.cfg.Hooks.Epoch != nil {
		e.cfg.Hooks.Epoch(epoch)
	}
}
