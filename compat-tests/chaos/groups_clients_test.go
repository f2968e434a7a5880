package chaos_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/members"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// readers are the members of one group by real clients, who read a load and commit. Since nobody joins or leaves, and the loss
// of a coordinator is no reason to rebalance, each partition is read to the end by one member, record after record, each once.
type readers struct {
	group string

	mu         sync.Mutex
	next       map[int32]int64 // offset to be read next, by partition
	committed  map[int32]int64 // as last read
	violations []string
	refused    int // commits that failed for good
}

func newReaders(group string) *readers {
	return &readers{group: group, next: map[int32]int64{}, committed: map[int32]int64{}}
}

func (r *readers) violatedLocked(format string, args ...any) {
	if len(r.violations) < 20 {
		r.violations = append(r.violations, r.group+": "+fmt.Sprintf(format, args...))
	}
}

// read is told each record that a member got.
func (r *readers) read(member string, partition int32, offset int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := r.next[partition]; offset != want {
		r.violatedLocked("%s read offset %d of partition %d, where %d was to come", member, offset, partition, want)
	}
	r.next[partition] = max(r.next[partition], offset+1)
}

// sees is told the committed offsets.
func (r *readers) sees(offsets map[int32]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, at := range offsets {
		if at < r.committed[p] {
			r.violatedLocked("the committed offset of partition %d went from %d back to %d", p, r.committed[p], at)
		}
		if at > r.next[p] {
			r.violatedLocked("offset %d of partition %d is committed, and nobody has read what is before it", at, p)
		}
		r.committed[p] = max(r.committed[p], at)
	}
}

func (r *readers) faults() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.violations) == 0 {
		return nil
	}
	return errors.New(strings.Join(r.violations, "\n"))
}

// clientSession is longer than that of members driven by hand: franz-go looks elsewhere than at a coordinator that is frozen
// only when that hangs up or says that it is none.
const clientSession = 30 * time.Second

// patientDial tries for dialPatience to connect. Refused at once, franz-go 1.22 leaves its group and joins again where it must not:
// the broker that it asks for its coordinator is the dead one, and the next that it asks knows of no coordinator yet. Two seconds
// later another broker coordinates.
func patientDial(ctx context.Context, network, addr string) (net.Conn, error) {
	began := time.Now()
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil || ctx.Err() != nil || time.Since(began) > dialPatience {
			return c, err
		}
		pause(ctx, 20*time.Millisecond)
	}
}

const dialPatience = 2 * time.Second

// memberOptions are load.Options, but for the dialer: franz-go takes one or a timeout.
func memberOptions() []kgo.Opt {
	return append(load.RetryOptions(), kgo.Dialer(patientDial))
}

// franzMember is a member by franz-go.
func (r *readers) franzMember(ctx context.Context, s *stack.Stack, topic string, next bool) (*kgo.Client, error) {
	opts := append(memberOptions(), kgo.SeedBrokers(s.Seeds()...), kgo.ConsumerGroup(r.group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(clientSession), kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.RequestRetries(1000)) // with pauses of 50 ms the usual 20 are used up in a second
	with := ctx
	if next {
		with = context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true) //nolint:revive,staticcheck // franz-go's own key
	}
	return kgo.NewClient(append(opts, kgo.WithContext(with))...)
}

// consume reads and commits until ctx ends.
func (r *readers) consume(ctx context.Context, cl *kgo.Client, name string) {
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachRecord(func(rec *kgo.Record) { r.read(name, rec.Partition, rec.Offset) })
		if err := cl.CommitUncommittedOffsets(ctx); err != nil && ctx.Err() == nil {
			r.mu.Lock()
			r.refused++
			r.mu.Unlock()
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// watch reads the committed offsets again and again. Not by franz-go, whose OffsetFetch never leaves a coordinator that refuses
// connections.
func (r *readers) watch(ctx context.Context, s *stack.Stack, topic string) {
	l := members.NewLink(members.NewHistory(r.group), s.Seeds(), 2*time.Second)
	defer l.Close()
	for ctx.Err() == nil {
		if offsets, err := l.Committed(ctx, "watcher", topic, load.Partitions); err == nil {
			r.sees(offsets)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// awaitCommits waits until every partition has an offset committed of what was read after the call.
func (r *readers) awaitCommits(ctx context.Context) error {
	r.mu.Lock()
	from := maps.Clone(r.next)
	r.mu.Unlock()
	return until(ctx, recoverWithin, "offsets of "+r.group+" are committed in all partitions", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for p := range int32(load.Partitions) {
			if r.committed[p] <= from[p] {
				return false
			}
		}
		return true
	})
}

// javaMember runs Apache Kafka's console consumer as a member until ctx ends, when it leaves.
func (r *readers) javaMember(ctx context.Context, s *stack.Stack, topic, protocol string) (wait func() error, err error) {
	args := []string{
		"--bootstrap-server", strings.Join(s.Seeds(), ","), "--topic", topic, "--group", r.group, "--from-beginning",
		"--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true", "--formatter-property", "print.value=false",
		"--command-property", "auto.commit.interval.ms=200", "--command-property", "enable.auto.commit=true",
		"--command-property", "request.timeout.ms=3000", "--command-property", "group.protocol=" + protocol,
	}
	if protocol == "classic" {
		args = append(args, "--command-property", "session.timeout.ms=30000", "--command-property", "heartbeat.interval.ms=500")
	}
	cmd := exec.CommandContext(ctx, "java", client.JavaArgs("kafka-console-consumer", args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := &strings.Builder{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start java: %w", err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var partition int32
			var offset int64
			if _, err := fmt.Sscanf(lines.Text(), "Partition:%d\tOffset:%d", &partition, &offset); err == nil {
				r.read("java", partition, offset)
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	return func() error {
		<-read
		err := cmd.Wait()
		if ctx.Err() == nil {
			return fmt.Errorf("java ended by itself: %w: %s", err, said)
		}
		return nil
	}, nil
}

// groupState is what the catalog has of a group.
type groupState struct {
	Generation int32
	Members    int
}

// groupStatesOf reads all groups from the catalog.
func groupStatesOf(ctx context.Context, s *stack.Stack) (map[string]groupState, error) {
	conn, err := s.Postgres.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) // it answered
	rows, err := conn.Query(ctx, "SELECT group_id, generation, members FROM consumer_groups")
	if err != nil {
		return nil, fmt.Errorf("read the groups: %w", err)
	}
	defer rows.Close()
	out := map[string]groupState{}
	for rows.Next() {
		var id string
		var g groupState
		if err := rows.Scan(&id, &g.Generation, &g.Members); err != nil {
			return nil, fmt.Errorf("read the groups: %w", err)
		}
		out[id] = g
	}
	return out, rows.Err()
}

// TestGroupClients loses the coordinators of groups of real clients, round after round, while they read an idempotent load and
// commit: franz-go by both protocols, in a full run Apache Kafka's consumer, too. Every record is read, and, since no group may
// rebalance for that, once; no committed offset goes back; generations, epochs and members are what they were.
func TestGroupClients(t *testing.T) {
	flags := append(slices.Clone(groupFlags), "--group-consumer-session-timeout="+clientSession.String())
	s := stack.Start(t, stack.Options{Brokers: 3, Flags: flags, Refuse: true})
	l := load.Start(t, s)
	ctx, stop := context.WithCancel(t.Context())
	var going sync.WaitGroup
	defer going.Wait()
	defer stop()
	all := []*readers{newReaders("franz-classic"), newReaders("franz-consumer")}
	for i, r := range all {
		for j := range 3 {
			name := fmt.Sprintf("member-%d", j)
			cl, err := r.franzMember(ctx, s, l.Topic, i == 1)
			require.NoError(t, err)
			t.Cleanup(cl.Close)
			going.Go(func() { r.consume(ctx, cl, name) })
		}
	}
	sizes := map[string]int{"franz-classic": 3, "franz-consumer": 3}
	var javas []func() error
	if full() {
		for _, protocol := range []string{"classic", "consumer"} {
			r := newReaders("java-" + protocol)
			wait, err := r.javaMember(ctx, s, l.Topic, protocol)
			require.NoError(t, err)
			javas = append(javas, wait)
			all = append(all, r)
			sizes[r.group] = 1
		}
	}
	// The watchers begin now: what is read again while a group comes together is no fault.
	awaitMembers(t, s, sizes)
	for _, r := range all {
		going.Go(func() { r.watch(ctx, s, l.Topic) })
		require.NoError(t, r.awaitCommits(ctx))
	}
	before, err := groupStatesOf(ctx, s)
	require.NoError(t, err)
	for _, r := range all {
		r.mu.Lock()
		r.violations = nil
		r.mu.Unlock()
	}

	random := rand.New(rand.NewPCG(uint64(number(t, "CHAOS_SEED", 1)), 11))
	rounds := 1
	if full() {
		rounds = min(number(t, "CHAOS_ROUNDS", 20), 20)
	}
	for i := range rounds {
		receiver(t, s)
		r := all[random.IntN(len(all))]
		b, err := s.Leader(ctx, stack.GroupsTopic, stack.ShardOf(r.group))
		require.NoError(t, err)
		began := time.Now()
		what := loseCoordinator(t, s, b, i, random)
		for _, r := range all {
			require.NoError(t, r.awaitCommits(ctx), "round %d: %s", i+1, what)
		}
		t.Logf("round %d: broker %d, which coordinates %s: %s; all commit again after %.1f s", i+1, b.ID, r.group, what, time.Since(began).Seconds())
		require.NoError(t, s.Heal(ctx))
		now, err := groupStatesOf(ctx, s)
		require.NoError(t, err)
		require.Equal(t, before, now, "round %d: %s: groups rebalanced, or somebody was thrown out", i+1, what)
		for _, r := range all {
			require.NoError(t, r.faults(), "round %d: %s", i+1, what)
		}
		require.NoError(t, s.Faults())
	}
	endClients(ctx, t, s, l, all)
	stop()
	for _, wait := range javas {
		require.NoError(t, wait())
	}
}

// loseCoordinator loses a broker in one of three ways.
func loseCoordinator(t *testing.T, s *stack.Stack, b *stack.Broker, round int, random *rand.Rand) string {
	t.Helper()
	<-time.After(time.Duration(random.IntN(200)) * time.Millisecond)
	switch ways := 3; {
	case !full() || round%ways == 0:
		require.NoError(t, b.Kill())
		return "killed"
	case round%ways == 1:
		_, err := b.Stop()
		require.NoError(t, err)
		return "stopped"
	default:
		require.NoError(t, b.Freeze())
		require.Eventually(t, func() bool {
			leases, err := s.Leases(t.Context())
			require.NoError(t, err)
			for _, l := range leases {
				if l.Broker == b.ID {
					return false
				}
			}
			return true
		}, recoverWithin, 50*time.Millisecond, "nobody takes over from a frozen broker")
		<-time.After(time.Second)
		require.NoError(t, b.Thaw())
		return "frozen, until others had taken over"
	}
}

// awaitMembers waits until groups have so many members, and stay as they are for a second.
func awaitMembers(t *testing.T, s *stack.Stack, sizes map[string]int) {
	t.Helper()
	var last map[string]groupState
	since := time.Now()
	require.Eventually(t, func() bool {
		now, err := groupStatesOf(t.Context(), s)
		require.NoError(t, err)
		if !maps.Equal(now, last) {
			last, since = now, time.Now()
		}
		for group, n := range sizes {
			if now[group].Members != n {
				return false
			}
		}
		return time.Since(since) > time.Second
	}, 90*time.Second, 100*time.Millisecond, "the groups do not come together")
}

// endClients ends the load and waits until every group has read and committed all of it.
func endClients(ctx context.Context, t *testing.T, s *stack.Stack, l *load.Load, all []*readers) {
	t.Helper()
	records := l.End(t, s)
	for _, r := range all {
		sum := func(m map[int32]int64) (n int64) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, at := range m {
				n += at
			}
			return n
		}
		require.NoError(t, until(ctx, recoverWithin, "all is read by "+r.group, func() bool { return sum(r.next) == records }))
		require.NoError(t, until(ctx, recoverWithin, "all is committed by "+r.group, func() bool { return sum(r.committed) == records }))
		require.NoError(t, r.faults())
		t.Logf("%s: %d records, each read once; %d commits were refused and made again", r.group, records, r.refused)
	}
}
