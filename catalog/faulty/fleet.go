package faulty

import (
	"context"

	"github.com/streamhouse/streamhouse/catalog"
)

// Fleet returns the wrapped catalog's [catalog.Fleet] under the same plan, nil if it has none.
//
// A crash also ends what lasts: Listen returns, and attachments are dropped, as those of a process that ended.
func (c *Catalog) Fleet() catalog.Fleet {
	if inner, ok := c.inner.(catalog.Fleet); ok {
		return &fleet{c, inner}
	}
	return nil
}

type fleet struct {
	c     *Catalog
	inner catalog.Fleet
}

// MoveLeases implements [catalog.Fleet].
func (f *fleet) MoveLeases(ctx context.Context, epoch, to catalog.BrokerEpoch, leases []catalog.HeldLease) ([]catalog.Lease, error) {
	return answer(ctx, f.c, OpMoveLeases, func() ([]catalog.Lease, error) { return f.inner.MoveLeases(ctx, epoch, to, leases) })
}

// AskMoves implements [catalog.Fleet].
func (f *fleet) AskMoves(ctx context.Context, asker catalog.BrokerEpoch, moves []catalog.Move) error {
	return f.c.Do(ctx, OpAskMoves, func() error { return f.inner.AskMoves(ctx, asker, moves) })
}

// SetDraining implements [catalog.Fleet].
func (f *fleet) SetDraining(ctx context.Context, id catalog.BrokerID, draining bool) error {
	return f.c.Do(ctx, OpSetDraining, func() error { return f.inner.SetDraining(ctx, id, draining) })
}

// ReadMerges implements [catalog.Fleet].
func (f *fleet) ReadMerges(ctx context.Context, epoch catalog.BrokerEpoch, after int64, limit int) ([]catalog.TailEntry, error) {
	return answer(ctx, f.c, OpReadMerges, func() ([]catalog.TailEntry, error) { return f.inner.ReadMerges(ctx, epoch, after, limit) })
}

// MembersOf implements [catalog.Fleet].
func (f *fleet) MembersOf(
	ctx context.Context, clients []catalog.GroupClient, besides []int32, known map[catalog.MemberName]int64, limit int,
) ([]catalog.ClientMember, error) {
	return answer(ctx, f.c, OpMembersOf, func() ([]catalog.ClientMember, error) {
		return f.inner.MembersOf(ctx, clients, besides, known, limit)
	})
}

// Announce implements [catalog.Fleet].
func (f *fleet) Announce(ctx context.Context, a catalog.Announcement) error {
	return f.c.Do(ctx, OpAnnounce, func() error { return f.inner.Announce(ctx, a) })
}

// Listen implements [catalog.Fleet]. Its fault is one of its beginning.
func (f *fleet) Listen(ctx context.Context, fn func(catalog.Announcement)) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		select {
		case <-f.c.Crashed():
			end(ErrCrashed)
		case <-ctx.Done():
		}
	}()
	if err := f.c.Do(ctx, OpListen, func() error { return nil }); err != nil {
		return err
	}
	err := f.inner.Listen(ctx, func(a catalog.Announcement) {
		if !f.c.Gone() {
			fn(a)
		}
	})
	if f.c.Gone() {
		return ErrCrashed
	}
	return err
}

// Attach implements [catalog.Fleet].
func (f *fleet) Attach(ctx context.Context, epoch catalog.BrokerEpoch) (detach func(), lost <-chan struct{}, err error) {
	var inner func()
	err = f.c.Do(ctx, OpAttach, func() (err error) {
		inner, lost, err = f.inner.Attach(ctx, epoch)
		return err
	})
	if err != nil {
		if inner != nil {
			inner() // an answer lost: the connection that it stood on is dropped with it
		}
		return nil, nil, err
	}
	go func() {
		select {
		case <-f.c.Crashed():
			inner()
		case <-lost:
		}
	}()
	return inner, lost, nil
}

// Detached implements [catalog.Fleet].
func (f *fleet) Detached(ctx context.Context, epochs []catalog.BrokerEpoch) ([]catalog.BrokerEpoch, error) {
	return answer(ctx, f.c, OpDetached, func() ([]catalog.BrokerEpoch, error) { return f.inner.Detached(ctx, epochs) })
}

// Unfenced implements [catalog.Fleet].
func (f *fleet) Unfenced(ctx context.Context, epoch catalog.BrokerEpoch) error {
	return f.c.Do(ctx, OpUnfenced, func() error { return f.inner.Unfenced(ctx, epoch) })
}
