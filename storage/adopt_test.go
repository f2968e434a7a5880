package storage

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// A lease that was seen as this broker's own, and that a fail-over undid, is not led under: its holder, or whoever acquires it
// next, does, and both would write.
func TestLeaseThatIsUndoneIsNotAdopted(t *testing.T) {
	ctx := t.Context()
	f := newFleet(t, 2)
	a, b := f.joinDeaf(1), f.joinDeaf(2)
	require.NoError(t, a.Acquire(ctx, f.tps()))
	shown := f.leases(a.Epoch())
	for i := range shown { // as after a move to b
		shown[i].Holder, shown[i].Epoch = b.Epoch(), shown[i].Epoch+1
	}
	require.NoError(t, b.Adopt(ctx, shown))
	require.Empty(t, b.Held(), "a has them")
	require.NoError(t, f.produce(ctx, a.Engine, f.logs[0], value(0, 0, 10)))

	// Had it been free, it is acquired: nobody else can have it then.
	epoch := a.Epoch()
	a.die()
	f.fence(epoch)
	require.NoError(t, b.Adopt(ctx, shown[:1]))
	require.Len(t, b.Held(), 1)
	require.Equal(t, []catalog.Lease{f.leases(b.Epoch())[0]}, f.leases(b.Epoch()), "the catalog knows of it")
	require.NoError(t, f.produce(ctx, b.Engine, f.logs[0], value(0, 1, 10)))
}
