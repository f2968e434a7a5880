package faulty_test

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

func TestConformance(t *testing.T) {
	catalogtest.Run(t, func(_ *testing.T, now func() time.Time) catalog.Catalog { return faulty.New(memory.New(now), nil) })
}

// callAll calls every method but Close with zero arguments and hands each error on.
func callAll(t *testing.T, c catalog.Catalog, each func(method string, err error)) {
	t.Helper()
	v := reflect.ValueOf(c)
	contract := reflect.TypeFor[catalog.Catalog]()
	for m := range contract.Methods() {
		if m.Name == "Close" {
			continue
		}
		method := v.MethodByName(m.Name)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < method.Type().NumIn(); i++ {
			args = append(args, reflect.Zero(method.Type().In(i)))
		}
		out := method.Call(args)
		err, _ := reflect.TypeAssert[error](out[len(out)-1])
		each(m.Name, err)
	}
}

func TestEveryMethodIsCountedAndCanFail(t *testing.T) {
	n := len(faulty.Ops())
	plan := faulty.NewPlan(faulty.Fault{Op: faulty.OpAny, Count: n, Kind: faulty.Refuse})
	c := faulty.New(memory.New(nil), plan)
	callAll(t, c, func(method string, err error) { require.ErrorIs(t, err, catalog.ErrUnavailable, method) })
	for _, op := range faulty.Ops() {
		require.Equal(t, 1, plan.Calls(op), op.String())
	}
	require.Equal(t, n, plan.Calls(faulty.OpAny))
	require.NoError(t, plan.Verify())
	require.NoError(t, c.Close())
}

func commit(t *testing.T, c catalog.Catalog, epoch catalog.BrokerEpoch, seq catalog.Sequence) error {
	t.Helper()
	_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{{Epoch: epoch, First: seq, Last: seq, Object: catalog.ObjectID(seq), Key: "k"}})
	return err
}

func register(t *testing.T, c catalog.Catalog) catalog.BrokerEpoch {
	t.Helper()
	b, err := c.RegisterBroker(t.Context(), catalog.Registration{ID: 1, Incarnation: [16]byte{1}, TTL: time.Second})
	require.NoError(t, err)
	return b.Epoch
}

func last(t *testing.T, c catalog.Catalog) catalog.Sequence {
	t.Helper()
	tails, err := c.BrokerTails(t.Context())
	require.NoError(t, err)
	return tails[0].Last
}

func TestRefuseAndLost(t *testing.T) {
	inner := memory.New(nil)
	plan := faulty.NewPlan(
		faulty.Fault{Op: faulty.OpCommit, Index: 1, Kind: faulty.Refuse},
		faulty.Fault{Op: faulty.OpCommit, Index: 2, Kind: faulty.Lost},
		faulty.Fault{Op: faulty.OpCommit, Index: 3, Kind: faulty.Lost, Err: catalog.ErrNoSpace},
	)
	c := faulty.New(inner, plan)
	epoch := register(t, c)
	require.NoError(t, commit(t, c, epoch, 1))
	require.ErrorIs(t, commit(t, c, epoch, 2), catalog.ErrUnavailable)
	require.EqualValues(t, 1, last(t, inner))
	require.ErrorIs(t, commit(t, c, epoch, 2), catalog.ErrUnavailable)
	require.EqualValues(t, 2, last(t, inner), "done, answer lost")
	require.Error(t, plan.Verify(), "the third was not hit yet")
	require.ErrorIs(t, commit(t, c, epoch, 3), catalog.ErrNoSpace)
	require.NoError(t, plan.Verify())
}

func TestCrashBeforeAndAfter(t *testing.T) {
	for kind, want := range map[faulty.Kind]catalog.Sequence{faulty.Refuse: 1, faulty.Lost: 2} {
		inner := memory.New(nil)
		plan := faulty.NewPlan(faulty.Fault{Op: faulty.OpCommit, Index: 1, Kind: kind, Crash: true})
		c := faulty.New(inner, plan)
		epoch := register(t, c)
		require.NoError(t, commit(t, c, epoch, 1))
		require.ErrorIs(t, commit(t, c, epoch, 2), faulty.ErrCrashed)
		<-c.Crashed()
		callAll(t, c, func(method string, err error) { require.ErrorIs(t, err, catalog.ErrUnavailable, method) })
		require.NoError(t, c.Quiesce(t.Context()))
		require.Equal(t, want, last(t, inner))
		require.NoError(t, plan.Verify())
		require.NoError(t, c.Close())
		require.NoError(t, inner.Ping(t.Context()), "it belongs to the next process")
	}
}

func TestSlow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		inner := memory.New(nil)
		gate := make(chan struct{})
		c := faulty.New(inner, faulty.NewPlan(
			faulty.Fault{Op: faulty.OpPing, Kind: faulty.Slow, Delay: time.Minute},
			faulty.Fault{Op: faulty.OpPing, Index: 1, Kind: faulty.Slow, Gate: gate},
			faulty.Fault{Op: faulty.OpAllocateIDs, Kind: faulty.Slow, Delay: time.Hour},
		))
		began := time.Now()
		require.NoError(t, c.Ping(t.Context()))
		require.Equal(t, time.Minute, time.Since(began))
		done := make(chan error)
		go func() { done <- c.Ping(t.Context()) }()
		synctest.Wait()
		close(gate)
		require.NoError(t, <-done)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.AllocateIDs(ctx, catalog.IDObject, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		first, err := inner.AllocateIDs(t.Context(), catalog.IDObject, 1)
		require.NoError(t, err)
		require.EqualValues(t, 1, first, "nothing was done")
	})
}
