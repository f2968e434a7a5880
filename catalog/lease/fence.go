package lease

import (
	"context"
	"errors"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// maxDetachPoll is how rarely an observer asks who is attached, however many there are.
const maxDetachPoll = 2 * time.Second

// buryState is what is known of who lives.
type buryState struct {
	tried   map[catalog.BrokerEpoch]time.Time // not to be fenced before, for a try failed
	seen    map[catalog.BrokerEpoch]bool      // seen attached during our present attachment
	missing map[catalog.BrokerEpoch]time.Time // seen before, detached since
	twin    catalog.BrokerEpoch               // another process of our broker id, seen attached at the last look
	poll    time.Time                         // when to ask next
	polls   uint64                            // how often it was asked
	during  presence                          // our attachment in which all that was seen
	latest  time.Time                         // the latest heartbeat listed: a lower bound of the catalog's clock
	at      time.Time                         // when that was listed
}

func (s *buryState) init() {
	s.tried = make(map[catalog.BrokerEpoch]time.Time)
	s.blind()
}

// blind forgets who was attached: we were away ourselves.
func (s *buryState) blind() {
	s.seen = make(map[catalog.BrokerEpoch]bool)
	s.missing = make(map[catalog.BrokerEpoch]time.Time)
	s.poll = time.Time{}
}

// listed notes how late it is at the catalog, and forgets who is gone.
func (s *buryState) listed(brokers []catalog.Broker) {
	live := make(map[catalog.BrokerEpoch]bool, len(brokers))
	for i := range brokers {
		live[brokers[i].Epoch] = !brokers[i].Fenced
		if brokers[i].LastHeartbeat.After(s.latest) {
			s.latest, s.at = brokers[i].LastHeartbeat, time.Now()
		}
	}
	for epoch := range s.tried {
		if !live[epoch] {
			delete(s.tried, epoch)
		}
	}
	for epoch := range s.seen {
		if !live[epoch] {
			delete(s.seen, epoch)
			delete(s.missing, epoch)
		}
	}
}

// catalogNow estimates the catalog's clock, from below: from the last heartbeat answered to us, or seen of others.
func (m *Manager) catalogNow(now time.Time) time.Time {
	m.mu.Lock()
	beat, at := m.mu.beat.Now, m.mu.beatAt
	m.mu.Unlock()
	var est time.Time
	if !at.IsZero() {
		est = beat.Add(now.Sub(at))
	}
	if other := m.bury.latest.Add(now.Sub(m.bury.at)); !m.bury.at.IsZero() && other.After(est) {
		est = other
	}
	return est
}

// fenceExpired fences sessions that ran out. When is a guess here; whether is the catalog's to say.
func (m *Manager) fenceExpired(now time.Time) {
	est := m.catalogNow(now)
	for i := range m.brokers { // fence does not list them again
		b := &m.brokers[i]
		if b.Fenced || b.Epoch == m.epoch {
			continue
		}
		due := now.Add(b.LastHeartbeat.Add(b.TTL).Sub(est))
		if tried, ok := m.bury.tried[b.Epoch]; ok && tried.After(due) {
			due = tried
		}
		if due.After(now) {
			m.wakeAt(due)
			continue
		}
		m.bury.tried[b.Epoch] = now.Add(m.cfg.Tick)
		m.fence(b, catalog.FenceExpired)
	}
}

func (m *Manager) fence(b *catalog.Broker, why catalog.FenceReason) {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.CallTimeout)
	err := m.cfg.Catalog.FenceBroker(ctx, b.Epoch, why)
	cancel()
	if errors.Is(err, catalog.ErrNotExpired) {
		m.stale = true // it was renewed, or nothing expires for now: look again before the next try
		m.wakeAt(m.tick)
		return
	}
	if errors.Is(err, catalog.ErrUnknownBroker) {
		err = nil
	}
	if !m.call("fence a broker", err) {
		return
	}
	b.Fenced = true
	m.log.Warn("fenced a broker", "broker_id", b.ID, "broker_epoch", b.Epoch, "detached", why == catalog.FenceProvenDead,
		"last_heartbeat", b.LastHeartbeat)
	if m.cfg.Hooks.Fenced != nil {
		m.cfg.Hooks.Fenced(*b, why)
	}
	m.stale, m.hurry = true, true
	m.announce(catalog.Announcement{From: m.epoch, Leases: true})
}

// fenceDetached fences processes that are gone: seen attached during our present attachment, detached since, and still
// so after the time to confirm.
func (m *Manager) fenceDetached(now time.Time) {
	present := m.attacher.now()
	if present != m.bury.during {
		m.bury.blind()
		m.bury.during = present
	}
	if !present.standing {
		return
	}
	if now.Before(m.bury.poll) {
		m.wakeAt(m.bury.poll)
		return
	}
	own, _ := m.View().Broker(m.epoch)
	var others []catalog.BrokerEpoch
	for i := range m.brokers {
		if b := &m.brokers[i]; !b.Fenced && b.Epoch != m.epoch {
			others = append(others, b.Epoch)
		}
	}
	if len(others) == 0 {
		m.bury.poll = now.Add(m.cfg.Tick)
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.CallTimeout)
	gone, err := m.cfg.Fleet.Detached(ctx, others)
	cancel()
	if m.attacher.now() != present { // the next look begins anew
		m.ring()
		return
	}
	now = time.Now()
	m.bury.poll = now.Add(m.pollPause(len(others)))
	if !m.call("see who is attached", err) {
		m.bury.blind() // we were not there ourselves
		m.bury.poll = now.Add(m.cfg.DetachPoll)
		m.wakeAt(m.bury.poll)
		return
	}
	away := make(map[catalog.BrokerEpoch]bool, len(gone))
	for _, epoch := range gone {
		away[epoch] = true
	}
	var twin *catalog.Broker
	for i := range m.brokers {
		b := &m.brokers[i]
		switch since, missed := m.bury.missing[b.Epoch]; {
		case b.Fenced || b.Epoch == m.epoch:
		case !away[b.Epoch]:
			m.bury.seen[b.Epoch] = true
			delete(m.bury.missing, b.Epoch)
			if b.ID == own.ID && b.Epoch > own.Epoch && own.Epoch != 0 {
				twin = b
			}
		case !m.bury.seen[b.Epoch] && (b.ID != own.ID || b.Epoch > own.Epoch):
			// It may be on its way, as all are after a restart of the database. Not so an earlier process of this broker.
		case !missed:
			m.bury.missing[b.Epoch] = now
			m.bury.poll = earlier(m.bury.poll, now.Add(m.cfg.Confirm))
		case now.Sub(since) < m.cfg.Confirm:
			m.bury.poll = earlier(m.bury.poll, since.Add(m.cfg.Confirm))
		default:
			delete(m.bury.missing, b.Epoch)
			delete(m.bury.seen, b.Epoch)
			m.fence(b, catalog.FenceProvenDead)
		}
	}
	m.superseded(twin)
	m.wakeAt(m.bury.poll)
}

// superseded tells that another process, which lives, registered our broker id after we did: nil for none. Only the later
// of two sees nothing, so that exactly one gives way. It is told at the second look: a process that registers anew drops the
// attachment of its last epoch a moment later.
func (m *Manager) superseded(twin *catalog.Broker) {
	if twin == nil {
		m.bury.twin = 0
		return
	}
	if m.bury.twin == twin.Epoch && m.cfg.Hooks.Superseded != nil && m.cfg.Partitions.Epoch() == m.epoch {
		m.cfg.Hooks.Superseded(*twin)
	}
	m.bury.twin = twin.Epoch
}

// pollPause is how long to wait before asking again who is attached. It varies by half, so that observers who began in one
// moment, as all do after a restart of the database, do not go on asking all at once and then none for long.
func (m *Manager) pollPause(others int) time.Duration {
	mean := min(m.cfg.DetachPoll*time.Duration(others), maxDetachPoll)
	m.bury.polls++
	return mean/2 + time.Duration(mix(uint64(m.epoch)<<32+m.bury.polls)%uint64(mean))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
