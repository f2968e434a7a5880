package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
)

// wrote is how a statement ended.
type wrote struct {
	err     error // nil: it was applied
	offsets int
	tries   int
	took    time.Duration
}

// changed puts a change of a group in line.
func (s *shard) changed(e *entry, number uint64, c *catalog.GroupChange, now time.Time) {
	e.asked = number
	if n := len(e.changes); n > 0 && e.changes[n-1].add(number, c) {
		return
	}
	next := &change{first: now}
	next.add(number, c)
	if e.changes = append(e.changes, next); len(e.changes) == 1 {
		s.work.dirty = append(s.work.dirty, e)
	}
}

// send makes the next statement of what is in line, if none is in flight: the oldest change of each group, as far as there is
// room.
func (s *shard) send() {
	w := &s.work
	if len(w.flight) > 0 || len(w.dirty) == 0 {
		return
	}
	write := catalog.GroupWrite{Shard: s.n, Holder: s.broker, Lease: s.epoch, Number: w.number + 1}
	bytes, offsets, n := 0, 0, 0
	var again []*entry
	for ; n < len(w.dirty) && n < s.c.cfg.MaxChanges; n++ {
		e := w.dirty[n]
		c := e.changes[0]
		if bytes += c.bytes; n > 0 && bytes > s.c.cfg.MaxWriteBytes {
			break
		}
		e.changes[0] = nil
		if e.changes = e.changes[1:]; len(e.changes) > 0 {
			again = append(again, e)
		} else {
			e.changes = nil
		}
		e.flying = c
		offsets += len(c.offsets)
		write.Changes = append(write.Changes, c.build(e.id))
		w.flight = append(w.flight, e)
	}
	w.dirty = append(append([]*entry(nil), w.dirty[n:]...), again...)
	ctx := w.ctx
	w.workers.Go(func() {
		began := time.Now()
		tries, err := s.write(ctx, write)
		w.wrote <- wrote{err: err, offsets: offsets, tries: tries, took: time.Since(began)}
	})
}

// write makes a statement until the catalog takes or refuses it, or ctx ends. Made again under its number it does nothing where
// an earlier try was applied.
func (s *shard) write(ctx context.Context, w catalog.GroupWrite) (tries int, err error) {
	wait := pause{}
	for tries = 1; ; tries++ {
		call, cancel := context.WithTimeout(ctx, s.c.cfg.CallTimeout)
		_, err = s.c.cfg.Groups.WriteGroups(call, w)
		cancel()
		switch {
		case err == nil, errors.Is(err, catalog.ErrFenced), errors.Is(err, catalog.ErrSequence), errors.Is(err, catalog.ErrInvalid),
			errors.Is(err, catalog.ErrClosed), ctx.Err() != nil:
			return tries, err
		}
		if tries == 1 {
			s.c.cfg.Logger.Warn("groups could not be written, trying again", "shard", s.n, "groups", len(w.Changes), "error", err)
		}
		if !wait.sleep(ctx) {
			return tries, err
		}
		if s.c.cfg.Hooks.Retried != nil { // now, not when it succeeds: that may never be
			s.c.cfg.Hooks.Retried()
		}
	}
}

// written does what follows from the end of a statement.
func (s *shard) written(r wrote) {
	w := &s.work
	flight := w.flight
	w.flight = nil
	if r.err != nil {
		s.refused(r.err)
		return
	}
	w.number++
	if s.c.cfg.Hooks.Written != nil {
		s.c.cfg.Hooks.Written(len(flight), r.offsets, r.took)
	}
	if r.tries > 1 {
		s.c.cfg.Logger.Info("groups are written again", "shard", s.n, "tries", r.tries, "took", r.took)
	}
	now := time.Now()
	for _, e := range flight {
		c := e.flying
		e.flying, e.held = nil, false
		e.written = c.upto
		s.step(e, group.Written{Write: c.upto})
		if now.Sub(c.first) >= stallAfter {
			s.step(e, group.Resumed{})
		}
		n := 0
		for ; n < len(e.later) && e.later[n].upto <= e.written; n++ {
			if l := &e.later[n]; l.op != nil {
				s.reply(l.op, answer{body: l.body, durable: true})
			}
		}
		clear(e.later[:n])
		if e.later = e.later[n:]; len(e.later) == 0 {
			e.later = nil
		}
		s.settle(e)
	}
}

// refused ends the shard, or reads it anew, after the catalog refused a statement for good.
func (s *shard) refused(err error) {
	w := &s.work
	log := s.c.cfg.Logger.With("shard", s.n, "broker_epoch", s.broker, "lease_epoch", s.epoch, "number", w.number+1, "error", err)
	switch {
	case w.ctx.Err() != nil, errors.Is(err, catalog.ErrClosed):
	case errors.Is(err, catalog.ErrInvalid):
		// Nothing was applied, and it never will be. The groups in it are as they were; so is every other one of the shard.
		log.Error("groups cannot be written as they are: this is a defect, please report it; they are read anew")
		s.refuse(ErrNotCoordinator)
		s.c.counted(-len(w.groups))
		s.load()
		return
	case errors.Is(err, catalog.ErrFenced):
		log.Warn("the coordinator's lease of a shard is over")
	default:
		log.Error("groups cannot be written: this is a defect, please report it; their shard has no coordinator until its lease moves")
	}
	w.stopped = true
}

// pause waits longer each time.
type pause struct{ d time.Duration }

func (p *pause) sleep(ctx context.Context) bool {
	p.d = min(max(firstPause, 2*p.d), lastPause)
	t := time.NewTimer(p.d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
