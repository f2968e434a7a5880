package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// asProgram makes this test binary be the program: its arguments are the command line.
const asProgram = "TEST_AS_STREAMHOUSE"

func init() {
	if os.Getenv(asProgram) != "" {
		main()
	}
}

// patience bounds waits for what must happen; it is reached only when a test fails.
const patience = 30 * time.Second

// process is `streamhouse serve` as a process of its own.
type process struct {
	t      *testing.T
	cmd    *osexec.Cmd
	stderr syncBuffer
	hello  string // what it printed before it served
	addr   string
	http   string
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var (
	kafkaLine = regexp.MustCompile(`Kafka clients: (\S+) `)
	httpLine  = regexp.MustCompile(`http://(\S+)/metrics`)
)

// startServe runs serve on dir and waits for its greeting, whose last line is the second of kcat.
func startServe(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	args = append([]string{"serve", "--data-dir=" + dir, "--addr=127.0.0.1:0", "--http-addr=127.0.0.1:0"}, args...)
	p := &process{t: t, cmd: osexec.CommandContext(t.Context(), self, args...)}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("the broker said:\n%s", p.stderr.String())
		}
	})
	lines := bufio.NewScanner(out)
	for !strings.Contains(p.hello, " -C ") && lines.Scan() {
		p.hello += lines.Text() + "\n"
	}
	require.Contains(t, p.hello, " -C ", "it ended: %s", &p.stderr)
	p.addr = kafkaLine.FindStringSubmatch(p.hello)[1]
	p.http = httpLine.FindStringSubmatch(p.hello)[1]
	return p
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	return p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	ended := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(ended) }() // the exit code says it
	select {
	case <-ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // let it say where it hangs
		<-ended
		require.Fail(p.t, "it did not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) client(opts ...kgo.Opt) *kgo.Client {
	p.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(p.addr), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, opts...)...)
	require.NoError(p.t, err)
	p.t.Cleanup(cl.Close)
	return cl
}

func (p *process) produce(topic string, values ...string) {
	p.t.Helper()
	cl := p.client()
	defer cl.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for _, v := range values {
		require.NoError(p.t, cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr())
	}
}

func (p *process) consume(topic string, n int) (got []string) {
	p.t.Helper()
	cl := p.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		require.NoError(p.t, fs.Err())
		fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func (p *process) get(path string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.http+path, http.NoBody)
	require.NoError(p.t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, string(body)
}

// sample is the value of one sample of /metrics; 0 if it is not there.
func (p *process) sample(name string) float64 {
	p.t.Helper()
	_, body := p.get("/metrics")
	for line := range strings.Lines(body) {
		if after, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(after), 64)
			require.NoError(p.t, err)
			return v
		}
	}
	return 0
}

// inUse is what the program's heap and stacks take, after the collector ran.
func (p *process) inUse() float64 {
	p.t.Helper()
	p.get("/debug/pprof/heap?gc=1")
	return p.sample("go_memstats_heap_inuse_bytes") + p.sample("go_memstats_stack_inuse_bytes")
}

func (p *process) eventually(what string, ok func() bool) {
	p.t.Helper()
	require.Eventually(p.t, ok, patience, 20*time.Millisecond, what)
}

func (p *process) dial() net.Conn {
	p.t.Helper()
	nc, err := (&net.Dialer{}).DialContext(p.t.Context(), "tcp", p.addr)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = nc.Close() })
	return nc
}

func TestServeSaysWhereItListensAndEndsWhenAsked(t *testing.T) {
	dir := t.TempDir()
	p := startServe(t, dir, "--broker-id=7", "--rack=r1", "--num-partitions=3")
	for _, want := range []string{
		"StreamHouse ", "Kafka clients: " + p.addr, "http://" + p.http + "/metrics, /health, /ready",
		"catalog:       sqlite:" + dir, "objects:       file:" + dir,
		"echo hello | kcat -b " + p.addr + " -P -t demo\n", "kcat -b " + p.addr + " -C -t demo -e\n",
	} {
		require.Contains(t, p.hello, want)
	}
	for _, path := range []string{"/health", "/ready", "/metrics"} {
		status, body := p.get(path)
		require.Equal(t, http.StatusOK, status, body)
	}
	p.produce("t", "v")
	adm := kadm.NewClient(p.client())
	m, err := adm.Metadata(t.Context(), "t")
	require.NoError(t, err)
	require.EqualValues(t, 7, m.Brokers[0].NodeID)
	require.Equal(t, "r1", *m.Brokers[0].Rack)
	require.Len(t, m.Topics["t"].Partitions, 3)
	require.EqualValues(t, 7, m.Topics["t"].Partitions[2].Leader)
	require.Equal(t, exitOK, p.stop())
	require.Contains(t, p.stderr.String(), "msg=stopped")
}

func TestServeFlagsReachTheParts(t *testing.T) {
	p := startServe(t, t.TempDir(), "--no-auto-create-topics", "--max-request-bytes=64KiB", "--max-connections=3",
		"--flush-interval=700ms", "--log-format=json", "--log-level=debug", "--pprof", "--store=memory:?latency=1ms")
	cl := p.client()
	require.ErrorIs(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t"}).FirstErr(), kerr.UnknownTopicOrPartition)
	cl.Close()

	big := p.dial()
	_, err := big.Write(binary.BigEndian.AppendUint32(nil, 64<<10+1))
	require.NoError(t, err)
	_, err = big.Read(make([]byte, 1))
	require.Error(t, err, "closed")
	p.eventually("a line says why", func() bool { return strings.Contains(p.stderr.String(), "over the limit") })

	p.eventually("all connections are gone", func() bool { return p.sample("streamhouse_agent_active_connections") == 0 })
	for range 3 {
		p.dial()
	}
	_, err = p.dial().Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the fourth is refused")
	p.eventually("a line says why", func() bool { return strings.Contains(p.stderr.String(), `"msg":"connection refused"`) })
	status, _ := p.get("/debug/pprof/cmdline")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, exitOK, p.stop())

	p = startServe(t, t.TempDir(), "--flush-interval=700ms", "--max-connections-per-ip=5")
	cl = p.client()
	ctx := t.Context()
	require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "t"}).FirstErr())
	began := time.Now()
	require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "t"}).FirstErr())
	require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "t"}).FirstErr())
	require.GreaterOrEqual(t, time.Since(began), 700*time.Millisecond, "--flush-interval")
}

func TestServeRefusesWithExitCodeOne(t *testing.T) {
	dir := t.TempDir()
	p := startServe(t, dir)
	p.produce("t", "v")
	r := exec(t, "", "serve", "--data-dir="+dir, "--addr=127.0.0.1:0", "--http-addr=off")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, dir+" is used by the process with id "+strconv.Itoa(p.cmd.Process.Pid))
	require.Empty(t, r.out)
	r = exec(t, "", "serve", "--data-dir="+t.TempDir(), "--addr="+p.addr, "--http-addr=off")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "bind "+p.addr)
	r = exec(t, "", "serve", "--data-dir="+t.TempDir(), "--addr=127.0.0.1:0", "--http-addr="+p.http)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "--http-addr")
	require.Equal(t, []string{"v"}, p.consume("t", 1))
	require.Equal(t, exitOK, p.stop())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "catalog.db"), bytes.Repeat([]byte("garbage"), 2000), 0o600))
	r = exec(t, "", "serve", "--data-dir="+dir, "--addr=127.0.0.1:0", "--http-addr=off")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, filepath.Join(dir, "catalog.db"))
	require.NotContains(t, r.stderr, "panic")
}

func TestServeKilledLosesNothing(t *testing.T) {
	dir := t.TempDir()
	p := startServe(t, dir)
	p.produce("t", "a", "b")
	require.NoError(t, p.cmd.Process.Kill())
	p.wait()
	p = startServe(t, dir)
	p.produce("t", "c")
	require.Equal(t, []string{"a", "b", "c"}, p.consume("t", 3))
	require.Equal(t, exitOK, p.stop())
}

// The first signal waits for what is under way, here a client that does not take its answers; the second does not.
func TestServeSecondSignalKills(t *testing.T) {
	p := startServe(t, t.TempDir(), "--shutdown-timeout=5m")
	stubborn(p, 8)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.eventually("it is stopping", func() bool { return strings.Contains(p.stderr.String(), "msg=stopping") })
	status, body := p.get("/ready")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "stopping")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.wait()
	status2, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGTERM, status2.Signal())
}

// stubborn asks for 8 MiB n times and reads nothing.
func stubborn(p *process, n int) {
	p.t.Helper()
	big := strings.Repeat("x", 512<<10)
	p.produce("big", slices.Repeat([]string{big}, 16)...)
	nc := p.dial()
	before := p.sample(`streamhouse_consumer_bytes_consumed_total{group_id="",topic="big"}`)
	for range n {
		_, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, fetchRequest("big"), 1))
		require.NoError(p.t, err)
	}
	p.eventually("an answer is being written", func() bool {
		return p.sample(`streamhouse_consumer_bytes_consumed_total{group_id="",topic="big"}`) >= before+8<<20
	})
}

// fetchRequest asks for partition 0 of a topic from its start.
func fetchRequest(topic string) *kmsg.FetchRequest {
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes = 50 << 20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.Partitions = topic, []kmsg.FetchRequestTopicPartition{p}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MaxWaitMillis, req.SessionEpoch = 12, 50<<20, 1000, -1
	req.Topics = []kmsg.FetchRequestTopic{ft}
	return req
}

func TestServeRudeClients(t *testing.T) {
	p := startServe(t, t.TempDir(), "--pprof", "--shutdown-timeout=3s")
	p.produce("t", "v")
	p.inUse()
	before := p.inUse()

	const idle = 2000
	for range idle {
		p.dial()
	}
	p.eventually("all are there", func() bool { return p.sample("streamhouse_agent_active_connections") >= idle })
	perConn := (p.inUse() - before) / idle
	t.Logf("%.1f KiB of heap and stack per idle connection", perConn/1024)
	require.Less(t, perConn, 32.0*1024)

	const slow = 500
	before = p.inUse()
	for range slow { // 20 MiB announced, a few bytes sent
		_, err := p.dial().Write(slowFrame)
		require.NoError(t, err)
	}
	p.eventually("all are there", func() bool { return p.sample("streamhouse_agent_active_connections") >= idle+slow })
	perConn = (p.inUse() - before) / slow
	t.Logf("%.1f KiB per frame that does not come", perConn/1024)
	require.Less(t, perConn, 128.0*1024)

	before = p.inUse()
	for range 4 {
		stubborn(p, 64)
	}
	perConn = (p.inUse() - before) / 4
	t.Logf("%.1f MiB per client that does not read", perConn/(1<<20))
	require.Less(t, perConn, float64(48<<20))

	p.produce("t", "w")
	require.Equal(t, []string{"v", "w"}, p.consume("t", 2), "a normal client is served")
	status, body := p.get("/ready")
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, exitOK, p.stop())
}

// slowFrame starts a Produce of 20 MiB.
var slowFrame = append(binary.BigEndian.AppendUint32(nil, 20<<20), 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff)

func TestServeCorruptObject(t *testing.T) {
	dir := t.TempDir()
	p := startServe(t, dir)
	p.produce("bad", "a marker that is found in one file", "and what comes after it")
	p.produce("good", "something else")
	require.Equal(t, exitOK, p.stop())

	var damaged string
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "objects"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		at := bytes.Index(b, []byte("a marker that is found"))
		if err != nil || at < 0 {
			return err
		}
		b[at] ^= 1
		damaged = filepath.Base(path)
		require.NoError(t, os.Chmod(path, 0o600))
		return os.WriteFile(path, b, 0o600)
	}))
	require.NotEmpty(t, damaged)

	p = startServe(t, dir)
	cl := p.client(kgo.MaxVersions(kversion.V2_8_0())) // topic names in Fetch
	resp, err := cl.Broker(1).Request(t.Context(), fetchRequest("bad"))
	require.NoError(t, err)
	part := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.ErrorIs(t, kerr.ErrorForCode(part.ErrorCode), kerr.KafkaStorageError)
	require.Empty(t, part.RecordBatches)
	p.eventually("a line names the object", func() bool { return strings.Contains(p.stderr.String(), damaged) })

	require.Equal(t, []string{"something else"}, p.consume("good", 1))
	p.produce("bad", "later")
	req := fetchRequest("bad")
	req.Topics[0].Partitions[0].FetchOffset = 2
	resp, err = cl.Broker(1).Request(t.Context(), req)
	require.NoError(t, err)
	part = resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.Zero(t, part.ErrorCode)
	require.Contains(t, string(part.RecordBatches), "later", "what is whole is served")
	status, body := p.get("/ready")
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, exitOK, p.stop())
	r := exec(t, "", "verify", "--data-dir="+dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out+r.stderr, damaged)
}

// On a full disk writes wait and nothing acknowledged is lost; when there is room again they go on by themselves.
func TestServeDiskFull(t *testing.T) {
	dir := smallDisk(t, "24m")
	filler := filepath.Join(dir, "filler")
	require.NoError(t, os.WriteFile(filler, make([]byte, 16<<20), 0o600))
	p := startServe(t, filepath.Join(dir, "data"))
	var (
		mu    sync.Mutex
		acked = map[int64]string{}
		wrong []error
	)
	cl := p.client(kgo.MaxBufferedRecords(200), kgo.ProducerLinger(0))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var producing sync.WaitGroup
	producing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			value := fmt.Sprintf("%d-%s", i, strings.Repeat("x", 8<<10))
			cl.Produce(context.WithoutCancel(ctx), &kgo.Record{Topic: "t", Value: []byte(value)}, func(r *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					wrong = append(wrong, err)
				} else {
					acked[r.Offset] = value
				}
			})
		}
	})
	var why string
	p.eventually("it is not ready, for lack of space", func() bool {
		status, body := p.get("/ready")
		why = body
		return status == http.StatusServiceUnavailable && regexp.MustCompile("no space|full").MatchString(body)
	})
	t.Log("said on a full disk: ", strings.TrimSpace(why))
	status, _ := p.get("/health")
	require.Equal(t, http.StatusOK, status)
	mu.Lock()
	before := len(acked)
	mu.Unlock()
	require.NoError(t, os.Remove(filler))
	p.eventually("writes go on", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acked) > before+100
	})
	stop()
	producing.Wait()
	require.NoError(t, cl.Flush(t.Context()))
	p.eventually("ready again", func() bool { status, _ := p.get("/ready"); return status == http.StatusOK })
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, wrong)
	got := p.consume("t", len(acked))
	require.Len(t, got, len(acked), "once each")
	for i, v := range got {
		require.Equal(t, acked[int64(i)], v)
	}
	require.Equal(t, exitOK, p.stop())
	require.NotContains(t, p.stderr.String(), "panic")
}

// A greeting is there to be clicked on: http://[::]:8080 is no address to go to.
func TestTheGreetingNamesAnAddressToGoTo(t *testing.T) {
	p := startServe(t, t.TempDir(), "--http-addr=0.0.0.0:0")
	require.Regexp(t, `^localhost:\d+$`, p.http)
	resp, err := http.Get("http://" + p.http + "/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
