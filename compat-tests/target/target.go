package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// Broker is a broker under test. Its methods are for the test's goroutine.
type Broker struct {
	// Bootstrap is its address, host:port; it stays the same over restarts.
	Bootstrap string
	process   *process
}

// Get returns the broker at $COMPAT_BOOTSTRAP or else starts the binary.
func Get(t *testing.T) *Broker {
	t.Helper()
	if external := os.Getenv("COMPAT_BOOTSTRAP"); external != "" {
		return &Broker{Bootstrap: external}
	}
	return Start(t)
}

// Start starts the binary on free ports and an empty data folder, with extra
// flags if any, waits until it is ready and stops it when the test ends.
func Start(t *testing.T, flags ...string) *Broker {
	t.Helper()
	binary := os.Getenv("COMPAT_BINARY")
	if binary == "" {
		binary = filepath.Join(client.Root(), "..", "bin", "streamhouse")
	}
	require.FileExists(t, binary, "build it first: make build")
	ports := FreePorts(t, 2)
	p := &process{
		binary: binary,
		http:   ports[1],
		log:    filepath.Join(t.TempDir(), "broker.log"),
		data:   filepath.Join(t.TempDir(), "data"),
	}
	p.args = append([]string{"serve", "--addr", ports[0], "--http-addr", ports[1], "--data-dir", p.data}, flags...)
	b := &Broker{Bootstrap: ports[0], process: p}
	t.Cleanup(func() {
		if p.cmd != nil {
			if err := p.terminate(); err != nil {
				t.Errorf("stop the broker: %v", err)
			}
		}
		p.check(t)
	})
	b.Restart(t)
	return b
}

// HTTP is the address, host:port, of /metrics and /ready of a broker started
// here.
func (b *Broker) HTTP() string { return b.process.http }

// DataDir is the data folder of a broker started here. It is deleted when the
// test ends.
func (b *Broker) DataDir() string { return b.process.data }

// Memory is what is resident of the memory of a broker started here, in bytes.
func (b *Broker) Memory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.cmd.Process.Pid))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int64
	_, err = fmt.Sscanf(rest, "%d kB", &kib)
	require.NoError(t, err)
	return kib << 10
}

// Restart starts the process again, after Kill, on the same ports and folder,
// and waits until it is ready. It returns how long that took.
func (b *Broker) Restart(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	require.NoError(t, b.process.start(t.Context()))
	return time.Since(begin)
}

// Kill kills the process with SIGKILL and waits until it is gone.
func (b *Broker) Kill(t *testing.T) {
	t.Helper()
	cmd := b.process.cmd
	b.process.cmd = nil
	require.NoError(t, cmd.Process.Kill())
	<-b.process.exited
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, status.Signaled() && status.Signal() == syscall.SIGKILL,
		"the broker ended by itself before it was killed: %s", cmd.ProcessState)
}

// Stop stops the process with SIGTERM; it must exit with 0.
func (b *Broker) Stop(t *testing.T) {
	t.Helper()
	require.NoError(t, b.process.terminate())
}

// Client returns a franz-go client of the broker, closed when the test ends.
func (b *Broker) Client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Bootstrap)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

var topics atomic.Int64

// Name returns a topic name nobody used, on a broker that may be shared.
func Name(prefix string) string {
	return prefix + "-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.FormatInt(topics.Add(1), 36)
}

// Topic creates a topic whose records never expire (the generator's timestamps
// are years old) and deletes it when the test ends.
func (b *Broker) Topic(t *testing.T, prefix string, partitions int32, configs map[string]*string) string {
	t.Helper()
	admin := kadm.NewClient(b.Client(t))
	name := Name(prefix)
	all := map[string]*string{"retention.ms": new("-1")}
	maps.Copy(all, configs)
	made, err := admin.CreateTopic(t.Context(), partitions, 1, all, name)
	require.NoError(t, err)
	require.NoError(t, made.Err)
	b.DeleteWhenDone(t, name)
	return name
}

// DeleteWhenDone deletes a topic when the test ends, if it exists then.
func (b *Broker) DeleteWhenDone(t *testing.T, topic string) {
	t.Helper()
	admin := kadm.NewClient(b.Client(t))
	t.Cleanup(func() {
		// The test's own context is over by now.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := admin.DeleteTopics(ctx, topic); err != nil {
			t.Errorf("delete topic %s: %v", topic, err)
		}
	})
}

// Ends returns the range of offsets of every partition of topic.
func (b *Broker) Ends(t *testing.T, topic string) map[int32]client.Range {
	t.Helper()
	admin := kadm.NewClient(b.Client(t))
	starts, err := admin.ListStartOffsets(t.Context(), topic)
	require.NoError(t, err)
	require.NoError(t, starts.Error())
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	require.NoError(t, ends.Error())
	out := map[int32]client.Range{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		out[end.Partition] = client.Range{Start: start.Offset, End: end.Offset}
	})
	return out
}

// process is the binary, running or not. exited is closed once the running one
// was waited for.
type process struct {
	binary string
	args   []string
	http   string
	log    string
	data   string
	cmd    *exec.Cmd
	exited chan struct{}
}

// readyWithin is how long a broker may take to start; that it is quick is
// another test's matter.
const readyWithin = 30 * time.Second

func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the broker's log: %w", err)
	}
	defer log.Close()
	// Not CommandContext: the broker outlives the context until it is stopped.
	cmd := exec.Command(p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		close(exited)
	}()
	p.cmd, p.exited = cmd, exited

	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if p.ready(ctx) {
			return nil
		}
		select {
		case <-exited:
			p.cmd = nil
			return fmt.Errorf("the broker ended before it was ready (%s): %s", cmd.ProcessState, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("the broker was not ready within %s: %s", readyWithin, p.tail())
		case <-tick.C:
		}
	}
}

func (p *process) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+"/ready", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stopWithin is how long a broker may take to stop on SIGTERM.
const stopWithin = 30 * time.Second

func (p *process) terminate() error {
	cmd := p.cmd
	p.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal the broker: %w", err)
	}
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
		_ = cmd.Process.Kill() // already an error; this one would add nothing
		<-p.exited
		return fmt.Errorf("the broker did not stop within %s of SIGTERM", stopWithin)
	}
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("the broker ended badly: %s", cmd.ProcessState)
	}
	return nil
}

// check looks for what no run of a broker may ever write.
func (p *process) check(t *testing.T) {
	t.Helper()
	log, err := os.ReadFile(p.log)
	if err != nil {
		t.Errorf("read the broker's log: %v", err)
		return
	}
	for _, bad := range []string{"panic: ", "panic recovered", "DATA RACE", "fatal error: "} {
		if i := bytes.Index(log, []byte(bad)); i >= 0 {
			t.Errorf("the broker wrote %q: %.2000s", bad, log[i:])
		}
	}
	if t.Failed() {
		t.Logf("end of the broker's log:\n%s", p.tail())
	}
}

func (p *process) tail() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const keep = 4 << 10
	if len(log) > keep {
		log = log[len(log)-keep:]
	}
	return string(log)
}

// given are the ports that FreePorts has returned.
var given sync.Map

// FreePorts returns n addresses of 127.0.0.1 nobody listens on, each once. They are below those (32768 and up) that Linux gives to
// whoever connects, or listens on port 0: one of those could take a port before the server it is for, or while that is killed.
func FreePorts(t *testing.T, n int) (out []string) {
	t.Helper()
	const first, last, tries = 20_000, 32_767, 1000
	for range tries {
		if len(out) == n {
			return out
		}
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first+1))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		require.NoError(t, l.Close())
		if _, again := given.LoadOrStore(addr, true); !again {
			out = append(out, addr)
		}
	}
	require.Fail(t, "found no free ports")
	return nil
}
