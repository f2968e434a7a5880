package metered_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/catalogtest"
	"github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/catalog/metered"
)

func TestConformance(t *testing.T) {
	catalogtest.Run(t, func(_ *testing.T, now func() time.Time) catalog.Catalog {
		return metered.New(memory.New(now), metered.Hooks{})
	})
}

// refused: the catalog is closed, and looks at its arguments, here zero values, before that.
func refused(err error) bool {
	return errors.Is(err, catalog.ErrClosed) || errors.Is(err, catalog.ErrInvalid)
}

func TestEveryMethodIsTold(t *testing.T) {
	inner := memory.New(nil)
	require.NoError(t, inner.Close())
	started, done := make(map[string]int), make(map[string]int)
	c := metered.New(inner, metered.Hooks{
		Start: func(op string) { started[op]++ },
		Done: func(e metered.Event) {
			done[e.Op]++
			require.True(t, refused(e.Err), e.Op)
			require.GreaterOrEqual(t, e.Duration, time.Duration(0))
		},
	})
	v := reflect.ValueOf(c)
	for m := range reflect.TypeFor[catalog.Catalog]().Methods() {
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
		require.True(t, refused(err), m.Name)
	}
	for _, op := range metered.Ops() {
		require.Equal(t, 1, started[op], op)
		require.Equal(t, 1, done[op], op)
	}
	require.Len(t, started, len(metered.Ops()))
	require.NoError(t, c.Close())
}
