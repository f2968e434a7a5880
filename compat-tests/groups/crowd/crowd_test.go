package crowd_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/streamhouse/streamhouse/compat-tests/groups/light"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// flags have sessions and rebalances end soon enough for a test to wait for them.
var flags = []string{
	"--group-initial-rebalance-delay=1s", "--group-consumer-session-timeout=6s", "--group-consumer-heartbeat-interval=1s",
	"--group-min-session-timeout=1s",
}

const (
	session   = 6 * time.Second
	rebalance = 4 * time.Second
	beat      = time.Second
)

// crowd are goroutines, each with a connection, that must all end well.
type crowd struct {
	t    *testing.T
	b    *target.Broker
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newCrowd(t *testing.T, b *target.Broker) *crowd {
	t.Helper()
	c := &crowd{t: t, b: b}
	c.ctx, c.stop = context.WithCancel(t.Context())
	t.Cleanup(c.end)
	return c
}

// end ends all, and waits for them.
func (c *crowd) end() {
	c.stop()
	c.wg.Wait()
}

// each runs f n times at once, with its number and a connection of its own; an error fails the test, if the crowd has not ended.
func (c *crowd) each(n int, f func(ctx context.Context, i int, conn *light.Conn) error) {
	for i := range n {
		c.wg.Go(func() {
			conn, err := light.Dial(c.ctx, c.b.Bootstrap, "crowd-"+strconv.Itoa(i))
			if err == nil {
				err = f(c.ctx, i, conn)
				conn.Close()
			}
			if err != nil && c.ctx.Err() == nil {
				c.t.Error(err)
				c.stop()
			}
		})
	}
}

// settled waits until so many members share all partitions, in a generation above after.
func (c *crowd) settled(board *light.Board, members int, after int32) (epoch int32, took time.Duration) {
	c.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	epoch, _, err := board.Settled(ctx, members, after)
	require.NoError(c.t, err)
	return epoch, time.Since(began)
}

// broker runs a broker with a topic, and groups that can be used.
func broker(t *testing.T, partitions int32) (b *target.Broker, topic string) {
	t.Helper()
	b = target.Start(t, flags...)
	topic = b.Topic(t, "crowd", partitions, nil)
	admin := kadm.NewClient(b.Client(t))
	require.Eventually(t, func() bool { return admin.FindGroupCoordinators(t.Context(), "any").Error() == nil }, 30*time.Second, 20*time.Millisecond)
	return b, topic
}
