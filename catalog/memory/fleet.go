package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
)

var _ catalog.Fleet = (*Catalog)(nil)

// handle is what one process has of a catalog. It is guarded by shared.mu.
type handle struct {
	closed      bool
	attachments map[*attachment]bool
	listening   map[*listener]bool
}

func newHandle() handle {
	return handle{attachments: make(map[*attachment]bool), listening: make(map[*listener]bool)}
}

type attachment struct {
	epoch catalog.BrokerEpoch
	lost  chan struct{}
}

// listener is one Listen under way.
type listener struct {
	pending []catalog.Announcement // at most one of each From
	wake    chan struct{}          // capacity 1: pending grew
	lost    chan struct{}          // closed when it ends
	err     error                  // why, set before lost is closed
}

// Open returns another handle on the same catalog, as another process would have. Also of a closed handle.
func (c *Catalog) Open() *Catalog { return &Catalog{shared: c.shared, handle: newHandle()} }

// Drop loses the handle's connections, as a restart of a database server would: its attachments and listeners end. It
// goes on afterwards.
func (c *Catalog) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(fmt.Errorf("the connection was dropped: %w", catalog.ErrUnavailable))
}

// Restarted lets nothing expire for one full term from now on, as a database does that could not be reached until now.
func (c *Catalog) Restarted() { c.clock.Settle() }

func (c *Catalog) dropLocked(why error) {
	for a := range c.attachments {
		c.detachLocked(a)
	}
	for l := range c.listening {
		c.deafLocked(l, why)
	}
}

func (c *Catalog) detachLocked(a *attachment) {
	if !c.attachments[a] {
		return
	}
	delete(c.attachments, a)
	if c.mu.attached[a.epoch]--; c.mu.attached[a.epoch] == 0 {
		delete(c.mu.attached, a.epoch)
	}
	close(a.lost)
}

func (c *Catalog) deafLocked(l *listener, why error) {
	if !c.listening[l] {
		return
	}
	delete(c.listening, l)
	delete(c.mu.listeners, l)
	l.err = why
	close(l.lost)
}

// MoveLeases implements catalog.Fleet.
func (c *Catalog) MoveLeases(ctx context.Context, epoch, to catalog.BrokerEpoch, leases []catalog.HeldLease) ([]catalog.Lease, error) {
	if err := catalog.CheckMoveLeases(epoch, to); err != nil {
		return nil, fmt.Errorf("move leases: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(epoch); err != nil {
		return nil, err
	}
	if _, err := c.unfencedLocked(to); err != nil {
		return nil, fmt.Errorf("move leases to broker epoch %d: %w", to, catalog.ErrUnknownBroker)
	}
	var out []catalog.Lease
	for _, named := range leases {
		t, p := c.partitionLocked(named.TopicPartition)
		if t == nil || t.deleted || p.lease.Holder != epoch || p.lease.Epoch != named.Epoch {
			continue
		}
		p.lease.Holder, p.lease.Wanted = to, 0
		p.lease.Epoch++
		out = append(out, p.lease)
	}
	if len(out) > 0 {
		c.mu.leasesVersion++
	}
	return out, nil
}

// AskMoves implements catalog.Fleet.
func (c *Catalog) AskMoves(ctx context.Context, asker catalog.BrokerEpoch, moves []catalog.Move) error {
	if err := catalog.CheckMoves(moves); err != nil {
		return fmt.Errorf("ask for moves: %w", err)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, err := c.unfencedLocked(asker); err != nil {
		return err
	}
	changed := false
	for _, m := range moves {
		t, p := c.partitionLocked(m.TopicPartition)
		if t == nil || t.deleted || p.lease.Holder == 0 || p.lease.Holder == m.To || p.lease.Wanted == m.To {
			continue
		}
		if m.To != 0 {
			if _, err := c.unfencedLocked(m.To); err != nil {
				continue
			}
		}
		p.lease.Wanted = m.To
		changed = true
	}
	if changed {
		c.mu.leasesVersion++
	}
	return nil
}

// SetDraining implements catalog.Fleet.
func (c *Catalog) SetDraining(ctx context.Context, id catalog.BrokerID, draining bool) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	known := false
	for _, b := range c.mu.brokers {
		known = known || b.ID == id && !b.Fenced
	}
	if !known {
		return fmt.Errorf("drain broker %d: %w", id, catalog.ErrUnknownBroker)
	}
	if c.mu.draining[id] == draining {
		return nil
	}
	c.mu.draining[id] = draining
	for _, b := range c.mu.brokers {
		if b.ID == id {
			b.Draining = draining
		}
	}
	c.mu.leasesVersion++
	return nil
}

// ReadMerges implements catalog.Fleet.
func (c *Catalog) ReadMerges(ctx context.Context, epoch catalog.BrokerEpoch, after int64, limit int) ([]catalog.TailEntry, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []catalog.TailEntry
	if b := c.mu.brokers[epoch]; b != nil {
		for _, e := range b.tail {
			if e.Merge > max(after, 0) {
				e.Index = slices.Clone(e.Index)
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b catalog.TailEntry) int { return cmp.Compare(a.Merge, b.Merge) })
	return out[:max(0, min(limit, len(out)))], nil
}

// Announce implements catalog.Fleet.
func (c *Catalog) Announce(ctx context.Context, a catalog.Announcement) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for l := range c.mu.listeners {
		if c.listening[l] {
			continue
		}
		if i := slices.IndexFunc(l.pending, func(p catalog.Announcement) bool { return p.From == a.From }); i >= 0 {
			l.pending[i] = l.pending[i].Merge(a)
		} else {
			l.pending = append(l.pending, a)
		}
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// Listen implements catalog.Fleet.
func (c *Catalog) Listen(ctx context.Context, fn func(catalog.Announcement)) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	l := &listener{wake: make(chan struct{}, 1), lost: make(chan struct{})}
	c.listening[l], c.mu.listeners[l] = true, true
	c.mu.Unlock()
	fn(catalog.Announcement{})
	for {
		select {
		case <-ctx.Done():
			c.mu.Lock()
			c.deafLocked(l, ctx.Err())
			c.mu.Unlock()
			return fmt.Errorf("listen: %w", ctx.Err())
		case <-l.lost:
			return fmt.Errorf("listen: %w", l.err)
		case <-l.wake:
		}
		c.mu.Lock()
		heard := l.pending
		l.pending = nil
		c.mu.Unlock()
		for _, a := range heard {
			fn(a)
		}
	}
}

// Attach implements catalog.Fleet.
func (c *Catalog) Attach(ctx context.Context, epoch catalog.BrokerEpoch) (detach func(), lost <-chan struct{}, err error) {
	if err := c.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer c.mu.Unlock()
	a := &attachment{epoch: epoch, lost: make(chan struct{})}
	c.attachments[a] = true
	c.mu.attached[epoch]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.detachLocked(a)
	}, a.lost, nil
}

// Unfenced implements catalog.Fleet.
func (c *Catalog) Unfenced(ctx context.Context, epoch catalog.BrokerEpoch) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	_, err := c.unfencedLocked(epoch)
	return err
}

// Detached implements catalog.Fleet.
func (c *Catalog) Detached(ctx context.Context, epochs []catalog.BrokerEpoch) ([]catalog.BrokerEpoch, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if len(c.attachments) == 0 {
		return nil, fmt.Errorf("see who is attached: not attached: %w", catalog.ErrUnavailable)
	}
	var out []catalog.BrokerEpoch
	for _, epoch := range epochs {
		if c.mu.attached[epoch] == 0 {
			out = append(out, epoch)
		}
	}
	return out, nil
}
