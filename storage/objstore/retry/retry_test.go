package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/faulty"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/retry"
)

var body = objstore.NewBody([]byte("0123456789"))

func fault(op faulty.Op, index, count int, kind faulty.Kind, err error) faulty.Fault {
	return faulty.Fault{Op: op, Index: index, Count: count, Kind: kind, Err: err}
}

func TestPutIsSettledNeverGuessed(t *testing.T) {
	const always = 1000
	for _, test := range []struct {
		name   string
		before string // what is under the key at first
		faults []faulty.Fault
		want   error
		doubt  bool
		puts   int
		heads  int
	}{
		{name: "no fault", puts: 1},
		{name: "refused once", faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Refuse, nil)}, puts: 2, heads: 1},
		{name: "answer lost", faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Lost, nil)}, puts: 1, heads: 1},
		{
			name: "answer lost, settling fails twice", puts: 1, heads: 3,
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Lost, nil), fault(faulty.OpHead, 0, 2, faulty.Refuse, nil)},
		},
		{name: "exists at first", before: "0123456789", want: objstore.ErrExists, puts: 1},
		{
			name: "in doubt, and another's bytes are there", before: "x", want: objstore.ErrExists, puts: 1, heads: 1,
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Refuse, nil)},
		},
		{
			name: "in doubt until the end", want: objstore.ErrUnavailable, doubt: true, puts: 1, heads: -1,
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Lost, nil), fault(faulty.OpHead, 0, always, faulty.Refuse, nil)},
		},
		{
			name: "full", want: objstore.ErrNoSpace, puts: 3,
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 3, faulty.Refuse, objstore.ErrNoSpace)},
		},
		{
			name: "full for a moment", puts: 3,
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 2, faulty.Refuse, objstore.ErrNoSpace)},
		},
		{
			name: "in doubt, then full", want: objstore.ErrNoSpace, doubt: true, puts: 4, heads: 1,
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Refuse, nil), fault(faulty.OpPut, 1, 3, faulty.Refuse, objstore.ErrNoSpace)},
		},
		{
			name: "an earlier attempt arrives late", puts: 2, heads: 2,
			// The first put is in doubt, the first settling finds nothing, the second put is told "exists".
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Lost, nil), fault(faulty.OpHead, 0, 1, faulty.Refuse, objstore.ErrNotFound)},
		},
		{
			name: "a backend's own error", puts: 1, heads: 1,
			faults: []faulty.Fault{fault(faulty.OpPut, 0, 1, faulty.Lost, errors.New("connection reset"))},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				inner := memory.New()
				if test.before != "" {
					require.NoError(t, inner.Put(t.Context(), "k", objstore.NewBody([]byte(test.before))))
				}
				plan := faulty.NewPlan(test.faults...)
				s := retry.New(faulty.New(inner, plan), retry.Policy{})
				err := s.Put(t.Context(), "k", body)
				if test.want == nil {
					require.NoError(t, err)
					p := make([]byte, 10)
					require.NoError(t, inner.GetRange(t.Context(), "k", 0, p))
					require.Equal(t, body.Slices[0], p)
				} else {
					require.ErrorIs(t, err, test.want)
					require.Equal(t, test.doubt, objstore.InDoubt(err))
				}
				require.Equal(t, test.puts, plan.Calls(faulty.OpPut))
				if test.heads >= 0 {
					require.Equal(t, test.heads, plan.Calls(faulty.OpHead))
				}
			})
		})
	}
}

func TestBackoffGrowsJittersAndEndsWithTheBudget(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var waits []time.Duration
		policy := retry.Policy{
			Initial: 100 * time.Millisecond, Max: time.Second, Budget: 10 * time.Second,
			OnRetry: func(op string, failed int, err error, wait time.Duration) {
				require.Equal(t, "get", op)
				require.ErrorIs(t, err, objstore.ErrUnavailable)
				waits = append(waits, wait)
				require.Len(t, waits, failed)
			},
		}
		s := retry.New(faulty.New(memory.New(), faulty.NewPlan(fault(faulty.OpGet, 0, 1000, faulty.Refuse, nil))), policy)
		start := time.Now()
		err := s.GetRange(t.Context(), "k", 0, make([]byte, 1))
		require.ErrorIs(t, err, objstore.ErrUnavailable)
		require.ErrorContains(t, err, fmt.Sprintf("gave up after %d attempts", len(waits)+1))
		require.LessOrEqual(t, time.Since(start), policy.Budget)
		require.Greater(t, time.Since(start), policy.Budget-policy.Max)
		most := policy.Initial
		for _, wait := range waits {
			require.GreaterOrEqual(t, wait, most/2)
			require.LessOrEqual(t, wait, most)
			most = min(2*most, policy.Max)
		}
	})
}

func TestContextEndsTheWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := retry.New(faulty.New(memory.New(), faulty.NewPlan(fault(faulty.OpAny, 0, 1000, faulty.Refuse, nil))), retry.Policy{Initial: time.Hour, Max: time.Hour, Budget: 10 * time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := s.Put(ctx, "k", body)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, objstore.Retriable(err))
		require.True(t, objstore.InDoubt(err))

		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = s.Delete(ctx, []string{"a", "b"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		left, ok := errors.AsType[*objstore.DeleteError](err)
		require.True(t, ok)
		require.Equal(t, []string{"a", "b"}, left.Left)
	})
}

func TestFinalErrorsAreNotRetried(t *testing.T) {
	plan := faulty.NewPlan()
	s := retry.New(faulty.New(memory.New(), plan), retry.Policy{})
	require.ErrorIs(t, s.GetRange(t.Context(), "k", 0, make([]byte, 1)), objstore.ErrNotFound)
	_, err := s.Head(t.Context(), "..")
	require.ErrorIs(t, err, objstore.ErrInvalidKey)
	require.Equal(t, 2, plan.Calls(faulty.OpAny))
}

// partial deletes one key per call and fails for the others.
type partial struct {
	objstore.Store

	asked [][]string
}

func (p *partial) Delete(ctx context.Context, keys []string) error {
	p.asked = append(p.asked, keys)
	if err := p.Store.Delete(ctx, keys[:1]); err != nil || len(keys) == 1 {
		return err
	}
	return &objstore.DeleteError{Left: keys[1:], Err: objstore.ErrUnavailable}
}

func TestDeleteAsksOnlyForWhatIsLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := &partial{Store: memory.New()}
		for _, key := range []string{"a", "b", "c"} {
			require.NoError(t, p.Put(t.Context(), key, body))
		}
		require.NoError(t, retry.New(p, retry.Policy{}).Delete(t.Context(), []string{"a", "b", "c"}))
		require.Equal(t, [][]string{{"a", "b", "c"}, {"b", "c"}, {"c"}}, p.asked)
		objects, _, err := p.List(t.Context(), "", "", 0)
		require.NoError(t, err)
		require.Empty(t, objects)
	})
}

func TestHeadAndListAreRetried(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		plan := faulty.NewPlan(fault(faulty.OpHead, 0, 2, faulty.Refuse, nil), fault(faulty.OpList, 0, 2, faulty.Lost, nil))
		s := retry.New(faulty.New(memory.New(), plan), retry.Policy{})
		require.NoError(t, s.Put(t.Context(), "k", body))
		info, err := s.Head(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, body.Checksum, info.Checksum)
		objects, more, err := s.List(t.Context(), "", "", 0)
		require.NoError(t, err)
		require.False(t, more)
		require.Len(t, objects, 1)
		require.NoError(t, plan.Verify())
	})
}
