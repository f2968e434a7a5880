package figures_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/groups/light"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestRebalance measures, in a group on 1,000 partitions, from the first request until all members are in the new generation
// and each partition has one owner: 100 members join an empty group at once; one more joins; one leaves.
func TestRebalance(t *testing.T) {
	delays, intervals := []string{"0s", "3s"}, []string{"5s", "500ms"}
	if os.Getenv("FIGURES_PEER") != "" {
		delays, intervals = []string{"as started"}, []string{"as started"}
	}
	for _, delay := range delays {
		t.Run("classic initial delay "+delay, func(t *testing.T) {
			p := measured(t, "--group-initial-rebalance-delay="+delay)
			heartbeat := 3 * time.Second
			if text := os.Getenv("FIGURES_HEARTBEAT"); text != "" {
				var err error
				heartbeat, err = time.ParseDuration(text)
				require.NoError(t, err)
			}
			rebalances(t, p, "classic, initial delay "+delay+", heartbeats every "+heartbeat.String(),
				func(ctx context.Context, conn *light.Conn, name, group, topic string, b *light.Board, leave <-chan struct{}) error {
					m := light.NewClassic(conn, name, group, topic, b)
					if err := m.Join(ctx); err != nil {
						return err
					}
					return m.Stay(ctx, time.Duration(rand.Float64()*float64(heartbeat)), heartbeat, leave)
				})
		})
	}
	for _, interval := range intervals {
		t.Run("consumer heartbeats "+interval, func(t *testing.T) {
			p := measured(t, "--group-consumer-heartbeat-interval="+interval)
			rebalances(t, p, "KIP-848, heartbeats "+interval,
				func(ctx context.Context, conn *light.Conn, name, group, topic string, b *light.Board, leave <-chan struct{}) error {
					m, err := light.NewConsumer(conn, name, group, topic, b)
					if err != nil {
						return err
					}
					return m.Stay(ctx, rand.Float64(), leave)
				})
		})
	}
}

type memberOf func(ctx context.Context, conn *light.Conn, name, group, topic string, b *light.Board, leave <-chan struct{}) error

func rebalances(t *testing.T, p place, what string, member memberOf) {
	t.Helper()
	const members, partitions = 100, 1000
	topic := p.topic(t, partitions)
	var all, one, less []time.Duration
	for range repeats(t) {
		c := newCrowd(t)
		board, group := light.NewBoard(partitions), target.Name("rebalance")
		conns := c.conns(p.addr, members+1)
		leave := make([]chan struct{}, members+1)
		start := func(i int) {
			leave[i] = make(chan struct{})
			c.run(func(ctx context.Context) error {
				return member(ctx, conns[i], strconv.Itoa(i), group, topic, board, leave[i])
			})
		}
		settled := func(began time.Time, members int, after int32) (epoch int32, took time.Duration) {
			t.Helper()
			ctx, cancel := context.WithTimeout(c.ctx, 90*time.Second)
			defer cancel()
			epoch, at, err := board.Settled(ctx, members, after)
			require.NoError(t, err)
			return epoch, at.Sub(began)
		}
		began := time.Now()
		for i := range members {
			start(i)
		}
		epoch, took := settled(began, members, -1)
		all = append(all, took)
		// Members heartbeat at phases of their own, as those of a group that has lived do, after two intervals.
		board.Spread()
		time.Sleep(11 * time.Second) //nolint:forbidigo // until those heartbeats were sent, which have no end to wait for

		began = time.Now()
		start(members)
		epoch, took = settled(began, members+1, epoch)
		one = append(one, took)
		time.Sleep(7 * time.Second) //nolint:forbidigo // a heartbeat of everybody, so that the next measurement begins as the first did

		began = time.Now()
		close(leave[7])
		_, took = settled(began, members, epoch)
		less = append(less, took)
		c.end()
	}
	t.Logf("FIGURE %s, %s: %d join at once: %s", p.name, what, members, spread(all))
	t.Logf("FIGURE %s, %s: one more joins: %s", p.name, what, spread(one))
	t.Logf("FIGURE %s, %s: one leaves: %s", p.name, what, spread(less))
}
