package coordinator

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
)

// From the arrival of an operation to its answer: what the goroutine of a shard does with those it is handed.

// take begins an operation.
func (s *shard) take(o *op) {
	w := &s.work
	switch {
	case w.loading:
		s.reply(o, answer{err: ErrLoading})
		return
	case o.take != nil:
		s.tellMembers(o.take)
		s.reply(o, answer{})
		return
	case o.each != nil:
		for _, e := range w.groups {
			o.each(e.m)
		}
		s.reply(o, answer{})
		return
	}
	e := w.groups[o.id]
	if e != nil && e.m == (unreadable{}) {
		s.reply(o, answer{err: ErrUnreadable})
		return
	}
	if o.read != nil {
		if e != nil {
			o.read(e.m)
		} else { // for the look only
			o.read(s.c.cfg.newGroup(o.id, s.n, w.configs.Of(o.id), *w.topics, time.Now()))
		}
		s.reply(o, answer{})
		return
	}
	if e == nil {
		if s.c.groups.Load() >= int64(s.c.cfg.MaxGroups) {
			s.reply(o, answer{err: ErrUnavailable})
			return
		}
		cfg := w.configs.Of(o.id)
		e = s.add(o.id, cfg, s.c.cfg.newGroup(o.id, s.n, cfg, *w.topics, time.Now()))
		s.c.counted(1)
	}
	w.token++
	o.req.Token, o.at = w.token, e
	w.tokens[w.token] = o
	e.owed++
	s.step(e, o.req)
}

// drop forgets an operation that nobody waits for.
func (s *shard) drop(o *op) {
	if o.answered {
		return
	}
	owed := s.owes(o)
	s.reply(o, answer{err: context.Canceled})
	if owed {
		s.step(o.at, group.Abandoned{Token: o.req.Token})
	} else if o.at != nil {
		o.at.unlater(o)
	}
}

// owes tells whether a machine has yet to answer an operation, and takes the answer off its debts.
func (s *shard) owes(o *op) bool {
	if _, ok := s.work.tokens[o.req.Token]; !ok {
		return false
	}
	delete(s.work.tokens, o.req.Token)
	o.at.owed--
	return true
}

// unlater forgets an answer that waits for a write. Mostly it is the oldest.
func (e *entry) unlater(o *op) {
	for i := range e.later {
		if e.later[i].op == o {
			e.later[i].op, e.later[i].body = nil, nil
			break
		}
	}
	for len(e.later) > 0 && e.later[0].op == nil {
		e.later = e.later[1:]
	}
}

// reply answers an operation, once.
func (s *shard) reply(o *op, a answer) {
	if o.answered {
		return
	}
	o.answered = true
	o.answer = a
	s.mu.Lock()
	s.mu.waiting--
	s.mu.Unlock()
	close(o.done)
}

// due finds whom an answer is for; nil if nobody waits for it any more.
func (s *shard) due(e *entry, a *group.Answer) *op {
	o := s.work.tokens[a.Token]
	if o == nil || o.at != e {
		return nil
	}
	s.owes(o)
	return o
}

// expire answers those that have waited for a write for too long. Their changes stay in line.
func (s *shard) expire() {
	w := &s.work
	now := time.Now()
	n := 0
	for ; n < len(w.overdue); n++ {
		o := w.overdue[n]
		if o.answered {
			continue
		}
		if o.deadline.After(now) {
			break
		}
		s.reply(o, answer{err: ErrUnavailable})
		o.at.unlater(o)
	}
	clear(w.overdue[:n])
	if w.overdue = w.overdue[n:]; len(w.overdue) == 0 {
		w.overdue = nil
	}
}

// refuse answers everything that waits. The machines are told; memberships stay.
func (s *shard) refuse(err error) {
	w := &s.work
	for _, o := range w.overdue {
		if !o.answered {
			s.reply(o, answer{err: err})
			o.at.unlater(o)
		}
	}
	w.overdue = nil
	for _, o := range w.tokens {
		s.owes(o)
		s.reply(o, answer{err: err})
		if !w.stopped {
			s.step(o.at, group.Abandoned{Token: o.req.Token})
		}
	}
}
