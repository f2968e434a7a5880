package figures_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/groups/light"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// place is a broker that is measured.
type place struct {
	name string
	addr string
	own  *target.Broker // nil: a peer
}

// measured is the broker to measure: the peer, or a new one with these flags.
func measured(t *testing.T, flags ...string) place {
	t.Helper()
	if peer := os.Getenv("FIGURES_PEER"); peer != "" {
		return place{name: "peer " + peer, addr: peer}
	}
	name := "embedded"
	if os.Getenv("FIGURES_CATALOG") == "postgres" {
		name = "Postgres"
		flags = append(stack.Servers(t), flags...)
	}
	b := target.Start(t, append(flags, "--pprof")...)
	return place{name: name, addr: b.Bootstrap, own: b}
}

func (p place) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(p.addr)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// topic makes a topic and waits until all of its partitions have a leader.
func (p place) topic(t *testing.T, partitions int32) string {
	t.Helper()
	name := target.Name("figures")
	admin := kadm.NewClient(p.client(t))
	made, err := admin.CreateTopic(t.Context(), partitions, 1, nil, name)
	require.NoError(t, err)
	require.NoError(t, made.Err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := admin.DeleteTopics(ctx, name); err != nil {
			t.Error(err)
		}
	})
	require.Eventually(t, func() bool {
		ends, err := admin.ListEndOffsets(t.Context(), name)
		return err == nil && ends.Error() == nil && len(ends[name]) == int(partitions)
	}, time.Minute, 100*time.Millisecond)
	// The first group of a broker waits for the topic of groups.
	require.Eventually(t, func() bool {
		return admin.FindGroupCoordinators(t.Context(), "warm").Error() == nil
	}, time.Minute, 100*time.Millisecond)
	return name
}

// profile keeps a CPU profile of a broker of ours, if wanted.
func (p place) profile(ctx context.Context, what string, lasts time.Duration) error {
	dir := os.Getenv("FIGURES_PROFILES")
	if dir == "" || p.own == nil {
		return nil
	}
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.own.HTTP(), int(lasts.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, strings.ReplaceAll(p.name+" "+what, " ", "-")+".pprof"), text, 0o600)
}

// crowd are goroutines that must all end well.
type crowd struct {
	t    *testing.T
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{t: t}
	c.ctx, c.stop = context.WithCancel(t.Context())
	t.Cleanup(c.end)
	return c
}

func (c *crowd) end() {
	c.stop()
	c.wg.Wait()
}

// go runs f until the crowd ends; an error before that fails the test.
func (c *crowd) run(f func(ctx context.Context) error) {
	c.wg.Go(func() {
		if err := f(c.ctx); err != nil && c.ctx.Err() == nil {
			c.t.Error(err)
			c.stop()
		}
	})
}

// conns makes connections.
func (c *crowd) conns(addr string, n int) []*light.Conn {
	c.t.Helper()
	out := make([]*light.Conn, n)
	for i := range out {
		conn, err := light.Dial(c.ctx, addr, "figures-"+strconv.Itoa(i))
		require.NoError(c.t, err)
		out[i] = conn
	}
	return out
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// spread tells the median and the largest of what was measured.
func spread(all []time.Duration) string {
	slices.Sort(all)
	return fmt.Sprintf("median %s, most %s, n = %d", ms(quantile(all, 0.5)), ms(all[len(all)-1]), len(all))
}

func repeats(t *testing.T) int {
	t.Helper()
	text := os.Getenv("FIGURES_REPEAT")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}
