package figures_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/streamhouse/streamhouse/compat-tests/groups/light"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestCommitRate has the 1,000 members of a group, each with one partition, commit every second, each at a time of its own in
// it; then each commits again as soon as it is answered.
func TestCommitRate(t *testing.T) {
	const members = 1000
	p := measured(t, "--group-initial-rebalance-delay=3s")
	topic := p.topic(t, members)
	c := newCrowd(t)
	board := light.NewBoard(members)
	group := target.Name("commits")
	all := make([]*light.Classic, members)
	joined, settled := context.WithCancel(c.ctx)
	for i, conn := range c.conns(p.addr, members) {
		m := light.NewClassic(conn, strconv.Itoa(i), group, topic, board)
		m.Session, all[i] = 5*time.Minute, m
		c.run(func(context.Context) error {
			if err := m.Join(joined); err != nil {
				return err
			}
			return m.Stay(joined, 0, time.Second, nil)
		})
	}
	_, _, err := board.Settled(c.ctx, members, -1)
	require.NoError(t, err)
	settled()
	c.wg.Wait()
	require.NoError(t, c.ctx.Err())

	offset := int64(0)
	measure := func(what string, lasts time.Duration, pace func(i int, began time.Time, n int) time.Time) {
		var mu sync.Mutex
		var took []time.Duration
		c.run(func(ctx context.Context) error { return p.profile(ctx, what, lasts) })
		began := time.Now()
		offset += 1_000_000
		for i, m := range all {
			c.run(func(ctx context.Context) error {
				var mine []time.Duration
				for n := 0; ; n++ {
					at := pace(i, began, n)
					if d := time.Until(at); d > 0 {
						time.Sleep(d) //nolint:forbidigo // each member commits at its own time of the second: there is no event to wait for
					}
					sent := time.Now()
					if sent.Sub(began) >= lasts || ctx.Err() != nil {
						break
					}
					code, err := m.Commit(m.Owned[0], offset+int64(n))
					if err == nil {
						err = kerr.ErrorForCode(code)
					}
					if err != nil {
						return fmt.Errorf("commit: %w", err)
					}
					if at.IsZero() {
						at = sent
					}
					mine = append(mine, time.Since(at)) // from when it was due, so that one that could not be sent counts
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, mine...)
				return nil
			})
		}
		c.wg.Wait()
		slices.Sort(took)
		t.Logf("FIGURE %s, commits of %d members, %s: %.0f/s, p50 %s, p99 %s, most %s", p.name, members, what,
			float64(len(took))/lasts.Seconds(), ms(quantile(took, 0.5)), ms(quantile(took, 0.99)), ms(quantile(took, 1)))
	}
	spread := func(i int, began time.Time, n int) time.Time {
		return began.Add(time.Duration(n)*time.Second + time.Duration(i)*time.Second/members)
	}
	flatOut := func(int, time.Time, int) time.Time { return time.Time{} }
	measure("warming up", 3*time.Second, flatOut)
	for range repeats(t) {
		measure("one a second each", 20*time.Second, spread)
		measure("as fast as answered", 10*time.Second, flatOut)
	}
}
