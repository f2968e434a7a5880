package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for what must happen; it is reached only when a test fails.
const patience = 30 * time.Second

// settings are the defaults of serve on free ports, with everything under dir.
func settings(t *testing.T, dir string, change ...func(*config.Flags)) config.Config {
	t.Helper()
	f := config.Flags{
		DataDir: dir, Addr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
		FlushInterval: new(2 * time.Millisecond), FlushBytes: 8 * config.MiB, MergeInterval: time.Second, ObjectGrace: new(30 * time.Second),
		NumPartitions: 1, MaxConnections: 1000, MaxConnectionsPerIP: 1000, MaxRequestBytes: 100 * config.MiB,
		MemoryLimit: 512 * config.MiB, BrokerID: -1, ShutdownTimeout: 20 * time.Second,
		LogLevel: "info", LogFormat: "text", Metrics: "on", MaxPartitionMetrics: 1000,
	}
	f = f.WithGroupDefaults()
	for _, c := range change {
		c(&f)
	}
	cfg, err := f.Resolve()
	require.NoError(t, err)
	return cfg
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// running is a node that runs until stop.
type running struct {
	*Node
	t     *testing.T
	addr  string
	log   *lines
	stop  func() error
	admin *kadm.Client
}

func begin(t *testing.T, cfg config.Config) *running {
	t.Helper()
	log := &lines{}
	n, err := Start(t.Context(), cfg, "test", slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	return begun(t, n, log)
}

// beginOn is begin with something put between the broker and its catalog or store, once they are open.
func beginOn(t *testing.T, cfg config.Config, opened func(n *Node)) *running {
	t.Helper()
	log := &lines{}
	n := prepare(t.Context(), cfg, "test", slog.New(slog.NewTextHandler(log, nil)))
	for i, step := range n.steps() {
		require.NoError(t, step(t.Context()))
		if i == 0 {
			opened(n)
		}
	}
	return begun(t, n, log)
}

func begun(t *testing.T, n *Node, log *lines) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	r := &running{Node: n, t: t, addr: n.Listeners()[0].Advertised.String(), log: log}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { require.NoError(t, r.stop()) })
	r.admin = kadm.NewClient(r.client())
	return r
}

// client is a franz-go client that is closed with the test.
func (r *running) client(opts ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.addr), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(50 * time.Millisecond),
	}, opts...)...)
	require.NoError(r.t, err)
	r.t.Cleanup(cl.Close)
	return cl
}

// produce sends records of one topic and waits for all acknowledgements.
func (r *running) produce(topic string, values ...string) {
	r.t.Helper()
	cl := r.client()
	defer cl.Close()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(v)})
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	require.NoError(r.t, cl.ProduceSync(ctx, records...).FirstErr())
}

// consume reads n records of a topic from its start.
func (r *running) consume(topic string, n int, opts ...kgo.Opt) []string {
	r.t.Helper()
	cl := r.client(append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	var got []string
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		require.NoError(r.t, fs.Err())
		fs.EachRecord(func(rec *kgo.Record) { got = append(got, string(rec.Value)) })
	}
	return got
}

// get asks the node's HTTP server.
func (r *running) get(path string) (status int, body string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.HTTPAddr().String()+path, http.NoBody)
	require.NoError(r.t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, string(b)
}

// scrape returns the samples by name and labels, as exposed.
func (r *running) scrape() samples {
	r.t.Helper()
	status, body := r.get("/metrics")
	require.Equal(r.t, http.StatusOK, status)
	out := samples{}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
		require.NoError(r.t, err, line)
		out[strings.TrimPrefix(line[:at], "streamhouse_")] = v
	}
	return out
}

// eventually asks for samples until they are as wanted.
func (r *running) eventually(what string, ok func(samples) bool) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return ok(r.scrape()) }, patience, 10*time.Millisecond, what)
}

type samples map[string]float64

// has tells whether there is such a sample, whatever its value.
func (s samples) has(name string) bool {
	_, ok := s[name]
	return ok
}

// with counts the samples that have a label of this value.
func (s samples) with(label, value string) (names []string) {
	for name := range s {
		if strings.Contains(name, fmt.Sprintf("%s=%q", label, value)) {
			names = append(names, name)
		}
	}
	return names
}

func values(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return out
}

func listening(t *testing.T) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func catalogPath(dir string) string { return filepath.Join(dir, "catalog.db") }

// versionsUpTo caps one API, so that topics are told by name and not by id.
func versionsUpTo(key, version int16) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(key, version)
	return v
}
