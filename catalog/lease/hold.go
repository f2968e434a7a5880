package lease

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// holdState is what this broker does about leases: those it should take, has to adopt, and is asked to give away.
type holdState struct {
	ours  []catalog.Lease // that the view shows as ours
	asked []catalog.Lease // those of ours that should be handed over
	free  []freeLease
	since map[catalog.TopicPartition]time.Time // when a free lease was first seen free
	lost  []catalog.Lease                      // held by others in the view, by the engine under an earlier lease epoch

	// busy are partitions of calls of the engine that are under way, or whose effect no view has shown yet. Nothing is
	// decided about them from a view that was read before.
	busy map[catalog.TopicPartition]bool // true: the call has ended
	// gone are the lease epochs of partitions given away. A view that still shows such a lease as ours is old; adopting
	// it would make two leaders of one lease epoch.
	gone map[catalog.TopicPartition]catalog.LeaseEpoch
	// rest are partitions whose hand-over failed, and until when they are left in peace.
	rest map[catalog.TopicPartition]time.Time

	// settled: the engine held all that is ours, and nothing was under way, when it had this version. There is nothing to
	// adopt before one of view, engine and calls changes.
	settled int64

	empty          time.Time // since when nobody has been seen to hold anything; zero: somebody does
	gathered       time.Time // when that was waited for
	acquire, adopt worker
	giving         int // hand-overs under way
}

type freeLease struct {
	tp    catalog.TopicPartition
	first bool // we come first for it
}

// worker is one kind of call of the engine, one at a time.
type worker struct {
	running  bool
	failures int
	retry    time.Time
}

func (s *holdState) init() {
	s.busy = make(map[catalog.TopicPartition]bool)
	s.since = make(map[catalog.TopicPartition]time.Time)
	s.forget()
}

// forget is for a new broker epoch: what was ours is not any more. Calls under way go on and fail.
func (s *holdState) forget() {
	s.gone = make(map[catalog.TopicPartition]catalog.LeaseEpoch)
	s.rest = make(map[catalog.TopicPartition]time.Time)
	s.ours, s.asked, s.lost = nil, nil, nil
	s.settled = -1
	s.acquire.failures, s.adopt.failures = 0, 0
	s.acquire.retry, s.adopt.retry = time.Time{}, time.Time{}
}

// settle is called when a view was read: it shows the effect of all calls that had ended by then.
func (s *holdState) settle() {
	for tp, ended := range s.busy {
		if ended {
			delete(s.busy, tp)
		}
	}
}

// index sorts out what the view means for us, once for each view.
func (m *Manager) index(now time.Time) {
	if !m.dirty {
		return
	}
	m.dirty = false
	s, v := &m.hold, m.View()
	places := seats(v, m.leaving)
	s.ours, s.asked, s.free, s.lost = s.ours[:0], s.asked[:0], s.free[:0], s.lost[:0]
	s.settled = -1
	since := make(map[catalog.TopicPartition]time.Time)
	held := m.cfg.Partitions.Held()
	for l := range v.All() {
		switch l.Holder {
		case m.epoch:
			s.ours = append(s.ours, l)
			if l.Wanted != 0 {
				s.asked = append(s.asked, l)
			}
			if before, ok := s.gone[l.TopicPartition]; ok && l.Epoch > before {
				delete(s.gone, l.TopicPartition) // it came back
			}
			continue
		case 0:
			s.free = append(s.free, freeLease{l.TopicPartition, first(l.TopicPartition, places) == m.epoch})
			if at, ok := s.since[l.TopicPartition]; ok {
				since[l.TopicPartition] = at
			} else {
				since[l.TopicPartition] = now
			}
		default:
			if epoch, ok := held[l.TopicPartition]; ok && epoch < l.Epoch {
				s.lost = append(s.lost, l)
			}
		}
		if len(s.gone) > 0 {
			delete(s.gone, l.TopicPartition) // the view shows that it went
		}
	}
	s.since = since
	for tp := range s.gone {
		if _, ok := v.Lease(tp); !ok {
			delete(s.gone, tp) // the topic was deleted
		}
	}
}

// lose tells the engine which leases went elsewhere without its knowing, except where a call is under way that may tell it.
func (m *Manager) lose() {
	s := &m.hold
	if len(s.lost) == 0 {
		return
	}
	var now, later []catalog.Lease
	for _, l := range s.lost {
		if _, busy := s.busy[l.TopicPartition]; busy {
			later = append(later, l)
		} else {
			now = append(now, l)
		}
	}
	s.lost = later
	if len(now) > 0 {
		m.cfg.Partitions.Lost(now)
	}
}

// errNotGiven: the view shows leases as ours that the catalog did not give when it was asked.
var errNotGiven = errors.New("what is shown as this broker's is not: the leases were read before they went, or a fail-over of the catalog undid that they came")

// adopt takes over what the view shows as ours and the engine does not hold. If it holds nothing more then, the view is wrong, maybe
// until the next change of any lease: nobody is told, and it is tried again ever less often.
func (m *Manager) adopt(now time.Time) {
	s := &m.hold
	version := m.cfg.Partitions.HeldVersion() // before the map
	if s.settled == version || !m.ready(&s.adopt, now) || len(s.ours) == 0 {
		return
	}
	held := m.cfg.Partitions.Held()
	settled := true
	var leases []catalog.Lease
	var tps []catalog.TopicPartition
	for _, l := range s.ours {
		if epoch, ok := held[l.TopicPartition]; ok && epoch >= l.Epoch {
			continue
		}
		if _, busy := s.busy[l.TopicPartition]; busy {
			settled = false
			continue
		}
		if before, ok := s.gone[l.TopicPartition]; ok && l.Epoch <= before {
			continue // until a view shows where it went
		}
		leases, tps = append(leases, l), append(tps, l.TopicPartition)
	}
	if len(leases) == 0 {
		if settled {
			s.settled = version
		}
		return
	}
	m.work(&s.adopt, tps, "take over leases that were moved here", m.cfg.Hooks.Adopted, func(ctx context.Context) error {
		err := m.cfg.Partitions.Adopt(ctx, leases)
		if err == nil && m.cfg.Partitions.HeldVersion() == version {
			err = errNotGiven
		}
		return err
	})
}

// take acquires free leases: at once where we come first, whatever else is left after a while.
func (m *Manager) take(now time.Time) {
	s := &m.hold
	if len(s.free) == 0 || m.drain != nil || !m.ready(&s.acquire, now) {
		return
	}
	if places := seats(m.View(), m.leaving); !slices.ContainsFunc(places, func(p seat) bool { return p.epoch == m.epoch }) {
		return // others should have them
	}
	if m.gathering(now) {
		return
	}
	var tps []catalog.TopicPartition
	for _, f := range s.free {
		if _, busy := s.busy[f.tp]; busy {
			continue
		}
		since := s.since[f.tp]
		if since.Before(s.gathered) {
			since = s.gathered
		}
		if due := since.Add(m.cfg.Leftover); !f.first && due.After(now) {
			m.wakeAt(due)
			continue
		}
		if tps = append(tps, f.tp); len(tps) == m.cfg.AcquireBatch {
			break
		}
	}
	if len(tps) == 0 {
		return
	}
	m.work(&s.acquire, tps, "take free leases", m.cfg.Hooks.Acquired, func(ctx context.Context) error {
		return m.cfg.Partitions.Acquire(ctx, tps)
	})
}

// gathering tells whether to wait for brokers that start beside this one. Where nobody holds anything, in a new cluster or
// after the whole fleet went down, the first one would come first for all of it, and give most of it away again.
func (m *Manager) gathering(now time.Time) bool {
	s, v := &m.hold, m.View()
	if m.cfg.Fleet == nil || v.Free() < v.Len() {
		s.empty = time.Time{}
		return false
	}
	if s.empty.IsZero() {
		s.empty = now
	}
	s.gathered = s.empty.Add(m.cfg.Gather)
	switch {
	case now.Before(s.gathered):
		m.wakeAt(s.gathered)
		return true
	case m.lastRead.Before(s.gathered): // nothing tells of brokers that have just begun
		m.stale, m.hurry = true, true
		m.wakeAt(now)
		return true
	}
	return false
}

// ready tells whether a worker may start.
func (m *Manager) ready(w *worker, now time.Time) bool {
	if w.running {
		return false
	}
	if now.Before(w.retry) {
		m.wakeAt(w.retry)
		return false
	}
	return true
}

// work has a worker do a call of the engine, and tells the others when it succeeded.
func (m *Manager) work(w *worker, tps []catalog.TopicPartition, what string, hook func(int, time.Duration, error), call func(context.Context) error) {
	s := &m.hold
	w.running = true
	for _, tp := range tps {
		s.busy[tp] = false
	}
	epoch := m.epoch
	m.workers.Go(func() {
		began := time.Now()
		err := call(m.ctx)
		took := time.Since(began)
		m.post(func() {
			w.running = false
			m.ended(tps)
			if err == nil {
				w.failures = 0
				return
			}
			if m.epoch == epoch {
				w.failures++
				w.retry = time.Now().Add(backoff(m.cfg.Retry, w.failures))
			}
			if m.ctx.Err() == nil && w.failures <= 1 {
				m.log.Warn("the engine cannot do what the leases ask for; it is tried again", "task", what, "partitions", len(tps), "error", err)
			}
		})
		if hook != nil {
			hook(len(tps), took, err)
		}
		if err == nil {
			m.log.Info("took leases over", "task", what, "partitions", len(tps), "took", took)
			m.announce(catalog.Announcement{From: epoch, Leases: true})
		}
	})
}

// ended notes that a call of the engine has ended: the next view shows what it did.
func (m *Manager) ended(tps []catalog.TopicPartition) {
	for _, tp := range tps {
		m.hold.busy[tp] = true
	}
	m.stale = true
}

// give hands over what the controller or an operator asked for.
func (m *Manager) give(now time.Time) {
	s := &m.hold
	if m.drain != nil || m.cfg.Fleet == nil || s.giving >= m.cfg.HandOvers {
		return
	}
	var held map[catalog.TopicPartition]catalog.LeaseEpoch
	wanted := make(map[catalog.BrokerEpoch][]catalog.TopicPartition)
	var order []catalog.BrokerEpoch
	for _, l := range s.asked {
		if !m.receives(l.Wanted) || !m.idle(l.TopicPartition, now) {
			continue
		}
		if held == nil {
			held = m.cfg.Partitions.Held()
		}
		if _, ok := held[l.TopicPartition]; !ok {
			continue
		}
		if wanted[l.Wanted] == nil {
			order = append(order, l.Wanted)
		}
		wanted[l.Wanted] = append(wanted[l.Wanted], l.TopicPartition)
	}
	for _, to := range order {
		for tps := range slices.Chunk(wanted[to], m.cfg.MovesPerBroker) {
			if s.giving < m.cfg.HandOvers {
				m.handOver(tps, to, held, false)
			}
		}
	}
}

// receives tells whether a broker epoch may be given leases.
func (m *Manager) receives(epoch catalog.BrokerEpoch) bool {
	b, ok := m.View().Broker(epoch)
	return ok && epoch != m.epoch && !b.Draining && !m.leaving[epoch]
}

// idle tells whether a partition is free to be handed over now.
func (m *Manager) idle(tp catalog.TopicPartition, now time.Time) bool {
	if _, busy := m.hold.busy[tp]; busy {
		return false
	}
	until, resting := m.hold.rest[tp]
	if resting && now.Before(until) {
		m.wakeAt(until)
		return false
	}
	delete(m.hold.rest, tp)
	return true
}

// handOver starts one hand-over.
func (m *Manager) handOver(tps []catalog.TopicPartition, to catalog.BrokerEpoch, held map[catalog.TopicPartition]catalog.LeaseEpoch, leaving bool) {
	s := &m.hold
	s.giving++
	for _, tp := range tps {
		s.busy[tp] = false
		s.gone[tp] = held[tp]
	}
	if m.cfg.Hooks.Giving != nil {
		m.cfg.Hooks.Giving(len(tps))
	}
	epoch := m.epoch
	m.workers.Go(func() {
		began := time.Now()
		err := m.cfg.Partitions.HandOver(m.ctx, tps, to)
		took := time.Since(began)
		m.post(func() {
			s.giving--
			m.ended(tps)
			if err != nil && m.epoch == epoch {
				for _, tp := range tps {
					s.rest[tp] = time.Now().Add(m.cfg.Retry)
				}
			}
		})
		if m.cfg.Hooks.HandedOver != nil {
			m.cfg.Hooks.HandedOver(len(tps), took, err)
		}
		switch {
		case err == nil:
			m.log.Info("handed leases over", "partitions", len(tps), "to_broker_epoch", to, "took", took)
			m.announce(catalog.Announcement{From: epoch, Leases: true, Leaving: leaving})
		case m.ctx.Err() == nil && !errors.Is(err, context.Canceled):
			m.log.Warn("leases could not be handed over; it is tried again", "partitions", len(tps), "to_broker_epoch", to, "error", err)
		}
	})
}
