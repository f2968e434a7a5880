package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/history"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/members"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// groupPartitions is how many partitions the topic of groups has.
const groupPartitions = 6

// groupSession is the session of members: shorter than the outages they must live through.
const groupSession = 10 * time.Second

// groupFlags let a group come together at once, and give KIP-848 the same session.
var groupFlags = []string{
	"--group-initial-rebalance-delay=200ms", "--group-consumer-session-timeout=10s", "--group-consumer-heartbeat-interval=1s",
}

// cast are groups of one coordinator, one in each state that a group can be in, while members commit.
type cast struct {
	stack  *stack.Stack
	topic  string
	victim *stack.Broker
	groups []*troupe
	end    context.CancelFunc
	going  sync.WaitGroup
}

// troupe is a group in a state.
type troupe struct {
	state   string
	shard   int32
	history *members.History
	cfg     members.Config
	watcher *members.Link

	classic  []*members.Classic
	consumer []*members.Consumer
	heard    []string // members that have heartbeats to send while the state lasts
	still    bool     // nothing of the members changes while it lasts
	release  func()   // ends the state; nil: it is the last one
	same     bool     // the epochs at the end are those before the fault
	epochs   map[string]int32
	churning bool // members come and go all the time
	acks     int  // at the last look
}

// groupStates are the states, and how to get there.
func groupStates() map[string]func(context.Context, *cast, *troupe) error {
	return map[string]func(context.Context, *cast, *troupe) error{
		"empty": emptyGroup, "preparing": preparingGroup, "completing": completingGroup, "stable": stableGroup,
		"consumer-stable": stableConsumers, "consumer-reconciling": reconcilingConsumers,
		"churn": churningGroup, "consumer-churn": churningConsumers,
	}
}

// newCast brings one group into each state, all with one coordinator.
func newCast(t *testing.T, s *stack.Stack, topic string, victim *stack.Broker, round int) *cast {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	c := &cast{stack: s, topic: topic, victim: victim, end: end}
	leases, err := s.Leases(t.Context())
	require.NoError(t, err)
	errs := make(chan error)
	for state, prepare := range groupStates() {
		g := &troupe{state: state, cfg: members.Config{
			Seeds: s.Seeds(), Topic: topic, Partitions: groupPartitions, Session: groupSession, Pace: 40 * time.Millisecond, Backoff: 50 * time.Millisecond,
		}}
		var id string
		id, g.shard = groupLedBy(leases, victim.ID, fmt.Sprintf("%s-%d", state, round))
		g.history = members.NewHistory(id)
		g.watcher = members.NewLink(g.history, s.Seeds(), 2*time.Second)
		c.groups = append(c.groups, g)
		go func() {
			err := prepare(ctx, c, g)
			if err != nil {
				err = fmt.Errorf("%s: %w\n%s", state, err, g.history.Trace())
			}
			errs <- err
		}()
	}
	for range c.groups {
		if e := <-errs; e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		c.close()
	}
	require.NoError(t, err)
	for _, g := range c.groups {
		g.epochs = g.history.Epochs()
		g.history.Still(g.still)
		c.going.Go(func() { c.watch(ctx, g) })
	}
	return c
}

// groupLedBy is a group id whose shard a broker leads.
func groupLedBy(leases []stack.Lease, broker int32, prefix string) (id string, shard int32) {
	led := map[int32]bool{}
	for _, l := range leases {
		if l.Topic == stack.GroupsTopic {
			led[l.Partition] = l.Broker == broker
		}
	}
	for i := 0; ; i++ {
		id = fmt.Sprintf("%s-%d", prefix, i)
		if shard = stack.ShardOf(id); led[shard] || i == 10_000 {
			return id, shard
		}
	}
}

// watch reads the committed offsets of a group all the time.
func (c *cast) watch(ctx context.Context, g *troupe) {
	for ctx.Err() == nil {
		_ = g.watcher.ReadCommitted(ctx, "watcher", c.topic, groupPartitions) // judged by the history
		pause(ctx, 50*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// until waits for something that has to become true.
func until(ctx context.Context, within time.Duration, what string, is func() bool) error {
	for deadline := time.Now().Add(within); !is(); pause(ctx, 5*time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("within %s: %s: it did not happen", within, what)
		}
	}
	return nil
}

func (g *troupe) addClassic(ctx context.Context, prepare func(*members.Classic)) *members.Classic {
	m := members.NewClassic(ctx, fmt.Sprintf("member-%d", len(g.classic)), g.history, g.cfg, prepare)
	m.Commits.Store(true)
	g.classic = append(g.classic, m)
	return m
}

func (g *troupe) addConsumer(ctx context.Context) *members.Consumer {
	m := members.NewConsumer(ctx, fmt.Sprintf("member-%d", len(g.consumer)), g.history, g.cfg)
	m.Commits.Store(true)
	g.consumer = append(g.consumer, m)
	return m
}

// awaitStable waits until n members have all partitions between them, and all say the same epoch.
func (g *troupe) awaitStable(ctx context.Context, n int) error {
	return until(ctx, recoverWithin, fmt.Sprintf("%d members have all partitions", n), func() bool { return g.isStable(n) })
}

func (g *troupe) isStable(n int) bool {
	partitions, count := g.history.Partitions()
	var epochs []int32
	for _, e := range g.history.Epochs() {
		epochs = append(epochs, e)
	}
	for _, m := range g.classic {
		if m.Joined() || m.Joining() {
			return false
		}
	}
	return partitions == groupPartitions && count == n && slices.Min(epochs) == slices.Max(epochs)
}

// emptyGroup has committed offsets and no members; somebody commits without being one.
func emptyGroup(ctx context.Context, c *cast, g *troupe) error {
	l := members.NewLink(g.history, g.cfg.Seeds, 9*time.Second)
	partitions := []int32{0, 1, 2, 3, 4, 5}
	c.going.Go(func() {
		defer l.Close()
		for ctx.Err() == nil {
			members.Commit(ctx, "nobody", l, "", -1, c.topic, partitions)
			pause(ctx, g.cfg.Pace)
		}
	})
	return until(ctx, recoverWithin, "an offset is committed", func() bool { return g.history.Acks() > 0 })
}

// preparingGroup is being rebalanced: somebody new and one of two members have joined, the other has not.
func preparingGroup(ctx context.Context, _ *cast, g *troupe) error {
	first := g.addClassic(ctx, nil)
	second := g.addClassic(ctx, nil)
	if err := g.awaitStable(ctx, 2); err != nil {
		return err
	}
	second.HoldJoin.Store(true)
	third := g.addClassic(ctx, nil)
	g.heard = []string{second.Name}
	g.release = func() { second.HoldJoin.Store(false) }
	return until(ctx, recoverWithin, "two of three join", func() bool { return first.Joining() && third.Joining() && third.HasID() })
}

// completingGroup has a new generation, of which all members were told; its leader has not sent the assignment yet.
func completingGroup(ctx context.Context, _ *cast, g *troupe) error {
	hold := func(m *members.Classic) { m.HoldSync.Store(true) }
	g.addClassic(ctx, nil)
	g.addClassic(ctx, nil)
	if err := g.awaitStable(ctx, 2); err != nil {
		return err
	}
	for _, m := range g.classic {
		hold(m)
	}
	g.addClassic(ctx, hold)
	all := func() bool {
		return !slices.ContainsFunc(g.classic, func(m *members.Classic) bool { return !m.Joined() })
	}
	if err := until(ctx, recoverWithin, "all have joined", all); err != nil {
		return err
	}
	for _, m := range g.classic {
		if m.Leads() {
			g.heard = append(g.heard, m.Name)
			g.release = func() { m.HoldSync.Store(false) }
		} else {
			m.HoldSync.Store(false) // it waits in SyncGroup
		}
	}
	g.still, g.same = true, true
	pause(ctx, 50*time.Millisecond)
	return nil
}

// stableGroup has three members that have their partitions.
func stableGroup(ctx context.Context, _ *cast, g *troupe) error {
	for range 3 {
		m := g.addClassic(ctx, nil)
		g.heard = append(g.heard, m.Name)
	}
	g.still, g.same = true, true
	return g.awaitStable(ctx, 3)
}

// stableConsumers is the same by KIP-848.
func stableConsumers(ctx context.Context, _ *cast, g *troupe) error {
	for range 3 {
		m := g.addConsumer(ctx)
		g.heard = append(g.heard, m.Name)
	}
	g.still, g.same = true, true
	return g.awaitStable(ctx, 3)
}

// reconcilingConsumers wait for a member that is to give up partitions and does not.
func reconcilingConsumers(ctx context.Context, _ *cast, g *troupe) error {
	first := g.addConsumer(ctx)
	if err := g.awaitStable(ctx, 1); err != nil {
		return err
	}
	first.HoldRevoke.Store(true)
	second := g.addConsumer(ctx)
	g.heard = []string{first.Name, second.Name}
	g.still = true
	g.release = func() { first.HoldRevoke.Store(false) }
	return until(ctx, recoverWithin, "one is told to give up partitions, the other has joined", func() bool {
		return first.Held() && g.history.Epochs()[second.Name] > 0
	})
}

// churningGroup has members that come, crash and leave all the time.
func churningGroup(ctx context.Context, c *cast, g *troupe) error {
	for range 2 {
		g.addClassic(ctx, nil)
	}
	g.churn(ctx, c, func(random *rand.Rand) {
		i := random.IntN(len(g.classic))
		g.classic[i].Leave(ctx)
		g.classic = slices.Delete(g.classic, i, i+1)
		m := members.NewClassic(ctx, fmt.Sprintf("member-%d", 2+random.IntN(1<<30)), g.history, g.cfg, nil)
		m.Commits.Store(true)
		g.classic = append(g.classic, m)
	})
	return nil
}

// churningConsumers is the same by KIP-848.
func churningConsumers(ctx context.Context, c *cast, g *troupe) error {
	for range 2 {
		g.addConsumer(ctx)
	}
	g.churn(ctx, c, func(random *rand.Rand) {
		i := random.IntN(len(g.consumer))
		g.consumer[i].Leave(ctx)
		g.consumer = slices.Delete(g.consumer, i, i+1)
		m := members.NewConsumer(ctx, fmt.Sprintf("member-%d", 2+random.IntN(1<<30)), g.history, g.cfg)
		m.Commits.Store(true)
		g.consumer = append(g.consumer, m)
	})
	return nil
}

// churn changes the members until it is released.
func (g *troupe) churn(ctx context.Context, c *cast, change func(*rand.Rand)) {
	g.churning = true
	g.history.Churning.Store(true)
	over := make(chan struct{})
	done := make(chan struct{})
	random := rand.New(rand.NewPCG(1, 2))
	c.going.Go(func() {
		defer close(done)
		for ctx.Err() == nil {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(random.IntN(400)) * time.Millisecond):
			}
			change(random)
		}
	})
	g.release = func() { close(over); <-done }
}

// watchGaps measures from now on.
func (c *cast) watchGaps() {
	for _, g := range c.groups {
		g.history.Watch(time.Now())
	}
}

// awaitBack waits until every member that sends heartbeats has had a good answer to one, and every group an offset
// acknowledged, after since.
func (c *cast) awaitBack(ctx context.Context, since time.Time) error {
	for _, g := range c.groups {
		g.acks = g.history.Acks()
	}
	for _, g := range c.groups {
		err := until(ctx, recoverWithin, fmt.Sprintf("members of %s go on: %v", g.history.Group, g.heard), func() bool {
			quiet := g.history.Quiet(since)
			return !slices.ContainsFunc(g.heard, func(name string) bool { return slices.Contains(quiet, name) })
		})
		if err == nil && g.state != "completing" { // where nobody has partitions
			err = until(ctx, recoverWithin, "an offset of "+g.history.Group+" is committed", func() bool { return g.history.Acks() > g.acks })
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, g.history.Trace())
		}
	}
	return nil
}

// gaps are the longest times without a good answer to a heartbeat, of the members of groups that are stable.
func (c *cast) gaps() (gaps history.Gaps) {
	for _, g := range c.groups {
		if g.state == "stable" || g.state == "consumer-stable" {
			gaps = append(gaps, g.history.Gaps(time.Now())...)
		}
	}
	return gaps
}

// violations are the contradictions in all groups, with what led to the first.
func (c *cast) violations() error {
	for _, g := range c.groups {
		if v := g.history.Violations(); len(v) > 0 {
			return fmt.Errorf("%v\nof %d\n%s", v[0], len(v), g.history.Trace())
		}
	}
	return nil
}

// finish ends the states: every group becomes stable, and the committed offsets are read once more. Then all leave.
func (c *cast) finish(ctx context.Context) error {
	for _, g := range c.groups {
		if g.still && !g.same {
			g.history.Still(false)
		}
		if g.state == "completing" {
			g.history.Still(false) // the assignment comes
		}
		if g.release != nil {
			g.release()
		}
	}
	for _, g := range c.groups {
		n := len(g.classic) + len(g.consumer)
		if n == 0 {
			continue
		}
		if err := g.awaitStable(ctx, n); err != nil {
			return fmt.Errorf("%s: %w\n%s", g.history.Group, err, g.history.Trace())
		}
		for who, epoch := range g.history.Epochs() {
			if before := g.epochs[who]; g.same && epoch != before {
				return fmt.Errorf("%s: %s was at epoch %d before the fault and is at %d\n%s", g.history.Group, who, before, epoch, g.history.Trace())
			}
		}
	}
	for _, g := range c.groups {
		g.history.Still(false)
	}
	if err := c.readAll(ctx); err != nil {
		return err
	}
	var leaving sync.WaitGroup
	for _, g := range c.groups {
		leaving.Go(func() {
			for _, m := range g.classic {
				m.Leave(ctx)
			}
			for _, m := range g.consumer {
				m.Leave(ctx)
			}
			g.classic, g.consumer = nil, nil
		})
	}
	leaving.Wait()
	if err := c.readAll(ctx); err != nil {
		return err
	}
	return c.violations()
}

// readAll reads the committed offsets of all groups.
func (c *cast) readAll(ctx context.Context) error {
	for _, g := range c.groups {
		var err error
		if until(ctx, recoverWithin, "offsets are read", func() bool {
			err = g.watcher.ReadCommitted(ctx, "judge", c.topic, groupPartitions)
			return err == nil
		}) != nil {
			return fmt.Errorf("read the committed offsets of %s: %w", g.history.Group, err)
		}
	}
	return nil
}

// close ends whatever goes on.
func (c *cast) close() {
	c.end()
	c.going.Wait()
	for _, g := range c.groups {
		for _, m := range g.classic {
			m.Stop()
		}
		for _, m := range g.consumer {
			m.Stop()
		}
		g.watcher.Close()
	}
}
