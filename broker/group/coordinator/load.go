package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
)

// loaded is what was read of a shard.
type loaded struct {
	records []catalog.GroupRecord
	err     error // the shard's end
}

// load reads the shard's groups in the background. No write is in flight.
func (s *shard) load() {
	w := &s.work
	w.loading = true
	s.forgetMembers()
	w.groups, w.timers, w.dirty = make(map[string]*entry), nil, nil
	ctx := w.ctx
	w.workers.Go(func() {
		select {
		case s.c.loads <- struct{}{}:
			defer func() { <-s.c.loads }()
		case <-ctx.Done():
			return
		}
		began := time.Now()
		records, err := s.read(ctx)
		if err == nil && s.c.cfg.Hooks.Loaded != nil {
			s.c.cfg.Hooks.Loaded(s.n, len(records), time.Since(began), nil)
		}
		w.loaded <- loaded{records, err}
	})
}

// read reads all groups, page by page, until the catalog answers or ctx ends.
func (s *shard) read(ctx context.Context) (all []catalog.GroupRecord, err error) {
	wait, failures := pause{}, 0
	after := ""
	for {
		began := time.Now()
		call, cancel := context.WithTimeout(ctx, s.c.cfg.CallTimeout)
		page, err := s.c.cfg.Groups.ReadGroups(call, s.n, after, s.c.cfg.LoadPage)
		cancel()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, catalog.ErrClosed) {
				return nil, err
			}
			if failures++; failures == 1 {
				s.c.cfg.Logger.Warn("a shard of groups could not be read, trying again", "shard", s.n, "error", err)
			}
			if s.c.cfg.Hooks.Loaded != nil {
				s.c.cfg.Hooks.Loaded(s.n, 0, time.Since(began), err)
			}
			if !wait.sleep(ctx) {
				return nil, err
			}
			continue
		}
		wait = pause{}
		if len(page) == 0 {
			return all, nil
		}
		all = append(all, page...)
		after = page[len(page)-1].ID
		if len(page) < s.c.cfg.LoadPage {
			return all, nil
		}
	}
}

// install begins to serve what was read.
func (s *shard) install(l loaded) {
	w := &s.work
	if l.err != nil {
		w.stopped = true
		return
	}
	w.loading = false
	w.topics, w.configs = s.c.topics.Load(), s.c.config.Load()
	now := time.Now()
	for i := range l.records {
		rec := &l.records[i]
		cfg := w.configs.Of(rec.ID)
		m, err := s.c.cfg.loadGroup(*rec, cfg, *w.topics, now)
		if err != nil {
			// Nothing is changed of what cannot be read: a broker that can may come.
			s.c.cfg.Logger.Error("a group cannot be read: this is a defect, please report it; requests about it are refused", "group", rec.ID, "shard", s.n, "error", err)
			m = unreadable{}
		}
		e := s.add(rec.ID, cfg, m)
		if len(rec.Members) > 0 && err == nil {
			s.noticed(e.id)
		}
		if g, ok := m.(*group.Group); ok {
			e.phase, e.epoch = g.Phase(), g.Epoch()
		}
		s.settle(e)
	}
	s.membersRead()
	s.c.counted(len(l.records))
	if len(l.records) > 0 {
		s.c.cfg.Logger.Info("coordinating groups", "shard", s.n, "groups", len(l.records), "broker_epoch", s.broker, "lease_epoch", s.epoch)
	}
}

// sameConfig compares what can be set per group.
func sameConfig(a, b *group.Config) bool {
	return a.ConsumerSessionTimeout == b.ConsumerSessionTimeout && a.ConsumerHeartbeatInterval == b.ConsumerHeartbeatInterval
}

// unreadable is a group whose rows do not decode. It takes no request.
type unreadable struct{}

// Step implements machine.
func (unreadable) Step(time.Time, group.Event) group.Effects { return group.Effects{} }

// Next implements machine.
func (unreadable) Next() time.Time { return time.Time{} }

// Gone implements machine.
func (unreadable) Gone() bool { return false }
