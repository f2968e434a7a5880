package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/history"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// fault is one way to break a cluster. run breaks it and repairs it; what it
// leaves broken is repaired by the round.
type fault struct {
	name    string
	brokers int // how many it takes at least
	run     func(r *round) error
	// still says that no broker may lose its session, and so no lease be taken from it.
	still bool
}

func faults() []fault {
	return slices.Concat(brokerFaults(), networkFaults(), catalogFaults(), storeFaults())
}

// round is one fault under way.
type round struct {
	*stack.Stack

	t       *testing.T
	ctx     context.Context //nolint:containedctx // of the test, for the length of a call
	load    *load.Load
	random  *rand.Rand
	full    bool
	details []string
}

// note says something for the line of the round.
func (r *round) note(format string, args ...any) {
	r.details = append(r.details, fmt.Sprintf(format, args...))
}

// hold lets a fault last between the two times, or, in a full run, longer.
func (r *round) hold(least, most, full time.Duration) {
	d := least + time.Duration(r.random.Int64N(int64(most-least)+1))
	if r.full {
		d = max(d, time.Duration(r.random.Int64N(int64(full)+1)))
	}
	r.note("%s", d.Round(10*time.Millisecond))
	r.wait(d)
}

func (r *round) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// poll lets an observer read for a moment.
func (r *round) poll(cl *kgo.Client, observer string) {
	ctx, cancel := context.WithTimeout(r.ctx, time.Second)
	defer cancel()
	r.load.Take(cl.PollFetches(ctx), observer, true)
}

// any picks a broker; partition picks a partition.
func (r *round) any() *stack.Broker { return r.Brokers[r.random.IntN(len(r.Brokers))] }

func (r *round) partition() int32 { return r.random.Int32N(load.Partitions) }

// recoverWithin bounds how long a cluster may take from the repair of the last
// fault until every partition takes writes: a session that has to run out, a
// client's longest wait, and a machine with two processors and much to do.
const recoverWithin = 45 * time.Second

// TestRounds breaks one cluster, round after round: see the package comment.
func TestRounds(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: number(t, "CHAOS_BROKERS", 3), Flags: smallCaches})
	l := load.Start(t, s)
	seed := number(t, "CHAOS_SEED", 1)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	usable := usableFaults(t, len(s.Brokers))
	report := newReport()
	var order []fault
	rounds := number(t, "CHAOS_ROUNDS", 12)
	for i := range rounds {
		if len(order) == 0 { // each comes once before any comes again
			order = slices.Clone(usable)
			random.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
		}
		f := order[0]
		order = order[1:]
		r := &round{
			Stack: s, t: t, ctx: t.Context(), load: l, full: os.Getenv("CHAOS_FULL") != "",
			random: rand.New(rand.NewPCG(uint64(seed), uint64(i)+1)),
		}
		begin := time.Now()
		gaps, err := r.play(f)
		report.add(f.name, gaps)
		t.Logf("round %3d %-22s %5.1f s, longest gap %s, median %s (%s)", i+1, f.name, time.Since(begin).Seconds(),
			gaps.Max().Round(time.Millisecond), gaps.Median().Round(time.Millisecond), strings.Join(r.details, ", "))
		require.NoError(t, s.Faults(), "round %d of seed %d: %s: %v", i+1, seed, f.name, err)
		require.NoError(t, err, "round %d of seed %d: %s", i+1, seed, f.name)
		require.Empty(t, l.History.Violations(), "round %d of seed %d: %s", i+1, seed, f.name)
	}
	records := l.End(t, s)
	t.Logf("%d rounds, seed %d, %d brokers: %d records, none lost, none twice, none out of order; readers got over: %s\n%s",
		rounds, seed, len(s.Brokers), records, l.Hiccups(), report)
}

// smallCaches make a broker read back from the store what is not just written.
var smallCaches = []string{"--cache-bytes=8MiB", "--tail-cache-bytes=1MiB"}

// play plays one round.
func (r *round) play(f fault) (history.Gaps, error) {
	if err := r.load.AwaitAcks(r.ctx, time.Now(), recoverWithin); err != nil {
		return nil, fmt.Errorf("before the fault: %w", err)
	}
	before, err := r.Leases(r.ctx)
	if err != nil {
		return nil, err
	}
	r.load.History.Watch(time.Now())
	if err := f.run(r); err != nil {
		return r.load.History.Gaps(time.Now()), err
	}
	if err := r.Heal(r.ctx); err != nil {
		return r.load.History.Gaps(time.Now()), fmt.Errorf("after the fault: %w", err)
	}
	err = r.load.AwaitAcks(r.ctx, time.Now(), recoverWithin)
	gaps := r.load.History.Gaps(time.Now())
	if err != nil || !f.still {
		return gaps, err
	}
	after, err := r.Leases(r.ctx)
	if err != nil {
		return gaps, err
	}
	return gaps, r.unmoved(before, after)
}

// unmoved compares leases: none may have been taken from its holder. Those that a holder handed over, as the controller
// asks for after an earlier round, are noted.
func (r *round) unmoved(before, after []stack.Lease) error {
	alive, err := r.Epochs(r.ctx)
	if err != nil {
		return err
	}
	handed := 0
	for _, l := range before {
		i := slices.IndexFunc(after, func(a stack.Lease) bool { return a.Topic == l.Topic && a.Partition == l.Partition })
		switch {
		case i < 0:
			return fmt.Errorf("lease %+v is gone", l)
		case after[i] == l:
		case l.Holder != 0 && !slices.Contains(alive, l.Holder):
			return fmt.Errorf("lease %+v was taken from its holder: %+v", l, after[i])
		default:
			handed++
		}
	}
	if handed > 0 {
		r.note("%d leases handed over", handed)
	}
	return nil
}

func usableFaults(t *testing.T, brokers int) (usable []fault) {
	t.Helper()
	only, err := regexp.Compile(os.Getenv("CHAOS_FAULTS"))
	require.NoError(t, err, "CHAOS_FAULTS")
	for _, f := range faults() {
		if f.brokers <= brokers && only.MatchString(f.name) {
			usable = append(usable, f)
		}
	}
	require.NotEmpty(t, usable, "no fault is named so")
	return usable
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// report is the longest gap of each round, by fault.
type report map[string][]time.Duration

func newReport() report { return report{} }

func (r report) add(name string, gaps history.Gaps) { r[name] = append(r[name], gaps.Max()) }

// String is a table.
func (r report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-22s %6s   longest gap in acknowledged writes of any partition: median, most\n", "fault", "rounds")
	for _, f := range faults() {
		if g := history.Gaps(r[f.name]); len(g) > 0 {
			fmt.Fprintf(&b, "%-22s %6d   %8s %8s\n", f.name, len(g), g.Median().Round(time.Millisecond), g.Max().Round(time.Millisecond))
		}
	}
	return b.String()
}
