package faulty_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/catalog/memory"
)

type member struct {
	*faulty.Catalog
	catalog.Fleet
	catalog.Operator

	inner *memory.Catalog
}

func TestFleetConformance(t *testing.T) {
	catalogtest.RunFleet(t, func(_ *testing.T, now func() time.Time) catalogtest.Shared {
		first := memory.New(now)
		return catalogtest.Shared{
			Open: func(*testing.T) catalogtest.FleetCatalog {
				inner := first.Open()
				c := faulty.New(inner, nil)
				return member{c, c.Fleet(), inner, inner}
			},
			Drop: func(_ *testing.T, h catalogtest.FleetCatalog) { h.(member).inner.Drop() },
		}
	})
}

func TestEveryFleetMethodIsCountedAndCanFail(t *testing.T) {
	n := len(faulty.FleetOps())
	plan := faulty.NewPlan(faulty.Fault{Op: faulty.OpAny, Count: n, Kind: faulty.Refuse})
	v := reflect.ValueOf(faulty.New(memory.New(nil), plan).Fleet())
	for m := range reflect.TypeFor[catalog.Fleet]().Methods() {
		method := v.MethodByName(m.Name)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < method.Type().NumIn(); i++ {
			args = append(args, reflect.Zero(method.Type().In(i)))
		}
		out := method.Call(args)
		err, _ := reflect.TypeAssert[error](out[len(out)-1])
		require.ErrorIs(t, err, catalog.ErrUnavailable, m.Name)
	}
	for _, op := range faulty.FleetOps() {
		require.Equal(t, 1, plan.Calls(op), op.String())
	}
	require.NoError(t, plan.Verify())
}

// A crash is the end of a process: what it attached goes, and it hears nothing more.
func TestCrashEndsWhatLasts(t *testing.T) {
	inner := memory.New(nil)
	observer := inner.Open()
	detach, _, err := observer.Attach(t.Context(), 1)
	require.NoError(t, err)
	defer detach()
	c := faulty.New(inner, nil)
	fleet := c.Fleet()
	_, lost, err := fleet.Attach(t.Context(), 2)
	require.NoError(t, err)
	listening, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- fleet.Listen(t.Context(), func(catalog.Announcement) { close(listening) }) }()
	<-listening
	gone, err := observer.Detached(t.Context(), []catalog.BrokerEpoch{2})
	require.NoError(t, err)
	require.Empty(t, gone)
	c.Crash()
	<-lost
	require.ErrorIs(t, <-done, faulty.ErrCrashed)
	gone, err = observer.Detached(t.Context(), []catalog.BrokerEpoch{2})
	require.NoError(t, err)
	require.Equal(t, []catalog.BrokerEpoch{2}, gone)
	require.ErrorIs(t, fleet.Announce(t.Context(), catalog.Announcement{}), faulty.ErrCrashed)
}

// A lost answer of an attachment leaves none behind: it stood on the connection whose answer was lost.
func TestAttachAnswerLost(t *testing.T) {
	inner := memory.New(nil)
	fleet := faulty.New(inner, faulty.NewPlan(faulty.Fault{Op: faulty.OpAttach, Kind: faulty.Lost})).Fleet()
	_, _, err := fleet.Attach(t.Context(), 2)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	_, _, err = fleet.Attach(t.Context(), 1)
	require.NoError(t, err)
	gone, err := fleet.Detached(t.Context(), []catalog.BrokerEpoch{1, 2})
	require.NoError(t, err)
	require.Equal(t, []catalog.BrokerEpoch{2}, gone)
}
