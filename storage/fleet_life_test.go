package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

// history is what producers were told, by partition and offset, in whatever order: the judge of concurrent lives. Every
// value is sent until it is acknowledged, by one producer at a time for each partition.
type history struct {
	tb testing.TB
	mu struct {
		sync.Mutex
		acked map[catalog.TopicPartition]map[int64]string
		led   map[catalog.TopicPartition]map[int32]int // which member led under a leader epoch
		hws   map[hwKey]int64
	}
}

type hwKey struct {
	tp     catalog.TopicPartition
	member int
}

func newHistory(tb testing.TB) *history {
	tb.Helper()
	h := &history{tb: tb}
	h.mu.acked = make(map[catalog.TopicPartition]map[int64]string)
	h.mu.led = make(map[catalog.TopicPartition]map[int32]int)
	h.mu.hws = make(map[hwKey]int64)
	return h
}

// acked notes an acknowledgement: no offset is given twice, whoever gave it.
func (h *history) ack(tp catalog.TopicPartition, offset int64, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.acked[tp] == nil {
		h.mu.acked[tp] = make(map[int64]string)
	}
	if was, ok := h.mu.acked[tp][offset]; ok && was != value {
		h.tb.Errorf("%s: offset %d was acknowledged for %q and for %q", tp, offset, was, value)
	}
	h.mu.acked[tp][offset] = value
}

// leads notes who led under a leader epoch: one only.
func (h *history) leads(tp catalog.TopicPartition, epoch int32, member int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.led[tp] == nil {
		h.mu.led[tp] = make(map[int32]int)
	}
	if was, ok := h.mu.led[tp][epoch]; ok && was != member {
		h.tb.Errorf("%s: members %d and %d both led under epoch %d", tp, was, member, epoch)
	}
	h.mu.led[tp][epoch] = member
}

// sees notes a high watermark that a member told: it never goes back.
func (h *history) sees(tp catalog.TopicPartition, member int, hw int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := hwKey{tp, member}
	if hw < h.mu.hws[k] {
		h.tb.Errorf("%s: member %d told high watermark %d after %d", tp, member, hw, h.mu.hws[k])
	}
	h.mu.hws[k] = hw
}

// holds compares a log, read whole, with what was acknowledged: all of it there, at its offset, and every value once.
func (h *history) holds(tp catalog.TopicPartition, log []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := make(map[string]int)
	for offset, value := range log {
		if before, ok := at[value]; ok {
			h.tb.Errorf("%s: %q is at offsets %d and %d", tp, value, before, offset)
		}
		at[value] = offset
	}
	for offset, value := range h.mu.acked[tp] {
		if offset >= int64(len(log)) || log[offset] != value {
			h.tb.Errorf("%s: %q was acknowledged at offset %d, the log has %d records there", tp, value, offset, len(log))
		}
	}
}

// crew is a fleet whose members come and go while producers and readers are at work.
type crew struct {
	*fleet
	h       *history
	members []atomic.Pointer[member]
	plans   []atomic.Pointer[catfaulty.Plan] // of their catalogs
	lock    sync.Mutex                       // of what the operator does
	change  []func(*Config)
}

func newCrew(tb testing.TB, partitions int32, members int, change ...func(*Config)) *crew {
	tb.Helper()
	c := &crew{fleet: newFleet(tb, partitions), h: newHistory(tb), members: make([]atomic.Pointer[member], members), change: change}
	c.plans = make([]atomic.Pointer[catfaulty.Plan], members)
	for i := range members {
		c.start(i)
	}
	return c
}

func (c *crew) start(i int) {
	plan := catfaulty.NewPlan()
	c.plans[i].Store(plan)
	change := append([]func(*Config){func(cfg *Config) {
		cat := catfaulty.New(cfg.Catalog, plan)
		cfg.Catalog, cfg.Fleet = cat, cat.Fleet()
		cfg.MergeInterval, cfg.FoldInterval, cfg.ObjectGrace = 5*time.Millisecond, 20*time.Millisecond, 10*time.Second
		cfg.Registration.TTL = 500 * time.Millisecond
	}}, c.change...)
	c.members[i].Store(c.join(catalog.BrokerID(i+1), change...))
}

// each sends numbered values to one partition until told to stop, each until it is acknowledged, to whoever leads.
func (c *crew) produceTo(ctx context.Context, l *plog, stop <-chan struct{}) int {
	for n := int32(0); ; n++ {
		select {
		case <-stop:
			return int(n)
		default:
		}
		text := fmt.Sprintf("%d/%d", l.tp.Partition, n)
		for {
			offset, err := c.tryOne(ctx, l, n, text)
			if err == nil {
				c.h.ack(l.tp, offset, text)
				break
			}
			if errors.Is(err, ErrOutOfOrderSequence) || errors.Is(err, ErrInvalidProducerEpoch) {
				c.t.Errorf("%s: %v", text, err)
				return int(n)
			}
			select {
			case <-ctx.Done():
				c.t.Errorf("%s was not acknowledged: %v", text, err)
				return int(n)
			case <-time.After(time.Millisecond):
			}
		}
	}
}

func (c *crew) tryOne(ctx context.Context, l *plog, seq int32, text string) (int64, error) {
	err := ErrNotLeader
	for i := range c.members {
		m := c.members[i].Load()
		if m == nil {
			continue
		}
		before := m.Epoch()
		epoch, leaderErr := m.Leader(l.tp)
		if leaderErr != nil {
			continue
		}
		if before != 0 && before == m.Epoch() {
			c.h.leads(l.tp, epoch, int(before))
		}
		var p Pending
		if p, err = c.send(ctx, m.Engine, l, seq, []byte(text)); err != nil {
			continue
		}
		select {
		case <-p.Done():
		case <-ctx.Done():
			return -1, ctx.Err()
		}
		a, err := p.Result()
		return a.BaseOffset, err
	}
	return -1, err
}

// watchFrom reads a partition from a member, led or followed, and judges what it tells.
func (c *crew) watchFrom(ctx context.Context, i int, l *plog, stop <-chan struct{}) {
	var r Read
	at, last := int64(0), (*member)(nil)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		m := c.members[i].Load()
		if m == nil {
			continue
		}
		if m != last {
			last, at = m, 0
		}
		err := m.ReadFollower(ctx, ReadRequest{TP: l.tp, Offset: at, MaxBytes: 4096, MinOne: true}, &r)
		if err == nil {
			c.h.sees(l.tp, i, r.HighWatermark)
			for _, text := range c.texts(&r, &at) {
				_ = text
			}
		} else if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrOffsetOutOfRange) {
			c.t.Errorf("member %d, %s at %d: %v", i, l.tp, at, err)
		}
		r.Release()
	}
}

// texts are the values of what was read; it must continue at the offset, which is moved.
func (c *crew) texts(r *Read, at *int64) []string {
	var raw []byte
	for _, s := range r.Records {
		raw = append(raw, s...)
	}
	var out []string
	for len(raw) > 0 {
		b, rest, err := recordbatch.Next(raw)
		require.NoError(c.t, err)
		h, err := recordbatch.ParseHeader(b)
		require.NoError(c.t, err)
		if h.BaseOffset != *at || !recordbatch.ChecksumOK(b) {
			c.t.Errorf("read offset %d where %d was due", h.BaseOffset, *at)
			return out
		}
		for rec, err := range recordbatch.Records(b, 1<<20) {
			require.NoError(c.t, err)
			out = append(out, string(rec.Value))
		}
		*at, raw = h.LastOffset()+1, rest
	}
	return out
}

// whole reads a log from its leader to the end.
func (c *crew) whole(ctx context.Context, l *plog, read func(context.Context, ReadRequest, *Read) error) []string {
	var out []string
	var r Read
	for at := int64(0); ; {
		require.NoError(c.t, read(ctx, ReadRequest{TP: l.tp, Offset: at, MaxBytes: 1 << 20, MinOne: true}, &r))
		hw := r.HighWatermark
		out = append(out, c.texts(&r, &at)...)
		r.Release()
		if at >= hw {
			return out
		}
	}
}

// settleLeases gives each partition a leader: what the lease managers do.
func (c *crew) settleLeases(ctx context.Context) {
	for i := range c.members {
		m := c.members[i].Load()
		if m == nil || m.Epoch() == 0 {
			continue
		}
		_ = m.Adopt(ctx, c.leases(m.Epoch()))
		var lost []catalog.Lease
		held := m.Held()
		set, err := c.shared.LeaseSet(ctx, 0)
		require.NoError(c.t, err)
		for _, l := range set.Leases {
			if epoch, ok := held[l.TopicPartition]; ok && l.Holder != 0 && l.Holder != m.Epoch() && epoch < l.Epoch {
				lost = append(lost, l)
			}
		}
		m.Lost(lost)
		_ = m.Acquire(ctx, append(c.tps(), controllerLease))
	}
}

// live runs producers of all partitions and readers of all members, while disturb is called again and again.
func (c *crew) live(disturb func(ctx context.Context, rng *rand.Rand, step int), steps int, seed uint64) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	c.settleLeases(ctx)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, l := range c.logs {
		wg.Go(func() { c.produceTo(ctx, l, stop) })
		for i := range c.members {
			wg.Go(func() { c.watchFrom(ctx, i, l, stop) })
		}
	}
	var keeper sync.WaitGroup
	keep := make(chan struct{})
	keeper.Go(func() {
		for {
			select {
			case <-keep:
				return
			case <-time.After(2 * time.Millisecond):
			}
			c.lock.Lock()
			c.settleLeases(ctx)
			c.lock.Unlock()
		}
	})
	rng := rand.New(rand.NewPCG(seed, 7))
	for step := range steps {
		if ctx.Err() != nil || c.failed() {
			break
		}
		disturb(ctx, rng, step)
		<-time.After(time.Duration(rng.IntN(8)) * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	close(keep)
	keeper.Wait()
}

func (c *crew) failed() bool {
	t, ok := c.t.(*testing.T)
	return ok && t.Failed()
}

// judge reads everything from the leaders, then from all followers once they have come as far. Who leads may take some tries to
// settle: a fault that was planned before may hit a call of it, and a broker that was fenced just now believes that it leads until
// it hears of that.
func (c *crew) judge() {
	c.t.Helper()
	unsettled := func(l *plog) bool { return !c.ledByItsHolder(l.tp) }
	for began := time.Now(); ; <-time.After(time.Millisecond) {
		c.settleLeases(c.t.Context())
		if !slices.ContainsFunc(c.logs, unsettled) {
			break
		}
		require.Less(c.t, time.Since(began), 20*time.Second, "some partition has no leader, or two")
	}
	c.judgeOnly()
}

// ledByItsHolder says whether one member leads a partition, and it is the one that the catalog gave the lease to.
func (c *crew) ledByItsHolder(tp catalog.TopicPartition) bool {
	var leaders []catalog.BrokerEpoch
	for i := range c.members {
		if m := c.members[i].Load(); m != nil {
			if _, err := m.Leader(tp); err == nil {
				leaders = append(leaders, m.Epoch())
			}
		}
	}
	held := func(l catalog.Lease) bool { return l.TopicPartition == tp }
	return len(leaders) == 1 && slices.ContainsFunc(c.leases(leaders[0]), held)
}

func (c *crew) judgeOnly() {
	ctx := c.t.Context()
	records := 0
	for _, l := range c.logs {
		var log []string
		for i := range c.members {
			m := c.members[i].Load()
			if m == nil {
				continue
			}
			if _, err := m.Leader(l.tp); err == nil {
				require.Nil(c.t, log, "two leaders")
				log = c.whole(ctx, l, m.Read)
			}
		}
		require.NotNil(c.t, log, "%s has a leader", l.tp)
		c.h.holds(l.tp, log)
		records += len(log)
		for i := range c.members {
			if m := c.members[i].Load(); m != nil {
				require.Eventually(c.t, func() bool {
					var r Read
					defer r.Release()
					err := m.ReadFollower(ctx, ReadRequest{TP: l.tp, Offset: int64(len(log))}, &r)
					return err == nil && r.HighWatermark == int64(len(log))
				}, 10*time.Second, time.Millisecond)
				require.Equal(c.t, log, c.whole(ctx, l, m.ReadFollower), "member %d", i)
			}
		}
	}
	c.t.Logf("%d records in %d partitions", records, len(c.logs))
}

// TestFleetLife moves partitions, crashes and fences brokers, loses wake-ups and answers, while all partitions are written and read
// everywhere.
func TestFleetLife(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			c := newCrew(t, 4, 3)
			c.live(func(ctx context.Context, rng *rand.Rand, _ int) {
				i := rng.IntN(len(c.members))
				m := c.members[i].Load()
				switch n := rng.IntN(100); {
				case n < 70: // a move
					to := c.members[rng.IntN(len(c.members))].Load()
					if to == m || to.Epoch() == 0 {
						return
					}
					var tps []catalog.TopicPartition
					for tp := range m.Held() {
						if rng.IntN(2) == 0 {
							tps = append(tps, tp)
						}
					}
					c.lock.Lock()
					_ = m.HandOver(ctx, tps, to.Epoch())
					c.lock.Unlock()
				case n < 78: // a crash
					c.lock.Lock()
					epoch := m.Epoch()
					m.die()
					if epoch != 0 {
						c.fence(epoch)
					}
					c.start(i)
					c.lock.Unlock()
				case n < 86: // fenced, and lives on
					if epoch := m.Epoch(); epoch != 0 {
						c.fence(epoch)
					}
				case n < 90: // hears nothing from now on
					m.handle.Drop()
				case n < 92:
					m.Heard(catalog.Announcement{})
				}
				ops := append([]catfaulty.Op{catfaulty.OpHeartbeat, catfaulty.OpRegisterBroker, catfaulty.OpLeaseSet, catfaulty.OpAnnounce}, relayOps...)
				for range rng.IntN(3) { // an answer lost, or a call refused, next time
					plan, op := c.plans[rng.IntN(len(c.plans))].Load(), ops[rng.IntN(len(ops))]
					kind := catfaulty.Lost
					if rng.IntN(3) == 0 {
						kind = catfaulty.Refuse
					}
					plan.Next(catfaulty.Fault{Op: op, Kind: kind})
				}
			}, 150, seed)
			c.judge()
		})
	}
}
