package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// Append gives one validated record batch its offsets and puts it into the open log object. The outcome comes with
// the returned Pending once the object is committed.
//
// The batch is patched in place (base offset, leader epoch). If frame is not nil the batch lies in it, and the
// engine takes its own reference on success; otherwise the batch's memory belongs to the engine from then on.
// Calls for one partition take effect in the order they are made. When too much is uncommitted, Append waits until
// ctx ends (ErrOverloaded).
//
// A resent batch is not appended again: its Pending shares the outcome of the first copy (KIP-98).
//
// Errors: ErrNotLeader, ErrUnknownPartition, ErrOutOfOrderSequence, ErrInvalidProducerEpoch, ErrOverloaded,
// ErrUnavailable; ErrCorrupt for a batch with a sequence when what is known of producers is damaged.
func (e *Engine) Append(ctx context.Context, tp catalog.TopicPartition, batch []byte, h recordbatch.Header, frame *slab.Buf) (Pending, error) {
	p := e.lookup(tp)
	if p == nil {
		return Pending{}, e.absent(tp)
	}
	who := e.following(ctx)
	for {
		p.mu.Lock()
		t := p.mu.term
		if t == nil || p.mu.closed {
			p.mu.Unlock()
			return Pending{}, e.absent(tp)
		}
		if !p.mu.loaded {
			p.mu.Unlock()
			if err := e.load(ctx, p); err != nil {
				return Pending{}, err
			}
			continue
		}
		if !t.trusted() {
			p.mu.Unlock()
			return Pending{}, fmt.Errorf("append to %s: lease not renewed in time: %w", tp, ErrNotLeader)
		}
		pending, room, err := t.appendLocked(p, batch, &h, frame, who)
		reign := p.reignLocked()
		p.mu.Unlock()
		if errors.Is(err, ErrOutOfOrderSequence) || errors.Is(err, ErrInvalidProducerEpoch) {
			// The leader may have what came before, and the producer would give up or count anew.
			if unsure := e.affirmed(ctx, p, reign); unsure != nil {
				err = unsure
			}
		}
		if room == nil {
			return pending, err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return Pending{}, fmt.Errorf("append to %s: %w", tp, ErrOverloaded)
		}
	}
}

// appendLocked does the work under p.mu, for who follows it. A channel returned is closed when there may be room again.
func (t *term) appendLocked(p *partition, batch []byte, h *recordbatch.Header, frame *slab.Buf, who any) (Pending, <-chan struct{}, error) {
	n := h.LastOffsetDelta + 1
	meta := segment.Batch{
		Offsets: n, Records: h.NumRecords, Length: int32(len(batch)), MaxTimestamp: h.MaxTimestamp,
		ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Transactional: h.IsTransactional(), Control: h.IsControl(),
	}
	idempotent := h.ProducerID >= 0 && h.BaseSequence >= 0
	s := sent{first: h.BaseSequence, last: lastSeq(h.BaseSequence, n)}
	if idempotent && p.mu.damage != nil {
		return Pending{}, nil, fmt.Errorf("append to %s: %w: %w", p.tp, ErrCorrupt, p.mu.damage)
	}
	if idempotent {
		dup, err := p.mu.producers.check(h.ProducerID, h.ProducerEpoch, s.first, s.last)
		if err != nil {
			return Pending{}, nil, err
		}
		if dup != nil {
			f := dup.flight
			if f == nil {
				f = landed
			}
			return Pending{flight: f, base: dup.base, start: p.mu.logStart}, nil, nil
		}
	}
	meta.BaseOffset = p.mu.next
	f, room := t.put(p, batch, meta, frame, who)
	if f == nil {
		if room == nil {
			return Pending{}, nil, fmt.Errorf("append to %s: broker epoch is ending: %w", p.tp, ErrNotLeader)
		}
		return Pending{}, room, nil
	}
	p.mu.next += int64(n)
	if idempotent {
		s.base, s.flight = meta.BaseOffset, f
		p.mu.producers.add(h.ProducerID, h.ProducerEpoch, s, 0)
		if p.mu.producers.trimDue(t.e.cfg.MaxProducers) {
			p.mu.producers.trim(t.e.clock.now().Add(-t.e.cfg.ProducerExpiry).UnixMilli(), t.e.cfg.MaxProducers)
		}
	}
	t.buffered(int64(len(batch)))
	if hook := t.e.cfg.Hooks.Appended; hook != nil {
		hook(p.tp, int(h.NumRecords))
	}
	return Pending{flight: f, base: meta.BaseOffset, start: p.mu.logStart}, nil, nil
}

// landed is the flight of batches that were committed in an earlier term.
var landed = func() *flight {
	f := &flight{done: make(chan struct{})}
	close(f.done)
	return f
}()

// put adds the batch to the open object; p.mu is held, which keeps a partition's batches in offset order. Nil, nil
// means that the term is ending.
func (t *term) put(p *partition, batch []byte, meta segment.Batch, frame *slab.Buf, who any) (*flight, <-chan struct{}) {
	now := time.Now()
	size := int64(len(batch))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closing {
		return nil, nil
	}
	if t.mu.uncommitted > 0 && t.mu.uncommitted+size > t.e.cfg.MaxUncommittedBytes ||
		t.mu.rows >= maxTailRows || t.mu.indexSize >= maxTailIndex {
		return nil, t.mu.room
	}
	o := t.mu.open
	if o != nil && (o.bytes+size > int64(t.e.cfg.FlushBytes) || segment.TailSizeEstimate(o.extents+1, len(o.entries)+1) > maxIndexBytes) {
		t.mu.full = append(t.mu.full, o)
		o = nil
	}
	if o == nil {
		o = &openObject{flight: &flight{done: make(chan struct{})}, began: now}
		t.mu.open = o
		t.mu.inflight = append(t.mu.inflight, o)
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	recordbatch.SetBaseOffset(batch, meta.BaseOffset)
	recordbatch.SetLeaderEpoch(batch, p.mu.leaderEpoch)
	o.add(entry{p: p, batch: batch, meta: meta, leaderEpoch: p.mu.leaderEpoch, at: now}, frame, t.e.cfg.Pool)
	o.follow(who)
	t.mu.uncommitted += size
	return o.flight, nil
}
