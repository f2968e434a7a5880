package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// ErrAlone tells that there is no other broker that leases could be handed over to.
var ErrAlone = errors.New("no other broker can take the leases")

// drainHandOvers is how many hand-overs go on at once while draining.
const drainHandOvers = 8

// drainState is a drain under way.
type drainState struct {
	done chan struct{}
	err  error // set before done is closed
	over bool
}

func (d *drainState) end(err error) {
	if d == nil || d.over {
		return
	}
	d.over, d.err = true, err
	close(d.done)
}

// Drain gives all leases to the other brokers, in the same preference by which they would take them, and takes no more
// from now on, also after it failed. It returns when nothing is held, or ctx ends, or with [ErrAlone] at once when there
// is nobody to give to. It is for the end of the process: the mark is an announcement that is repeated meanwhile, not one
// in the catalog, so that the next process of this broker starts without. Without a fleet there is nothing to do.
func (m *Manager) Drain(ctx context.Context) error {
	if m.cfg.Fleet == nil {
		return nil
	}
	found := make(chan *drainState, 1)
	m.post(func() { //nolint:contextcheck // it runs on the deciding goroutine, whose context is Run's
		if m.drain == nil {
			m.drain = &drainState{done: make(chan struct{})}
			m.leaving[m.epoch] = true
			m.dirty, m.stale, m.hurry = true, true, true
			m.announce(catalog.Announcement{From: m.epoch, Leaving: true})
		}
		found <- m.drain
	})
	var d *drainState
	select {
	case d = <-found:
	case <-m.over:
		return fmt.Errorf("drain: %w", catalog.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("drain: %w", ctx.Err())
	}
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("drain: %d partitions are still held: %w", len(m.cfg.Partitions.Held()), ctx.Err())
	}
}

// drainStep hands over whatever is held and not under way.
func (m *Manager) drainStep(now time.Time) {
	s := &m.hold
	if m.drain == nil || m.drain.over {
		return
	}
	if !m.leaving[m.epoch] { // the engine has registered anew meanwhile
		m.leaving[m.epoch] = true
	}
	if m.stale {
		return // decide by a view that shows what was done
	}
	held := m.cfg.Partitions.Held()
	if len(held) == 0 && len(s.busy) == 0 && !s.acquire.running && !s.adopt.running && len(m.orphans()) == 0 {
		m.log.Info("all leases are handed over", "broker_epoch", m.epoch)
		m.drain.end(nil)
		return
	}
	places := slices.DeleteFunc(seats(m.View(), m.leaving), func(p seat) bool { return p.epoch == m.epoch || m.leaving[p.epoch] })
	if len(places) == 0 {
		m.drain.end(fmt.Errorf("drain: %d partitions stay: %w", len(held), ErrAlone))
		return
	}
	give := make(map[catalog.BrokerEpoch][]catalog.TopicPartition)
	for tp := range held {
		if m.idle(tp, now) {
			to := first(tp, places)
			give[to] = append(give[to], tp)
		}
	}
	for _, p := range places { // one batch each in turn, so that all receivers work at once
		if tps := give[p.epoch]; len(tps) > 0 && s.giving < drainHandOvers {
			m.handOver(tps[:min(len(tps), m.cfg.DrainBatch)], p.epoch, held, true)
		}
	}
}

// orphans are leases of ours that nobody leads: adopted next, then handed over.
func (m *Manager) orphans() []catalog.Lease {
	return slices.DeleteFunc(slices.Clone(m.hold.ours), func(l catalog.Lease) bool {
		before, ok := m.hold.gone[l.TopicPartition]
		return ok && l.Epoch <= before
	})
}
