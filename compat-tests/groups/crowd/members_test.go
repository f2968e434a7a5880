package crowd_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/groups/light"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

const members, partitions = 1000, 1000

// TestThousandJoin has 1,000 members join one group at once, then 50 more of whom nothing is heard after their join: those are
// thrown out, and the others share all partitions again.
func TestThousandJoin(t *testing.T) {
	const silent = 50
	t.Run("classic", func(t *testing.T) {
		b, topic := broker(t, partitions)
		c, board, group := newCrowd(t, b), light.NewBoard(partitions), target.Name("thousand")
		before := b.Memory(t)
		c.each(members, func(ctx context.Context, i int, conn *light.Conn) error {
			m := light.NewClassic(conn, strconv.Itoa(i), group, topic, board)
			m.Session, m.Rebalance = session, rebalance
			if err := m.Join(ctx); err != nil {
				return err
			}
			return m.Stay(ctx, time.Duration(i)*beat/members, beat, nil)
		})
		generation, took := c.settled(board, members, -1)
		t.Logf("FIGURE %d members of a classic group settled after %v, %d KiB a member", members, took, (b.Memory(t)-before)/members>>10)

		var joined atomic.Int32
		c.each(silent, func(ctx context.Context, _ int, conn *light.Conn) error {
			m := light.NewClassic(conn, "silent", group, topic, board)
			m.Session, m.Rebalance = session, rebalance
			if _, err := m.JoinOnly(ctx); err != nil {
				return err
			}
			joined.Add(1)
			<-ctx.Done()
			return nil
		})
		_, took = c.settled(board, members, generation)
		require.EqualValues(t, silent, joined.Load(), "they joined, or nothing was seen")
		t.Logf("FIGURE %d members that never sync were gone, and the group settled, after %v", silent, took)
		requireMembers(t, b, group, members)
	})
	t.Run("consumer", func(t *testing.T) {
		b, topic := broker(t, partitions)
		c, board, group := newCrowd(t, b), light.NewBoard(partitions), target.Name("thousand")
		before := b.Memory(t)
		c.each(members, func(ctx context.Context, i int, conn *light.Conn) error {
			m, err := light.NewConsumer(conn, strconv.Itoa(i), group, topic, board)
			if err != nil {
				return err
			}
			return m.Stay(ctx, float64(i)/members, nil)
		})
		epoch, took := c.settled(board, members, -1)
		t.Logf("FIGURE %d members of a KIP-848 group settled after %v, %d KiB a member", members, took, (b.Memory(t)-before)/members>>10)

		nobody := light.NewBoard(partitions)
		var joined atomic.Int32
		c.each(silent, func(ctx context.Context, i int, conn *light.Conn) error {
			m, err := light.NewConsumer(conn, strconv.Itoa(i), group, topic, nobody)
			if err != nil {
				return err
			}
			if err := m.Join(); err != nil {
				return err
			}
			joined.Add(1)
			<-ctx.Done()
			return nil
		})
		// They are given nothing while there are as many members as partitions, or what others had to give up; at last all is back. On a slow
		// machine the first is thrown out before the last joins: there is no moment at which all are members.
		require.Eventually(t, func() bool { return joined.Load() == silent }, time.Minute, 50*time.Millisecond, "they join")
		began := time.Now()
		require.Eventually(t, func() bool { return count(t, b, group) == members }, time.Minute, 50*time.Millisecond, "they are thrown out")
		_, took = c.settled(board, members, epoch)
		t.Logf("FIGURE %d members that are not heard of again were gone after %v, the group settled %v later", silent, time.Since(began)-took, took)
	})
}

func count(t *testing.T, b *target.Broker, group string) int {
	t.Helper()
	all, err := kadm.NewClient(b.Client(t)).DescribeConsumerGroups(t.Context(), group)
	require.NoError(t, err)
	return len(all[group].Members)
}

func requireMembers(t *testing.T, b *target.Broker, group string, n int) {
	t.Helper()
	all, err := kadm.NewClient(b.Client(t)).DescribeGroups(t.Context(), group)
	require.NoError(t, err)
	require.Len(t, all[group].Members, n)
	require.Equal(t, "Stable", all[group].State)
}

// TestHeartbeatStorm has the 1,000 members of a group heartbeat as fast as they are answered, for five seconds: others are served,
// and nobody is thrown out.
func TestHeartbeatStorm(t *testing.T) {
	const lasts = 5 * time.Second
	b, topic := broker(t, partitions)
	c, board, group := newCrowd(t, b), light.NewBoard(partitions), target.Name("storm")
	storm := make(chan struct{})
	var beats atomic.Int64
	var ends time.Time
	c.each(members, func(ctx context.Context, i int, conn *light.Conn) error {
		m := light.NewClassic(conn, strconv.Itoa(i), group, topic, board)
		m.Session, m.Rebalance = session, rebalance
		calm, done := context.WithCancel(ctx)
		go func() {
			<-storm
			done()
		}()
		if err := m.Join(ctx); err != nil {
			return err
		}
		if err := m.Stay(calm, time.Duration(i)*beat/members, beat, nil); err != nil {
			return err
		}
		for time.Now().Before(ends) && ctx.Err() == nil {
			code, err := m.Heartbeat()
			if err == nil {
				err = kerr.ErrorForCode(code)
			}
			if err != nil {
				return fmt.Errorf("heartbeat in the storm: %w", err)
			}
			beats.Add(1)
		}
		return m.Stay(ctx, 0, beat, nil)
	})
	generation, _ := c.settled(board, members, -1)

	// Others: one who produces, and one who is in a group of its own and commits.
	cl := b.Client(t, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
	conn, err := light.Dial(t.Context(), b.Bootstrap, "other")
	require.NoError(t, err)
	other := light.NewClassic(conn, "other", target.Name("other"), topic, light.NewBoard(partitions))
	require.NoError(t, other.Join(t.Context()))

	ends = time.Now().Add(lasts)
	close(storm)
	var produced, committed time.Duration // the longest
	rounds := int64(0)
	for ; time.Now().Before(ends); rounds++ {
		began := time.Now()
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte("x")}).FirstErr())
		produced = max(produced, time.Since(began))
		began = time.Now()
		code, err := other.Commit(0, rounds)
		require.NoError(t, err)
		require.NoError(t, kerr.ErrorForCode(code))
		committed = max(committed, time.Since(began))
	}
	t.Logf("FIGURE %d heartbeats/s; meanwhile %d produces and commits, the longest %v and %v", beats.Load()/int64(lasts.Seconds()), rounds, produced, committed)
	require.Positive(t, beats.Load())
	require.Less(t, produced, 2*time.Second)
	require.Less(t, committed, 2*time.Second)
	time.Sleep(2 * beat) //nolint:forbidigo // all heartbeat once more: who was thrown out would join
	again, _ := c.settled(board, members, -1)
	require.Equal(t, generation, again, "nobody was thrown out")
	requireMembers(t, b, group, members)
}
