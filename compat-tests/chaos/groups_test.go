package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// groupFault is one way to lose a coordinator, or what it stands on.
type groupFault struct {
	name string
	// short says that it is played in a short run, too.
	short bool
	run   func(r *groupRound) error
	// still says that no broker may lose its session.
	still bool
}

// groupRound is one fault while groups are in every state.
type groupRound struct {
	*stack.Stack

	t       *testing.T
	ctx     context.Context //nolint:containedctx // of the test, for the length of a call
	random  *rand.Rand
	topic   string
	cast    *cast
	victim  *stack.Broker // the coordinator of all groups of the cast
	scraper *scraper
	details []string
}

func (r *groupRound) note(format string, args ...any) {
	r.details = append(r.details, fmt.Sprintf(format, args...))
}

// TestGroups loses the coordinator of groups that are in every state, or what it stands on, while members commit, and judges
// what members were told: package members says by what. Afterwards every group must be found in the state it was in: who has
// a place in a generation keeps it, with its assignment; who was waiting to join asks again. Then the groups go on to be stable.
//
// Each group's lag is to be exported by one broker, before and after.
//
//	CHAOS_FAULTS   only faults whose names match this regular expression
//	CHAOS_ROUNDS   in a full run: how often each fault, at most 20 (default 4)
func TestGroups(t *testing.T) {
	s := stack.Start(t, stack.Options{Brokers: 3, Flags: groupFlags})
	topic := s.Topic(t, "chaos-groups", groupPartitions)
	only, err := regexp.Compile(os.Getenv("CHAOS_FAULTS"))
	require.NoError(t, err, "CHAOS_FAULTS")
	random := rand.New(rand.NewPCG(uint64(number(t, "CHAOS_SEED", 1)), 7))
	times := 1
	if full() {
		times = min(number(t, "CHAOS_ROUNDS", 4), 20)
	}
	played := 0
	for i := range times {
		for _, f := range groupFaults() {
			if !only.MatchString(f.name) || !f.short && !full() || f.long() && i > 0 {
				continue
			}
			played++
			playGroups(t, s, topic, random, played, f)
		}
	}
	require.NotZero(t, played, "no fault is named so")
}

// long says that a fault takes half a minute: it is played once.
func (f *groupFault) long() bool { return strings.HasSuffix(f.name, "-long") }

// playGroups plays one round, and fails the test if anything contradicts.
func playGroups(t *testing.T, s *stack.Stack, topic string, random *rand.Rand, number int, f groupFault) {
	t.Helper()
	victim := receiver(t, s)
	began := time.Now()
	r := &groupRound{Stack: s, t: t, ctx: t.Context(), random: random, topic: topic, victim: victim, scraper: newScraper(s)}
	r.cast = newCast(t, s, topic, victim, number)
	defer r.cast.close()
	defer r.scraper.stop()
	made := time.Since(began)
	gap, err := r.play(f)
	t.Logf("round %d, broker %d %s: %.1f s (%.1f s to make the groups), longest without a heartbeat while stable %s (%s)\n%s", number, victim.ID,
		f.name, time.Since(began).Seconds(), made.Seconds(), gap.Round(time.Millisecond), strings.Join(r.details, ", "), r.cast.codes())
	require.NoError(t, r.cast.violations(), "round %d: %s: %v", number, f.name, err)
	require.NoError(t, r.Faults(), "round %d: %s: %v", number, f.name, err)
	require.NoError(t, err, "round %d: %s", number, f.name)
}

// play plays it, and returns how long a member of a stable group was without a good answer to a heartbeat.
func (r *groupRound) play(f groupFault) (gap time.Duration, err error) {
	before, err := r.Epochs(r.ctx)
	if err != nil {
		return 0, err
	}
	leases, err := r.Leases(r.ctx)
	if err != nil {
		return 0, err
	}
	hit := 0
	for _, l := range leases {
		if l.Topic == stack.GroupsTopic && l.Broker == r.victim.ID && slices.ContainsFunc(r.cast.groups, func(g *troupe) bool { return g.shard == l.Partition }) {
			hit++
		}
	}
	if r.note("%d shards hit", hit); hit == 0 {
		return 0, fmt.Errorf("broker %d coordinates none of the groups: nothing is tried", r.victim.ID)
	}
	if err := r.scraper.exportedOnce(r.ctx, r.cast); err != nil {
		return 0, fmt.Errorf("before the fault: %w", err)
	}
	if err := r.scraper.start(r.ctx, r.cast); err != nil {
		return 0, err
	}
	r.cast.watchGaps()
	if err := f.run(r); err != nil {
		return 0, err
	}
	if err := r.cast.awaitBack(r.ctx, time.Now()); err != nil {
		return 0, fmt.Errorf("after the fault: %w", err)
	}
	gap = r.cast.gaps().Max()
	if err := r.cast.violations(); err != nil {
		return gap, err
	}
	if err := r.scraper.judge(r); err != nil {
		return gap, err
	}
	if f.still {
		after, err := r.Epochs(r.ctx)
		if err != nil {
			return gap, err
		}
		for _, e := range before {
			if !slices.Contains(after, e) {
				return gap, fmt.Errorf("broker epoch %d lost its session: %v before, %v now", e, before, after)
			}
		}
	}
	if err := r.cast.finish(r.ctx); err != nil {
		return gap, err
	}
	return gap, r.Heal(r.ctx)
}

// codes are the errors that members of each group got over.
func (c *cast) codes() string {
	var out []string
	for _, g := range c.groups {
		out = append(out, fmt.Sprintf("  %-20s %4d commits; %s", g.state, g.history.Acks(), g.history.Codes()))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// receiver waits until every broker leads some shards, and returns the one that leads fewest: nobody asks it to hand over what
// it has.
func receiver(t *testing.T, s *stack.Stack) (least *stack.Broker) {
	t.Helper()
	const some = 8
	require.Eventually(t, func() bool {
		leases, err := s.Leases(t.Context())
		require.NoError(t, err)
		count := map[int32]int{}
		for _, l := range leases {
			if l.Topic == stack.GroupsTopic {
				count[l.Broker]++
			}
		}
		least = slices.MinFunc(s.Brokers, func(a, b *stack.Broker) int { return count[a.ID] - count[b.ID] })
		return count[least.ID] >= some && count[-1] == 0
	}, recoverWithin, 20*time.Millisecond, "some broker leads no shard")
	return least
}
