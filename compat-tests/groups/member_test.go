package groups_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// spec says what a member does: for the programs in clients, as JSON.
type spec struct {
	Client      string `json:"client"`
	Bootstrap   string `json:"bootstrap"`
	Group       string `json:"group"`
	Topic       string `json:"topic"`
	Instance    string `json:"instance,omitempty"`
	Protocol    string `json:"protocol,omitempty"` // classic (the default) or consumer
	Cooperative bool   `json:"cooperative,omitempty"`
	ClientID    string `json:"client_id,omitempty"` // of franz-go; empty: franz-go
}

// command is the program of a client.
func (s *spec) command(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(s)
	require.NoError(t, err)
	clients := filepath.Join(client.Root(), "clients")
	switch s.Client {
	case "confluent-kafka", "kafka-python", "aiokafka":
		return exec.Command(filepath.Join(client.Installed(), "python", "bin", "python"), filepath.Join(clients, "python", "member.py"), string(text))
	case "kafkajs":
		return exec.Command("node", filepath.Join(clients, "node", "member.js"), string(text))
	case "kcat":
		args := []string{
			"-b", s.Bootstrap, "-G", s.Group, "-q", "-u", "-f", `%p %o\n`, "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000",
			"-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=200", "-X", "client.id=kcat",
		}
		return exec.Command("kcat", append(args, s.Topic)...)
	case "java":
		args := []string{
			"--bootstrap-server", s.Bootstrap, "--topic", s.Topic, "--group", s.Group, "--from-beginning",
			"--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true", "--formatter-property", "print.value=false",
			"--command-property", "auto.commit.interval.ms=200", "--command-property", "enable.auto.commit=true",
			"--command-property", "group.protocol=" + s.protocol(),
		}
		if s.protocol() == "classic" {
			args = append(args, "--command-property", "session.timeout.ms=6000", "--command-property", "heartbeat.interval.ms=500")
			if s.Cooperative {
				args = append(args, "--command-property", "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor")
			}
		}
		if s.Instance != "" {
			args = append(args, "--command-property", "group.instance.id="+s.Instance)
		}
		return exec.Command("java", client.JavaArgs("kafka-console-consumer", args...)...)
	default: // a Go client: this very program
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), memberVariable+"="+string(text))
		return cmd
	}
}

func (s *spec) protocol() string {
	if s.Protocol == "" {
		return "classic"
	}
	return s.Protocol
}

// position is one record.
type position struct {
	partition int32
	offset    int64
}

// member is a running member.
type member struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when its output has ended
	mu   struct {
		sync.Mutex
		seen   map[position]int
		stderr bytes.Buffer
	}
}

// join starts a member; it is killed when the test ends, if it still runs.
func join(t *testing.T, s spec) *member {
	t.Helper()
	m := &member{t: t, cmd: s.command(t), done: make(chan struct{})}
	m.mu.seen = make(map[position]int)
	if m.cmd.Env == nil {
		m.cmd.Env = os.Environ()
	}
	m.cmd.Env = append(m.cmd.Env, "NODE_PATH="+filepath.Join(client.Installed(), "node", "node_modules"))
	out, err := m.cmd.StdoutPipe()
	require.NoError(t, err)
	m.cmd.Stderr = stderr{m}
	require.NoError(t, m.cmd.Start())
	go func() {
		defer close(m.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if p, ok := parse(lines.Text()); ok {
				m.mu.Lock()
				m.mu.seen[p]++
				m.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-m.done
		_ = m.cmd.Wait()
		if t.Failed() {
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Logf("what %s said: %s", s.Client, m.mu.stderr.String())
		}
	})
	return m
}

// stderr keeps the first 64 KiB.
type stderr struct{ m *member }

func (w stderr) Write(p []byte) (int, error) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.m.mu.stderr.Len() < 64<<10 {
		w.m.mu.stderr.Write(p)
	}
	return len(p), nil
}

// parse reads "PARTITION OFFSET", or Java's "Partition:0\tOffset:12".
func parse(line string) (p position, ok bool) {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) < 2 {
		return p, false
	}
	partition, err1 := strconv.ParseInt(strings.TrimPrefix(words[0], "Partition:"), 10, 32)
	offset, err2 := strconv.ParseInt(strings.TrimPrefix(words[1], "Offset:"), 10, 64)
	return position{int32(partition), offset}, err1 == nil && err2 == nil
}

// seen are the records read so far, with how often.
func (m *member) seen() map[position]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.mu.seen)
}

// leave stops the member in an orderly way.
func (m *member) leave() {
	m.t.Helper()
	require.NoError(m.t, m.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-m.done:
	case <-time.After(patience):
		m.t.Fatal("it does not end at SIGTERM")
	}
}

// crash kills the member.
func (m *member) crash() {
	m.t.Helper()
	require.NoError(m.t, m.cmd.Process.Kill())
	<-m.done
}

// patience bounds every wait: JVMs start slowly on a busy machine.
const patience = 90 * time.Second

// eventually waits for check, which says what is not so yet.
func eventually(t *testing.T, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if err := check(ctx); err == nil {
			return
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("after %v: %w", patience, last))
		}
	}
}
