package figures_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/groups/light"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestLagDelay measures from the answer to a commit, or to a produce, until a scrape that began every 10 ms shows the lag it
// makes.
func TestLagDelay(t *testing.T) {
	if os.Getenv("FIGURES_PEER") != "" {
		return // it has no such metric
	}
	p := measured(t, "--group-initial-rebalance-delay=0s")
	topic, group := p.topic(t, 1), target.Name("lag")
	cl := p.client(t, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
	append1 := func() {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte("x")}).FirstErr())
	}
	conn, err := light.Dial(t.Context(), p.addr, "lag")
	require.NoError(t, err)
	m := light.NewClassic(conn, "m", group, topic, light.NewBoard(1))
	require.NoError(t, m.Join(t.Context()))
	commit := func(offset int64) {
		code, err := m.Commit(0, offset)
		require.NoError(t, err)
		require.NoError(t, kerr.ErrorForCode(code))
	}
	series := fmt.Sprintf(`streamhouse_consumer_lag_records{group_id=%q,partition="0",topic=%q} `, group, topic)
	until := func(want int64) time.Duration {
		t.Helper()
		began := time.Now()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if got, err := scrape(t.Context(), p.own.HTTP(), series); err == nil && got == want {
				return time.Since(began)
			}
			require.Less(t, time.Since(began), 10*time.Second, "the lag is not shown")
			<-tick.C
		}
	}
	append1()
	commit(0)
	until(1)
	var commits, appends []time.Duration
	for n := int64(1); n <= 20; n++ {
		commit(n)
		commits = append(commits, until(0))
		append1()
		appends = append(appends, until(1))
	}
	t.Logf("FIGURE %s, lag metric after a commit: %s", p.name, spread(commits))
	t.Logf("FIGURE %s, lag metric after an append: %s", p.name, spread(appends))
}

// scrape is the value of one series.
func scrape(ctx context.Context, addr, series string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		if rest, ok := strings.CutPrefix(in.Text(), series); ok {
			return strconv.ParseInt(rest, 10, 64)
		}
	}
	return 0, fmt.Errorf("no series %s", series)
}
