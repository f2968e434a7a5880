package chaos_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// TestCatalogRestoredToAnEarlierTime puts the catalog back to what it was a while
// ago, as somebody does who restores a backup and has not read the manual. What
// was acknowledged since is gone from it, and brokers would write it anew under
// the same offsets. They must stop, and say why.
func TestCatalogRestoredToAnEarlierTime(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3)})
	l := load.Start(t, s)
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	require.NoError(t, s.Postgres.Stop())
	require.NoError(t, s.Postgres.Save())
	require.NoError(t, s.Postgres.Up(t.Context()))
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now().Add(time.Second), recoverWithin))

	require.NoError(t, s.Postgres.Stop())
	awaitRefusal(t, s, l, func() error {
		if err := s.Postgres.Restore(); err != nil {
			return err
		}
		return s.Postgres.Up(t.Context())
	})
}

// awaitRefusal puts a catalog that lacks what it acknowledged before brokers who have none at the moment, and waits until all
// have ended and said what to do. None may acknowledge anything from it.
func awaitRefusal(t *testing.T, s *stack.Stack, l *load.Load, lose func() error) {
	t.Helper()
	from := make([]int64, len(s.Brokers))
	for i, b := range s.Brokers {
		from[i] = b.LogSize()
	}
	acks := settledAcks(t, l)
	require.NoError(t, lose())
	for i, b := range s.Brokers {
		code, err := b.AwaitEnd(time.Minute)
		require.NoError(t, err, "a broker goes on with a catalog that has lost what was acknowledged")
		require.NotZero(t, code, "broker %d ended as if all were well", b.ID)
		require.Contains(t, b.LogFrom(from[i]), "restore", "broker %d does not say what to do", b.ID)
	}
	require.Equal(t, acks, settledAcks(t, l), "acknowledged from a catalog that has lost what was acknowledged")
	require.Empty(t, l.History.Violations())
}

// settledAcks counts what was acknowledged, once answers that were under way have come in.
func settledAcks(t *testing.T, l *load.Load) int64 {
	t.Helper()
	for acks := l.History.Acks(); ; {
		<-time.After(time.Second)
		now := l.History.Acks()
		if now == acks {
			return now
		}
		acks = now
	}
}
