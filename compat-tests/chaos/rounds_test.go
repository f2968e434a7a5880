package chaos_test

import (
	"context"
	"fmt"
	"maps"
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
	seed    int
	number  int // from 1
	full    bool
	details []string

	// victim is a topic of one partition whose leader is to be hit; "": whoever comes.
	victim string
	// also waits until the victim is written to, too; it fails the test; nil: nothing more is waited for.
	also func()
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

// any picks a broker.
func (r *round) any() (*stack.Broker, error) {
	if r.victim != "" {
		return r.Leader(r.ctx, r.victim, 0)
	}
	return r.Brokers[r.random.IntN(len(r.Brokers))], nil
}

// leader picks a broker that leads something, and a partition of the load that it leads, where it leads one.
func (r *round) leader() (b *stack.Broker, partition int32, err error) {
	partition = r.random.Int32N(load.Partitions)
	if r.victim == "" {
		b, err = r.Leader(r.ctx, r.load.Topic, partition)
		return b, partition, err
	}
	if b, err = r.Leader(r.ctx, r.victim, 0); err != nil {
		return nil, 0, err
	}
	leases, err := r.Leases(r.ctx)
	for _, l := range leases {
		if l.Topic == r.load.Topic && l.Broker == b.ID {
			partition = l.Partition
		}
	}
	return b, partition, err
}

// awaitAcks waits until every partition acknowledged something after since, and the victim something after now.
func (r *round) awaitAcks(since time.Time) error {
	if err := r.load.AwaitAcks(r.ctx, since, recoverWithin); err != nil {
		return err
	}
	if r.also != nil {
		r.also()
	}
	return nil
}

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
	report := report{}
	var order []fault
	rounds := number(t, "CHAOS_ROUNDS", 4)
	for i := range rounds {
		if len(order) == 0 { // each comes once before any comes again
			order = slices.Clone(usable)
			random.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
		}
		f := order[0]
		order = order[1:]
		r := newRound(t, s, l, seed, i)
		r.judge(f, report)
	}
	records := l.End(t, s)
	t.Logf("%d rounds, seed %d, %d brokers: %d records, none lost, none twice, none out of order; readers got over: %s\n%s",
		rounds, seed, len(s.Brokers), records, l.Hiccups(), report)
}

// newRound is round i (from 0) of those that seed chooses.
func newRound(t *testing.T, s *stack.Stack, l *load.Load, seed, i int) *round {
	t.Helper()
	return &round{
		Stack: s, t: t, ctx: t.Context(), load: l, seed: seed, number: i + 1, full: full(),
		random: rand.New(rand.NewPCG(uint64(seed), uint64(i)+1)),
	}
}

func full() bool { return os.Getenv("CHAOS_FULL") != "" }

// onlyFull leaves a test to full runs: CI has a minute and a half for all of this package.
func onlyFull(t *testing.T) {
	t.Helper()
	if !full() {
		t.Skip("not in a short run: CHAOS_FULL=1 (make chaos)")
	}
}

// judge plays a round and fails the test if anything contradicts.
func (r *round) judge(f fault, report report) {
	r.t.Helper()
	begin := time.Now()
	gaps, err := r.play(f)
	report[f.name] = append(report[f.name], gaps.Max())
	r.t.Logf("round %3d %-22s %5.1f s, longest gap %s, median %s (%s)", r.number, f.name, time.Since(begin).Seconds(),
		gaps.Max().Round(time.Millisecond), gaps.Median().Round(time.Millisecond), strings.Join(r.details, ", "))
	require.NoError(r.t, r.Faults(), "round %d of seed %d: %s: %v", r.number, r.seed, f.name, err)
	require.NoError(r.t, err, "round %d of seed %d: %s", r.number, r.seed, f.name)
	require.Empty(r.t, r.load.History.Violations(), "round %d of seed %d: %s", r.number, r.seed, f.name)
}

// smallCaches make a broker read back from the store what is not just written.
var smallCaches = []string{"--cache-bytes=8MiB", "--tail-cache-bytes=1MiB"}

// play plays one round.
func (r *round) play(f fault) (history.Gaps, error) {
	if err := r.awaitAcks(time.Now()); err != nil {
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
	err = r.awaitAcks(time.Now())
	gaps := r.load.History.Gaps(time.Now())
	if err != nil || !f.still {
		return gaps, err
	}
	handed, err := unmoved(r.ctx, r.Stack, before)
	if handed > 0 {
		r.note("%d leases handed over", handed)
	}
	return gaps, err
}

// unmoved compares leases with those before: none may have been taken from its holder. It counts those that a holder handed
// over, as the controller may ask for at any time.
func unmoved(ctx context.Context, s *stack.Stack, before []stack.Lease) (handed int, err error) {
	after, err := s.Leases(ctx)
	if err != nil {
		return 0, err
	}
	alive, err := s.Epochs(ctx)
	if err != nil {
		return 0, err
	}
	for _, l := range before {
		i := slices.IndexFunc(after, func(a stack.Lease) bool { return a.Topic == l.Topic && a.Partition == l.Partition })
		switch {
		case i < 0:
			return handed, fmt.Errorf("lease %+v is gone", l)
		case after[i] == l:
		case l.Holder != 0 && !slices.Contains(alive, l.Holder):
			return handed, fmt.Errorf("lease %+v was taken from its holder: %+v", l, after[i])
		default:
			handed++
		}
	}
	return handed, nil
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

// String is a table.
func (r report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-22s %6s   longest gap in acknowledged writes of any partition: median, most\n", "fault", "rounds")
	for _, name := range slices.Sorted(maps.Keys(r)) {
		g := history.Gaps(r[name])
		fmt.Fprintf(&b, "%-22s %6d   %8s %8s\n", name, len(g), g.Median().Round(time.Millisecond), g.Max().Round(time.Millisecond))
	}
	return b.String()
}
