package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/miniotest"
)

// sharedServers is a Postgres and a MinIO of one's own, for brokers of one cluster.
type sharedServers struct {
	t              *testing.T
	postgres       *postgrestest.Server
	catalog, store string
}

func startShared(t *testing.T) *sharedServers {
	t.Helper()
	server, err := postgrestest.Start(postgrestest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return &sharedServers{t: t, postgres: server, catalog: server.NewDatabase(t), store: startMinIO(t)}
}

// startMinIO runs a MinIO, and returns the URL of a bucket.
func startMinIO(t *testing.T) string {
	t.Helper()
	return "s3://" + miniotest.Bucket + "/log?endpoint=http://" + miniotest.Start(t)
}

// start starts a broker of the cluster.
func (s *sharedServers) start(dir string, args ...string) *process {
	s.t.Helper()
	p := startServe(s.t, dir, s.args(args...)...)
	p.ready()
	return p
}

func (s *sharedServers) args(args ...string) []string {
	return append([]string{"--catalog=" + s.catalog, "--store=" + s.store, "--flush-interval=10ms"}, args...)
}

func (p *process) ready() {
	p.t.Helper()
	p.eventually("ready", func() bool {
		status, _ := p.get("/ready")
		return status == http.StatusOK
	})
}

// leaders are the leaders of a topic's partitions, as this broker tells, and the brokers it knows.
func (p *process) leaders(topic string) (leaders map[int32]int32, brokers []int32) {
	p.t.Helper()
	adm := kadm.NewClient(p.client())
	m, err := adm.Metadata(p.t.Context(), topic)
	require.NoError(p.t, err)
	leaders = make(map[int32]int32)
	for _, partition := range m.Topics[topic].Partitions {
		leaders[partition.Partition] = partition.Leader
	}
	return leaders, m.Brokers.NodeIDs()
}

// byHand are the options of clients that choose the partition, and that soon give up on a broker that does not answer: a
// stopped process keeps its connections.
var byHand = []kgo.Opt{
	kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProduceRequestTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second),
}

// writer produces a stream of records to all partitions in turn, through any broker, and remembers what was acknowledged.
type writer struct {
	name string
	cl   *kgo.Client
	stop func()

	mu    sync.Mutex
	acked map[string]kgo.Record // by value: where it went
	errs  []error
	last  atomic.Int64
	wg    sync.WaitGroup
}

func startWriter(p *process, name, topic string, partitions int32) *writer {
	p.t.Helper()
	w := &writer{name: name, cl: p.client(byHand...), acked: make(map[string]kgo.Record)}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := int32(0); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			w.cl.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: n % partitions, Value: fmt.Appendf(nil, "%s-%d", name, n)}, w.done)
		}
	})
	return w
}

func (w *writer) done(r *kgo.Record, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.errs = append(w.errs, fmt.Errorf("%s: %w", r.Value, err))
		return
	}
	w.acked[string(r.Value)] = *r
	w.last.Store(time.Now().UnixNano())
}

// end stops writing and waits for what is under way.
func (w *writer) end(t *testing.T) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.cl.Flush(ctx))
	require.Empty(t, w.errs, "no client sees an error")
}

// writable tells how long it takes until all partitions take a record.
func (p *process) writable(topic string, partitions int32) time.Duration {
	p.t.Helper()
	cl := p.client(byHand...)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	began := time.Now()
	var records []*kgo.Record
	for n := range partitions {
		records = append(records, &kgo.Record{Topic: topic, Partition: n, Value: []byte("probe")})
	}
	require.NoError(p.t, cl.ProduceSync(ctx, records...).FirstErr())
	return time.Since(began)
}

// TestThreeBrokersShareOneLog: real processes on one Postgres and one S3 server. One is killed, one is stopped, all come
// back, under load; the clients see no error, and every record acknowledged is there once, where it was acknowledged.
func TestThreeBrokersShareOneLog(t *testing.T) {
	const topic, partitions = "shared", 12
	s := startShared(t)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	a, b := s.start(dirs[0], "--broker-id=1"), s.start(dirs[1], "--broker-id=2")
	c := s.start(dirs[2]) // without an id
	_, err := kadm.NewClient(a.client()).CreateTopic(t.Context(), partitions, 1, nil, topic)
	require.NoError(t, err)
	made := time.Now()
	for _, p := range []*process{a, b, c} {
		p.eventually("all partitions are led, and all know it", func() bool {
			leaders, brokers := p.leaders(topic)
			led := 0
			for _, l := range leaders {
				if l >= 0 {
					led++
				}
			}
			return led == partitions && len(brokers) == 3
		})
	}
	t.Logf("all brokers knew leaders of all partitions within %v of the topic's making", time.Since(made))
	_, brokers := c.leaders(topic)
	require.Equal(t, []int32{1, 2, 1001}, brokers, "the catalog handed one id out")

	// Another process of an id that is in use ends, once it has waited for the first to end.
	self, err := os.Executable()
	require.NoError(t, err)
	twin := osexec.CommandContext(t.Context(), self, append([]string{
		"serve", "--data-dir=" + t.TempDir(), "--addr=127.0.0.1:0", "--http-addr=off", "--broker-id=1",
	}, s.args()...)...)
	twin.Env = append(os.Environ(), asProgram+"=1")
	var said syncBuffer
	twin.Stdout, twin.Stderr = &said, &said
	require.NoError(t, twin.Start())

	var writers []*writer
	for i, p := range []*process{a, b, c} {
		writers = append(writers, startWriter(p, fmt.Sprintf("w%d", i), topic, partitions))
	}
	acked := func() (n int) {
		for _, w := range writers {
			w.mu.Lock()
			n += len(w.acked)
			w.mu.Unlock()
		}
		return n
	}
	progress := func(what string) {
		t.Helper()
		before := acked()
		require.Eventually(t, func() bool { return acked() > before+1000 }, patience, 20*time.Millisecond, what)
	}
	progress("writes through all three")

	require.NoError(t, b.cmd.Process.Kill())
	took := a.writable(topic, partitions)
	t.Logf("after kill -9 of one of three, all partitions took writes again within %v", took)
	require.Less(t, took, 10*time.Second)
	b.wait()
	progress("writes after a kill")
	require.Positive(t, a.sample(`streamhouse_cluster_fences_total{reason="detached"}`)+c.sample(`streamhouse_cluster_fences_total{reason="detached"}`))
	b = s.start(dirs[1], "--broker-id=2")
	progress("writes while it comes back")

	require.Zero(t, c.stop(), "SIGTERM")
	require.Contains(t, c.stderr.String(), "all leases were handed over")
	progress("writes after a stop")
	c = s.start(dirs[2])
	_, brokers = c.leaders(topic)
	require.Contains(t, brokers, int32(1001), "the data folder keeps the id")
	progress("writes when all are there")
	for _, w := range writers {
		w.end(t)
	}
	checkOnce(t, c, topic, partitions, writers)
	s.checkView(c, topic)
	require.Equal(t, float64(3), a.sample("streamhouse_cluster_brokers"))
	require.Zero(t, a.sample("streamhouse_unled_partitions"))

	require.Error(t, twin.Wait())
	require.Contains(t, said.String(), "another process that lives has this broker id")
	require.Zero(t, b.stop())
	require.Zero(t, a.stop())
	require.Zero(t, c.stop(), "the last one has nobody to hand over to")
}

// checkOnce reads the topic and checks that all that was acknowledged is there once, where it was acknowledged.
func checkOnce(t *testing.T, p *process, topic string, partitions int32, writers []*writer) {
	t.Helper()
	admin := kadm.NewClient(p.client())
	var ends kadm.ListedOffsets
	p.eventually("ends of all partitions", func() (ok bool) { // leases may be moving
		var err error
		ends, err = admin.ListEndOffsets(t.Context(), topic)
		return err == nil && ends.Error() == nil
	})
	want := int64(0)
	for partition := range partitions {
		end, ok := ends.Lookup(topic, partition)
		require.True(t, ok)
		want += end.Offset
	}
	cl := p.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	got := make(map[string][]*kgo.Record)
	for n := int64(0); n < want; {
		fs := cl.PollFetches(ctx)
		require.NoError(t, fs.Err())
		fs.EachRecord(func(r *kgo.Record) {
			got[string(r.Value)] = append(got[string(r.Value)], r)
			n++
		})
	}
	total := 0
	for _, w := range writers {
		for value, sent := range w.acked {
			require.Len(t, got[value], 1, value)
			require.Equal(t, sent.Offset, got[value][0].Offset, value)
			require.Equal(t, sent.Partition, got[value][0].Partition, value)
			total++
		}
	}
	t.Logf("%d records acknowledged, each there once", total)
}

// checkView checks that who looks with psql sees the high watermarks that clients see.
func (s *sharedServers) checkView(p *process, topic string) {
	s.t.Helper()
	ends, err := kadm.NewClient(p.client()).ListEndOffsets(s.t.Context(), topic)
	require.NoError(s.t, err)
	want := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) { want[o.Partition] = o.Offset })
	conn, err := pgx.Connect(s.t.Context(), s.catalog)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) }()
	rows, err := conn.Query(s.t.Context(), "SELECT partition, high_watermark FROM partitions WHERE topic = $1", topic)
	require.NoError(s.t, err)
	got := make(map[int32]int64)
	var partition int32
	var high int64
	_, err = pgx.ForEachRow(rows, []any{&partition, &high}, func() error {
		got[partition] = high
		return nil
	})
	require.NoError(s.t, err)
	require.Equal(s.t, want, got)
}

// TestAStoppedProcessIsReplaced stops a process without a word: its session runs out. When it goes on it is one of the
// fleet again.
func TestAStoppedProcessIsReplaced(t *testing.T) {
	const topic, partitions = "shared", 6
	s := startShared(t)
	a, b := s.start(t.TempDir(), "--broker-id=1"), s.start(t.TempDir(), "--broker-id=2")
	_, err := kadm.NewClient(a.client()).CreateTopic(t.Context(), partitions, 1, nil, topic)
	require.NoError(t, err)
	w := startWriter(a, "w", topic, partitions)
	require.NoError(t, b.cmd.Process.Signal(syscall.SIGSTOP))
	took := a.writable(topic, partitions)
	t.Logf("after SIGSTOP of one of two, all partitions took writes again within %v", took)
	require.Less(t, took, 25*time.Second, "a session, what clients need to notice, and a busy machine")
	a.eventually("that its session ran out is why", func() bool { return a.sample(`streamhouse_cluster_fences_total{reason="expired"}`) == 1 })
	require.Zero(t, a.sample(`streamhouse_cluster_fences_total{reason="detached"}`), "it is attached all the time")
	require.NoError(t, b.cmd.Process.Signal(syscall.SIGCONT))
	b.eventually("it leads again", func() bool {
		leaders, _ := b.leaders(topic)
		for _, l := range leaders {
			if l == 2 {
				return true
			}
		}
		return false
	})
	b.ready()
	w.end(t)
	checkOnce(t, b, topic, partitions, []*writer{w})
	require.Zero(t, a.stop())
	require.Zero(t, b.stop())
}

// TestTheDatabaseRestarts: brokers lose the catalog for a while. Nobody is fenced for it, and the clients wait.
func TestTheDatabaseRestarts(t *testing.T) {
	const topic, partitions = "shared", 6
	s := startShared(t)
	brokers := []*process{s.start(t.TempDir(), "--broker-id=1"), s.start(t.TempDir(), "--broker-id=2"), s.start(t.TempDir(), "--broker-id=3")}
	_, err := kadm.NewClient(brokers[0].client()).CreateTopic(t.Context(), partitions, 1, nil, topic)
	require.NoError(t, err)
	w := startWriter(brokers[0], "w", topic, partitions)
	for range 2 {
		brokers[1].writable(topic, partitions)
		s.postgres.Stop()
		down := time.Now()
		brokers[2].eventually("not ready", func() bool {
			status, _ := brokers[2].get("/ready")
			return status == http.StatusServiceUnavailable && time.Since(down) > 2*time.Second
		})
		require.NoError(t, s.postgres.Up())
		t.Logf("after %v without the database, writes went on within %v", time.Since(down), brokers[1].writable(topic, partitions))
	}
	w.end(t)
	checkOnce(t, brokers[2], topic, partitions, []*writer{w})
	for _, p := range brokers {
		p.ready()
		require.Equal(t, 1, strings.Count(p.stderr.String(), "broker epoch began"), "it kept its broker epoch")
		require.NotContains(t, p.stderr.String(), "fenced a broker")
	}
	for _, p := range brokers {
		require.Zero(t, p.stop())
	}
}

// TestTwinsOneGivesWay: two processes get the same id, because the first was not to be seen when the second looked. One of
// them ends and says why.
func TestTwinsOneGivesWay(t *testing.T) {
	s := startShared(t)
	a := s.start(t.TempDir(), "--broker-id=1")
	conn, err := pgx.Connect(t.Context(), s.catalog)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	hiding := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // the first one's presence flickers
		for {
			select {
			case <-hiding:
				return
			case <-time.After(5 * time.Millisecond):
			}
			_, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objid = 1")
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	b := startServe(t, t.TempDir(), s.args("--broker-id=1")...)
	close(hiding)
	wg.Wait()
	var left, gone *process
	for left == nil {
		for _, p := range []*process{a, b} {
			if strings.Contains(p.stderr.String(), "level=INFO msg=stopping") {
				gone = p
			}
		}
		if gone != nil {
			left = map[*process]*process{a: b, b: a}[gone]
			continue
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("both go on")
		}
	}
	require.Equal(t, 1, gone.wait())
	require.Contains(t, gone.stderr.String(), "another process that lives has registered this broker's id")
	left.ready()
	_, err = kadm.NewClient(left.client()).CreateTopic(t.Context(), 1, 1, nil, "t")
	require.NoError(t, err)
	left.produce("t", "v")
	require.Zero(t, left.stop())
}
