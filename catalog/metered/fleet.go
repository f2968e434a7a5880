package metered

import (
	"context"

	"github.com/streamhouse/streamhouse/catalog"
)

// Fleet returns the wrapped catalog's [catalog.Fleet], of whose calls the same hooks are told; nil if it has none.
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
func (f *fleet) MoveLeases(ctx context.Context, epoch, to catalog.BrokerEpoch, leases []catalog.HeldLease) (moved []catalog.Lease, err error) {
	err = f.c.measure(OpMoveLeases, func() (err error) {
		moved, err = f.inner.MoveLeases(ctx, epoch, to, leases)
		return err
	})
	return moved, err
}

// AskMoves implements [catalog.Fleet].
func (f *fleet) AskMoves(ctx context.Context, asker catalog.BrokerEpoch, moves []catalog.Move) error {
	return f.c.measure(OpAskMoves, func() error { return f.inner.AskMoves(ctx, asker, moves) })
}

// SetDraining implements [catalog.Fleet].
func (f *fleet) SetDraining(ctx context.Context, id catalog.BrokerID, draining bool) error {
	return f.c.measure(OpSetDraining, func() error { return f.inner.SetDraining(ctx, id, draining) })
}

// ReadMerges implements [catalog.Fleet].
func (f *fleet) ReadMerges(ctx context.Context, epoch catalog.BrokerEpoch, after int64, limit int) (rows []catalog.TailEntry, err error) {
	err = f.c.measure(OpReadMerges, func() (err error) {
		rows, err = f.inner.ReadMerges(ctx, epoch, after, limit)
		return err
	})
	return rows, err
}

// MembersOf implements [catalog.Fleet].
func (f *fleet) MembersOf(
	ctx context.Context, clients []catalog.GroupClient, besides []int32, known map[catalog.MemberName]int64, limit int,
) (members []catalog.ClientMember, err error) {
	err = f.c.measure(OpMembersOf, func() (err error) {
		members, err = f.inner.MembersOf(ctx, clients, besides, known, limit)
		return err
	})
	return members, err
}

// Announce implements [catalog.Fleet].
func (f *fleet) Announce(ctx context.Context, a catalog.Announcement) error {
	return f.c.measure(OpAnnounce, func() error { return f.inner.Announce(ctx, a) })
}

// Listen implements [catalog.Fleet]. The hooks are not told: it lasts.
func (f *fleet) Listen(ctx context.Context, fn func(catalog.Announcement)) error {
	return f.inner.Listen(ctx, fn)
}

// Attach implements [catalog.Fleet].
func (f *fleet) Attach(ctx context.Context, epoch catalog.BrokerEpoch) (detach func(), lost <-chan struct{}, err error) {
	err = f.c.measure(OpAttach, func() (err error) {
		detach, lost, err = f.inner.Attach(ctx, epoch)
		return err
	})
	return detach, lost, err
}

// Detached implements [catalog.Fleet].
func (f *fleet) Detached(ctx context.Context, epochs []catalog.BrokerEpoch) (gone []catalog.BrokerEpoch, err error) {
	err = f.c.measure(OpDetached, func() (err error) {
		gone, err = f.inner.Detached(ctx, epochs)
		return err
	})
	return gone, err
}

// Unfenced implements [catalog.Fleet].
func (f *fleet) Unfenced(ctx context.Context, epoch catalog.BrokerEpoch) error {
	return f.c.measure(OpUnfenced, func() error { return f.inner.Unfenced(ctx, epoch) })
}
