package lease

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// freePatience is for how long free leases hold up the controller's plans: first they are taken, then things are evened out.
const freePatience = 2 * time.Second

// askState is what the controller remembers between plans.
type askState struct {
	freeSince time.Time // when leases were first seen free; zero: none are
	plan      time.Time // when to plan next
	load      time.Time // when to look at bytes/s next
	recent    map[catalog.TopicPartition]time.Time
}

func (s *askState) init() { s.recent = make(map[catalog.TopicPartition]time.Time) }

// control plans, if we are the controller, and asks for the moves.
func (m *Manager) control(now time.Time) {
	s, v := &m.ask, m.View()
	if v.Free() == 0 {
		s.freeSince = time.Time{}
	} else if s.freeSince.IsZero() {
		s.freeSince = now
	}
	if now.Before(s.plan) || m.stale || m.cfg.Fleet == nil || m.drain != nil {
		return
	}
	if l, ok := v.Lease(ControllerLease()); !ok || l.Holder != m.epoch {
		return
	}
	if !s.freeSince.IsZero() && now.Sub(s.freeSince) < freePatience {
		return
	}
	s.plan = now.Add(m.cfg.Tick)
	for tp, until := range s.recent {
		if !now.Before(until) {
			delete(s.recent, tp)
		}
	}
	in := PlanInput{View: v, Leaving: m.leaving, PerBroker: m.cfg.MovesPerBroker}
	if !now.Before(s.load) {
		s.load = now.Add(m.cfg.LoadInterval)
		in.Load = m.cfg.Partitions.Load()
		in.Recent = func(tp catalog.TopicPartition) bool {
			_, ok := s.recent[tp]
			return ok
		}
	}
	moves := Plan(in)
	if len(moves) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.CallTimeout)
	err := m.cfg.Fleet.AskMoves(ctx, m.epoch, moves)
	cancel()
	if !m.call("ask for moves", err) {
		return
	}
	for _, mv := range moves {
		s.recent[mv.TopicPartition] = now.Add(m.cfg.Recent)
	}
	m.log.Info("asked for leases to move", "moves", len(moves))
	if m.cfg.Hooks.Asked != nil {
		m.cfg.Hooks.Asked(len(moves))
	}
	m.stale = true
	m.announce(catalog.Announcement{From: m.epoch, Leases: true})
}
