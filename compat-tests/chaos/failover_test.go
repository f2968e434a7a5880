package chaos_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestFailOver kills the primary of a database with a synchronous standby, under load, promotes the standby, and leads the
// brokers' connections there. Nothing acknowledged may be missing from it, so no broker may stop for that; and none may
// lose its session, and so a lease, however long nobody led: not even for longer than a session lasts.
func TestFailOver(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3), Flags: smallCaches})
	l := load.Start(t, s)
	leaderless := []time.Duration{0}
	if full() {
		leaderless = append(leaderless, sessionTTL+2*time.Second, time.Second, 3*time.Second, 5*time.Second, 20*time.Second, 0, 0)
	}
	for i, gone := range leaderless {
		require.NoError(t, s.Standby(t.Context(), target.FreePorts(t, 1)[0], true))
		require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin), "with a synchronous standby")
		before, err := s.Leases(t.Context())
		require.NoError(t, err)
		l.History.Watch(time.Now())
		begin := time.Now()
		require.NoError(t, s.Postgres.Crash())
		<-time.After(gone)
		require.NoError(t, s.Promote(t.Context()))
		took := time.Since(begin)
		err = l.AwaitAcks(t.Context(), time.Now(), recoverWithin)
		gap := l.History.Gaps(time.Now()).Max()
		require.NoError(t, s.Faults(), "fail-over %d", i+1)
		require.NoError(t, err, "fail-over %d", i+1)
		require.Empty(t, l.History.Violations(), "fail-over %d", i+1)
		handed, err := unmoved(t.Context(), s, before)
		require.NoError(t, err, "fail-over %d", i+1)
		t.Logf("fail-over %d: no primary for %s, longest gap %s, no lease taken, %d handed over", i+1,
			took.Round(time.Millisecond), gap.Round(time.Millisecond), handed)
	}
	t.Logf("%d fail-overs: %d records, none lost, none twice, none out of order; readers got over: %s", len(leaderless), l.End(t, s), l.Hiccups())
}

// catalogTimeout is for how long a broker waits for a commit: UrgentTimeout of catalog/postgres.
const catalogTimeout = 5 * time.Second

// TestFailOverToAStandbyCutOff loses the primary after its synchronous standby was silent for longer than a commit is waited
// for. Callers gave up by then, which ends the server's wait and not the commit: what they sent shows on the primary, and
// is not on the standby. It must count for nothing: nobody may be answered by it, and no broker that saw it may stop.
func TestFailOverToAStandbyCutOff(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3), Flags: smallCaches})
	l := load.Start(t, s)
	require.NoError(t, s.Standby(t.Context(), target.FreePorts(t, 1)[0], true))
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin), "with a synchronous standby")
	s.Replication.Silence()
	acked := settledAcks(t, l) // what was answered before is known
	before, err := s.Commits(t.Context())
	require.NoError(t, err)
	<-time.After(catalogTimeout + 2*time.Second)
	shown := before
	for began := time.Now(); shown == before; <-time.After(100 * time.Millisecond) {
		require.Less(t, time.Since(began), recoverWithin, "nothing shows that was not answered")
		shown, err = s.Commits(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, acked, l.History.Acks(), "answered, and only one server has it")
	require.NoError(t, s.Postgres.Kill()) // those of its processes that are left may show more
	require.NoError(t, s.Promote(t.Context()))
	err = l.AwaitAcks(t.Context(), time.Now(), recoverWithin)
	require.NoError(t, s.Faults())
	require.NoError(t, err)
	require.Empty(t, l.History.Violations())
	t.Logf("%d records, none lost, none twice, none out of order; %d commits showed that nobody was answered", l.End(t, s), shown-before)
}

// TestFailOverToAStandbyBehind promotes a standby that lacks what was acknowledged, as an asynchronous one can. Brokers must
// stop, and say why: see TestCatalogRestoredToAnEarlierTime.
func TestFailOverToAStandbyBehind(t *testing.T) {
	onlyFull(t)
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3)})
	l := load.Start(t, s)
	require.NoError(t, s.Standby(t.Context(), target.FreePorts(t, 1)[0], false))
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	s.Replication.Reset()
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now(), recoverWithin))
	require.NoError(t, l.AwaitAcks(t.Context(), time.Now().Add(time.Second), recoverWithin))
	require.NoError(t, s.Postgres.Kill())
	awaitRefusal(t, s, l, func() error { return s.Promote(t.Context()) })
}
